//! What changed between two versions of a record, and which rounds changed anything: in a form that becomes JSON as it is.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tidelock_actors::document::{Document, same_value};
use tidelock_actors::limits::ROUNDS_LISTED;
use tidelock_actors::model::RecordId;

use super::answers::time;
use super::faults::Failure;
use super::records;

/// A field that is not the same in two documents.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// The field.
    pub field: String,
    /// What it was, to the last digit; absent where there was no such field.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<RawValue>>,
    /// What it became; absent where there is no such field any more.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub after: Option<Box<RawValue>>,
}

/// A null is a value, too.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// What changed from one version of a record to another.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The record's collection.
    pub collection: String,
    /// The record's key.
    pub key: String,
    /// The version compared from; null where no earlier one is kept.
    pub from: Option<i64>,
    /// The version compared to; null for the record as it is now.
    pub to: Option<i64>,
    /// The fields that mean something else, by name.
    pub fields: Vec<FieldChange>,
}

/// What a number that rounds and rollbacks share stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoundKind {
    /// A round: a push and a pull.
    Sync,
    /// A rollback.
    Rollback,
}

/// A round, or a rollback, that changed records here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoundView {
    /// Its number: what it changed can be rolled back by it.
    pub number: i64,
    /// What it was.
    pub kind: RoundKind,
    /// When it first changed a record, RFC 3339.
    pub at: String,
    /// How many records it changed, as far as that is still kept.
    pub records: u64,
}

/// The fields in which two documents differ by meaning; a missing document has no fields.
pub fn field_changes(before: Option<&Document>, after: Option<&Document>) -> Vec<FieldChange> {
    let (before, after) = (before.map(Document::fields), after.map(Document::fields));
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let names: BTreeSet<&str> = before.names().chain(after.names()).collect();
    let change = |name: &str| {
        let (old, new) = (before.get(name), after.get(name));
        let is_same = matches!((old, new), (Some(old), Some(new)) if same_value(old, new));
        (!is_same).then(|| FieldChange { field: name.to_owned(), before: raw(old), after: raw(new) })
    };
    names.into_iter().filter_map(change).collect()
}

/// A field's text was a part of a document, so it is JSON.
fn raw(text: Option<&str>) -> Option<Box<RawValue>> {
    RawValue::from_string(text?.to_owned()).ok()
}

/// Compares two versions: without the first the one before the second, without the second the record as it is now.
pub(super) fn difference(
    connection: &Connection,
    id: &RecordId,
    from: Option<i64>,
    to: Option<i64>,
) -> Result<Difference, Failure> {
    // One snapshot: what is replaced meanwhile is not missed between two looks.
    let snapshot = connection.unchecked_transaction()?;
    let now = present_document(&snapshot, id)?;
    let earlier = snapshot
        .prepare_cached("SELECT max(id) FROM tl_history WHERE collection = ?1 AND key = ?2 AND id < ?3")?
        .query_row(params![id.collection, id.key, to.unwrap_or(i64::MAX)], |row| row.get::<_, Option<i64>>(0))?;
    if (now.as_ref(), earlier, to) == (None, None, None) {
        return Err(Failure::not_found(format!("there is no record {id}, and no earlier version of it is kept")));
    }
    let from = from.or(earlier);
    let before = from.map(|version| version_document(&snapshot, id, version)).transpose()?;
    let after = match to {
        Some(version) => Some(version_document(&snapshot, id, version)?),
        None => now,
    };
    let fields = field_changes(before.as_ref(), after.as_ref());
    Ok(Difference { collection: id.collection.to_string(), key: id.key.to_string(), from, to, fields })
}

fn present_document(connection: &Connection, id: &RecordId) -> Result<Option<Document>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT document FROM tl_records WHERE collection = ?1 AND key = ?2")?;
    let read = |row: &Row<'_>| records::document(row, 0);
    Ok(statement.query_row(params![id.collection, id.key], read).optional()?.flatten())
}

/// The document of a version of this record.
pub(super) fn version_document(connection: &Connection, id: &RecordId, version: i64) -> Result<Document, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT document FROM tl_history WHERE id = ?1 AND collection = ?2 AND key = ?3")?;
    let found = statement.query_row(params![version, id.collection, id.key], |row| row.get(0)).optional()?;
    found.map(Document::trusted).ok_or_else(|| {
        Failure::not_found(format!("there is no version {version} of {id}; see its history for those that are kept"))
    })
}

/// The rounds and rollbacks that changed records here, the newest first.
pub(super) fn rounds(connection: &Connection) -> Result<Vec<RoundView>, Failure> {
    let mut statement = connection.prepare_cached(
        "WITH touched (number, collection, key, at, origin) AS (
           SELECT ended_round, collection, key, ended, ended_by FROM tl_history WHERE ended_round IS NOT NULL
           UNION ALL SELECT round, collection, key, stamp, origin FROM tl_history WHERE round IS NOT NULL
           UNION ALL SELECT round, collection, key, stamp, origin FROM tl_records WHERE round IS NOT NULL)
         SELECT number, min(at), max(origin = 'restored'), count(DISTINCT collection || '/' || key)
         FROM touched GROUP BY number ORDER BY number DESC LIMIT ?1",
    )?;
    let read = |row: &Row<'_>| {
        let kind = if row.get(2)? { RoundKind::Rollback } else { RoundKind::Sync };
        Ok(RoundView { number: row.get(0)?, at: time(row.get(1)?), kind, records: row.get(3)? })
    };
    Ok(statement.query_map([ROUNDS_LISTED as i64], read)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, gone, id, row, said};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::writes::RollbackTarget;

    fn diff(world: &World, place: &str, from: Option<i64>, to: Option<i64>) -> String {
        let difference = block_on(world.reads.difference(id(place), from, to)).unwrap();
        let text = serde_json::to_string(&difference.fields).unwrap();
        let again: Vec<FieldChange> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text, "null and absent stay what they are");
        format!("{:?} {:?} {text}", difference.from, difference.to)
    }

    #[test]
    fn a_difference_names_the_fields_that_mean_something_else() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1.0,"text":"one"}"#);
        assert_eq!(
            diff(&world, "notes/a", None, None),
            r#"None None [{"field":"id","after":"a"},{"field":"n","after":1.0},{"field":"text","after":"one"}]"#
        );
        world.save("notes/a", r#"{"text":null,"big":9223372036854775807}"#);
        world.save("notes/a", r#"{"n":2}"#);
        let second = r#"[{"field":"n","before":1.0,"after":2}]"#;
        assert_eq!(diff(&world, "notes/a", None, None), format!("Some(2) None {second}"));
        assert_eq!(
            diff(&world, "notes/a", Some(1), Some(2)),
            r#"Some(1) Some(2) [{"field":"big","after":9223372036854775807},{"field":"text","before":"one","after":null}]"#
        );
        assert!(diff(&world, "notes/a", None, Some(2)).starts_with("Some(1) Some(2) "), "the one before it");
        assert!(diff(&world, "notes/a", None, Some(1)).starts_with("None Some(1) "));
        world.delete("notes/a");
        assert!(diff(&world, "notes/a", None, None).contains(r#"{"field":"n","before":2}"#));
        let error = said(block_on(world.reads.difference(id("notes/a"), Some(99), None)));
        assert_eq!(error, "there is no version 99 of notes/a; see its history for those that are kept");
        let error = said(block_on(world.reads.difference(id("notes/never"), None, None)));
        assert_eq!(error, "there is no record notes/never, and no earlier version of it is kept");
    }

    #[test]
    fn rounds_and_rollbacks_are_listed_with_what_they_changed() {
        let mut world = World::new();
        world.pull(2, vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b"}"#, "v1")]);
        world.pull(4, vec![row("notes/a", r#"{"id":"a","n":2}"#, "v2"), gone("notes/b")]);
        world.pull(6, vec![]);
        world.save("drafts/d", "{}");
        let target = RollbackTarget::Round { number: 4, collections: Vec::new(), force: false };
        let number = world.roll_back(target).number;
        let rounds = block_on(world.reads.rounds()).unwrap();
        let told: Vec<_> = rounds.iter().map(|round| (round.number, round.kind, round.records)).collect();
        assert_eq!(told, [(number, RoundKind::Rollback, 2), (4, RoundKind::Sync, 2), (2, RoundKind::Sync, 2)]);
        assert!(rounds[2].at < rounds[1].at && rounds[1].at < rounds[0].at, "{rounds:?}");
    }
}
