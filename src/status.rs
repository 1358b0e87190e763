//! The status: one snapshot, put together from the exact counts, the scheduler and the parts' health. It tells times, not
//! ages: so it stays true however long it is looked at.

mod publish;
mod reasons;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{BoxStream, Stream, StreamExt, select_all, unfold};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::backup::BackupStatus;
use tidelock_actors::logger::LoggerStatus;
use tidelock_actors::machine::schedule::Reason;
use tidelock_actors::model::{Counts, Direction};
use tidelock_actors::ports::Remote;
use tidelock_actors::status::{SyncPhase, SyncStatus};
use tidelock_actors::supervisor::Health;
use tokio::sync::watch;

use crate::adapters::sqlite::{Backlog, Usage};
pub(crate) use publish::publish;
pub use views::{LoggerView, ServerStatus, Session, SessionState};

/// What tidelock is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Why, in one sentence.
    pub phase_reason: String,
    /// Whether the last request reached the server.
    pub online: bool,
    /// Whether a round runs.
    pub syncing: bool,
    /// Operations that are to be sent.
    pub pending: u64,
    /// Bytes of the fields that these set, when it was last looked: a second after a change, and where a look takes long
    /// so seldom that looking takes a fiftieth of the time (after one of 3 s in 150 s).
    pub pending_bytes: u64,
    /// When the oldest of them was made, as far as it was known at that look.
    pub oldest_pending_at: Option<Timestamp>,
    /// Operations set aside with their cause.
    pub parked: u64,
    /// Conflicts that wait for a decision.
    pub conflicts: u64,
    /// When the last round ended well.
    pub last_synced_at: Option<Timestamp>,
    /// When an operation last took effect on the server.
    pub last_pushed_at: Option<Timestamp>,
    /// When everything that the server had in a collection was last here.
    pub last_pulled_at: Option<Timestamp>,
    /// What went wrong last, until a round ends well.
    pub last_error: Option<String>,
    /// Since when nothing has moved although something should.
    pub stalled_since: Option<Timestamp>,
    /// What it is that nothing moves for.
    pub stalled_reason: Option<String>,
    /// When the next round begins by itself.
    pub next_round_at: Option<Timestamp>,
    /// Why then.
    pub next_round_reason: Option<NextRound>,
    /// What the server offers: `plain` promises the weaker forms of exactly-once and of no missed change.
    pub mode: String,
    /// How far this device is behind the server, and what is known of it.
    pub server: ServerStatus,
    /// The server's clock less this device's, in milliseconds, as far as it was ever told.
    pub clock_offset_ms: Option<i64>,
    /// As whom the server is asked.
    pub session: Session,
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

/// Why the next round begins when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NextRound {
    /// There is something to send, or there may be news.
    Changes,
    /// The interval is over.
    Interval,
    /// The last one was cut, and it is tried again.
    Retry,
}

/// One collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionStatus {
    /// Documents that the app sees.
    pub records: u64,
    /// Operations that are to be sent.
    pub pending: u64,
    /// Bytes of the fields that these set.
    pub pending_bytes: u64,
    /// When the oldest of them was made.
    pub oldest_pending_at: Option<Timestamp>,
    /// Operations set aside.
    pub parked: u64,
    /// Conflicts that wait for a decision.
    pub conflicts: u64,
    /// When an operation last took effect on the server.
    pub last_pushed_at: Option<Timestamp>,
    /// When everything that the server had was last here.
    pub last_pulled_at: Option<Timestamp>,
    /// Why the collection does not sync, if it does not fit the server's schema.
    pub paused: Option<String>,
}

/// Parts that are not simply running, by name.
type Parts = BTreeMap<String, PartStatus>;

/// One part that is not simply running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub backlog: watch::Receiver<Backlog>,
    /// Rises when something else has changed.
    pub news: watch::Receiver<()>,
    pub usage: watch::Receiver<Usage>,
    pub parts: Vec<(&'static str, watch::Receiver<Health>)>,
    pub collections: Vec<(Arc<str>, Direction)>,
    pub remote: Arc<dyn Remote>,
}

impl StatusSources {
    /// The status as of now.
    pub fn read(&self) -> Status {
        let sync = self.sync.borrow().clone();
        let backups = self.backups.borrow().clone();
        let heard = self.remote.heard();
        let parts: Parts = self
            .parts
            .iter()
            .filter_map(|(name, health)| Some(((*name).to_owned(), part(&health.borrow())?)))
            .collect();
        let collections = self.collections(&sync);
        let total = |of: fn(&CollectionStatus) -> u64| collections.values().map(of).sum();
        let times = |of: fn(&CollectionStatus) -> Option<Timestamp>| collections.values().filter_map(of);
        let (phase, pending) = (phase(&sync, &parts), total(|collection| collection.pending));
        let phase_reason = reasons::of_phase(phase, &sync, &parts, pending);
        let unanswered_since = heard.unanswered_since_ms.and_then(time);
        let stalled_reason = sync.stalled_since_ms.map(|_| reasons::of_stall(&sync, &parts, pending, unanswered_since));
        Status {
            phase,
            phase_reason,
            online: sync.is_online,
            syncing: sync.phase == SyncPhase::Syncing,
            pending,
            pending_bytes: total(|collection| collection.pending_bytes),
            oldest_pending_at: times(|collection| collection.oldest_pending_at).min(),
            parked: total(|collection| collection.parked),
            conflicts: total(|collection| collection.conflicts),
            last_synced_at: sync.last_synced_ms.and_then(time),
            last_pushed_at: times(|collection| collection.last_pushed_at).max(),
            last_pulled_at: times(|collection| collection.last_pulled_at).max(),
            stalled_since: sync.stalled_since_ms.and_then(time),
            stalled_reason,
            next_round_at: sync.next_round_ms.and_then(time),
            next_round_reason: sync.next_round_reason.map(next_round),
            mode: self.remote.mode().to_owned(),
            server: ServerStatus::of(&heard, self.caught_up_at(&collections)),
            clock_offset_ms: sync.clock_offset_ms,
            session: Session::of(self.remote.as_ref(), &sync, heard),
            last_backup_at: backups.taken_ms.and_then(time),
            backup_error: backups.last_error.or(backups.drill_error),
            backups_published_at: backups.published_ms.and_then(time),
            publish_error: backups.publish_error,
            storage: *self.usage.borrow(),
            logger: self.logger.borrow().clone().into(),
            last_error: sync.last_error,
            collections,
            parts,
        }
    }

    /// The names of all parts.
    pub fn part_names(&self) -> Vec<&'static str> {
        self.parts.iter().map(|(name, _)| *name).collect()
    }

    fn collections(&self, sync: &SyncStatus) -> BTreeMap<String, CollectionStatus> {
        let (counts, backlog) = (self.counts.borrow(), self.backlog.borrow());
        let status = |(name, _): &(Arc<str>, Direction)| (name.to_string(), collection(name, &counts, &backlog, sync));
        self.collections.iter().map(status).collect()
    }

    /// The collection that is furthest behind counts.
    fn caught_up_at(&self, collections: &BTreeMap<String, CollectionStatus>) -> Option<Timestamp> {
        let pulled = self.collections.iter().filter(|(_, direction)| direction.pulls());
        let times: Option<Vec<_>> = pulled.map(|(name, _)| collections.get(&**name)?.last_pulled_at).collect();
        times?.into_iter().min()
    }

    /// Something for each change of what the status shows; it ends once nothing can change any more.
    pub fn changes(&self) -> impl Stream<Item = ()> + use<> {
        let mut changes = vec![of(&self.counts), of(&self.sync), of(&self.backups), of(&self.logger)];
        changes.extend([of(&self.backlog), of(&self.news), of(&self.usage)]);
        changes.extend(self.parts.iter().map(|(_, health)| of(health)));
        select_all(changes)
    }
}

/// The changes of one source.
fn of<T: Send + Sync + 'static>(source: &watch::Receiver<T>) -> BoxStream<'static, ()> {
    let next = |mut source: watch::Receiver<T>| async move { source.changed().await.ok().map(|()| ((), source)) };
    unfold(source.clone(), next).boxed()
}

fn collection(name: &str, counts: &Counts, backlog: &Backlog, sync: &SyncStatus) -> CollectionStatus {
    let counts = counts.get(name).copied().unwrap_or_default();
    // The counts are exact, and what is known of the backlog may be older.
    let waiting = backlog.get(name).filter(|_| counts.pending > 0);
    let moved = sync.moved.get(name).copied().unwrap_or_default();
    let paused = sync.paused.iter().find(|(paused, _)| &**paused == name).map(|(_, fault)| fault.to_string());
    CollectionStatus {
        records: counts.records,
        pending: counts.pending,
        pending_bytes: waiting.map_or(0, |waiting| waiting.bytes),
        oldest_pending_at: waiting.and_then(|waiting| time(waiting.oldest.millis())),
        parked: counts.parked,
        conflicts: counts.conflicts,
        last_pushed_at: moved.pushed_ms.and_then(time),
        last_pulled_at: moved.pulled_ms.and_then(time),
        paused,
    }
}

fn next_round(reason: Reason) -> NextRound {
    match reason {
        Reason::Nudged => NextRound::Changes,
        Reason::Interval => NextRound::Interval,
        Reason::Retry => NextRound::Retry,
    }
}

fn phase(sync: &SyncStatus, parts: &Parts) -> Phase {
    let any = |state: &str| parts.values().any(|part| part.state == state);
    if any("failed") {
        return Phase::Failed;
    }
    if any("stopped") {
        return Phase::Paused;
    }
    // Whoever has to sign in is to hear of that first, unless the part that would tell is down itself.
    let is_sync_down = parts.get("sync").is_some_and(|part| part.state == "degraded");
    if sync.phase == SyncPhase::NeedsAuth && !is_sync_down {
        return Phase::NeedsAuth;
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
