//! The way to the store: through the process that owns it, or by opening it. Every command is written once, for both.

use std::path::Path;
use std::time::{Duration, Instant};

use tidelock::adapters::sqlite::{
    ConflictView, Difference, ListQuery, Listed, OpenError, QueueFilter, QueuedOperation, RoundView, Stats, Verified,
    VersionView, is_owned,
};
use tidelock::api::{Client, Endpoint};
use tidelock::logs::{Kept, LogQuery};
use tidelock::model::Compacted;
use tidelock::{
    AuditReport, AuditRequest, BackupView, Checkup, Choice, Config, Document, Error, Extras, Phase, Repair,
    RestoreReport, RestoreRequest, RollbackReport, RollbackRequest, Status, SyncReport, SyncRequest, Tidelock,
};

use super::failure::{FAILED, Failure};

/// How long to wait for somebody who has the store for a moment: another command, or a process that is just starting.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// The same for a process, which goes before commands that come one after the other.
const PROCESS_PAUSE: Duration = Duration::from_millis(5);

/// The way to the store.
pub enum Access {
    /// This command has opened it. Boxed: the handle is the larger one by far.
    Own(Box<Own>),
    /// A process owns it.
    Process(Client),
}

/// The store, opened by this command alone.
pub struct Own {
    tidelock: Tidelock,
    /// The configuration as it was read; a command starts no rounds and takes no backups by itself.
    config: Config,
}

/// What a command opens the store for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What it was asked to do, and nothing beside.
    Work,
    /// To take a backup, of which the server is told.
    BackUp,
    /// Only to look.
    Look,
}

impl Purpose {
    /// The configuration without what runs by itself: that is for whoever is here for longer.
    fn configured(self, config: &Config) -> Config {
        let mut own = config.clone();
        own.sync.auto = false;
        own.backup.enabled = false;
        own.backup.publish &= self == Self::BackUp;
        own.storage.self_repair &= self != Self::Look;
        own
    }
}

/// Asks whoever owns the store.
macro_rules! ask {
    ($access:expr, $method:ident ( $($argument:expr),* )) => {
        match $access {
            Access::Own(own) => own.tidelock.$method($($argument),*).await.map_err(Failure::from),
            Access::Process(client) => client.$method($($argument),*).await.map_err(Failure::from),
        }
    };
}

impl Access {
    /// Finds the process, or opens the store for work.
    pub async fn open(config: &Config) -> Result<Self, Failure> {
        Self::open_to(Purpose::Work, config).await
    }

    /// Finds the process, or opens the store; waits a little for somebody who is about to give it back.
    pub async fn open_to(purpose: Purpose, config: &Config) -> Result<Self, Failure> {
        let folder = &config.storage.data_dir;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An address that a killed process left behind may be somebody else's by now: the lock tells.
            if is_owned(folder)
                && let Some(client) = process_on(folder).await
            {
                return Ok(Self::Process(client));
            }
            // What is logged meanwhile is sent by whoever is here for longer.
            match Tidelock::open_with(purpose.configured(config), Extras { holds_logs: true, ..Extras::default() }) {
                Ok(tidelock) => return Ok(Self::Own(Box::new(Own { tidelock, config: config.clone() }))),
                Err(Error::Open(OpenError::Owned { .. })) if Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await
                }
                Err(Error::Open(OpenError::Owned { owner, .. })) => return Err(out_of_reach(&owner, folder)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the store back.
    pub async fn close(self) {
        match self {
            Self::Own(own) => own.tidelock.shutdown().await,
            Self::Process(_) => {}
        }
    }

    /// The process, if it is one.
    pub fn process(&self) -> Option<&Client> {
        match self {
            Self::Own(_) => None,
            Self::Process(client) => Some(client),
        }
    }

    /// What was done when the store was last found damaged, if this command has it.
    pub fn last_repair(&self) -> Option<Repair> {
        match self {
            Self::Own(own) => own.tidelock.last_repair(),
            Self::Process(_) => None,
        }
    }

    pub async fn status(&self) -> Result<Status, Failure> {
        match self {
            Self::Own(own) => Ok(own.status()),
            Self::Process(client) => Ok(client.status().await?),
        }
    }

    pub async fn sync(&self, request: SyncRequest) -> Result<SyncReport, Failure> {
        ask!(self, sync(request))
    }

    pub async fn audit(&self, request: AuditRequest) -> Result<AuditReport, Failure> {
        ask!(self, audit(request))
    }

    pub async fn doctor(&self) -> Result<Checkup, Failure> {
        match self {
            Self::Own(own) => Ok(own.tidelock.doctor_under(own.config.clone()).await),
            Self::Process(client) => Ok(client.doctor().await?),
        }
    }

    pub async fn backups(&self) -> Result<Vec<BackupView>, Failure> {
        match self {
            Self::Own(own) => Ok(own.tidelock.backups().list().await?),
            Self::Process(client) => Ok(client.backups().await?),
        }
    }

    pub async fn get(&self, collection: &str, key: &str) -> Result<Option<Document>, Failure> {
        ask!(self, get(collection, key))
    }

    pub async fn list(&self, query: ListQuery) -> Result<Listed, Failure> {
        ask!(self, list(query))
    }

    pub async fn save(&self, collection: &str, key: &str, document: Document) -> Result<(), Failure> {
        ask!(self, save(collection, key, document))
    }

    pub async fn bulk_save(&self, collection: &str, documents: Vec<(String, Document)>) -> Result<u64, Failure> {
        ask!(self, bulk_save(collection, documents))
    }

    pub async fn delete(&self, collection: &str, key: &str) -> Result<bool, Failure> {
        ask!(self, delete(collection, key))
    }

    pub async fn history(&self, collection: &str, key: &str) -> Result<Vec<VersionView>, Failure> {
        ask!(self, history(collection, key))
    }

    pub async fn diff(
        &self,
        collection: &str,
        key: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<Difference, Failure> {
        ask!(self, diff(collection, key, from, to))
    }

    pub async fn rounds(&self) -> Result<Vec<RoundView>, Failure> {
        ask!(self, rounds())
    }

    pub async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport, Failure> {
        ask!(self, roll_back(request))
    }

    pub async fn queue(&self, filter: QueueFilter) -> Result<Vec<QueuedOperation>, Failure> {
        ask!(self, queue(filter))
    }

    pub async fn redrive(&self, ids: Vec<i64>) -> Result<u64, Failure> {
        ask!(self, redrive(ids))
    }

    pub async fn discard(&self, ids: Vec<i64>) -> Result<u64, Failure> {
        ask!(self, discard(ids))
    }

    /// The same without the rest of their transactions.
    pub async fn discard_alone(&self, ids: Vec<i64>) -> Result<u64, Failure> {
        ask!(self, discard_alone(ids))
    }

    pub async fn conflicts(&self, all: bool) -> Result<Vec<ConflictView>, Failure> {
        ask!(self, conflicts(all))
    }

    pub async fn conflict(&self, id: i64) -> Result<ConflictView, Failure> {
        ask!(self, conflict(id))
    }

    pub async fn resolve(&self, id: i64, choice: Choice) -> Result<(), Failure> {
        ask!(self, resolve(id, choice))
    }

    pub async fn undo(&self, id: i64) -> Result<(), Failure> {
        ask!(self, undo(id))
    }

    pub async fn backup(&self) -> Result<BackupView, Failure> {
        ask!(self, backup())
    }

    pub async fn restore(&self, request: RestoreRequest) -> Result<RestoreReport, Failure> {
        ask!(self, restore(request))
    }

    pub async fn logs(&self, query: LogQuery) -> Result<Vec<Kept>, Failure> {
        match self {
            Self::Own(own) => Ok(own.tidelock.logger().entries(query).await?),
            Self::Process(client) => Ok(client.logs(query).await?),
        }
    }

    pub async fn verify(&self) -> Result<Verified, Failure> {
        ask!(self, verify_integrity())
    }

    pub async fn stats(&self) -> Result<Stats, Failure> {
        ask!(self, stats())
    }

    pub async fn exact_stats(&self) -> Result<Stats, Failure> {
        ask!(self, exact_stats())
    }

    pub async fn compact(&self) -> Result<Compacted, Failure> {
        ask!(self, compact())
    }

    pub async fn compact_and_forget(&self) -> Result<Compacted, Failure> {
        ask!(self, compact_and_forget())
    }
}

impl Own {
    /// Closes the store and opens it again with a close look at it.
    pub async fn open_anew(self, config: &Config) -> Result<Access, Failure> {
        self.tidelock.suspect();
        self.tidelock.shutdown().await;
        drop(self);
        Access::open(config).await
    }

    /// Rounds do not start by themselves because this is a command, not because somebody has paused them.
    fn status(&self) -> Status {
        let mut status = self.tidelock.status();
        if matches!(status.phase, Phase::Paused | Phase::Idle) {
            let is_paused = !self.config.sync.auto || !self.config.sync.enabled;
            status.phase = if is_paused { Phase::Paused } else { Phase::Idle };
        }
        status
    }
}

/// Opens the store for a process, which does without others.
pub async fn open_own(config: Config) -> Result<Tidelock, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Tidelock::open(config.clone()) {
            Err(Error::Open(OpenError::Owned { .. })) if Instant::now() < deadline => {
                tokio::time::sleep(PROCESS_PAUSE).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// The process that answers on this data folder.
pub async fn process_on(folder: &Path) -> Option<Client> {
    Client::connect(Endpoint::find(folder)?).await
}

fn out_of_reach(owner: &str, folder: &Path) -> Failure {
    Failure::new(
        FAILED,
        format!(
            "{owner} owns the store in {} and does not answer on a local API; stop it, wait for it, or run it with \
             [api] enabled = true",
            folder.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_does_nothing_by_itself_and_only_a_backup_is_told_of() {
        let config = Config::from_toml("[collections.notes]").unwrap();
        assert!(config.sync.auto && config.backup.enabled && config.backup.publish && config.storage.self_repair);
        for (purpose, publishes, repairs) in
            [(Purpose::Work, false, true), (Purpose::BackUp, true, true), (Purpose::Look, false, false)]
        {
            let own = purpose.configured(&config);
            assert!(!own.sync.auto && !own.backup.enabled, "{purpose:?}");
            assert_eq!((own.backup.publish, own.storage.self_repair), (publishes, repairs), "{purpose:?}");
        }
        let mut silent = config;
        silent.backup.publish = false;
        assert!(!Purpose::BackUp.configured(&silent).backup.publish, "what is not wanted is not done");
    }
}
