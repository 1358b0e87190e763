//! The doctor on an open store.

use std::time::Duration;

use tidelock_actors::limits::{DOCTOR_PART, DOCTOR_ROWS, DOCTOR_STORE};
use tidelock_actors::ports::Reader;

use super::Tidelock;
use crate::adapters::sqlite::{OperationState, QueueFilter, Verified};
use crate::adapters::supabase::SERVER_EPOCH;
use crate::config::Config;
use crate::doctor::{self, Checkup, Store};
use crate::error::Error;
use crate::locks::locked_to_read;
use crate::runtime::on;

impl Tidelock {
    /// Looks at everything that tidelock needs: the store, its room and its backups, and the way to the server, its tables
    /// and what this user may do there. Nothing is changed by it, here or there, and it ends within two minutes.
    pub async fn doctor(&self) -> Checkup {
        self.doctor_under(self.config()).await
    }

    /// As [`Self::doctor`], under a configuration from which this store was opened with some changes, as commands do.
    #[doc(hidden)]
    pub async fn doctor_under(&self, config: Config) -> Checkup {
        let this = self.clone();
        let look = async move {
            let token = locked_to_read(&this.inner.token).clone();
            doctor::with_store(&config, token, this.told().await).await
        };
        on(&self.inner.parts.thread, look).await.unwrap_or_else(|error| {
            let mut checkup = Checkup::default();
            checkup.fail("store", format!("tidelock has stopped: {error}"), "start tidelock again");
            checkup
        })
    }

    async fn told(&self) -> Store {
        let parked = QueueFilter { state: Some(OperationState::Parked), limit: DOCTOR_ROWS, ..QueueFilter::default() };
        let backups = self.backups();
        let (verified, stats, parked, backups, checkpoints) = tokio::join!(
            in_time(DOCTOR_STORE, self.verified_alone()),
            in_time(DOCTOR_PART, self.stats()),
            in_time(DOCTOR_PART, self.queue(parked)),
            // It waits for what is at work there, which may take minutes.
            in_time(DOCTOR_PART, backups.info()),
            in_time(DOCTOR_PART, async { Ok(self.inner.reads.checkpoints().await?) }),
        );
        let mut checkpoints = checkpoints.ok().flatten().unwrap_or_default();
        let late = || format!("the store does not say within {} s", DOCTOR_PART.as_secs());
        Store {
            verified,
            stats: stats.and_then(|stats| stats.ok_or_else(late)),
            status: self.status(),
            parked: parked.ok().flatten().unwrap_or_default(),
            backups,
            epoch: checkpoints.remove(SERVER_EPOCH).filter(|epoch| !epoch.is_empty()),
        }
    }

    /// Reads the whole store, once that nobody else does so for the doctor: whoever gave up waiting leaves a reading behind
    /// that goes on to its end.
    async fn verified_alone(&self) -> Result<Verified, Error> {
        let alone = self.inner.examining.clone().lock_owned().await;
        let reading = self.inner.reads.verify();
        let read = tokio::spawn(async move {
            let _alone = alone;
            reading.await
        });
        Ok(read.await.map_err(|error| Error::Stopped { cause: error.to_string() })??)
    }
}

/// The answer, or nothing where there is none in time.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer.map(Some).map_err(|error| error.to_string()),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_backup_that_is_at_work_does_not_hold_the_doctor_up() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n[backup]\nenabled = false\n[collections.notes]",
            folder.path().display()
        );
        let tidelock = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
        let (end, ended) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let work = tidelock.backups().archive().run(move |_| {
            let _ = (begin.send(()), ended.recv());
            Ok(())
        });
        begun.recv().unwrap();
        let began = Instant::now();
        let checkup = block_on(tidelock.doctor());
        assert!(began.elapsed() < DOCTOR_STORE, "{:?}", began.elapsed());
        let backups = checkup.checks.iter().find(|one| one.check == "backups").unwrap();
        assert!(checkup.healthy && backups.found.starts_with("a backup is at work"), "{checkup:?}");
        end.send(()).unwrap();
        block_on(work).unwrap();
    }
}
