//! Versions that were replaced, kept up to a number a record and up to an age.

use rusqlite::{Connection, params};
use tidelock_actors::document::Document;
use tidelock_actors::model::Stamp;

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::records::{Cause, Record};
use super::statements::Hot;

/// Rows removed in one go, so that no commit waits long.
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
        statement.execute(params![place.id.collection, place.id.key, self.retention.versions])?;
        Ok(())
    }
}

/// Forgets versions and settled conflicts that are older than the age allows, some of them at a time.
pub(super) fn prune(connection: &Connection, retention: Retention, now: Stamp) -> Result<(), Failure> {
    let oldest = Stamp((now.millis() - retention.age_ms) << 16);
    let mut versions = connection.prepare_cached(
        "DELETE FROM tl_history WHERE id IN (SELECT id FROM tl_history ORDER BY id LIMIT ?2) AND ended < ?1",
    )?;
    versions.execute(params![oldest.0, CHUNK])?;
    let mut conflicts = connection.prepare_cached(
        "DELETE FROM tl_conflicts WHERE id IN (SELECT id FROM tl_conflicts WHERE state <> 'open' ORDER BY id LIMIT ?2)
         AND resolved < ?1",
    )?;
    conflicts.execute(params![oldest.0, CHUNK])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, id, row};
    use futures::executor::block_on;
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
    fn with_no_history_wanted_none_is_kept() {
        let mut world = World::with(|options| options.history_keep = 0);
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        world.delete("notes/a");
        assert_eq!(world.rows("tl_history"), 0);
    }
}
