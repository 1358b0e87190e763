//! One round: push until the outbox is empty, pull until nothing is left, look for deletions when due.
//!
//! Every step is safe to repeat and leaves the store consistent, so a round may be dropped at any await.
//! It decides nothing about when; it only reports how far it came.

mod audit;
mod deletions;
mod push;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::conflict::{ConflictError, ConflictResolver, Take};
use crate::limits::REMOTE_DEADLINE;
use crate::machine::audit::Scope;
use crate::machine::schedule::Task;
use crate::metrics;
use crate::model::{CollectionRules, Counts, Fault, FaultKind, Findings};
use crate::peer::{PartError, Peer};
use crate::ports::{PullRequest, Pulled, Reader, Remote, StoreError};
use crate::queue::{Queue, QueueError};
use crate::storage::{CorrectClock, Perform, Storage};
use crate::writes::{Observation, Write};

/// The checkpoint that says that rows were read with an access token. No collection has such a name.
const SIGNED_IN: &str = "signed in";

/// How a round went.
#[derive(Debug, Clone, Default)]
pub struct RoundReport {
    /// Sent operations that took effect.
    pub pushed: u64,
    /// Records that changed here.
    pub pulled: u64,
    /// Sent operations that did not take effect and are tried again.
    pub failed: u64,
    /// Operations set aside, dependants included.
    pub parked: u64,
    /// Conflicts met, open or resolved.
    pub conflicts: u64,
    /// Requests sent.
    pub requests: u64,
    /// Collections that do not fit the server's schema.
    pub paused: Vec<(Arc<str>, Fault)>,
    /// The first fault of one collection or operation.
    pub fault: Option<Fault>,
    /// What kept the round from its end.
    pub cut: Option<Cut>,
    /// What an audit found in each collection that it could compare.
    pub audit: Option<BTreeMap<Arc<str>, Findings>>,
}

impl RoundReport {
    /// What kept the round from its end, for the schedule: trouble of our own passes as the network's does.
    pub fn cut(&self) -> Option<Fault> {
        self.cut.as_ref().map(|cut| match cut {
            Cut::Remote(fault) => fault.clone(),
            Cut::Local(trouble) => Fault::new(FaultKind::Transient, trouble),
        })
    }

    fn count(&self, took: Duration) {
        let result = match (&self.cut, &self.fault) {
            (Some(_), _) => "cut",
            (None, Some(_)) => "faulty",
            (None, None) => "done",
        };
        metrics::ROUNDS.add(1, &[result.into()]);
        metrics::ROUND_SECONDS.observe(took.as_secs_f64(), &[result.into()]);
        metrics::PULLED.add(self.pulled, &[]);
        metrics::CONFLICTS_MET.add(self.conflicts, &[]);
    }

    /// What went wrong, in words.
    pub fn trouble(&self) -> Option<String> {
        self.cut().or_else(|| self.fault.clone()).map(|fault| fault.to_string())
    }
}

/// Everything that a round needs.
#[derive(Clone)]
pub struct Crew {
    /// The outbox.
    pub queue: Peer<Queue>,
    /// The resolver.
    pub resolver: Peer<ConflictResolver>,
    /// The store's writer.
    pub storage: Peer<Storage>,
    /// The store's readers.
    pub reader: Arc<dyn Reader>,
    /// The server.
    pub remote: Arc<dyn Remote>,
    /// The collections, parents first.
    pub rules: Arc<[CollectionRules]>,
    /// The exact counts.
    pub counts: tokio::sync::watch::Receiver<Counts>,
    /// Told whenever something moved.
    pub moved: Arc<dyn Fn(Motion<'_>) + Send + Sync>,
}

/// What moved, for whoever looks on.
#[derive(Debug, Clone, Copy)]
pub enum Motion<'a> {
    /// Operations of these collections took effect on the server.
    Pushed(&'a BTreeSet<Arc<str>>),
    /// Everything that the server had of these collections is here.
    Pulled(&'a BTreeSet<Arc<str>>),
    /// Something else.
    Other,
}

/// What this round is.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Its number.
    pub number: i64,
    /// What to do.
    pub task: Task,
    /// Whether to list all keys even where the counts agree.
    pub distrusts_counts: bool,
    /// Operations in the first batch.
    pub batch_size: usize,
    /// Operations in the largest batch.
    pub batch_size_max: usize,
}

/// Runs the round, with the audit that is asked for, to its end or to the first fault that concerns all of it.
pub async fn run(crew: Crew, round: Round, audited: Option<Scope>) -> RoundReport {
    let (began, requests_before) = (Instant::now(), crew.remote.requests());
    let mut report = RoundReport::default();
    let mut progress = Progress { crew: &crew, walk: 0, report: &mut report };
    let result = progress.all(round, audited.as_ref()).await;
    report.cut = result.err();
    report.requests = crew.remote.requests() - requests_before;
    report.count(began.elapsed());
    report
}

/// What cuts a round short.
#[derive(Debug, Clone)]
pub enum Cut {
    /// A fault of the server's, or of the way to it.
    Remote(Fault),
    /// Trouble on this device: a full disk, a part that was restarted.
    Local(String),
}

impl From<Fault> for Cut {
    fn from(fault: Fault) -> Self {
        Self::Remote(fault)
    }
}

macro_rules! local_cut {
    ($($error:ty),*) => {$(
        impl From<$error> for Cut {
            fn from(error: $error) -> Self {
                Self::Local(error.to_string())
            }
        }
    )*};
}
local_cut!(StoreError, PartError, QueueError, ConflictError);

struct Progress<'a> {
    crew: &'a Crew,
    /// The number of the last walk.
    walk: i64,
    report: &'a mut RoundReport,
}

impl Progress<'_> {
    async fn all(&mut self, round: Round, audited: Option<&Scope>) -> Result<(), Cut> {
        self.check_identity().await?;
        if round.task.probe {
            in_time(self.crew.remote.probe()).await??;
        }
        if round.task.push {
            match self.push(round).await {
                Err(Cut::Remote(fault)) if fault.kind == FaultKind::Behind && round.task.pull => {
                    self.report.failed = 0;
                    self.catch_up(round).await?;
                    self.push(round).await?;
                }
                pushed => pushed?,
            }
        }
        // Where a transaction waited for a decision on one of its records, it waits for the next push as a whole.
        let is_resolved_later = round.task.push && in_time(self.crew.remote.nature()).await??.keeps_transactions;
        let conflicts_before = if is_resolved_later { 0 } else { self.report.conflicts };
        if round.task.pull {
            self.pull(round).await?;
        }
        if let Some(scope) = audited {
            self.audit(round, scope).await?;
            if *scope == Scope::everything() {
                self.crew.remote.listed();
            }
        } else if round.task.pull
            && round.task.deep
            && self.crew.remote.needs_listing()
            && self.find_deletions(round).await?
        {
            self.crew.remote.listed();
        }
        // What the resolver has decided may have to be sent.
        if round.task.push && self.report.conflicts > conflicts_before {
            self.push(round).await?;
        }
        Ok(())
    }

    /// Everything that is there is read and what is not is found, before anything is sent (H30).
    async fn catch_up(&mut self, round: Round) -> Result<(), Cut> {
        self.pull(Round { task: Task { deep: true, ..round.task }, ..round }).await?;
        self.find_deletions(round).await?;
        // Where a collection is paused, its operations are as well: it keeps nobody else waiting.
        self.crew.remote.listed();
        Ok(())
    }

    /// Somebody who is not signed in sees fewer rows, and fewer rows look like deletions: a store that was filled
    /// with a token waits for one (H25).
    async fn check_identity(&self) -> Result<(), Cut> {
        let checkpoints = self.crew.reader.checkpoints().await?;
        match (self.crew.remote.is_signed_in(), checkpoints.contains_key(SIGNED_IN)) {
            (true, false) => {
                let checkpoints = [(SIGNED_IN.to_owned(), "yes".to_owned())].into();
                let remember = Observation { checkpoints, ..Observation::default() };
                self.crew.storage.ask_soon(Perform(Write::Observe(remember))).await??;
                Ok(())
            }
            (false, true) => {
                let why = "this store was filled with an access token and there is none now";
                Err(Fault::new(FaultKind::Unauthorized, why).into())
            }
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// Fetches page after page; the next one is on its way while the last one is stored. A round that pulls
    /// more than once gives each walk another number than the one before.
    async fn pull(&mut self, round: Round) -> Result<(), Cut> {
        self.walk = if self.walk == round.number { -round.number } else { round.number };
        let collections = self.pulled_collections().map(|rule| rule.name.clone()).collect();
        let request = PullRequest { collections, deep: round.task.deep, round: self.walk };
        let mut have = self.crew.reader.checkpoints().await?;
        let mut page = self.next_page(have.clone(), &request).await?;
        loop {
            self.correct_clock();
            have.extend(page.checkpoints.clone());
            std::mem::take(&mut page.paused).into_iter().for_each(|(collection, fault)| self.pause(collection, fault));
            let more = page.more;
            let following =
                async { if more { self.next_page(have.clone(), &request).await.map(Some) } else { Ok(None) } };
            let (taken, following) = futures::join!(take(self.crew, page, round.number), following);
            let (changed, conflicts) = taken?;
            self.report.pulled += changed;
            self.report.conflicts += conflicts;
            match following? {
                Some(following) => page = following,
                None => break,
            }
        }
        let is_whole = |name: &Arc<str>| self.report.paused.iter().all(|(paused, _)| paused != name);
        let whole = self.pulled_collections().map(|rule| rule.name.clone()).filter(is_whole).collect();
        (self.crew.moved)(Motion::Pulled(&whole));
        Ok(())
    }

    async fn next_page(&self, have: crate::model::Checkpoints, request: &PullRequest) -> Result<Pulled, Cut> {
        Ok(in_time(self.crew.remote.pull(have, request.clone())).await??)
    }

    fn pulled_collections(&self) -> impl Iterator<Item = &CollectionRules> {
        self.crew.rules.iter().filter(|rule| rule.direction.pulls())
    }

    /// A fault of one collection keeps nobody else waiting.
    fn or_pause<T>(&mut self, collection: &Arc<str>, result: Result<T, Cut>) -> Result<Option<T>, Cut> {
        match result {
            Err(Cut::Remote(fault)) if !fault.concerns_everything() => {
                self.pause(collection.clone(), fault);
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// The others go on.
    fn pause(&mut self, collection: Arc<str>, fault: Fault) {
        self.report.fault.get_or_insert_with(|| fault.clone());
        if self.report.paused.iter().all(|(paused, _)| *paused != collection) {
            self.report.paused.push((collection, fault));
        }
    }

    fn correct_clock(&self) {
        if let Some(offset_ms) = self.crew.remote.clock_offset_ms() {
            self.crew.storage.hint(CorrectClock { offset_ms });
        }
    }
}

/// Rows and checkpoints go into the store together (H06).
async fn take(crew: &Crew, page: Pulled, round: i64) -> Result<(u64, u64), Cut> {
    let observation = Observation { rows: page.rows, checkpoints: page.checkpoints, round, ..Observation::default() };
    let taken = crew.resolver.ask_soon(Take(observation)).await??;
    (crew.moved)(Motion::Other);
    Ok((taken.changed, taken.conflicts))
}

/// No request may keep a round for ever (H13); what a write came to is then unknown (H54).
async fn in_time<T>(request: impl Future<Output = T>) -> Result<T, Fault> {
    let late = || format!("the server did not answer within {} s", REMOTE_DEADLINE.as_secs());
    timeout(REMOTE_DEADLINE, request).await.map_err(|_| Fault::new(FaultKind::Transient, late()))
}
