//! What the handle is told: the outbox, conflicts and versions, in a form that becomes JSON as it is.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::document::Document;
use tidelock_actors::limits::LIST_ROWS;
use tidelock_actors::model::{Action, Fault, RecordId, Sequence, Stamp};

use super::faults::Failure;
use super::operations::{OperationState, StoredAction};
use super::records::document;

/// Which operations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueFilter {
    /// Only those that stand so.
    pub state: Option<OperationState>,
    /// Only those of this collection.
    pub collection: Option<String>,
    /// Only those after this one.
    pub after: Sequence,
    /// The most; 0 means as many as one list may return.
    pub limit: usize,
}

/// An operation in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuedOperation {
    /// Its place in the outbox; it changes when the operation is put back.
    pub id: Sequence,
    /// Its record's collection.
    pub collection: String,
    /// Its record's key.
    pub key: String,
    /// What it asks.
    pub action: Action,
    /// Whether it waits, is set aside or held.
    pub state: OperationState,
    /// How often the server has refused it.
    pub attempts: u32,
    /// The fields it sets.
    pub payload: Document,
    /// Why it was set aside, or what its last try came to.
    pub cause: Option<Fault>,
    /// The operation that has to be through before it.
    pub depends_on: Option<Sequence>,
    /// When it was made here, RFC 3339.
    pub created_at: String,
}

/// How a conflict stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConflictState {
    /// Waits for a decision.
    Open,
    /// Decided.
    Resolved,
    /// Decided, and the decision was taken back.
    Undone,
}

/// What made it a conflict, in the shape of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConflictCause {
    /// Always `conflict`.
    pub kind: String,
    /// No HTTP status belongs to it.
    pub status: Option<u16>,
    /// No SQLSTATE belongs to it.
    pub code: Option<String>,
    /// What happened, in a sentence.
    pub message: String,
}

/// A record that changed on both sides. A document that is null is a row that was absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConflictView {
    /// The conflict.
    pub id: i64,
    /// Its record's collection.
    pub collection: String,
    /// Its record's key.
    pub key: String,
    /// What both changes were made on.
    pub base: Option<Document>,
    /// What the app made of it; while the conflict is open, as it is now.
    pub local: Option<Document>,
    /// What the server has made of it.
    pub remote: Option<Document>,
    /// What became of it; null while open.
    pub result: Option<Document>,
    /// `local`, `remote` or `merged`; null while open.
    pub winner: Option<String>,
    /// The strategy that decided.
    pub strategy: String,
    /// Open, resolved or undone.
    pub state: ConflictState,
    /// When it was found, RFC 3339.
    pub detected_at: String,
    /// When it was decided.
    pub resolved_at: Option<String>,
    /// What happened.
    pub cause: ConflictCause,
}

/// An earlier version of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// The version's place in the history.
    pub id: i64,
    /// The document as it was.
    pub document: Document,
    /// The server's stamp on it, if it had one.
    pub version: Option<String>,
    /// Who made it: `local`, `server`, `resolution`, `discard`, or `restored` by a rollback.
    pub origin: String,
    /// From when, RFC 3339.
    pub since: String,
    /// Until when.
    pub until: String,
    /// Who replaced it.
    pub replaced_by: String,
    /// The round or rollback that brought it, if one did.
    pub round: Option<i64>,
    /// The round or rollback that replaced it, if one did.
    pub replaced_in_round: Option<i64>,
}

/// What a check of the store against itself came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// What is wrong, a sentence each.
    pub issues: Vec<String>,
}

/// A stamp's time, RFC 3339.
pub(super) fn time(stamp: i64) -> String {
    jiff::Timestamp::from_millisecond(Stamp(stamp).millis()).map(|time| time.to_string()).unwrap_or_default()
}

pub(super) fn operations(connection: &Connection, filter: &QueueFilter) -> Result<Vec<QueuedOperation>, Failure> {
    let (index, state) = match filter.state {
        None => ("", ""),
        Some(OperationState::Pending) => ("INDEXED BY tl_operations_pending", " AND state = 'pending'"),
        Some(OperationState::Parked) => {
            ("INDEXED BY tl_operations_set_aside", " AND state <> 'pending' AND state = 'parked'")
        }
        Some(OperationState::Held) => {
            ("INDEXED BY tl_operations_set_aside", " AND state <> 'pending' AND state = 'held'")
        }
    };
    let limit = if filter.limit == 0 { LIST_ROWS } else { filter.limit.min(LIST_ROWS) };
    let mut values = vec![SqlValue::Integer(filter.after), SqlValue::Integer(limit as i64)];
    let mut collection = "";
    if let Some(name) = &filter.collection {
        collection = " AND collection = ?3";
        values.push(SqlValue::Text(name.clone()));
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT seq, collection, key, action, state, attempts, patch, cause, depends_on, stamp
         FROM tl_operations {index} WHERE seq > ?1{state}{collection} ORDER BY seq LIMIT ?2"
    ))?;
    let read = |row: &Row<'_>| {
        let cause: Option<String> = row.get(7)?;
        Ok(QueuedOperation {
            id: row.get(0)?,
            collection: row.get(1)?,
            key: row.get(2)?,
            action: row.get::<_, StoredAction>(3)?.0,
            state: row.get(4)?,
            attempts: row.get(5)?,
            payload: Document::trusted(row.get(6)?),
            cause: cause.and_then(|text| serde_json::from_str(&text).ok()),
            depends_on: row.get(8)?,
            created_at: time(row.get(9)?),
        })
    };
    Ok(statement.query_map(params_from_iter(values), read)?.collect::<Result<_, _>>()?)
}

const CONFLICT: &str = "
    SELECT c.id, c.collection, c.key, c.base, CASE c.state WHEN 'open' THEN r.document ELSE c.local END, c.remote,
           c.result, c.winner, c.strategy, c.state, c.detected, c.resolved
    FROM tl_conflicts c LEFT JOIN tl_records r ON r.collection = c.collection AND r.key = c.key";

pub(super) fn conflicts(connection: &Connection, all: bool) -> Result<Vec<ConflictView>, Failure> {
    let which = if all { "" } else { "WHERE c.state = 'open'" };
    let mut statement =
        connection.prepare_cached(&format!("{CONFLICT} {which} ORDER BY c.id DESC LIMIT {LIST_ROWS}"))?;
    Ok(statement.query_map([], conflict_view)?.collect::<Result<_, _>>()?)
}

pub(super) fn conflict(connection: &Connection, id: i64) -> Result<ConflictView, Failure> {
    let mut statement = connection.prepare_cached(&format!("{CONFLICT} WHERE c.id = ?1"))?;
    let found = statement.query_row([id], conflict_view).optional()?;
    found.ok_or_else(|| Failure::not_found(format!("there is no conflict {id}")))
}

fn conflict_view(row: &Row<'_>) -> rusqlite::Result<ConflictView> {
    let (base, local, remote) = (document(row, 3)?, document(row, 4)?, document(row, 5)?);
    let state = match row.get_ref(9)?.as_str()? {
        "open" => ConflictState::Open,
        "undone" => ConflictState::Undone,
        _ => ConflictState::Resolved,
    };
    Ok(ConflictView {
        id: row.get(0)?,
        collection: row.get(1)?,
        key: row.get(2)?,
        cause: cause(base.as_ref(), local.as_ref(), remote.as_ref()),
        base,
        local,
        remote,
        result: document(row, 6)?,
        winner: row.get(7)?,
        strategy: row.get(8)?,
        state,
        detected_at: time(row.get(10)?),
        resolved_at: row.get::<_, Option<i64>>(11)?.map(time),
    })
}

fn cause(base: Option<&Document>, local: Option<&Document>, remote: Option<&Document>) -> ConflictCause {
    let message = match (base, local, remote) {
        (_, Some(_), None) => "changed here, and deleted on the server".to_owned(),
        (_, None, Some(_)) => "deleted here, and changed on the server".to_owned(),
        (_, None, None) => "deleted on both sides".to_owned(),
        (None, Some(_), Some(_)) => "made on both sides".to_owned(),
        (Some(base), Some(local), Some(remote)) => {
            let (ours, theirs) = (local.changes_from(base), remote.changes_from(base));
            let names = |changes: &Document| changes.fields().names().collect::<Vec<_>>().join(", ");
            format!("changed on both sides (here: {}; on the server: {})", names(&ours), names(&theirs))
        }
    };
    ConflictCause { kind: "conflict".to_owned(), status: None, code: None, message }
}

pub(super) fn history(connection: &Connection, id: &RecordId) -> Result<Vec<VersionView>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT id, document, version, origin, stamp, ended, ended_by, round, ended_round FROM tl_history
         WHERE collection = ?1 AND key = ?2 ORDER BY id DESC",
    )?;
    let read = |row: &Row<'_>| {
        Ok(VersionView {
            id: row.get(0)?,
            document: Document::trusted(row.get(1)?),
            version: row.get(2)?,
            origin: row.get(3)?,
            since: time(row.get(4)?),
            until: time(row.get(5)?),
            replaced_by: row.get(6)?,
            round: row.get(7)?,
            replaced_in_round: row.get(8)?,
        })
    };
    Ok(statement.query_map(params![id.collection, id.key], read)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, row};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::model::Outcome;

    fn listed(world: &World, filter: QueueFilter) -> Vec<Sequence> {
        block_on(world.reads.operations(filter)).unwrap().into_iter().map(|operation| operation.id).collect()
    }

    #[test]
    fn operations_are_listed_by_state_collection_and_page() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a"}"#, "v1")]);
        world.save("notes/a", r#"{"n":1}"#);
        world.save("tasks/t", "{}");
        world.save("notes/c", "{}");
        world.park("tasks/t", &[2]);
        world.decide(row("notes/a", r#"{"id":"a","n":2}"#, "v2"), Outcome::Hold);
        let with = |state, collection: Option<&str>| QueueFilter {
            state,
            collection: collection.map(str::to_owned),
            ..QueueFilter::default()
        };
        assert_eq!(listed(&world, QueueFilter::default()), [1, 2, 3]);
        assert_eq!(listed(&world, with(Some(OperationState::Pending), None)), [3]);
        assert_eq!(listed(&world, with(Some(OperationState::Parked), None)), [2]);
        assert_eq!(listed(&world, with(Some(OperationState::Held), None)), [1]);
        assert_eq!(listed(&world, with(None, Some("notes"))), [1, 3]);
        assert_eq!(listed(&world, QueueFilter { limit: 1, after: 1, ..QueueFilter::default() }), [2]);
    }

    #[test]
    fn an_operation_becomes_json_with_the_names_that_scripts_rely_on() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":9223372036854775807}"#);
        world.park("notes/a", &[1]);
        let json = serde_json::to_string(&world.operations()[0]).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"id":1,"collection":"notes","key":"a","action":"create","state":"parked","attempts":1,"#,
                r#""payload":{"id":"a","n":9223372036854775807},"cause":{"kind":"refused","status":400,"code":"23514","#,
                r#""message":"refused","details":null,"retry_after_ms":null},"depends_on":null,"#,
                r#""created_at":"2026-11-18T11:06:40.001Z"}"#
            )
        );
    }

    #[test]
    fn open_conflicts_come_alone_or_with_all_others_newest_first() {
        let mut world = World::new();
        for key in ["a", "b"] {
            world.take(vec![row(&format!("notes/{key}"), "{}", "v1")]);
            world.save(&format!("notes/{key}"), r#"{"n":1}"#);
        }
        world.decide(row("notes/a", r#"{"n":2}"#, "v2"), Outcome::TakeRemote);
        world.decide(row("notes/b", r#"{"n":2}"#, "v2"), Outcome::Hold);
        let ids = |all| block_on(world.reads.conflicts(all)).unwrap().iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!((ids(false), ids(true)), (vec![2], vec![2, 1]));
        let one = block_on(world.reads.conflict(1)).unwrap();
        assert_eq!((one.key.as_str(), one.resolved_at.is_some()), ("a", true));
        assert_eq!(block_on(world.reads.conflict(9)).unwrap_err().to_string(), "there is no conflict 9");
    }
}
