//! Gives back what deleted records left: history beyond its bounds goes, and the database is written anew without what
//! is free within it. SQLite does that in one transaction, so a crash leaves it as it was or as it is to be; reads go
//! on, writes wait.

use tidelock_actors::model::{Compacted, Past};
use tidelock_actors::ports::StoreError;

use super::faults::Failure;
use super::open;
use super::sizes::{bytes_of, used_bytes};
use super::wal::log_of;
use super::writer::{self, SqliteStore};
use crate::adapters::room::lack_of;

impl SqliteStore {
    /// Everything that was performed must have been committed.
    pub(super) fn write_anew(&mut self, past: Past) -> Result<Compacted, Failure> {
        let before_bytes = self.bytes_on_disk();
        self.forget(past)?;
        self.check_room()?;
        // Every page is another one afterwards: a full backup is smaller than what would go through the log.
        self.end_log();
        tracing::info!("the database is written anew without what is free in it; reads go on, writes wait");
        self.connection().execute_batch("VACUUM")?;
        self.move_log()?;
        self.count()?;
        let after_bytes = self.bytes_on_disk();
        tracing::info!(before_bytes, after_bytes, "the store was compacted");
        Ok(Compacted { before_bytes, after_bytes })
    }

    /// The new database is written once beside the old one, and once into the log.
    fn check_room(&self) -> Result<(), Failure> {
        let needed = 2 * used_bytes(self.connection())?;
        // Where nobody can tell, it is tried: SQLite takes it back where it does not fit.
        match lack_of(self.directory(), needed) {
            Ok(Some(lack)) => Err(StoreError::Full(format!("compacting needs for a moment {lack}")).into()),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// What is in the log goes into the database, which becomes as small as it is. A reader may be in the way for
    /// longer than it is waited for; then a later commit does it.
    fn move_log(&self) -> Result<(), Failure> {
        let moved = self.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        match moved {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                tracing::debug!(waited = ?open::BUSY_TIMEOUT, "somebody still reads what was there before");
                Ok(())
            }
            moved => Ok(moved?),
        }
    }

    fn bytes_on_disk(&self) -> u64 {
        let database = writer::file(self.directory());
        bytes_of(&database) + bytes_of(&log_of(&database))
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, row};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::model::Outcome;
    use tidelock_actors::ports::Store;
    use tidelock_actors::writes::{LeftAlone, RollbackTarget};

    /// Everything that must be the same afterwards.
    fn contents(world: &World) -> Vec<Vec<String>> {
        let tables = ["tl_records", "tl_operations", "tl_history", "tl_conflicts", "tl_checkpoints", "tl_counters"];
        tables.iter().map(|table| world.sql(&format!("SELECT * FROM {table} ORDER BY 1"))).collect()
    }

    #[test]
    fn compacting_gives_room_back_and_keeps_everything_byte_for_byte() {
        let mut world = World::new();
        for n in 0..300 {
            world.save(&format!("drafts/{n}"), &format!(r#"{{"n":{n}.50,"text":"{}"}}"#, "x".repeat(9_000)));
        }
        world.take(vec![row("notes/a", r#"{"id":"a"}"#, "v1"), row("notes/b", r#"{"id":"b"}"#, "v1")]);
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/b", r#"{"n":12345678901234567890}"#);
        world.decide(row("notes/a", r#"{"id":"a","n":2}"#, "v2"), Outcome::Hold);
        for n in 0..200 {
            world.delete(&format!("drafts/{n}"));
        }
        world.store.maintain().unwrap();
        let kept = contents(&world);
        assert_eq!(world.rows("tl_history"), 202);
        world.store.compact(Past::Kept).unwrap();
        assert!(contents(&world) == kept, "something is not as it was");
        world.store.forget(Past::Forgotten).unwrap();
        let (before, free) = (contents(&world), block_on(world.reads.stats(false)).unwrap().sizes.reclaimable);
        assert!(free > 1_000_000, "{free}");
        let compacted = world.store.compact(Past::Kept).unwrap();
        assert!(compacted.after_bytes * 2 < compacted.before_bytes, "{compacted:?}");
        assert!(contents(&world) == before && world.rows("tl_history") == 0, "something is not as it was");
        assert_eq!(world.store.quota().usage().bytes, compacted.after_bytes);
        world.assert_healthy();
        let mut world = world.reopen();
        assert!(contents(&world) == before);
        assert!(world.save("notes/c", "{}"));
        world.assert_healthy();
    }

    #[test]
    fn history_beyond_its_bounds_goes_and_what_is_gone_counts_as_unknown() {
        let mut world = World::new();
        for n in 0..6 {
            world.save("notes/a", &format!(r#"{{"n":{n}}}"#));
        }
        // This one has as many as it may.
        (0..4).for_each(|n| assert!(world.save("notes/b", &format!(r#"{{"n":{n}}}"#))));
        let mut world = world.reopen_with(|options| options.history_keep = 3);
        world.store.compact(Past::Kept).unwrap();
        assert_eq!((world.history("notes/a").len(), world.history("notes/b").len()), (3, 3));
        let marked = world.sql("SELECT key, document FROM tl_history WHERE follows_forgotten");
        assert_eq!(marked.len(), 1, "{marked:?}");
        assert!(marked[0].contains(r#""key":"a""#) && marked[0].contains("n\\\":2"), "{marked:?}");
        world.assert_healthy();
    }

    #[test]
    fn what_was_forgotten_on_request_is_never_guessed() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let then = world.now();
        world.save("notes/a", r#"{"n":2}"#);
        world.store.compact(Past::Forgotten).unwrap();
        assert_eq!(world.rows("tl_history"), 0);
        let target = RollbackTarget::Collections { names: vec!["notes".into()], at: then };
        assert_eq!(world.roll_back(target).left[&LeftAlone::Unknown], 1);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2}"#);
        world.assert_healthy();
    }

    #[test]
    fn reads_go_on_meanwhile_and_an_old_reader_keeps_what_it_saw() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let old = super::super::open::reader(&writer::file(world.directory.path())).unwrap();
        let count = || -> i64 { old.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap() };
        old.execute_batch("BEGIN").unwrap();
        assert_eq!(count(), 1);
        world.save("notes/b", "{}");
        world.store.compact(Past::Kept).unwrap();
        assert_eq!((count(), world.rows("notes")), (1, 2));
        old.execute_batch("COMMIT").unwrap();
        assert_eq!(count(), 2);
        world.assert_healthy();
    }
}
