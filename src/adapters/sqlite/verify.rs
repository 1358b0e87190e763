//! The store against itself: SQLite's own check, the counters against a recount, and every promise that one
//! row makes about another.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use tidelock_actors::document::Document;
use tidelock_actors::limits::VERIFY_ISSUES;
use tidelock_actors::model::{Action, CollectionCounts};

use super::answers::Verified;
use super::faults::Failure;
use super::operations::{OperationState, StoredAction, laid_over};
use super::records::same;
use super::{counters, views};

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, issue: impl Into<String>) {
        if self.0.len() < VERIFY_ISSUES {
            self.0.push(issue.into());
        }
    }
}

/// A record with operations, as its invariant needs it.
struct Owner {
    name: String,
    document: Option<Document>,
    base: Option<Document>,
}

/// Checks everything, on one snapshot of the store.
pub(super) fn verify(connection: &Connection, collections: &[Arc<str>]) -> Result<Verified, Failure> {
    // It ends whatever happens: a reader left inside would see an old state for ever.
    let snapshot = connection.unchecked_transaction()?;
    let Findings(issues) = check(&snapshot, collections)?;
    Ok(Verified { healthy: issues.is_empty(), issues })
}

fn check(connection: &Connection, collections: &[Arc<str>]) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    check_file(connection, &mut findings)?;
    check_counters(connection, &mut findings)?;
    let mut owners = check_records(connection, &mut findings)?;
    check_operations(connection, &mut owners, &mut findings)?;
    check_references(connection, &mut findings)?;
    for name in collections {
        if !views::exists(connection, name)? {
            findings.add(format!("the view of collection {name} is missing"));
        }
    }
    Ok(findings)
}

/// How SQLite's own findings begin.
const DAMAGED: &str = "SQLite finds the file damaged";

/// SQLite's own finding, as it is told.
pub(super) fn found_damaged(said: &str) -> String {
    format!("{DAMAGED}: {said}")
}

/// Whether the file itself is damaged, and not only what is in it at odds.
pub(super) fn is_damaged(verified: &Result<Verified, Failure>) -> bool {
    match verified {
        Ok(verified) => verified.issues.iter().any(|issue| issue.starts_with(DAMAGED)),
        Err(Failure::Sqlite(error)) => {
            use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
            matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        }
        Err(Failure::Store(_)) => false,
    }
}

fn check_file(connection: &Connection, findings: &mut Findings) -> Result<(), Failure> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({VERIFY_ISSUES})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            findings.add(found_damaged(&said));
        }
    }
    Ok(())
}

fn check_counters(connection: &Connection, findings: &mut Findings) -> Result<(), Failure> {
    let (kept, mut real) = (counters::read_counts(connection)?, counters::recount(connection)?);
    for name in kept.keys() {
        real.entry(name.clone()).or_default();
    }
    for (name, real) in real {
        let kept = kept.get(&name).copied().unwrap_or_default();
        let mut compare = |what: &str, of: fn(&CollectionCounts) -> u64| {
            if of(&kept) != of(&real) {
                findings.add(format!("{name} counts {} {what}, but there are {}", of(&kept), of(&real)));
            }
        };
        compare("records", |counts| counts.records);
        compare("pending operations", |counts| counts.pending);
        compare("parked operations", |counts| counts.parked);
        compare("open conflicts", |counts| counts.conflicts);
        compare("records on the server", |counts| counts.on_server);
    }
    Ok(())
}

/// Every document is one; what is kept of records with operations is answered.
fn check_records(connection: &Connection, findings: &mut Findings) -> Result<BTreeMap<i64, Owner>, Failure> {
    let mut statement = connection.prepare(
        "SELECT r.id, r.collection || '/' || r.key, r.document, r.server_document, r.on_server,
                EXISTS (SELECT 1 FROM tl_operations WHERE record = r.id), r.has_operations
         FROM tl_records r",
    )?;
    let mut rows = statement.query([])?;
    let mut owners = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (on_server, has_operations): (bool, bool) = (row.get(4)?, row.get(5)?);
        let name = || row.get::<_, String>(1);
        let mut parsed = |column: usize, what: &str| -> Result<Option<Document>, Failure> {
            let Some(text) = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)? else {
                return Ok(None);
            };
            let document = Document::parse(text);
            if let Err(error) = &document {
                findings.add(format!("the {what} of {} is {error}", row.get::<_, String>(1)?));
            }
            Ok(document.ok())
        };
        let (document, base) = (parsed(2, "document")?, parsed(3, "server's document")?);
        let is_gone = row.get_ref(2)?.data_type() == rusqlite::types::Type::Null;
        if is_gone && !has_operations {
            findings.add(format!("{} is deleted here, but no operation says so", name()?));
        }
        if has_operations != row.get::<_, bool>(6)? {
            findings.add(format!("{} does not know whether it has operations", name()?));
        }
        let keeps_base = row.get_ref(3)?.data_type() != rusqlite::types::Type::Null;
        if keeps_base != (on_server && has_operations) {
            findings.add(format!("{} does not keep the server's document as it should", name()?));
        }
        if has_operations {
            owners.insert(row.get(0)?, Owner { name: name()?, document, base });
        }
    }
    Ok(owners)
}

/// The document is the server's with the patches of its operations laid over it, in order; operations that
/// are set aside are the last ones of their record.
fn check_operations(
    connection: &Connection,
    owners: &mut BTreeMap<i64, Owner>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut statement =
        connection.prepare("SELECT record, seq, state, action, patch FROM tl_operations ORDER BY record, seq")?;
    let mut rows = statement.query([])?;
    let mut at_work: Option<(i64, OperationState)> = None;
    while let Some(row) = rows.next()? {
        let (record, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
        let state: OperationState = row.get(2)?;
        let Some(owner) = owners.get_mut(&record) else {
            findings.add(format!("operation {sequence} belongs to a record that is not there"));
            continue;
        };
        match at_work {
            Some((same, before)) if same == record => {
                if before != OperationState::Pending && before != state {
                    findings.add(format!(
                        "operation {sequence} of {} comes after one that is {}",
                        owner.name,
                        before.name()
                    ));
                }
            }
            Some(_) | None => {}
        }
        at_work = Some((record, state));
        let action: Action = row.get::<_, StoredAction>(3)?.0;
        match Document::parse(row.get_ref(4)?.as_str().unwrap_or_default()) {
            Ok(patch) => owner.base = laid_over(owner.base.as_ref(), [(action, &patch)]),
            Err(error) => findings.add(format!("the patch of operation {sequence} is {error}")),
        }
    }
    for owner in owners.values() {
        if !same(owner.base.as_ref(), owner.document.as_ref()) {
            findings.add(format!("{} is not the server's document with its operations laid over it", owner.name));
        }
    }
    Ok(())
}

/// Each query finds rows that break a promise, as sentences.
const REFERENCES: &[&str] = &[
    "SELECT 'operation ' || o.seq || ' and its record do not name the same place'
     FROM tl_operations o JOIN tl_records r ON r.id = o.record
     WHERE o.collection <> r.collection OR o.key <> r.key",
    "SELECT 'operation ' || o.seq || ' waits for operation ' || o.depends_on || ', which is not there'
     FROM tl_operations o WHERE o.depends_on IS NOT NULL AND o.depends_on NOT IN (SELECT seq FROM tl_operations)",
    "SELECT 'operation ' || seq || ' is newer than the newest sequence' FROM tl_operations
     WHERE seq > (SELECT max(sequence) FROM tl_counters)",
    "SELECT 'the open conflict ' || c.id || ' on ' || c.collection || '/' || c.key || ' holds no operation'
     FROM tl_conflicts c WHERE c.state = 'open' AND NOT EXISTS (
       SELECT 1 FROM tl_records r JOIN tl_operations o ON o.record = r.id
       WHERE r.collection = c.collection AND r.key = c.key AND o.state = 'held')",
    "SELECT 'operation ' || o.seq || ' is held, but ' || o.collection || '/' || o.key || ' has no open conflict'
     FROM tl_operations o WHERE o.state = 'held' AND NOT EXISTS (
       SELECT 1 FROM tl_conflicts c WHERE c.collection = o.collection AND c.key = o.key AND c.state = 'open')",
    "SELECT 'version ' || id || ' of ' || collection || '/' || key || ' is no JSON object' FROM tl_history
     WHERE NOT json_valid(document) OR json_type(document) <> 'object'",
    "SELECT 'the checkpoint ' || name || ' is empty' FROM tl_checkpoints WHERE value = ''",
];

fn check_references(connection: &Connection, findings: &mut Findings) -> Result<(), Failure> {
    for sql in REFERENCES {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            findings.add(row.get::<_, String>(0)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, row};
    use super::super::writer::file;
    use futures::executor::block_on;
    use rusqlite::Connection;
    use tidelock_actors::model::Outcome;

    /// A store with a bit of everything.
    fn world() -> World {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b"}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        world.save("notes/b", r#"{"n":2}"#);
        world.save("projects/p", "{}");
        world.save("tasks/t", r#"{"project":"p"}"#);
        world.park("projects/p", &[3]);
        world.decide(row("notes/b", r#"{"id":"b","n":3}"#, "v2"), Outcome::Hold);
        world
    }

    #[track_caller]
    fn check(damage: &str, expected: &str) {
        let world = world();
        world.assert_healthy();
        Connection::open(file(world.directory.path())).unwrap().execute_batch(damage).unwrap();
        let verified = block_on(world.reads.verify()).unwrap();
        assert!(!verified.healthy);
        assert!(verified.issues.iter().any(|issue| issue == expected), "{expected} in {:#?}", verified.issues);
    }

    #[test]
    fn each_broken_promise_is_a_plain_sentence() {
        check(
            "UPDATE tl_counters SET pending = 5 WHERE collection = 'notes'",
            "notes counts 5 pending operations, but there are 1",
        );
        check(
            "UPDATE tl_counters SET records = 0 WHERE collection = 'tasks'",
            "tasks counts 0 records, but there are 1",
        );
        check("DELETE FROM tl_records WHERE key = 'a'", "operation 1 belongs to a record that is not there");
        check(
            "UPDATE tl_records SET document = '{\"id\":\"a\",\"n\":9}' WHERE key = 'a'",
            "notes/a is not the server's document with its operations laid over it",
        );
        check(
            "UPDATE tl_records SET server_document = NULL WHERE key = 'a'",
            "notes/a does not keep the server's document as it should",
        );
        check(
            "UPDATE tl_records SET has_operations = 0 WHERE key = 'a'",
            "notes/a does not know whether it has operations",
        );
        check(
            "UPDATE tl_operations SET key = 'x' WHERE seq = 1",
            "operation 1 and its record do not name the same place",
        );
        check(
            "UPDATE tl_operations SET depends_on = 99 WHERE seq = 4",
            "operation 4 waits for operation 99, which is not there",
        );
        check("UPDATE tl_conflicts SET key = 'a'", "the open conflict 1 on notes/a holds no operation");
        check("UPDATE tl_conflicts SET key = 'a'", "operation 2 is held, but notes/b has no open conflict");
        check("DROP VIEW notes", "the view of collection notes is missing");
        check("INSERT INTO tl_checkpoints VALUES ('pull', '')", "the checkpoint pull is empty");
        check("UPDATE tl_counters SET sequence = 2", "operation 3 is newer than the newest sequence");
    }

    #[test]
    fn a_document_that_is_none_is_found_without_failing_over_it() {
        let world = world();
        let connection = Connection::open(file(world.directory.path())).unwrap();
        connection.execute_batch("UPDATE tl_records SET document = '[1' WHERE key = 'a'").unwrap();
        let issues = block_on(world.reads.verify()).unwrap().issues;
        assert_eq!(issues[0], r#"the document of notes/a is not a JSON object: it begins with "[1""#);
    }

    #[test]
    fn a_damaged_page_is_found() {
        let mut world = world();
        for n in 0..500 {
            world.save(&format!("notes/{n}"), r#"{"text":"something to fill a page with"}"#);
        }
        let path = file(world.directory.path());
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(8).rposition(|window| window == b"some".repeat(2) || window == b"somethin").unwrap();
        let page = at / 4096 * 4096;
        bytes[page..page + 100].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let world = world;
        let verdict = block_on(world.reads.verify());
        let found = verdict.map_or_else(|error| error.to_string(), |verified| verified.issues.join("; "));
        assert!(found.contains("damaged") || found.contains("malformed"), "{found}");
    }
}
