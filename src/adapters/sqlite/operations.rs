//! Rows of `tl_operations`: the outbox as the store keeps it.

use std::collections::HashMap;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, Sequence, Stamp};

use super::batch::Batch;
use super::collections::{Index, Place};
use super::faults::Failure;
use super::statements::Hot;

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// To be sent.
    Pending,
    /// Set aside with its cause.
    Parked,
    /// Its record has an open conflict.
    Held,
}

impl OperationState {
    /// Its name in the file and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Parked => "parked",
            Self::Held => "held",
        }
    }
}

impl ToSql for OperationState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for OperationState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "pending" => Ok(Self::Pending),
            "parked" => Ok(Self::Parked),
            "held" => Ok(Self::Held),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// An action as the file names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredAction(pub(super) Action);

impl ToSql for StoredAction {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let name = match self.0 {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        };
        Ok(name.into())
    }
}

impl FromSql for StoredAction {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "create" => Ok(Self(Action::Create)),
            "update" => Ok(Self(Action::Update)),
            "delete" => Ok(Self(Action::Delete)),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// An operation to be added.
#[derive(Debug)]
pub(super) struct NewOperation<'a> {
    /// Its record.
    pub(super) place: Place<'a>,
    /// That record's row.
    pub(super) row: i64,
    /// What it asks.
    pub(super) action: Action,
    /// The fields it sets.
    pub(super) patch: &'a Document,
    /// When it was made.
    pub(super) stamp: Stamp,
    /// Pending, or held where its record is.
    pub(super) state: OperationState,
}

/// An operation of a record.
#[derive(Debug)]
pub(super) struct Queued {
    /// Its place in the outbox.
    pub(super) sequence: Sequence,
    /// The local transaction that made it.
    pub(super) transaction: i64,
    /// Where it stands.
    pub(super) state: OperationState,
    /// What it asks.
    pub(super) action: Action,
    /// The fields it sets.
    pub(super) patch: Document,
}

/// What the server's document becomes with these operations laid over it, in order.
pub(super) fn laid_over<'a>(
    base: Option<&Document>,
    operations: impl IntoIterator<Item = (Action, &'a Document)>,
) -> Option<Document> {
    let mut document = base.cloned();
    for (action, patch) in operations {
        document = match (action, document) {
            (Action::Delete, _) => None,
            (Action::Create | Action::Update, Some(under)) => Some(under.overlaid(patch)),
            (Action::Create | Action::Update, None) => Some(patch.clone()),
        };
    }
    document
}

/// An operation that goes, or may go, back to the end of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Returning {
    /// Its old place.
    pub(super) sequence: Sequence,
    /// The transaction it was made in.
    pub(super) transaction: i64,
    /// Its collection.
    pub(super) at: Index,
    /// Its record's row.
    pub(super) record: i64,
    /// Where it stands.
    pub(super) state: OperationState,
}

impl Batch<'_> {
    /// Adds an operation at the end of the queue, to the local transaction at work.
    pub(super) fn enqueue(&mut self, new: NewOperation<'_>) -> Result<Sequence, Failure> {
        let sequence = self.tally.next_sequence(new.place.at);
        let transaction = *self.transaction.get_or_insert(sequence);
        let statement = self.statements.get(self.connection, Hot::Enqueue)?;
        statement.execute(params![
            sequence,
            transaction,
            new.row,
            new.place.id.collection,
            new.place.id.key,
            StoredAction(new.action),
            new.patch.as_str(),
            new.stamp.0,
            new.state,
        ])?;
        self.tally.count_operation(new.place.at, new.state, 1);
        Ok(sequence)
    }

    /// All operations of a record, in order.
    pub(super) fn operations_of(&mut self, row: i64) -> Result<Vec<Queued>, Failure> {
        let statement = self.statements.get(self.connection, Hot::Operations)?;
        let rows = statement.query_map([row], |row| {
            Ok(Queued {
                sequence: row.get(0)?,
                state: row.get(1)?,
                action: row.get::<_, StoredAction>(2)?.0,
                patch: Document::trusted(row.get(3)?),
                transaction: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Takes an operation out of the queue.
    pub(super) fn dequeue(&mut self, at: Index, operation: &Queued) -> Result<(), Failure> {
        self.statements.get(self.connection, Hot::Dequeue)?.execute([operation.sequence])?;
        self.tally.count_operation(at, operation.state, -1);
        Ok(())
    }

    /// Brings an operation into another state.
    pub(super) fn shift(&mut self, at: Index, operation: &Queued, to: OperationState) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached("UPDATE tl_operations SET state = ?2 WHERE seq = ?1")?;
        statement.execute(params![operation.sequence, to])?;
        self.tally.count_operation(at, operation.state, -1);
        self.tally.count_operation(at, to, 1);
        Ok(())
    }

    /// Whether there still is such an operation.
    pub(super) fn has_operation(&self, sequence: Sequence) -> Result<bool, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM tl_operations WHERE seq = ?1")?;
        Ok(statement.query_row([sequence], |_| Ok(())).optional()?.is_some())
    }

    /// Writes down why an operation waits or is tried again.
    pub(super) fn annotate(
        &mut self,
        sequence: Sequence,
        fault: &Fault,
        charged: bool,
        depends_on: Option<Sequence>,
    ) -> Result<(), Failure> {
        // A fault always has a JSON form; null stands in for the impossible.
        let cause = serde_json::to_string(fault).unwrap_or_else(|_| "null".to_owned());
        let mut statement = self.connection.prepare_cached(
            "UPDATE tl_operations SET cause = ?2, attempts = attempts + ?3, depends_on = ?4 WHERE seq = ?1",
        )?;
        statement.execute(params![sequence, cause, charged, depends_on])?;
        Ok(())
    }

    /// Puts operations back to the end of the queue, in their order, with fresh attempts: either into the local
    /// transaction at work, or so that what was made in one transaction stays in one. What is held stays held.
    pub(super) fn put_back(&mut self, returning: &[Returning], into_the_one_at_work: bool) -> Result<(), Failure> {
        let mut transactions: HashMap<i64, i64> = HashMap::new();
        for operation in returning {
            let sequence = self.tally.next_sequence(operation.at);
            let transaction = match into_the_one_at_work {
                true => *self.transaction.get_or_insert(sequence),
                false => *transactions.entry(operation.transaction).or_insert(sequence),
            };
            let state = match operation.state {
                OperationState::Held => OperationState::Held,
                OperationState::Parked | OperationState::Pending => OperationState::Pending,
            };
            let mut renumber = self.connection.prepare_cached(
                "UPDATE tl_operations SET seq = ?2, transaction_id = ?3, state = ?4, attempts = 0, cause = NULL,
                 depends_on = NULL WHERE seq = ?1",
            )?;
            renumber.execute(params![operation.sequence, sequence, transaction, state])?;
            self.point_dependants(operation.sequence, Some(sequence))?;
            self.tally.count_operation(operation.at, operation.state, -1);
            self.tally.count_operation(operation.at, state, 1);
        }
        Ok(())
    }

    /// What depended on one operation depends on another now, or on none that could release it.
    pub(super) fn point_dependants(&mut self, from: Sequence, to: Option<Sequence>) -> Result<(), Failure> {
        let mut statement =
            self.connection.prepare_cached("UPDATE tl_operations SET depends_on = ?2 WHERE depends_on = ?1")?;
        statement.execute(params![from, to])?;
        Ok(())
    }
}
