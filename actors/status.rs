//! What the scheduler publishes about itself; the handle joins it with the counts and the parts' health.

use std::sync::Arc;

use crate::model::Fault;

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
    /// Collections that do not fit the server's schema.
    pub paused: Vec<(Arc<str>, Fault)>,
}
