//! What can still be read of a damaged database: the operations that were to be sent, and the records that are nowhere
//! else. Read from both ends, so that a bad page hides only itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, Row};
use serde::Serialize;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Change, RecordId, Sequence, Stamp};

use super::faults::Failure;
use super::open::keep_log_on_close;
use super::operations::StoredAction;

/// A change that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Found {
    /// The record.
    pub id: RecordId,
    /// Its fields; none where it was deleted.
    pub document: Option<Document>,
    /// When it was made.
    pub stamp: Stamp,
}

impl Found {
    /// The same as a local change.
    pub(crate) fn change(&self) -> (RecordId, Change) {
        (self.id.clone(), self.document.clone().map_or(Change::Delete, Change::Save))
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    /// Changes that were to be sent, by local transaction, in order.
    pub transactions: Vec<Vec<Found>>,
    /// Records of collections that never leave the device.
    pub own: Vec<Found>,
}

/// Reads what was changed after `newer_than`; operations also by their sequence, which the rest has already.
pub(crate) fn salvage(database: &Path, after: Sequence, newer_than: Stamp, own: &[Arc<str>]) -> Salvaged {
    // Written is nothing, but a log that lies beside has to be read along, and its index is made for that.
    let Ok(connection) = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
        return Salvaged::default();
    };
    if keep_log_on_close(&connection).is_err() {
        return Salvaged::default();
    }
    let mut transactions: BTreeMap<i64, Vec<Found>> = BTreeMap::new();
    for (transaction, found) in operations(&connection, after).into_values() {
        transactions.entry(transaction).or_default().push(found);
    }
    let own = own.iter().flat_map(|name| records(&connection, name, newer_than).into_values()).collect();
    Salvaged { transactions: transactions.into_values().collect(), own }
}

fn operations(connection: &Connection, after: Sequence) -> BTreeMap<Sequence, (i64, Found)> {
    let read = |row: &Row<'_>| {
        let action = row.get::<_, StoredAction>(4)?.0;
        let patch = row.get::<_, String>(5)?;
        let found = Found {
            id: RecordId { collection: row.get(2)?, key: row.get(3)? },
            document: Document::parse(&patch).ok().filter(|_| action != Action::Delete),
            stamp: Stamp(row.get(6)?),
        };
        Ok((row.get(0)?, (row.get(1)?, found)))
    };
    from_both_ends(|order| {
        let sql = format!(
            "SELECT seq, transaction_id, collection, key, action, patch, stamp FROM tl_operations NOT INDEXED
             WHERE seq > ?1 ORDER BY seq {order}"
        );
        Ok((connection.prepare(&sql)?, (after,), read))
    })
}

fn records(connection: &Connection, collection: &Arc<str>, newer_than: Stamp) -> BTreeMap<i64, Found> {
    let read = |row: &Row<'_>| {
        let document = row.get::<_, String>(2)?;
        let id = RecordId { collection: collection.clone(), key: row.get(1)? };
        Ok((row.get(0)?, Found { id, document: Document::parse(&document).ok(), stamp: Stamp(row.get(3)?) }))
    };
    from_both_ends(|order| {
        let sql = format!(
            "SELECT id, key, document, stamp FROM tl_records NOT INDEXED
             WHERE collection = ?1 AND stamp > ?2 AND document IS NOT NULL ORDER BY id {order}"
        );
        Ok((connection.prepare(&sql)?, (collection.to_string(), newer_than.0), read))
    })
}

/// Rows by number, read upwards until a page is bad and then downwards to it.
fn from_both_ends<'c, T, P, R>(
    question: impl Fn(&str) -> Result<(rusqlite::Statement<'c>, P, R), Failure>,
) -> BTreeMap<i64, T>
where
    P: rusqlite::Params,
    R: FnMut(&Row<'_>) -> rusqlite::Result<(i64, T)>,
{
    let mut found = BTreeMap::new();
    for order in ["ASC", "DESC"] {
        let Ok((mut statement, values, mut read)) = question(order) else { continue };
        let Ok(mut rows) = statement.query(values) else { continue };
        let is_whole = loop {
            match rows.next() {
                Ok(Some(row)) => found.extend(read(row).ok()),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if is_whole {
            break;
        }
    }
    found
}
