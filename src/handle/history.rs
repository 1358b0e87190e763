//! What records were before: read, compared, and brought back by new local changes.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::model::{RecordId, Stamp};
use tidelock_actors::storage::Perform;
use tidelock_actors::writes::{self, LeftAlone, RollBack, RolledBack, Write, Written};

use super::Tidelock;
use crate::adapters::sqlite::{Difference, FieldChange, RoundView, VersionView, field_changes};
use crate::error::Error;

/// What becomes again what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Which records, and as of when.
    pub target: RollbackTarget,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which records are rolled back, and as of when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RollbackTarget {
    /// One record to one of its versions.
    Version {
        /// The collection.
        collection: String,
        /// The record's key.
        key: String,
        /// The version's id, as the history tells it.
        version: i64,
    },
    /// One record to a time.
    Record {
        /// The collection.
        collection: String,
        /// The record's key.
        key: String,
        /// The moment, to the millisecond; what happened in it counts.
        to: Timestamp,
    },
    /// What one round or rollback has changed: each record to what it was before.
    Round {
        /// Its number.
        number: i64,
        /// Only in these collections; none means all.
        #[serde(default)]
        collections: Vec<String>,
        /// Also records that were changed again since.
        #[serde(default)]
        force: bool,
    },
    /// Whole collections to a time.
    Collections {
        /// The collections.
        names: Vec<String>,
        /// The moment, to the millisecond; what happened in it counts.
        to: Timestamp,
    },
}

/// What a rollback did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RollbackReport {
    /// Its number, by which it can be rolled back in turn; null where it changed nothing.
    pub number: Option<i64>,
    /// Whether it was only tried.
    pub dry_run: bool,
    /// Records that changed.
    pub changed: u64,
    /// Records left alone because what they were then is no longer kept.
    pub unknown: u64,
    /// Records left alone because they were changed again after the round.
    pub changed_since: u64,
    /// Records left alone because their collection takes no local changes.
    pub skipped: u64,
    /// The first of the records that changed.
    pub records: Vec<RecordChange>,
    /// The first of those that were left alone.
    pub left: Vec<LeftRecord>,
}

/// What happened to a record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RecordChange {
    /// Its collection.
    pub collection: String,
    /// Its key.
    pub key: String,
    /// `made`, `changed` or `deleted`.
    pub change: ChangeKind,
    /// The fields that mean something else now.
    pub fields: Vec<FieldChange>,
}

/// What happened to a record as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is there again.
    Made,
    /// It has other fields.
    Changed,
    /// It is gone.
    Deleted,
}

/// A record that was left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftRecord {
    /// Its collection.
    pub collection: String,
    /// Its key.
    pub key: String,
    /// Why.
    pub why: LeftAlone,
}

impl Tidelock {
    /// The earlier versions of a record, newest first. The newest one's end tells who made the record what it is now.
    pub async fn history(&self, collection: &str, key: &str) -> Result<Vec<VersionView>, Error> {
        let id = self.record(collection, key)?;
        Ok(self.inner.reads.history(id).await?)
    }

    /// What changed between two versions of a record: without `from` since the one before `to`, without `to` until now.
    pub async fn diff(
        &self,
        collection: &str,
        key: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<Difference, Error> {
        let id = self.record(collection, key)?;
        Ok(self.inner.reads.difference(id, from, to).await?)
    }

    /// The rounds and rollbacks that changed records here, newest first, as far as that is still kept.
    pub async fn rounds(&self) -> Result<Vec<RoundView>, Error> {
        Ok(self.inner.reads.rounds().await?)
    }

    /// Makes records again what they were, by new local changes in one transaction; at most 10,000 records change. It can
    /// be rolled back in turn by its number.
    pub async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport, Error> {
        let RollbackRequest { target, dry_run } = request;
        let write = Write::RollBack(RollBack { target: self.target(target)?, is_trial: dry_run });
        match self.inner.parts.storage.ask(Perform(write)).await?? {
            Written::RolledBack(rolled_back) => Ok(report(rolled_back, dry_run)),
            other => Err(Error::Invalid(format!("the store answered another question: {other:?}"))),
        }
    }

    fn target(&self, target: RollbackTarget) -> Result<writes::RollbackTarget, Error> {
        Ok(match target {
            RollbackTarget::Version { collection, key, version } => {
                writes::RollbackTarget::Version { id: self.writable(&collection, &key)?, version }
            }
            RollbackTarget::Record { collection, key, to } => writes::RollbackTarget::Record {
                id: self.writable(&collection, &key)?,
                at: Stamp::end_of(to.as_millisecond()),
            },
            RollbackTarget::Round { number, collections, force } => {
                writes::RollbackTarget::Round { number, collections: self.writable_all(&collections)?, force }
            }
            RollbackTarget::Collections { names, to } => {
                if names.is_empty() {
                    return Err(Error::Invalid("name the collections that are to be rolled back".to_owned()));
                }
                writes::RollbackTarget::Collections {
                    names: self.writable_all(&names)?,
                    at: Stamp::end_of(to.as_millisecond()),
                }
            }
        })
    }

    fn writable_all(&self, names: &[String]) -> Result<Vec<Arc<str>>, Error> {
        names.iter().map(|name| Ok(self.writable(name, "")?.collection)).collect()
    }
}

/// What it did, in the handle's words.
pub(super) fn report(rolled_back: RolledBack, dry_run: bool) -> RollbackReport {
    let RolledBack { number, count, shown, left, left_shown, .. } = rolled_back;
    let left_for = |why| left.get(&why).copied().unwrap_or_default();
    let record = |one: writes::Rewritten| {
        let RecordId { collection, key } = one.id;
        let change = match (&one.before, &one.after) {
            (None, _) => ChangeKind::Made,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(_), Some(_)) => ChangeKind::Changed,
        };
        let fields = field_changes(one.before.as_ref(), one.after.as_ref());
        RecordChange { collection: collection.to_string(), key: key.to_string(), change, fields }
    };
    let left_record =
        |(id, why): (RecordId, _)| LeftRecord { collection: id.collection.to_string(), key: id.key.to_string(), why };
    RollbackReport {
        number: (count > 0 && !dry_run).then_some(number),
        dry_run,
        changed: count,
        unknown: left_for(LeftAlone::Unknown),
        changed_since: left_for(LeftAlone::ChangedSince),
        skipped: left_for(LeftAlone::Skipped),
        records: shown.into_iter().map(record).collect(),
        left: left_shown.into_iter().map(left_record).collect(),
    }
}
