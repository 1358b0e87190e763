//! Parts of the status that have a source of their own: the server, the session, and the logger.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::logger::LoggerStatus;
use tidelock_actors::logs::BookState;
use tidelock_actors::ports::{Heard, Remote};
use tidelock_actors::status::{SyncPhase, SyncStatus};

use super::time;

/// What is known of the server without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    /// When everything that it had in every collection was last here, as far as the mode can tell: what has changed there
    /// since may not be here yet.
    pub caught_up_at: Option<Timestamp>,
    /// Its writing transactions that were open at the last pull while later ones had ended; only its kit tells.
    pub open_transactions: Option<u64>,
    /// The number of the oldest of them.
    pub oldest_open_transaction: Option<u64>,
    /// When that one was first seen open: it has been so for at least that long.
    pub oldest_open_seen_at: Option<Timestamp>,
}

impl ServerStatus {
    /// What the server has told.
    pub(super) fn of(heard: &Heard, caught_up_at: Option<Timestamp>) -> Self {
        let oldest = heard.open_transactions.and_then(|open| open.oldest);
        Self {
            caught_up_at,
            open_transactions: heard.open_transactions.map(|open| open.count),
            oldest_open_transaction: oldest.map(|(number, _)| number),
            oldest_open_seen_at: oldest.and_then(|(_, seen_ms)| time(seen_ms)),
        }
    }
}

/// As whom the server is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Whether somebody is signed in.
    pub state: SessionState,
    /// The user, if the access token says so.
    pub user: Option<String>,
    /// When the access token expires, if it says so.
    pub expires_at: Option<Timestamp>,
}

impl Session {
    /// As whom the remote asks, and whether it is let in.
    pub(super) fn of(remote: &dyn Remote, sync: &SyncStatus, heard: Heard) -> Self {
        let state = match remote.is_signed_in() {
            _ if sync.phase == SyncPhase::NeedsAuth => SessionState::NeedsAuth,
            true => SessionState::SignedIn,
            false => SessionState::Anonymous,
        };
        Self { state, user: heard.user, expires_at: heard.token_expires_ms.and_then(time) }
    }
}

/// Whether somebody is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Requests carry the project's key alone.
    Anonymous,
    /// They carry an access token.
    SignedIn,
    /// The server does not accept what they carry.
    NeedsAuth,
}

/// The logger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        let troubles: Vec<String> = [trouble, status.unwritten, status.last_error].into_iter().flatten().collect();
        let last_error = (!troubles.is_empty()).then(|| troubles.join("; "));
        Self { pending, shed, folded, refused, last_shipped_at, last_error }
    }
}
