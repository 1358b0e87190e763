//! Rounds on request, and waiting until both sides are the same.

use std::time::Duration;

use futures::StreamExt;
use tidelock_actors::limits::PAGE_ROWS;
use tidelock_actors::model::Stamp;
use tidelock_actors::ports::{Reader, StoreError};
use tidelock_actors::round::{Cut, RoundReport};
use tidelock_actors::storage::{Perform, Tick};
use tidelock_actors::sync::{self, Refresh};
use tidelock_actors::writes::{Observation, Write};

use super::{SyncReport, SyncRequest, Tidelock};
use crate::adapters::supabase::SERVER_EPOCH;
use crate::error::Error;
use crate::runtime::on;

impl Tidelock {
    /// Runs a round now and waits for its end.
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncReport, Error> {
        self.demand_sync()?;
        let SyncRequest { push, pull, accept_server } = request;
        if accept_server {
            self.accept_server().await?;
        }
        self.round(push, pull).await
    }

    pub(super) fn demand_sync(&self) -> Result<(), Error> {
        if self.config().remote.url.is_none() {
            return Err(Error::NoServer);
        }
        if !self.config().sync.enabled {
            return Err(Error::Invalid("sync is switched off: set sync.enabled = true".to_owned()));
        }
        Ok(())
    }

    /// The next pull may meet any server, and comes before what waits here is sent.
    async fn accept_server(&self) -> Result<(), Error> {
        let checkpoints = [(SERVER_EPOCH.to_owned(), String::new())].into();
        let forget = Observation { checkpoints, ..Observation::default() };
        self.inner.parts.storage.ask(Perform(Write::Observe(forget))).await??;
        self.round(false, true).await.map(drop)
    }

    async fn round(&self, push: bool, pull: bool) -> Result<SyncReport, Error> {
        let report = done(self.inner.parts.sync.ask(sync::Sync { push, pull }).await?)?;
        Ok(SyncReport {
            pushed: report.pushed,
            pulled: report.pulled,
            failed: report.failed,
            parked: report.parked,
            conflicts: report.conflicts,
            requests: report.requests,
            paused: report.paused.into_iter().map(|(name, fault)| (name.to_string(), fault.to_string())).collect(),
        })
    }

    /// Hints that there may be news, or that the network is back.
    pub fn nudge(&self) {
        self.inner.parts.sync.hint(Refresh);
    }

    /// One small request: whether the server is there and takes the credentials.
    pub async fn probe(&self) -> Result<(), Error> {
        if self.config().remote.url.is_none() {
            return Err(Error::NoServer);
        }
        let remote = self.inner.remote.clone();
        Ok(on(&self.inner.parts.thread, async move { remote.probe().await }).await??)
    }

    /// Resolves once everything that was acknowledged here before the call is on the server, and everything that was
    /// committed there before it is here. While the server cannot be reached it waits, where rounds start by
    /// themselves. What was parked or waits for a decision does not get there by waiting: that is the error `SetAside`.
    /// Without the server kit, what was committed there is as complete as a pull by time can be.
    pub async fn wait_synced(&self) -> Result<(), Error> {
        let asked = self.inner.parts.storage.ask(Tick).await?;
        loop {
            match self.sync(SyncRequest::default()).await {
                Ok(_) if !self.has_unsent_before(asked).await? => break,
                // Something was refused and rests before it is tried again.
                Ok(_) => self.pause(self.config().sync.retry_delay).await?,
                Err(Error::Unreachable(_)) if self.config().sync.auto => self.another_round().await?,
                Err(error) => return Err(error),
            }
        }
        match self.status() {
            status if status.parked + status.conflicts == 0 => Ok(()),
            status => Err(Error::SetAside { parked: status.parked, conflicts: status.conflicts }),
        }
    }

    /// Waits until a round has ended well that started by itself.
    async fn another_round(&self) -> Result<(), Error> {
        let last = self.status().last_synced_at;
        let mut changes = self.status_stream();
        while let Some(status) = changes.next().await {
            if status.last_synced_at != last {
                return Ok(());
            }
        }
        Err(Error::Stopped { cause: "the runtime has ended".to_owned() })
    }

    async fn pause(&self, time: Duration) -> Result<(), Error> {
        on(&self.inner.parts.thread, async move { tokio::time::sleep(time).await }).await
    }

    async fn has_unsent_before(&self, asked: Stamp) -> Result<bool, Error> {
        let pending = self.inner.reads.pending(0, PAGE_ROWS).await?;
        Ok(pending.iter().any(|operation| operation.stamp < asked))
    }
}

/// The report of a round that came to its end: a fault of one collection or operation leaves the rest of it done.
pub(super) fn done(report: RoundReport) -> Result<RoundReport, Error> {
    match report.cut {
        Some(Cut::Local(trouble)) => Err(Error::Store(StoreError::Failed(trouble))),
        Some(Cut::Remote(fault)) => Err(fault.into()),
        None => Ok(report),
    }
}
