//! Versions that were replaced, kept up to a number a record and up to an age.

use rusqlite::{Connection, OptionalExtension, params};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Past, RecordId, Stamp};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::records::{Cause, Record};
use super::statements::Hot;

/// Rows looked at in one go, so that no commit waits long.
const CHUNK: usize = 2_000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// Versions a record.
    pub(super) versions: u32,
    /// Milliseconds.
    pub(super) age_ms: i64,
}

/// A version that ends.
#[derive(Debug)]
pub(super) struct Superseded<'a> {
    /// The record until now.
    pub(super) before: &'a Record,
    /// Its document.
    pub(super) document: &'a Document,
    /// Who ends it.
    pub(super) cause: Cause,
}

impl Retention {
    /// What was replaced before this is too old.
    fn oldest(self, now: Stamp) -> Stamp {
        Stamp((now.millis() - self.age_ms) << 16)
    }

    /// Counting a record's versions costs a look at all of them, so it is done every few revisions only.
    fn is_due(self, revision: i64) -> bool {
        let pause = i64::from(self.versions / 4).clamp(1, 16);
        revision >= i64::from(self.versions) && revision % pause == 0
    }
}

impl Batch<'_> {
    /// Keeps a version that ends.
    pub(super) fn keep_version(&mut self, place: Place<'_>, superseded: &Superseded<'_>) -> Result<(), Failure> {
        if self.retention.versions == 0 {
            return Ok(());
        }
        let Superseded { before, document, cause } = superseded;
        let statement = self.statements.get(self.connection, Hot::KeepVersion)?;
        statement.execute(params![
            place.id.collection,
            place.id.key,
            document.as_str(),
            before.state.version,
            before.stamp,
            before.origin,
            before.round,
            cause.stamp.0,
            cause.origin,
            cause.round,
        ])?;
        if self.retention.is_due(before.revision) { self.forget_old_versions(place) } else { Ok(()) }
    }

    /// Forgets what is beyond the number of versions that a record may have.
    pub(super) fn forget_old_versions(&mut self, place: Place<'_>) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM tl_history WHERE id IN
             (SELECT id FROM tl_history WHERE collection = ?1 AND key = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
        )?;
        let RecordId { collection, key } = place.id;
        if statement.execute(params![collection, key, self.retention.versions])? > 0 {
            let mut mark = self.connection.prepare_cached(
                "UPDATE tl_history SET follows_forgotten = 1
                 WHERE id = (SELECT min(id) FROM tl_history WHERE collection = ?1 AND key = ?2)",
            )?;
            mark.execute(params![collection, key])?;
        }
        Ok(())
    }
}

const KNOWN_SINCE: &str = "history_known_since";

/// Versions that were replaced before this stamp may be forgotten, beside those that a record had too many of.
pub(super) fn known_since(connection: &Connection) -> Result<Stamp, Failure> {
    let mut statement = connection.prepare_cached("SELECT CAST(value AS INTEGER) FROM tl_meta WHERE name = ?1")?;
    Ok(Stamp(statement.query_row([KNOWN_SINCE], |row| row.get(0)).optional()?.unwrap_or_default()))
}

fn forget_before(connection: &Connection, stamp: Stamp) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO tl_meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?;
    statement.execute(params![KNOWN_SINCE, stamp.0.to_string()])?;
    Ok(())
}

/// While no history is kept nothing of the past is known; once it is, what happened until then stays unknown.
pub(super) fn prepare(connection: &Connection, retention: Retention, newest: Stamp) -> Result<(), Failure> {
    const NEVER: Stamp = Stamp(i64::MAX);
    let known = known_since(connection)?;
    match (retention.versions, known == NEVER) {
        (0, false) => forget_before(connection, NEVER),
        (1.., true) => forget_before(connection, newest),
        (0, true) | (1.., false) => Ok(()),
    }
}

/// What grows old, and the column that says since when; it is null while a conflict is open.
const AGEING: [(&str, &str); 2] = [("tl_history", "ended"), ("tl_conflicts", "resolved")];

/// Where the last look at each of these ended.
pub(super) type Looked = [i64; AGEING.len()];

/// Forgets versions and settled conflicts that are older than the age allows, some of them at a time. The oldest stand
/// first, except where the clock went back: so each time the stretch after the last one is looked at as well.
pub(super) fn prune(
    connection: &Connection,
    retention: Retention,
    now: Stamp,
    looked: &mut Looked,
) -> Result<(), Failure> {
    let oldest = retention.oldest(now);
    for (ageing, looked) in AGEING.into_iter().zip(looked) {
        let front = prune_stretch(connection, ageing, oldest, 0)?;
        // At the end the next look begins at the front again.
        *looked = prune_stretch(connection, ageing, oldest, front.max(*looked))?;
    }
    Ok(())
}

/// Looks at the next rows, forgets those that are too old, and tells where it ended; 0 at the end.
fn prune_stretch(
    connection: &Connection,
    (table, since): (&str, &str),
    oldest: Stamp,
    after: i64,
) -> Result<i64, Failure> {
    let last = format!("SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ?1 ORDER BY id LIMIT ?2)");
    let last = connection.query_row(&last, params![after, CHUNK], |row| row.get::<_, Option<i64>>(0))?;
    let forget = format!("DELETE FROM {table} WHERE id > ?1 AND id <= ?2 AND {since} < ?3");
    let together = connection.unchecked_transaction()?;
    if together.execute(&forget, params![after, last, oldest.0])? > 0 && known_since(&together)? < oldest {
        forget_before(&together, oldest)?;
    }
    together.commit()?;
    Ok(last.unwrap_or_default())
}

/// Forgets everything that is beyond the bounds, as they are now, or everything, however long it takes.
pub(super) fn prune_all(connection: &Connection, retention: Retention, now: Stamp, past: Past) -> Result<(), Failure> {
    let oldest = match past {
        Past::Kept => retention.oldest(now),
        Past::Forgotten => Stamp(now.0 + 1),
    };
    for ageing in AGEING {
        let mut looked = 0;
        loop {
            looked = prune_stretch(connection, ageing, oldest, looked)?;
            if looked == 0 {
                break;
            }
        }
    }
    let together = connection.unchecked_transaction()?;
    let those = |which| {
        format!(
            "id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY collection, key ORDER BY id DESC) AS age,
                                    count(*) OVER (PARTITION BY collection, key) AS versions FROM tl_history)
                    WHERE {which})"
        )
    };
    let mark = those("age = ?1 AND versions > ?1");
    together.execute(&format!("UPDATE tl_history SET follows_forgotten = 1 WHERE {mark}"), [retention.versions])?;
    together.execute(&format!("DELETE FROM tl_history WHERE {}", those("age > ?1")), [retention.versions])?;
    Ok(together.commit()?)
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, id, row};
    use super::super::writer::file;
    use super::CHUNK;
    use futures::executor::block_on;
    use rusqlite::{Connection, params};
    use std::time::Duration;
    use tidelock_actors::ports::Store;

    #[test]
    fn each_version_tells_who_made_it_who_replaced_it_and_in_which_round() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.applied("notes/a", &[1], "v1");
        world.take(vec![row("notes/a", r#"{"id":"a","n":2}"#, "v2")]);
        world.save("notes/a", r#"{"n":3}"#);
        let told: Vec<_> = block_on(world.reads.history(id("notes/a")))
            .unwrap()
            .into_iter()
            .map(|one| {
                let rounds = (one.round, one.replaced_in_round);
                (one.document.to_string(), one.version, one.origin, one.replaced_by, rounds, one.since < one.until)
            })
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(document, version, origin, by, rounds, rises)| {
                (document.as_str(), version.as_deref(), origin.as_str(), by.as_str(), *rounds, *rises)
            })
            .collect();
        assert_eq!(
            told,
            [
                (r#"{"id":"a","n":2}"#, Some("v2"), "server", "local", (Some(7), None), true),
                (r#"{"id":"a","n":1}"#, Some("v1"), "local", "server", (None, Some(7)), true),
            ]
        );
    }

    #[test]
    fn of_each_record_only_so_many_versions_are_kept() {
        let mut world = World::new();
        for n in 0..50 {
            world.save("notes/a", &format!(r#"{{"n":{n}}}"#));
        }
        let versions = world.history("notes/a");
        assert!((10..14).contains(&versions.len()), "{}", versions.len());
        assert_eq!(versions[0], r#"{"id":"a","n":48}"#);
        world.delete("notes/a");
        world.applied("notes/a", &(1..=51).collect::<Vec<_>>(), "");
        assert_eq!(world.history("notes/a").len(), 10, "a removed record keeps no more than it may");
        world.assert_healthy();
    }

    #[test]
    fn versions_that_are_too_old_are_forgotten_by_and_by() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        world.store.maintain().unwrap();
        assert_eq!(world.history("notes/a").len(), 1);
        world.wait(Duration::from_secs(31 * 24 * 60 * 60));
        world.save("notes/a", r#"{"n":3}"#);
        world.store.maintain().unwrap();
        assert_eq!(world.history("notes/a"), [r#"{"id":"a","n":2}"#]);
    }

    #[test]
    fn versions_that_are_too_old_are_found_behind_young_ones() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        let insert = |count: usize, ended: i64| {
            let connection = Connection::open(file(world.directory.path())).unwrap();
            let sql = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT ?1)
                       INSERT INTO tl_history (collection, key, stamp, origin, ended, ended_by, document)
                       SELECT 'notes', 'b', 0, 'local', ?2, 'local', '{}' FROM t";
            connection.execute(sql, params![count, ended]).unwrap();
        };
        insert(3 * CHUNK, i64::MAX);
        insert(10, 0);
        insert(1, i64::MAX);
        let mut looks = 0;
        while world.rows("tl_history") > 3 * CHUNK + 1 {
            world.store.maintain().unwrap();
            looks += 1;
            assert!(looks < 10, "they are never found");
        }
        assert!(looks > 1, "one look is bounded");
        assert_eq!(world.rows("tl_history"), 3 * CHUNK + 1);
    }

    #[test]
    fn with_no_history_wanted_none_is_kept() {
        let mut world = World::with(|options| options.history_keep = 0);
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        world.delete("notes/a");
        assert_eq!(world.rows("tl_history"), 0);
    }
}
