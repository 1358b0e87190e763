//! The shapes of requests and answers that are the API's own. Everything else is the handle's own types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::document::Document;
use tidelock_actors::writes::Choice;

use crate::adapters::archive::Point;
use crate::config::Level;

/// A record that was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Saved {
    /// Its key.
    pub id: String,
}

/// A document to be saved with others in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keyed {
    /// The record's key; without it the document's own counts, and one that has none gets a new one.
    #[serde(default)]
    pub key: Option<String>,
    /// What is saved.
    pub document: Document,
}

/// Records that were saved in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BulkSaved {
    /// How many really changed.
    pub changed: u64,
    /// Their keys, in the order of the documents.
    pub ids: Vec<String>,
}

/// Whether there was a record to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// Whether it was there.
    pub deleted: bool,
}

/// Which records of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Their keys.
    pub keys: Vec<String>,
}

/// Records by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Read {
    /// Those that are there.
    pub documents: BTreeMap<String, Document>,
}

/// What is done all together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// One after the other.
    pub operations: Vec<Change>,
}

/// What is done to a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Creates it or lays these fields over it.
    Save {
        /// Its collection.
        collection: String,
        /// Its key; without it the document's own counts, and one that has none gets a new one.
        #[serde(default)]
        key: Option<String>,
        /// What is saved.
        document: Document,
    },
    /// Removes it; removing what is not there is no error.
    Delete {
        /// Its collection.
        collection: String,
        /// Its key.
        key: String,
    },
}

/// Which parked operations; none means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Chosen {
    /// The operations.
    pub ids: Vec<i64>,
}

/// Which operations to give up; none means all that are parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GivenUp {
    /// The operations.
    pub ids: Vec<i64>,
    /// Whether the rest of their transactions stays.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only: bool,
}

/// Operations that went back to the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redriven {
    /// How many.
    pub redriven: u64,
}

/// Operations that were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Discarded {
    /// How many.
    pub discarded: u64,
}

/// A question in SQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// A statement that only reads.
    pub sql: String,
    /// The values of its parameters, in order.
    #[serde(default)]
    pub parameters: Vec<serde_json::Value>,
}

/// How a conflict is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// One side as it is.
    Take(Side),
    /// A document put together from both.
    Merged(Document),
}

/// One side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The document on this device.
    Local,
    /// The server's row.
    Remote,
}

impl From<Decision> for Choice {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Take(Side::Local) => Self::Local,
            Decision::Take(Side::Remote) => Self::Remote,
            Decision::Merged(document) => Self::Merged(document),
        }
    }
}

impl From<Choice> for Decision {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Local => Self::Take(Side::Local),
            Choice::Remote => Self::Take(Side::Remote),
            Choice::Merged(document) => Self::Merged(document),
        }
    }
}

/// A conflict that was decided, or whose decision was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// The conflict.
    pub id: i64,
}

/// From which level on messages are said and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeveledLog {
    /// The level.
    pub level: Level,
}

/// A call of a service that takes credits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoggedCall {
    /// The service.
    pub provider: String,
    /// What it was asked for.
    pub action: String,
    /// What it took.
    #[serde(default)]
    pub credits: f64,
    /// What is to be known about it.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

/// Something was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Noted {}

/// How to compact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// Whether earlier versions and decided conflicts go as well.
    pub forget_history: bool,
}

/// Which backup, by its name or its file's path; none means the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Named {
    /// The backup.
    pub backup: Option<String>,
}

/// What to make of the backups, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The state that is wanted; the newest backup's, if nothing is said.
    #[serde(default)]
    pub point: Point,
    /// A path of the process's machine.
    pub to: PathBuf,
}

/// A backup of any device's, and where its file is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Its name; the newest that was uploaded, if there is none.
    #[serde(default)]
    pub backup: Option<String>,
    /// A path of the process's machine.
    pub to: PathBuf,
}
