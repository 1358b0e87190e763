//! What can be written to the local store, and the answers: the vocabulary between the actors and the `Store` port.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::model::{
    Action, Change, Checkpoints, Contested, Fault, RecordId, RemoteRow, Resolution, Sequence, Stamp, Version,
};

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// What the app did, in one local transaction.
    Local(LocalTransaction),
    /// The server's verdicts, as the queue reads them.
    Settle(Vec<Settlement>),
    /// Rows that were seen on the server, and the checkpoints that they make durable.
    Observe(Observation),
    /// Parked operations go back to the end of the queue, with their whole transactions. Empty means all.
    Redrive(Vec<Sequence>),
    /// Parked operations are given up with their whole transactions; a record becomes what the server has under what is
    /// still pending. Empty means all.
    Discard(Vec<Sequence>),
    /// The same without the rest of their transactions.
    DiscardAlone(Vec<Sequence>),
    /// An open conflict is decided by hand: `Keep` or `TakeRemote`.
    Decide {
        /// The conflict.
        conflict: i64,
        /// What becomes of the record.
        choice: Choice,
    },
    /// The last decision on a record is taken back: the loser becomes a new local change.
    Undo {
        /// The resolved conflict.
        conflict: i64,
    },
    /// A part of a key listing: marks what the server has.
    Listing(ListedKeys),
    /// Records become again what they were, in one local transaction.
    RollBack(RollBack),
    /// Collections become what they are in a copy of the store.
    Restore(Restore),
}

/// What becomes what it is in a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The copy, as the store opens it.
    pub copy: PathBuf,
    /// Which collections.
    pub mode: RestoreMode,
    /// Whether it is only tried: the answer is the same, and nothing is written.
    pub is_trial: bool,
}

/// Whose word counts after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestoreMode {
    /// The server's, for all that it has: only what never leaves the device is taken from the backup.
    Replica,
    /// The backup's: what it has is sent to the server as new changes.
    Authority,
    /// Both: what is only in the backup is added, and where both have a record its collection's strategy decides.
    Merge,
}

/// What becomes again what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBack {
    /// Which records, and as of when.
    pub target: RollbackTarget,
    /// Whether it is only tried: the answer is the same, and nothing is written.
    pub is_trial: bool,
}

/// Which records are rolled back, and as of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTarget {
    /// One record to one of its versions.
    Version {
        /// The record.
        id: RecordId,
        /// The version's place in the history.
        version: i64,
    },
    /// One record to a time.
    Record {
        /// The record.
        id: RecordId,
        /// The last moment that counts.
        at: Stamp,
    },
    /// What one round, or an earlier rollback, has changed: each record to what it was before.
    Round {
        /// Its number.
        number: i64,
        /// Only in these collections; none means all.
        collections: Vec<Arc<str>>,
        /// Also records that were changed again since.
        force: bool,
    },
    /// Whole collections to a time.
    Collections {
        /// The collections.
        names: Vec<Arc<str>>,
        /// The last moment that counts.
        at: Stamp,
    },
}

/// What a rollback or a restore came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolledBack {
    /// Its number, by which it can be rolled back as a round can.
    pub number: i64,
    /// How many records it changed, or would have.
    pub count: u64,
    /// The records that changed; none where it was only tried.
    pub changed: Vec<RecordId>,
    /// The first of them with what it did to them.
    pub shown: Vec<Rewritten>,
    /// How many it left alone, by the reason.
    pub left: BTreeMap<LeftAlone, u64>,
    /// The first of those.
    pub left_shown: Vec<(RecordId, LeftAlone)>,
}

/// What a rollback did to a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewritten {
    /// The record.
    pub id: RecordId,
    /// What it was.
    pub before: Option<Document>,
    /// What it is now.
    pub after: Option<Document>,
}

/// Why a rollback left a record alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftAlone {
    /// What it was then is no longer kept.
    Unknown,
    /// It was changed again after that round.
    ChangedSince,
    /// Its collection takes no local changes.
    Skipped,
}

/// What the app did.
#[derive(Debug, Clone)]
pub struct LocalTransaction {
    /// The changes, in order.
    pub changes: Vec<(RecordId, Change)>,
    /// When.
    pub stamp: Stamp,
}

/// What becomes of the operations that one sent operation covered.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Those operations.
    pub covers: Vec<Sequence>,
    /// Their record.
    pub id: RecordId,
    /// What was sent, so that the server's document is known without reading it.
    pub sent: Sent,
    /// What becomes of them.
    pub fate: Fate,
}

/// What was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What was asked.
    pub action: Action,
    /// The fields set.
    pub patch: Document,
}

/// The end of an operation, or its next try.
#[derive(Debug, Clone)]
pub enum Fate {
    /// The server has it. See `Verdict::Applied`.
    Applied {
        /// The row's version.
        version: Option<Version>,
        /// The row, if read.
        document: Option<Document>,
    },
    /// Set aside with its cause, together with what depends on it.
    Parked(Fault),
    /// Set aside until that operation is through.
    Dependent(Fault, Sequence),
    /// Tried again; charged as one attempt.
    Charged(Fault),
}

/// Rows seen on the server.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The rows.
    pub rows: Vec<RemoteRow>,
    /// Decisions on those that were contested at the last try.
    pub resolutions: Vec<Resolution>,
    /// What the rows make durable.
    pub checkpoints: Checkpoints,
    /// The round that brought them.
    pub round: i64,
    /// When, by this device's corrected clock.
    pub stamp: Stamp,
    /// Whether they were read by their keys: then nothing says whether they match their collection's filter.
    pub by_key: bool,
    /// Whether a row of a version that is known is looked at all the same: it may have been changed without a new one.
    pub distrusts_versions: bool,
    /// The cause with which operations are set aside whose rows are gone or may not be seen any more. Without one, that
    /// is a conflict like any other.
    pub withdrawn: Option<Fault>,
}

/// A part of a listing of the server's keys.
#[derive(Debug, Clone)]
pub struct ListedKeys {
    /// The collection.
    pub collection: Arc<str>,
    /// Keys that the server has.
    pub keys: Vec<Arc<str>>,
    /// Whether this is the first part: older marks are forgotten.
    pub first: bool,
    /// Whether this is the last part: the answer says what is missing on either side.
    pub last: bool,
}

/// How a held conflict is decided.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The local document.
    Local,
    /// The server's row.
    Remote,
    /// A document put together from both.
    Merged(Document),
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// The changes are durable; these records really changed.
    Local {
        /// The records that changed.
        changed: Vec<RecordId>,
    },
    /// Verdicts are recorded.
    Settled {
        /// Operations set aside now, with their dependants.
        parked: u64,
        /// The records that the server's answers changed here.
        changed: Vec<RecordId>,
    },
    /// The rows are in.
    Observed {
        /// The records that changed here.
        changed: Vec<RecordId>,
        /// Conflicts that were recorded, open or resolved.
        conflicts: u64,
    },
    /// Nothing was written: these records have pending operations and need a decision first.
    Contested(Vec<Contested>),
    /// That many operations were moved or given up.
    Moved {
        /// How many operations.
        count: u64,
        /// The records that changed here.
        changed: Vec<RecordId>,
    },
    /// Records are what they were, or would be.
    RolledBack(RolledBack),
    /// Marks are recorded; with the last part, the differences.
    Listed {
        /// Keys that the server has and the store lacks.
        missing: Vec<Arc<str>>,
        /// Keys that the store has seen on the server and the server lacks.
        extra: Vec<Arc<str>>,
        /// Keys that the listing lacks too, but that only a push has told of: their rows may be outside of what is listed.
        unseen: Vec<Arc<str>>,
    },
}
