//! The host's entry point: cloneable, usable from any executor, never waiting for the network unless asked to.

mod audit;
mod backups;
mod checkup;
#[cfg(test)]
mod damage;
mod equipment;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod full_quota;
mod history;
mod inspection;
mod records;
mod repair;
mod review;
mod rounds;
mod storage;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};

use futures::Stream;
use futures::future::abortable;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidelock_actors::backup;
use tidelock_actors::conflict;
use tidelock_actors::logger as actors_logger;
use tidelock_actors::model::CollectionRules;
use tidelock_actors::ports::{LogBook, LogPorts, Ports, Remote, Resolver, Store};
use tidelock_actors::queue;
use tidelock_actors::supervisor::Crash;
use tidelock_actors::sync;

use crate::adapters::archive::FileArchive;
use crate::adapters::clock::SystemClock;
use crate::adapters::log_book::SqliteLogBook;
use crate::adapters::publisher::{Everywhere, Publishing};
use crate::adapters::sqlite::{OpenError, Quota, SqliteReads};
use crate::collection::Collection;
use crate::config::{Config, changes_needing_restart};
use crate::error::Error;
use crate::locks::{locked_to_read, locked_to_write};
use crate::logger::{self, Logger};
use crate::runtime::{Equipment, Parts, Runtime, backup_times, logger_settings, patience, sync_settings};
use crate::status::Status;
use crate::watch::Subscription;
pub use audit::{AuditReport, AuditRequest};
pub use backups::{BackupTrial, Backups, Exported, RestoreReport, RestoreRequest, RestoredCopy};
pub(crate) use equipment::way_to;
use equipment::{archive_options, bucket, everywhere, log_sink, remote, sender};
pub use history::{ChangeKind, LeftRecord, RecordChange, RollbackReport, RollbackRequest, RollbackTarget};
pub use inspection::Inspection;
pub use repair::Repair;

/// A running tidelock. Clones share it; the last one that goes stops it.
#[derive(Clone)]
pub struct Tidelock {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped first: the runtime gives the store back before the reads go.
    runtime: Runtime,
    parts: Parts,
    reads: SqliteReads,
    remote: Arc<dyn Remote>,
    archive: FileArchive,
    everywhere: Option<Arc<Everywhere>>,
    logger: Logger,
    ships_logs: bool,
    quota: Quota,
    rules: Arc<[CollectionRules]>,
    config: RwLock<Config>,
    token: Arc<RwLock<Option<SecretString>>>,
    /// Held while the whole store is read for the doctor.
    examining: Arc<tokio::sync::Mutex<()>>,
}

/// What a host gives beside the configuration.
#[derive(Default)]
pub struct Extras {
    /// The host's own conflict resolvers, by collection.
    pub resolvers: BTreeMap<Arc<str>, Arc<dyn Resolver>>,
    /// Another way to the server than PostgREST; for tests and for servers of one's own.
    pub remote: Option<Arc<dyn Remote>>,
    /// Whether log entries for the server wait for another time, as the commands of the `tidelock` program wish it.
    pub holds_logs: bool,
}

/// Which half of a round to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncRequest {
    /// Send.
    pub push: bool,
    /// Fetch.
    pub pull: bool,
    /// First take the server as it is now, where it was found to be another database than the store knows, or an
    /// earlier state of it: everything is read anew before anything is sent.
    #[serde(default)]
    pub accept_server: bool,
}

impl Default for SyncRequest {
    fn default() -> Self {
        Self { push: true, pull: true, accept_server: false }
    }
}

/// What a round did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncReport {
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
    /// Collections that do not fit the server's schema, with the server's word.
    pub paused: BTreeMap<String, String>,
}

static GLOBAL: OnceLock<Tidelock> = OnceLock::new();

/// The instance that `Tidelock::make_global` installed, for hosts that want one everywhere.
pub fn global() -> Option<Tidelock> {
    GLOBAL.get().cloned()
}

/// Waits for an answer where there is no async: `blocking(handle.get("runs", "1"))`.
pub fn blocking<F: Future>(answer: F) -> F::Output {
    futures::executor::block_on(answer)
}

impl Tidelock {
    /// Opens the store and starts the runtime. It blocks for as long as the file takes, never on the network.
    pub fn open(config: Config) -> Result<Self, Error> {
        Self::open_with(config, Extras::default())
    }

    /// As `open`, with what the host gives beside the configuration.
    pub fn open_with(config: Config, extras: Extras) -> Result<Self, Error> {
        config.validate()?;
        let (store, reads) = repair::open(&config)?;
        let (log, quota) = (store.log(), store.quota());
        let archive = FileArchive::new(archive_options(&config), Some(log), quota.clone());
        Self::start(config, extras, Box::new(store), reads, archive, quota)
    }

    /// Starts the runtime over an opened store.
    fn start(
        config: Config,
        extras: Extras,
        store: Box<dyn Store>,
        reads: SqliteReads,
        archive: FileArchive,
        quota: Quota,
    ) -> Result<Self, Error> {
        let rules: Arc<[CollectionRules]> = config.rules().into();
        let token = Arc::new(RwLock::new(config.remote.access_token.clone()));
        let sender = sender(&reads)?;
        let device = sender.client.clone();
        let remote = match extras.remote {
            Some(remote) => remote,
            None => remote(&config, &rules, token.clone(), sender)?,
        };
        let everywhere = everywhere(&config, token.clone(), &archive)?;
        let intake = logger::intake_of(&config, config.remote.access_token.clone());
        let folder = config.storage.data_dir.clone();
        let log_book = SqliteLogBook::start(&folder).map_err(|source| OpenError::Files { path: folder, source })?;
        let log_book: Arc<dyn LogBook> = Arc::new(log_book);
        let ports = Ports {
            reader: Arc::new(reads.clone()),
            remote: remote.clone(),
            archive: Arc::new(archive.clone()),
            publisher: Arc::new(Publishing(everywhere.clone())),
            logs: LogPorts {
                intake: intake.clone(),
                book: log_book.clone(),
                sink: log_sink(&config, token.clone(), &device, intake.clone())?,
            },
            clock: Arc::new(SystemClock),
            resolvers: Arc::new(extras.resolvers),
        };
        tidelock_actors::metrics::describe();
        let seed = uuid::Uuid::new_v4().as_u64_pair().0 >> 8;
        let ships_logs = !extras.holds_logs;
        let equipment = Equipment {
            store,
            ports,
            config: config.clone(),
            rules: rules.clone(),
            usage: quota.watch(),
            intake: intake.clone(),
            ships_logs,
            reads: reads.clone(),
            seed,
        };
        let (runtime, parts) = Runtime::start(equipment)?;
        let logger = Logger { intake, book: log_book, peer: parts.logger.clone(), thread: parts.thread.clone() };
        let config = RwLock::new(config);
        let inner = Inner {
            runtime,
            parts,
            reads,
            remote,
            archive,
            everywhere,
            logger,
            ships_logs,
            quota,
            rules,
            config,
            token,
            examining: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What was done when the store was last found damaged; nothing if it never was.
    pub fn last_repair(&self) -> Option<Repair> {
        repair::last(&self.config().storage.data_dir)
    }

    /// Makes this the instance that `global()` gives; the first one stays.
    pub fn make_global(&self) -> bool {
        GLOBAL.set(self.clone()).is_ok()
    }

    /// A typed view of a collection.
    pub fn collection<T: Serialize + DeserializeOwned>(&self, name: &str) -> Collection<T> {
        Collection::new(self.clone(), name)
    }

    /// The status as of now.
    pub fn status(&self) -> Status {
        self.inner.parts.sources.read()
    }

    /// Sets the gauges to what the status is now.
    #[cfg(feature = "process")]
    pub(crate) fn set_gauges(&self) {
        crate::gauges::set(&self.status(), &self.inner.parts.sources.part_names());
    }

    /// Calls `tell` with the status now and whenever it changes, at most every 100 ms and always with the
    /// last one, until the subscription is dropped.
    pub fn subscribe(&self, tell: impl Fn(&Status) + Send + Sync + 'static) -> Subscription {
        let mut status = self.inner.parts.status.clone();
        let (following, abort) = abortable(async move {
            loop {
                let now = status.borrow_and_update().clone();
                tell(&now);
                if status.changed().await.is_err() {
                    return;
                }
            }
        });
        self.inner.parts.thread.spawn(following);
        Subscription { abort }
    }

    /// The status as it changes; the first item is the status now.
    pub fn status_stream(&self) -> impl Stream<Item = Status> + Send + Unpin + 'static {
        let status = self.inner.parts.status.clone();
        Box::pin(futures::stream::unfold((status, true), |(mut status, is_first)| async move {
            if !is_first && status.changed().await.is_err() {
                return None;
            }
            let now = status.borrow_and_update().clone();
            Some((now, (status, false)))
        }))
    }

    /// The status, to be asked whenever it is another one.
    #[cfg(feature = "process")]
    pub(crate) fn statuses(&self) -> tokio::sync::watch::Receiver<Status> {
        self.inner.parts.status.clone()
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        locked_to_read(&self.inner.config).clone()
    }

    /// Takes over what can change while running; returns the changed keys that wait for a restart.
    pub async fn reconfigure(&self, config: Config) -> Result<Vec<String>, Error> {
        config.validate()?;
        let mut in_force = self.config();
        let needs_restart = changes_needing_restart(&in_force, &config);
        let token = |config: &Config| config.remote.access_token.as_ref().map(|token| token.expose_secret().to_owned());
        // A token that the host gave meanwhile is not overwritten by a file that says nothing new.
        let has_another_token = token(&in_force) != token(&config);
        in_force.adopt(config);
        let rules = with_strategies_of(&self.inner.rules, &in_force.rules());
        let parts = &self.inner.parts;
        parts.queue.ask(queue::Configure { patience: patience(&in_force) }).await?;
        parts.resolver.ask(conflict::Configure(rules.to_vec())).await?;
        parts.sync.ask(sync::Configure { settings: sync_settings(&in_force), rules }).await?;
        self.inner.archive.configure(archive_options(&in_force));
        if let Some(everywhere) = &self.inner.everywhere {
            everywhere.configure(bucket(&in_force));
        }
        parts.backup.ask(backup::Configure(backup_times(&in_force))).await?;
        self.inner.logger.intake.set_levels(logger::levels(&in_force));
        let settings = logger_settings(&in_force, self.inner.ships_logs);
        parts.logger.ask(actors_logger::Configure(settings)).await?;
        if self.inner.quota.set(in_force.storage.quota) {
            // A round that found no room may find some now.
            self.nudge();
        }
        let token = in_force.remote.access_token.clone();
        *locked_to_write(&self.inner.config) = in_force;
        if has_another_token {
            self.set_access_token(token);
        } else {
            self.redact_anew();
        }
        Ok(needs_restart)
    }

    /// Gives a new bearer token; a round that waited for one starts.
    pub fn set_access_token(&self, token: Option<SecretString>) {
        *locked_to_write(&self.inner.token) = token;
        self.redact_anew();
        self.inner.parts.news.send_replace(());
        self.nudge();
        self.inner.parts.logger.hint(actors_logger::Renewed);
        self.inner.parts.backup.hint(backup::Renewed);
    }

    /// The secrets may be others now.
    fn redact_anew(&self) {
        let token = locked_to_read(&self.inner.token).clone();
        self.inner.logger.intake.set_redactor(logger::redactor(&self.config(), token));
    }

    /// What was logged, and a way to log calls of services.
    pub fn logger(&self) -> Logger {
        self.inner.logger.clone()
    }

    /// Returns once the thread on which the parts live has had a turn: for a watchdog.
    pub async fn take_a_turn(&self) {
        // That it was dropped means that the runtime has stopped, which is told elsewhere.
        let _ = self.inner.parts.thread.spawn(async {}).await;
    }

    /// Stops the runtime in order and gives the store back. Other clones answer `Stopped` from then on.
    pub async fn shutdown(&self) {
        self.inner.runtime.stop().await;
    }

    /// Makes a part panic (`storage`, `queue`, `conflict`, `sync`, `backup` or `logger`), to see that nothing is lost by it.
    #[doc(hidden)]
    pub async fn drill(&self, part: &str) -> Result<(), Error> {
        let parts = &self.inner.parts;
        let answer = match part {
            "storage" => parts.storage.ask(Crash).await,
            "queue" => parts.queue.ask(Crash).await,
            "conflict" => parts.resolver.ask(Crash).await,
            "sync" => parts.sync.ask(Crash).await,
            "backup" => parts.backup.ask(Crash).await,
            "logger" => parts.logger.ask(Crash).await,
            other => return Err(Error::Invalid(format!("unknown part {other:?}"))),
        };
        // The part panics at this message, so it cannot answer it.
        answer.or(Ok(()))
    }
}

/// Strategies reload; which collections there are does not.
fn with_strategies_of(old: &[CollectionRules], new: &[CollectionRules]) -> Arc<[CollectionRules]> {
    let strategy =
        |rule: &CollectionRules| new.iter().find(|other| other.name == rule.name).map(|other| other.strategy);
    old.iter()
        .map(|rule| CollectionRules { strategy: strategy(rule).unwrap_or(rule.strategy), ..rule.clone() })
        .collect()
}
