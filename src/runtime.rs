//! The one place that wires: parts, ports and adapters, on a thread of their own with its own actix system.
//!
//! Started bottom-up, stopped top-down. A host needs no actix, and any executor will do.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Instant;

use actix::{Arbiter, System};
use futures::future::select;
use tidelock_actors::backup::{BackupStatus, BackupTimer};
use tidelock_actors::conflict::ConflictResolver;
use tidelock_actors::limits::{
    ACTOR_MAILBOX, BACKLOG_PATIENCE, BACKLOG_PAUSE, BACKLOG_SHARE, DRAIN_DEADLINE, MAINTENANCE_INTERVAL, NUDGE_DELAY,
    STORAGE_MAILBOX, WATCH_BACKLOG,
};
use tidelock_actors::logger::{self, LoggerStatus, Reached, RemoteLogger};
use tidelock_actors::machine::backoff::Backoff;
use tidelock_actors::machine::backup_times::Times;
use tidelock_actors::machine::intensity::Allowance;
use tidelock_actors::machine::outbox::{Outbox, Patience};
use tidelock_actors::machine::shipping;
use tidelock_actors::model::{CollectionRules, Counts, RecordId};
use tidelock_actors::peer::Peer;
use tidelock_actors::ports::{Ports, Store};
use tidelock_actors::queue::Queue;
use tidelock_actors::remembered::Remembered;
use tidelock_actors::round::Crew;
use tidelock_actors::status::SyncStatus;
use tidelock_actors::storage::{Announcements, CorrectClock, Maintain, Storage};
use tidelock_actors::supervisor::{Care, Health, supervise};
use tidelock_actors::sync::{Nudge, Settings, SyncScheduler};
use tokio::sync::{broadcast, oneshot, watch};

use crate::adapters::sqlite::{Backlog, SqliteReads, Usage};
use crate::config::{Config, Level};
use crate::error::Error;
use crate::logger::{Hearing, Intake};
use crate::status::{self, Status, StatusSources};

#[cfg(not(panic = "unwind"))]
compile_error!("tidelock restarts parts that panic: build with panic = \"unwind\"");

/// The addresses of all parts, and what they announce.
#[derive(Clone)]
pub(crate) struct Parts {
    pub storage: Peer<Storage>,
    pub queue: Peer<Queue>,
    pub resolver: Peer<ConflictResolver>,
    pub sync: Peer<SyncScheduler>,
    pub backup: Peer<BackupTimer>,
    pub logger: Peer<RemoteLogger>,
    pub changes: broadcast::Sender<Arc<[RecordId]>>,
    /// Told when something has changed that the status reads where it is.
    pub news: watch::Sender<()>,
    pub sources: StatusSources,
    pub status: watch::Receiver<Status>,
    pub thread: tokio::runtime::Handle,
}

/// The thread.
pub(crate) struct Runtime {
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What the parts are made of.
pub(crate) struct Equipment {
    pub store: Box<dyn Store>,
    pub ports: Ports,
    pub config: Config,
    pub rules: Arc<[CollectionRules]>,
    pub usage: watch::Receiver<Usage>,
    pub intake: Arc<Intake>,
    pub ships_logs: bool,
    pub reads: SqliteReads,
    pub seed: u64,
}

impl Runtime {
    /// Starts the thread and waits until all parts are up.
    pub fn start(equipment: Equipment) -> Result<(Self, Parts), Error> {
        let (stop, stop_asked) = watch::channel(false);
        let (report_stopped, stopped) = watch::channel(false);
        let (give_parts, parts) = sync_channel(1);
        let body = move || {
            System::new().block_on(live(equipment, give_parts, stop_asked));
            report_stopped.send_replace(true);
        };
        let thread = std::thread::Builder::new().name("tidelock".to_owned()).spawn(body);
        let cannot = |why: String| Error::Stopped { cause: format!("the runtime could not start: {why}") };
        let thread = Some(thread.map_err(|error| cannot(error.to_string()))?);
        let parts = parts.recv().map_err(|_| cannot("its thread ended".to_owned()))?;
        Ok((Self { stop, stopped, thread }, parts))
    }

    /// Asks for the ordered stop and waits for it.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

impl Drop for Runtime {
    /// The last handle is gone: the store is given back before the host goes on.
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let is_own_thread = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| !is_own_thread(thread)) {
            let _ = thread.join();
        }
    }
}

/// The life of the runtime: up, until somebody asks to stop or the store fails for good.
async fn live(
    equipment: Equipment,
    give_parts: std::sync::mpsc::SyncSender<Parts>,
    mut stop_asked: watch::Receiver<bool>,
) {
    let arbiter = Arbiter::new();
    let intake = equipment.intake.clone();
    let Some(parts) = start(equipment, &arbiter).await else { return };
    let hearing = Hearing::begin(intake, parts.logger.clone());
    let mut storage_health = parts.storage.watch_health();
    if give_parts.send(parts.clone()).is_err() {
        return;
    }
    let asked = async { stop_asked.wait_for(|asked| *asked).await.is_ok() };
    let failed = async { storage_health.wait_for(|health| matches!(health, Health::Failed { .. })).await.is_ok() };
    select(pin!(asked), pin!(failed)).await;
    parts.backup.stop(DRAIN_DEADLINE).await;
    parts.sync.stop(DRAIN_DEADLINE).await;
    parts.resolver.stop(DRAIN_DEADLINE).await;
    parts.queue.stop(DRAIN_DEADLINE).await;
    parts.storage.stop(DRAIN_DEADLINE).await;
    // Last of all, so that the others' troubles are kept.
    drop(hearing);
    parts.logger.stop(DRAIN_DEADLINE).await;
    arbiter.stop();
    let _ = arbiter.join();
}

async fn start(equipment: Equipment, arbiter: &Arbiter) -> Option<Parts> {
    let Equipment { store, ports, config, rules, usage, reads, ships_logs, seed, .. } = equipment;
    let (report_logs, logger_status) = watch::channel(LoggerStatus::default());
    let logger = supervise(care("logger", ACTOR_MAILBOX, &config, true, seed + 8), |_| {
        let settings = logger_settings(&config, ships_logs);
        RemoteLogger::new(settings, ports.logs.clone(), ports.clock.clone(), report_logs, seed + 9)
    });
    let (counts, watched_counts) = watch::channel(store.counts().clone());
    let (outbox, outbox_turns) = watch::channel(0);
    let (changes, _) = broadcast::channel(WATCH_BACKLOG);
    let announcements = Announcements { counts, changes: changes.clone(), outbox };

    let storage_care = care("storage", STORAGE_MAILBOX, &config, false, seed);
    let storage = start_storage(arbiter, storage_care, store, ports.clone(), announcements).await?;
    let remembered = Remembered::read(&*ports.reader).await;
    if let Some(offset_ms) = remembered.clock_offset_ms {
        // Nobody has the handle yet: what is saved before the server is reached is stamped by its time as well (H38).
        storage.hint(CorrectClock { offset_ms });
    }
    let outbox = Outbox::new(&rules, patience(&config), seed + 5);
    let (reader, peer, counts) = (ports.reader.clone(), storage.clone(), watched_counts.clone());
    let queue =
        supervise(care("queue", ACTOR_MAILBOX, &config, true, seed + 1), |_| Queue::new(outbox, reader, peer, counts));
    let resolver = supervise(care("conflict", ACTOR_MAILBOX, &config, true, seed + 2), |_| {
        ConflictResolver::new(&rules, ports.clone(), storage.clone())
    });
    let crew = Crew {
        queue: queue.clone(),
        resolver: resolver.clone(),
        storage: storage.clone(),
        reader: ports.reader.clone(),
        remote: ports.remote.clone(),
        rules: rules.clone(),
        counts: watched_counts.clone(),
        moved: Arc::new(|_| {}),
    };
    let (report, sync_status) = watch::channel(SyncStatus::default());
    let sync = supervise(care("sync", ACTOR_MAILBOX, &config, true, seed + 3), |_| {
        SyncScheduler::new(sync_settings(&config), crew, ports.clock.clone(), report, remembered, seed + 4)
    });

    let (report_backups, backup_status) = watch::channel(BackupStatus::default());
    let archived = ports.archive.state().await;
    let backup = supervise(care("backup", ACTOR_MAILBOX, &config, true, seed + 6), |_| {
        BackupTimer::new(backup_times(&config), &ports, report_backups, archived, seed + 7)
    });

    let backlog = watch_backlog(reads, watched_counts.clone(), outbox_turns.clone()).await;
    let (news, watched_news) = watch::channel(());
    let sources = StatusSources {
        counts: watched_counts,
        sync: sync_status,
        backups: backup_status,
        logger: logger_status,
        backlog,
        news: watched_news,
        usage,
        parts: vec![
            (storage.name(), storage.watch_health()),
            (queue.name(), queue.watch_health()),
            (resolver.name(), resolver.watch_health()),
            (sync.name(), sync.watch_health()),
            (backup.name(), backup.watch_health()),
            (logger.name(), logger.watch_health()),
        ],
        collections: rules.iter().map(|rule| (rule.name.clone(), rule.direction)).collect(),
        remote: ports.remote.clone(),
    };
    tell_when_the_server_is_back(sources.sync.clone(), logger.clone());
    let status = status::publish(sources.clone());
    nudge_when_there_is_something_to_send(outbox_turns, sync.clone());
    maintain_now_and_then(storage.clone());
    let thread = tokio::runtime::Handle::current();
    Some(Parts { storage, queue, resolver, sync, backup, logger, changes, news, sources, status, thread })
}

/// Does what needs tokio on the runtime's thread, whatever the executor that waits for it.
pub(crate) async fn on<T: Send + 'static>(
    thread: &tokio::runtime::Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    thread.spawn(work).await.map_err(|error| Error::Stopped { cause: error.to_string() })
}

/// The writer blocks while it commits, so it lives on a thread of its own.
async fn start_storage(
    arbiter: &Arbiter,
    care: Care,
    store: Box<dyn Store>,
    ports: Ports,
    announcements: Announcements,
) -> Option<Peer<Storage>> {
    let (give, storage) = oneshot::channel();
    arbiter.spawn_fn(move || {
        let _ = give.send(supervise(care, |_| Storage::new(store, ports.clock, announcements)));
    });
    storage.await.ok()
}

fn care(name: &'static str, mailbox: usize, config: &Config, expendable: bool, seed: u64) -> Care {
    let supervision = &config.supervision;
    Care {
        name,
        mailbox,
        allowance: Allowance { restarts: supervision.restarts, within: supervision.within },
        backoff: Backoff { base: supervision.backoff, cap: supervision.backoff_max },
        expendable,
        seed,
    }
}

/// The queue's part of the configuration.
pub(crate) fn patience(config: &Config) -> Patience {
    let backoff = Backoff { base: config.sync.retry_delay, cap: config.sync.retry_delay_max };
    Patience { max_retries: config.sync.max_retries, backoff }
}

/// The scheduler's part of the configuration.
pub(crate) fn sync_settings(config: &Config) -> Settings {
    let sync = &config.sync;
    Settings {
        enabled: sync.enabled && config.remote.url.is_some(),
        auto: sync.auto,
        interval: sync.interval,
        backoff: Backoff { base: sync.retry_delay, cap: sync.retry_delay_max },
        deep_interval: sync.listing_interval,
        audit_interval: sync.audit_interval,
        batch_size: sync.batch_size,
        batch_size_max: sync.batch_size_max,
        stall_after: sync.stall_after,
    }
}

/// The backup timer's part of the configuration.
pub(crate) fn backup_times(config: &Config) -> Times {
    let (sync, backup) = (&config.sync, &config.backup);
    let backoff = Backoff { base: sync.retry_delay, cap: sync.retry_delay_max };
    let (enabled, interval, drill_interval) = (backup.enabled, backup.interval, backup.drill_interval);
    Times { enabled, interval, drill_interval, publish: backup.publish, backoff }
}

/// The logger's part of the configuration.
pub(crate) fn logger_settings(config: &Config, ships: bool) -> logger::Settings {
    let (sync, log) = (&config.sync, &config.log);
    let is_wanted =
        sync.enabled && config.remote.url.is_some() && !log.table.is_empty() && log.remote_level != Level::Off;
    let backoff = Backoff { base: sync.retry_delay, cap: sync.retry_delay_max };
    let (table, history) = (log.table.as_str().into(), log.history);
    logger::Settings { times: shipping::Times { ships: ships && is_wanted, backoff }, table, history }
}

/// What waits for the server need not wait longer than until a round has reached it.
fn tell_when_the_server_is_back(mut sync: watch::Receiver<SyncStatus>, logger: Peer<RemoteLogger>) {
    actix::spawn(async move {
        let mut was_online = false;
        while sync.changed().await.is_ok() {
            let is_online = sync.borrow_and_update().is_online;
            if is_online && !was_online {
                logger.hint(Reached);
            }
            was_online = is_online;
        }
    });
}

/// Looks at what waits to be sent whenever that has changed, and not for more than a small part of the time. What waits
/// already is mostly known when this returns; a long outbox keeps nobody from opening the store.
async fn watch_backlog(
    reads: SqliteReads,
    mut counts: watch::Receiver<Counts>,
    mut turns: watch::Receiver<u64>,
) -> watch::Receiver<Backlog> {
    turns.mark_unchanged();
    let has_some = counts.borrow_and_update().values().any(|counts| counts.pending > 0);
    let (tell, mut backlog) = watch::channel(Backlog::new());
    actix::spawn(async move {
        let mut is_due = has_some;
        while is_due || select(pin!(counts.changed()), pin!(turns.changed())).await.factor_first().0.is_ok() {
            is_due = false;
            let began = Instant::now();
            match reads.backlog().await {
                Ok(now) => {
                    tell.send_if_modified(|last| std::mem::replace(last, now.clone()) != now);
                }
                Err(error) => {
                    tracing::debug!(%error, "what waits to be sent could not be looked at; tried again");
                    is_due = true;
                }
            }
            tokio::time::sleep(BACKLOG_PAUSE.max(began.elapsed() * BACKLOG_SHARE)).await;
        }
    });
    if has_some {
        let _ = tokio::time::timeout(BACKLOG_PATIENCE, backlog.changed()).await;
    }
    backlog
}

fn nudge_when_there_is_something_to_send(mut turns: watch::Receiver<u64>, sync: Peer<SyncScheduler>) {
    actix::spawn(async move {
        while turns.changed().await.is_ok() {
            sync.hint(Nudge);
            // Savers need not wake this thread for each save.
            tokio::time::sleep(NUDGE_DELAY).await;
        }
    });
}

fn maintain_now_and_then(storage: Peer<Storage>) {
    actix::spawn(async move {
        loop {
            tokio::time::sleep(MAINTENANCE_INTERVAL).await;
            if let Ok(Err(error)) = storage.ask_soon(Maintain).await {
                tracing::warn!(%error, "maintenance of the store failed; tried again later");
            }
        }
    });
}
