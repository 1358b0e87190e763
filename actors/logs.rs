//! What is logged: an entry with its context, how important it is, and what a book of entries tells of itself.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How important an entry is; the more important one is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl Severity {
    /// All of them, the most important one first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The name used in configuration and on the server.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Its place among all, the most important one 0.
    pub fn rank(self) -> u8 {
        match self {
            Self::Error => 0,
            Self::Warn => 1,
            Self::Info => 2,
            Self::Debug => 3,
            Self::Trace => 4,
        }
    }
}

/// One thing that was said, or one call of a paid service. What is in it has been redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its name on the server: a UUID that grows with time.
    pub id: String,
    /// When it was said; the first time, where it was said several times.
    pub at: Timestamp,
    /// The last time.
    pub last_at: Timestamp,
    /// How important it is.
    pub level: Severity,
    /// Which part of which program said it.
    pub target: String,
    /// The words.
    pub message: String,
    /// What was said beside the words.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// What was being done, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<SpanContext>,
    /// How often it was said.
    pub count: u64,
    /// The call, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ApiCall>,
    /// Whether the server is to have it.
    #[serde(skip)]
    pub ships: bool,
}

/// Something that was being done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpanContext {
    /// What.
    pub name: String,
    /// With what.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// A call of a service that takes credits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiCall {
    /// The service.
    pub provider: String,
    /// What it was asked for.
    pub action: String,
    /// What it took.
    pub credits: f64,
    /// What the host says about it.
    pub metadata: Value,
}

/// An entry in the book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Its number: later ones are greater.
    pub number: i64,
    /// Whether the server is still to have it.
    pub pending: bool,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogQuery {
    /// At least as important as this.
    pub level: Option<Severity>,
    /// Said since then.
    pub since: Option<Timestamp>,
    /// With a greater number than this.
    pub after: Option<i64>,
    /// So many at most; the newest ones. Nothing means all that are kept.
    pub limit: Option<usize>,
}

/// What the intake gives at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drained {
    /// In the order in which they were said.
    pub entries: Vec<Entry>,
    /// How many were shed since the last time.
    pub shed: u64,
    /// How many were folded into others since the last time, less those that were shed afterwards.
    pub folded: i64,
    /// Whether it goes on counting repetitions.
    pub is_counting: bool,
}

/// How the book stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BookState {
    /// Entries that the server is still to have.
    pub pending: u64,
    /// What was shed for want of room, ever.
    pub shed: u64,
    /// What was folded into other entries, ever.
    pub folded: u64,
    /// What the server did not take, ever.
    pub refused: u64,
    /// When the server last took some, milliseconds since 1970.
    pub shipped_ms: Option<i64>,
    /// Why it is kept in memory only, or was begun anew.
    pub trouble: Option<String>,
}

/// What became of entries that were leased to be shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The server has them.
    Shipped {
        /// When, milliseconds since 1970.
        now_ms: i64,
    },
    /// The server will not take them.
    Refused,
    /// They are still to be shipped.
    Kept,
}

/// Why the book gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log book gives no answer: {0}")]
pub struct BookError(pub String);

/// Where entries go to on the server.
pub type TableName = Arc<str>;
