//! What the scheduler publishes about itself; the handle joins it with the counts and the parts' health.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::machine::schedule::Reason;
use crate::model::Fault;
use crate::ports::Clock;
use crate::round::Motion;

/// What the scheduler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPhase {
    /// Nothing to do until the next round.
    #[default]
    Idle,
    /// A round runs.
    Syncing,
    /// The server cannot be reached; tried again by itself.
    Offline,
    /// Rounds do not start by themselves.
    Paused,
    /// The credentials are not accepted.
    NeedsAuth,
}

/// The scheduler's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncStatus {
    /// What it is doing.
    pub phase: SyncPhase,
    /// Whether the last request reached the server; not before the first one.
    pub is_online: bool,
    /// When the last round ended well, milliseconds since 1970.
    pub last_synced_ms: Option<i64>,
    /// What went wrong last, until a round ends well.
    pub last_error: Option<String>,
    /// When something last moved, milliseconds since 1970, once that is longer ago than it should be.
    pub stalled_since_ms: Option<i64>,
    /// When the next round begins by itself, milliseconds since 1970.
    pub next_round_ms: Option<i64>,
    /// Why then.
    pub next_round_reason: Option<Reason>,
    /// Why it is offline, paused or not authorised.
    pub reason: Option<String>,
    /// The server's clock less this device's, in milliseconds, as far as it was ever told.
    pub clock_offset_ms: Option<i64>,
    /// When each collection moved last.
    pub moved: BTreeMap<Arc<str>, Moved>,
    /// Collections that do not fit the server's schema.
    pub paused: Vec<(Arc<str>, Fault)>,
}

/// When a collection moved last, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Moved {
    /// An operation took effect on the server.
    pub pushed_ms: Option<i64>,
    /// Everything that the server had was here.
    pub pulled_ms: Option<i64>,
}

/// Whoever looks on sees a long round move.
pub(crate) fn on_motion(
    moved_ms: Arc<AtomicI64>,
    clock: Arc<dyn Clock>,
    status: watch::Sender<SyncStatus>,
) -> Arc<dyn Fn(Motion<'_>) + Send + Sync> {
    Arc::new(move |motion| {
        let now_ms = clock.now_ms();
        moved_ms.store(now_ms, Ordering::Relaxed);
        let tell = |collections: &BTreeSet<Arc<str>>, set: fn(&mut Moved, i64)| {
            status.send_modify(|status| {
                collections.iter().for_each(|name| set(status.moved.entry(name.clone()).or_default(), now_ms));
            });
        };
        match motion {
            Motion::Pushed(collections) => tell(collections, |moved, now_ms| moved.pushed_ms = Some(now_ms)),
            Motion::Pulled(collections) => tell(collections, |moved, now_ms| moved.pulled_ms = Some(now_ms)),
            Motion::Other => {}
        }
    })
}
