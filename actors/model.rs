//! The values that travel between the parts. They hold no behaviour beyond what their own fields decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
pub use crate::fault::{Fault, FaultKind};

/// A record's place: its collection's local name and its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordId {
    /// The collection's local name.
    pub collection: Arc<str>,
    /// The key as text, whatever type the server's column has.
    pub key: Arc<str>,
}

impl RecordId {
    /// Names a record.
    pub fn new(collection: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Self {
        Self { collection: collection.into(), key: key.into() }
    }
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.collection, self.key)
    }
}

/// The server's stamp on a row, as exact text.
pub type Version = Arc<str>;

/// An operation's place in the outbox: unique, rising, never used again.
pub type Sequence = i64;

/// Hybrid logical time: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Stamp(pub i64);

impl Stamp {
    /// The wall-clock part, milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0 >> 16
    }

    /// The last stamp of a millisecond since 1970; of one that no stamp can tell, of the nearest.
    pub fn end_of(millis: i64) -> Self {
        Self((millis.clamp(0, i64::MAX >> 16) << 16) | 0xffff)
    }
}

/// Which way a collection's changes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Local changes are sent, the server's are fetched.
    #[default]
    Both,
    /// Local changes are sent.
    Push,
    /// The server's changes are fetched; local writes are refused.
    Pull,
    /// Nothing leaves the device.
    Local,
}

impl Direction {
    /// Whether local changes are sent.
    pub fn pushes(self) -> bool {
        matches!(self, Self::Both | Self::Push)
    }

    /// Whether the server's changes are fetched.
    pub fn pulls(self) -> bool {
        matches!(self, Self::Both | Self::Pull)
    }
}

/// How a conflict is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The local document stays.
    LocalWins,
    /// The server's row is taken.
    RemoteWins,
    /// The later change stays.
    #[default]
    NewestWins,
    /// Field by field; where both changed one field, the later change stays.
    Merge,
    /// The record waits for somebody's decision.
    Manual,
}

impl Strategy {
    /// The name used in configuration and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalWins => "local-wins",
            Self::RemoteWins => "remote-wins",
            Self::NewestWins => "newest-wins",
            Self::Merge => "merge",
            Self::Manual => "manual",
        }
    }
}

/// One collection as the configuration declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionRules {
    /// The local name.
    pub name: Arc<str>,
    /// The server's table, with its schema where it is not `public`: `table` or `schema.table`.
    pub table: String,
    /// The key column, by its local field name.
    pub key: String,
    /// The column that the server stamps on every change, by its remote name; a table may lack it.
    pub version: String,
    /// Which way changes travel.
    pub direction: Direction,
    /// How conflicts are decided here.
    pub strategy: Strategy,
    /// Local field name → remote column, for those that differ.
    pub fields: BTreeMap<String, String>,
    /// The remote columns to fetch; empty means all.
    pub columns: Vec<String>,
    /// Selective sync, in PostgREST's filter syntax (`status=eq.done&kind=in.(a,b)`).
    pub filter: Option<String>,
    /// The collections whose records these records refer to: they are sent first.
    pub after: Vec<Arc<str>>,
    /// The remote column that marks a row as deleted, where the server kit leaves such rows in place.
    pub soft_delete: Option<String>,
}

impl CollectionRules {
    /// The local name of a remote column.
    pub fn field<'a>(&'a self, column: &'a str) -> &'a str {
        self.fields.iter().find(|(_, remote)| *remote == column).map_or(column, |(local, _)| local)
    }
}

/// Records of one collection refer to those of another, or to each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The collection whose records refer.
    pub child: Arc<str>,
    /// The collection that they refer to.
    pub parent: Arc<str>,
}

/// What a local change does to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates the record or lays these fields over it; fields that are not named stay.
    Save(Document),
    /// Removes the record; removing what is not there is no error.
    Delete,
}

/// What an operation asks of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Insert a row that was made here.
    Create,
    /// Change some fields of a row.
    Update,
    /// Delete a row.
    Delete,
}

/// One local change in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its place in the outbox.
    pub sequence: Sequence,
    /// The local transaction that made it.
    pub transaction: i64,
    /// The record.
    pub id: RecordId,
    /// What it asks.
    pub action: Action,
    /// The fields it sets: all of them for a create, the changed ones for an update, none for a delete.
    pub patch: Document,
    /// When it was made here.
    pub stamp: Stamp,
    /// How often the server has refused it.
    pub attempts: u32,
}

/// Coalesced operations of one record, as they are sent. The base is the server's row under all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The operations that this one stands for; a verdict settles exactly these.
    pub covers: Vec<Sequence>,
    /// The local transactions that made them.
    pub transactions: Vec<i64>,
    /// The record.
    pub id: RecordId,
    /// What is asked.
    pub action: Action,
    /// The fields to set.
    pub patch: Document,
    /// The server's row that the change was made on, as far as it is known.
    pub base: Option<Document>,
    /// The version of that row.
    pub base_version: Option<Version>,
    /// How often the server has refused it.
    pub attempts: u32,
    /// Whether it may have taken effect already, the answer lost.
    pub may_have_been_sent: bool,
}

/// What compacting makes of earlier versions and decided conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// They stay within their bounds.
    Kept,
    /// They go: what was deleted is gone, and nothing from before can be rolled back.
    Forgotten,
}

/// What compacting came to, in bytes of the database and its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compacted {
    /// Before.
    pub before_bytes: u64,
    /// After.
    pub after_bytes: u64,
}

/// A row as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteState {
    /// The row is there.
    Present {
        /// Its columns under their local names.
        document: Document,
        /// Its version, where the table has one.
        version: Option<Version>,
    },
    /// There is no such row (or none that may be seen).
    Gone,
}

impl RemoteState {
    /// The row's document and version, as far as there are any.
    pub fn row(&self) -> (Option<&Document>, Option<Version>) {
        match self {
            Self::Present { document, version } => (Some(document), version.clone()),
            Self::Gone => (None, None),
        }
    }
}

/// A row, or its absence, observed on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRow {
    /// The record.
    pub id: RecordId,
    /// What was seen.
    pub state: RemoteState,
}

/// The server's word on one sent operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken effect, now or at an earlier attempt.
    Applied {
        /// The row's version afterwards, where the table has one.
        version: Option<Version>,
        /// The row as the server now has it, if it was read; otherwise the next pull confirms it.
        document: Option<Document>,
    },
    /// The row is not what the operation was made on.
    Conflict(RemoteState),
    /// It did not take effect, for this reason.
    Failed(Fault),
}

impl Verdict {
    /// The name used in metrics: a failure's is that of its kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Conflict(_) => "conflict",
            Self::Failed(fault) => fault.kind.name(),
        }
    }
}

/// How rows of one pull are recorded: the name and text of each checkpoint they make durable.
pub type Checkpoints = BTreeMap<String, String>;

/// A record with pending operations and a newer row of the server: what a resolution is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Contested {
    /// The record.
    pub id: RecordId,
    /// The document as the app sees it; `None` where it was deleted here.
    pub local: Option<Document>,
    /// The server's document that the local changes were made on; `None` where it was created here.
    pub base: Option<Document>,
    /// Its version.
    pub base_version: Option<Version>,
    /// When the newest local change was made.
    pub stamp: Stamp,
    /// The newest operation: a resolution holds only while it still is.
    pub newest: Sequence,
    /// The server's row.
    pub remote: RemoteState,
}

/// What becomes of a contested record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server already has what the operations ask for: they are settled.
    AlreadyThere,
    /// The server's row is taken; the local version is kept as the loser.
    TakeRemote,
    /// This document stays; one operation carries the difference to the server. `None` deletes the row.
    Keep(Option<Document>),
    /// The record waits for a decision.
    Hold,
}

/// A decision on a contested record.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// What it was made from.
    pub contested: Contested,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The strategy that decided, by its name (`custom` for the host's own).
    pub strategy: String,
}

/// How many there are, exactly, in one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CollectionCounts {
    /// Documents that the app sees.
    pub records: u64,
    /// Operations that are to be sent.
    pub pending: u64,
    /// Operations set aside with their cause.
    pub parked: u64,
    /// Conflicts that wait for a decision.
    pub conflicts: u64,
    /// Records that the server is known to have.
    pub on_server: u64,
}

/// What an audit found in one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Findings {
    /// Rows that the server has and the store lacked.
    pub missing: u64,
    /// Records that the store had from the server, and the server lacks or does not show.
    pub extra: u64,
    /// Rows that mean something else here and there.
    pub different: u64,
    /// Those of all these that are put right.
    pub repaired: u64,
}

impl Findings {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.missing + self.extra + self.different == 0
    }
}

/// The counts of all collections.
pub type Counts = BTreeMap<Arc<str>, CollectionCounts>;
