//! The status: one snapshot, put together from the exact counts, the scheduler and the parts' health.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidelock_actors::backup::BackupStatus;
use tidelock_actors::logger::LoggerStatus;
use tidelock_actors::logs::BookState;
use tidelock_actors::model::Counts;
use tidelock_actors::ports::Remote;
use tidelock_actors::status::{SyncPhase, SyncStatus};
use tidelock_actors::supervisor::Health;
use tokio::sync::watch;

use crate::adapters::sqlite::Usage;

/// What tidelock is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything is done until the next round.
    Idle,
    /// A round runs.
    Syncing,
    /// The server cannot be reached; tried again by itself.
    Offline,
    /// Rounds do not start by themselves.
    Paused,
    /// The server does not accept the credentials; local work goes on.
    NeedsAuth,
    /// A part failed too often; the rest works.
    Degraded,
    /// The store failed; nothing works.
    Failed,
}

/// A snapshot of everything that a user or operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Whether the last request reached the server.
    pub online: bool,
    /// Whether a round runs.
    pub syncing: bool,
    /// Operations that are to be sent.
    pub pending: u64,
    /// Operations set aside with their cause.
    pub parked: u64,
    /// Conflicts that wait for a decision.
    pub conflicts: u64,
    /// When the last round ended well.
    pub last_synced_at: Option<Timestamp>,
    /// What went wrong last, until a round ends well.
    pub last_error: Option<String>,
    /// Since when nothing has moved although something should.
    pub stalled_since: Option<Timestamp>,
    /// When the next round begins by itself.
    pub next_round_at: Option<Timestamp>,
    /// What the server offers: `plain` promises the weaker forms of exactly-once and of no missed change.
    pub mode: String,
    /// When the newest backup was taken.
    pub last_backup_at: Option<Timestamp>,
    /// What went wrong with backups last, until one goes well.
    pub backup_error: Option<String>,
    /// When the server was last told of all of them.
    pub backups_published_at: Option<Timestamp>,
    /// Why it could not be told last.
    pub publish_error: Option<String>,
    /// What the store takes of what it may.
    pub storage: Usage,
    /// What is to be sent to the server of what was logged.
    #[serde(default)]
    pub logger: LoggerView,
    /// Per collection.
    pub collections: BTreeMap<String, CollectionStatus>,
    /// Parts that are down or were restarted, with the last cause.
    pub parts: BTreeMap<String, PartStatus>,
}

/// The logger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggerView {
    /// Entries that are still to be sent.
    pub pending: u64,
    /// What was said and not kept for want of room.
    pub shed: u64,
    /// What was said again and only counted.
    pub folded: u64,
    /// Entries that the server did not take.
    pub refused: u64,
    /// When the server last took some.
    pub last_shipped_at: Option<Timestamp>,
    /// Why they are not sent, or not kept.
    pub last_error: Option<String>,
}

impl From<LoggerStatus> for LoggerView {
    fn from(status: LoggerStatus) -> Self {
        let BookState { pending, shed, folded, refused, shipped_ms, trouble } = status.book;
        let last_shipped_at = shipped_ms.and_then(time);
        let troubles: Vec<String> = [trouble, status.last_error].into_iter().flatten().collect();
        let last_error = (!troubles.is_empty()).then(|| troubles.join("; "));
        Self { pending, shed, folded, refused, last_shipped_at, last_error }
    }
}

/// One collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionStatus {
    /// Documents that the app sees.
    pub records: u64,
    /// Operations that are to be sent.
    pub pending: u64,
    /// Operations set aside.
    pub parked: u64,
    /// Conflicts that wait for a decision.
    pub conflicts: u64,
    /// Why the collection does not sync, if it does not fit the server's schema.
    pub paused: Option<String>,
}

/// One part that is not simply running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStatus {
    /// `running`, `restarting`, `degraded`, `failed` or `stopped`.
    pub state: String,
    /// Restarts so far.
    pub restarts: u32,
    /// The last failure.
    pub cause: Option<String>,
}

/// Where the status is read.
#[derive(Clone)]
pub(crate) struct StatusSources {
    pub counts: watch::Receiver<Counts>,
    pub sync: watch::Receiver<SyncStatus>,
    pub backups: watch::Receiver<BackupStatus>,
    pub logger: watch::Receiver<LoggerStatus>,
    pub usage: watch::Receiver<Usage>,
    pub parts: Vec<(&'static str, watch::Receiver<Health>)>,
    pub collections: Vec<String>,
    pub remote: Arc<dyn Remote>,
}

impl StatusSources {
    /// The status as of now.
    pub fn read(&self) -> Status {
        let counts = self.counts.borrow().clone();
        let sync = self.sync.borrow().clone();
        let backups = self.backups.borrow().clone();
        let parts: BTreeMap<String, PartStatus> = self
            .parts
            .iter()
            .filter_map(|(name, health)| Some(((*name).to_owned(), part(&health.borrow())?)))
            .collect();
        let total = |of: fn(&tidelock_actors::model::CollectionCounts) -> u64| counts.values().map(of).sum();
        let collections =
            self.collections.iter().map(|name| (name.clone(), collection(name, &counts, &sync))).collect();
        Status {
            phase: phase(&sync, &parts),
            online: sync.is_online,
            syncing: sync.phase == SyncPhase::Syncing,
            pending: total(|counts| counts.pending),
            parked: total(|counts| counts.parked),
            conflicts: total(|counts| counts.conflicts),
            last_synced_at: sync.last_synced_ms.and_then(time),
            last_error: sync.last_error,
            stalled_since: sync.stalled_since_ms.and_then(time),
            next_round_at: sync.next_round_ms.and_then(time),
            mode: self.remote.mode().to_owned(),
            last_backup_at: backups.taken_ms.and_then(time),
            backup_error: backups.last_error.or(backups.drill_error),
            backups_published_at: backups.published_ms.and_then(time),
            publish_error: backups.publish_error,
            storage: *self.usage.borrow(),
            logger: self.logger.borrow().clone().into(),
            collections,
            parts,
        }
    }

    /// Waits until something that the status shows has changed; `false` once nothing ever will.
    pub async fn changed(&mut self) -> bool {
        let Self { counts, sync, backups, logger, usage, parts, .. } = self;
        let mut changes = vec![
            counts.changed().boxed(),
            sync.changed().boxed(),
            backups.changed().boxed(),
            logger.changed().boxed(),
            usage.changed().boxed(),
        ];
        changes.extend(parts.iter_mut().map(|(_, health)| health.changed().boxed()));
        select_all(changes).await.0.is_ok()
    }
}

fn collection(name: &str, counts: &Counts, sync: &SyncStatus) -> CollectionStatus {
    let counts = counts.get(name).copied().unwrap_or_default();
    let paused = sync.paused.iter().find(|(paused, _)| &**paused == name).map(|(_, fault)| fault.to_string());
    let (records, pending, parked, conflicts) = (counts.records, counts.pending, counts.parked, counts.conflicts);
    CollectionStatus { records, pending, parked, conflicts, paused }
}

fn phase(sync: &SyncStatus, parts: &BTreeMap<String, PartStatus>) -> Phase {
    let any = |state: &str| parts.values().any(|part| part.state == state);
    if any("failed") {
        return Phase::Failed;
    }
    if any("stopped") {
        return Phase::Paused;
    }
    if any("degraded") {
        return Phase::Degraded;
    }
    match sync.phase {
        SyncPhase::Idle => Phase::Idle,
        SyncPhase::Syncing => Phase::Syncing,
        SyncPhase::Offline => Phase::Offline,
        SyncPhase::Paused => Phase::Paused,
        SyncPhase::NeedsAuth => Phase::NeedsAuth,
    }
}

fn part(health: &Health) -> Option<PartStatus> {
    let (state, restarts, cause) = match health {
        Health::Running { restarts: 0 } => return None,
        Health::Running { restarts } => ("running", *restarts, None),
        Health::Restarting { restarts, cause } => ("restarting", *restarts, Some(cause.clone())),
        Health::Degraded { restarts, cause } => ("degraded", *restarts, Some(cause.clone())),
        Health::Failed { cause } => ("failed", 0, Some(cause.clone())),
        Health::Stopped => ("stopped", 0, None),
    };
    Some(PartStatus { state: state.to_owned(), restarts, cause })
}

fn time(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}
