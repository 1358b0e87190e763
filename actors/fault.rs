//! What goes wrong on the server or on the way to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of failure the server or the way to it answered with; decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// May pass by itself: no network, timeouts, 5xx, serialization failures. Never charged to an operation.
    Transient,
    /// The credentials are not accepted (401).
    Unauthorized,
    /// A parent row is missing (23503): waits for it.
    Ordering,
    /// The server will not take this operation, now or later: parked at once.
    Refused,
    /// Refused, but another attempt can help: parked after `max_retries`.
    Doubtful,
    /// The collection does not fit the server's schema: the collection pauses.
    Schema,
    /// The server is another one than the store knows, or an earlier state of it: nothing moves until somebody accepts
    /// it (H40).
    Replaced,
    /// This device was away for longer than the server remembers deletions: it learns what is there before it sends
    /// anything (H30).
    Behind,
}

impl FaultKind {
    /// The name used in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Unauthorized => "unauthorized",
            Self::Ordering => "ordering",
            Self::Refused => "refused",
            Self::Doubtful => "doubtful",
            Self::Schema => "schema",
            Self::Replaced => "replaced",
            Self::Behind => "behind",
        }
    }
}

/// A failure with everything that somebody needs to understand it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{}", self.sentence())]
pub struct Fault {
    /// What happens next.
    pub kind: FaultKind,
    /// The HTTP status, if an answer came.
    pub status: Option<u16>,
    /// The SQLSTATE or PostgREST code, if one was given.
    pub code: Option<String>,
    /// The server's or the network's own words.
    pub message: String,
    /// The server's details and hint, if any.
    pub details: Option<String>,
    /// How long the server asks to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    /// A fault without an HTTP answer.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, code: None, message: message.into(), details: None, retry_after_ms: None }
    }

    /// Whether nothing else has a point either: no way to the server, or credentials that it does not accept.
    /// A statement of its own that timed out or met another's lock says nothing about the others.
    pub fn concerns_everything(&self) -> bool {
        match self.kind {
            FaultKind::Transient => !self.is_of_one_statement(),
            FaultKind::Unauthorized | FaultKind::Replaced | FaultKind::Behind => true,
            FaultKind::Ordering | FaultKind::Refused | FaultKind::Doubtful | FaultKind::Schema => false,
        }
    }

    /// Statement timeout, deadlock, serialization failure, lock not available.
    pub fn is_of_one_statement(&self) -> bool {
        matches!(self.code.as_deref(), Some("57014" | "40001" | "40P01" | "55P03"))
    }

    fn sentence(&self) -> String {
        let mut text = String::new();
        if let Some(code) = &self.code {
            text.push_str(code);
            text.push_str(": ");
        } else if let Some(status) = self.status {
            text.push_str(&format!("HTTP {status}: "));
        }
        text.push_str(&self.message);
        if let Some(details) = &self.details {
            text.push_str(&format!(" ({details})"));
        }
        text
    }
}
