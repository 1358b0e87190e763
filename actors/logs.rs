//! What is logged: an entry with its context, how important it is, and what a book of entries tells of itself.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{LOG_INTAKE_BYTES, LOG_INTAKE_ROWS, LOG_LOCAL_BYTES, LOG_LOCAL_ROWS};

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

impl Entry {
    /// Roughly what it takes in memory.
    pub fn bytes(&self) -> usize {
        let fields = |map: &Map<String, Value>| -> usize {
            map.iter().map(|(name, value)| name.len() + bytes_of_value(value)).sum()
        };
        let spans: usize = self.spans.iter().map(|span| span.name.len() + fields(&span.fields)).sum();
        let call = self.call.as_ref();
        let call = call.map_or(0, |call| call.provider.len() + call.action.len() + bytes_of_value(&call.metadata));
        let texts = self.id.len() + self.target.len() + self.message.len();
        size_of::<Self>() + texts + fields(&self.fields) + spans + call
    }
}

/// Roughly what a value takes in memory.
pub fn bytes_of_value(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of_value).sum(),
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + bytes_of_value(value)).sum(),
    };
    size_of::<Value>() + inside
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

impl Drained {
    /// This and what came after it, and not more of both than may wait in memory: the oldest go, calls last, and what the
    /// server was to have is counted.
    pub fn followed_by(mut self, later: Self) -> Self {
        if self == Self::default() {
            return later;
        }
        self.entries.extend(later.entries);
        self.shed = self.shed.saturating_add(later.shed);
        self.folded = self.folded.saturating_add(later.folded);
        self.is_counting = later.is_counting;
        let is_message = |entry: &Entry| entry.ships && entry.call.is_none();
        let is_call = |entry: &Entry| entry.ships && entry.call.is_some();
        let local = self.load(|entry| !entry.ships);
        self.shed_oldest(|entry| !entry.ships, local, LOG_LOCAL_ROWS, LOG_LOCAL_BYTES);
        let shipped = self.load(|entry| entry.ships);
        let left = self.shed_oldest(is_message, shipped, LOG_INTAKE_ROWS, LOG_INTAKE_BYTES);
        self.shed_oldest(is_call, left, LOG_INTAKE_ROWS, LOG_INTAKE_BYTES);
        self
    }

    /// Rows and bytes of those.
    fn load(&self, is_meant: impl Fn(&Entry) -> bool) -> (usize, usize) {
        let meant = self.entries.iter().filter(|entry| is_meant(entry));
        meant.fold((0, 0), |(rows, bytes), entry| (rows + 1, bytes + entry.bytes()))
    }

    /// Takes out the oldest of a kind while there is more than that, and tells how much is left.
    fn shed_oldest(
        &mut self,
        is_kind: impl Fn(&Entry) -> bool,
        (mut rows, mut bytes): (usize, usize),
        most_rows: usize,
        most_bytes: usize,
    ) -> (usize, usize) {
        let Self { entries, shed, folded, .. } = self;
        entries.retain(|entry| {
            let goes = is_kind(entry) && (rows > most_rows || bytes > most_bytes);
            if goes {
                (rows, bytes) = (rows - 1, bytes - entry.bytes());
            }
            if goes && entry.ships {
                *shed = shed.saturating_add(entry.count);
                *folded = folded.saturating_add(1).saturating_sub_unsigned(entry.count);
            }
            !goes
        });
        (rows, bytes)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize, ships: bool, count: u64) -> Entry {
        let (id, message) = (String::new(), number.to_string());
        let (at, level, call) = (Timestamp::UNIX_EPOCH, Severity::Warn, None);
        let (target, fields, spans) = (String::new(), Map::new(), Vec::new());
        Entry { id, at, last_at: at, level, target, message, fields, spans, count, call, ships }
    }

    fn call(number: usize) -> Entry {
        let call = ApiCall { provider: "p".into(), action: "a".into(), credits: 1.0, metadata: Value::Null };
        Entry { call: Some(call), ..entry(number, true, 1) }
    }

    fn drained(entries: Vec<Entry>) -> Drained {
        Drained { entries, ..Drained::default() }
    }

    #[test]
    fn h48_what_waits_longer_sheds_its_oldest_counts_what_would_have_been_sent_and_keeps_calls() {
        let folded = Drained { folded: 6, ..drained(vec![entry(0, true, 7), entry(1, false, 1), call(2)]) };
        let later = (0..LOG_INTAKE_ROWS).map(|number| entry(10 + number, true, 1)).collect();
        let both = folded.followed_by(Drained { shed: 5, ..drained(later) });
        // The first, said seven times, and one more went for the call.
        assert_eq!((both.shed, both.folded, both.entries.len()), (5 + 7 + 1, 0, LOG_INTAKE_ROWS + 1));
        let messages: Vec<_> = both.entries.iter().take(3).map(|entry| entry.message.as_str()).collect();
        assert_eq!(messages, ["1", "2", "11"]);
        let calls = (0..LOG_INTAKE_ROWS).map(call).collect();
        let both = both.followed_by(drained(calls));
        assert_eq!((both.shed, both.entries.len()), (13 + LOG_INTAKE_ROWS as u64, LOG_INTAKE_ROWS + 1));
        assert!(both.entries.iter().skip(1).all(|entry| entry.call.is_some()));
    }

    #[test]
    fn what_would_never_be_sent_goes_without_being_counted() {
        let of = |numbers: std::ops::Range<usize>| drained(numbers.map(|number| entry(number, false, 3)).collect());
        let both = of(0..10).followed_by(of(10..LOG_LOCAL_ROWS + 10));
        assert_eq!((both.shed, both.folded, both.entries.len()), (0, 0, LOG_LOCAL_ROWS));
        assert_eq!(both.entries[0].message, "10");
    }

    #[test]
    fn bytes_are_bounded_as_rows_are() {
        let large = |number| Entry { message: "x".repeat(LOG_INTAKE_BYTES / 2), ..entry(number, true, 1) };
        let both = drained(vec![large(0)]).followed_by(drained(vec![large(1), large(2)]));
        assert_eq!((both.shed, both.entries.len()), (2, 1));
    }
}
