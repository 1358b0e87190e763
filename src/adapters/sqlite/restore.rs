//! Collections become what they are in a copy of the store: record by record, as new local changes. Nothing of the
//! present is put away: what waits to be sent still waits, open conflicts stay open, and what is replaced goes to the
//! history.

use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Direction, RecordId, Strategy};
use tidelock_actors::writes::{LeftAlone, Restore, RestoreMode, RolledBack, Written};

use super::batch::Batch;
use super::collections::Index;
use super::faults::Failure;
use super::records::document;

/// Records in one local transaction: what is restored need not take effect together, and the server takes it in parts.
const TOGETHER: u64 = 500;

impl Batch<'_> {
    /// Restores from a copy, or only tries what that would come to.
    pub(super) fn restore(&mut self, wanted: &Restore) -> Result<Written, Failure> {
        let copy = Connection::open_with_flags(&wanted.copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        self.tentatively(|batch| {
            let mut restored = batch.restore_from(&copy, wanted.mode)?;
            if wanted.is_trial {
                restored.changed.clear();
            }
            Ok((Written::RolledBack(restored), !wanted.is_trial))
        })
    }

    fn restore_from(&mut self, copy: &Connection, mode: RestoreMode) -> Result<RolledBack, Failure> {
        self.transaction = None;
        let mut done = RolledBack { number: self.next_number()?, ..RolledBack::default() };
        let parents_first = self.restored(copy, mode, &mut done)?;
        for name in &parents_first {
            self.bring_all(copy, name, mode, &mut done)?;
        }
        if mode != RestoreMode::Merge {
            for name in parents_first.iter().rev() {
                self.delete_others(copy, name, &mut done)?;
            }
        }
        self.wait_whole()?;
        Ok(done)
    }

    /// The collections that are restored. Those that the copied store did not know are left alone.
    fn restored(&self, copy: &Connection, mode: RestoreMode, done: &mut RolledBack) -> Result<Vec<Arc<str>>, Failure> {
        let generations = self.collections.generations();
        let mut found: Vec<(usize, Arc<str>)> = Vec::new();
        let mut statement = copy.prepare("SELECT collection, records FROM tl_counters")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(at) = self.collections.find(row.get_ref(0)?.as_str().unwrap_or_default()) else { continue };
            match self.takes_part(at, mode) {
                Part::Restored => found.push((generations[at], self.collections.name(at).clone())),
                Part::Refused => *done.left.entry(LeftAlone::Skipped).or_default() += row.get::<_, u64>(1)?,
                Part::Left => {}
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    fn takes_part(&self, at: Index, mode: RestoreMode) -> Part {
        let is_local = self.collections.get(at).rules.direction == Direction::Local;
        match (mode, self.takes_local_changes(at)) {
            (RestoreMode::Replica, true) if !is_local => Part::Left,
            (RestoreMode::Replica, false) => Part::Left,
            (RestoreMode::Authority | RestoreMode::Merge, false) => Part::Refused,
            (RestoreMode::Replica | RestoreMode::Authority | RestoreMode::Merge, true) => Part::Restored,
        }
    }

    /// Every record of the copy is brought to what it is there.
    fn bring_all(
        &mut self,
        copy: &Connection,
        name: &Arc<str>,
        mode: RestoreMode,
        done: &mut RolledBack,
    ) -> Result<(), Failure> {
        let mut statement =
            copy.prepare("SELECT key, document, stamp FROM tl_records WHERE collection = ?1 AND document IS NOT NULL")?;
        let mut rows = statement.query([name])?;
        while let Some(row) = rows.next()? {
            let id = RecordId { collection: name.clone(), key: row.get(0)? };
            let wanted = match (document(row, 1)?, mode) {
                (Some(document), RestoreMode::Merge) => self.merged(&id, document, row.get(2)?)?,
                (document, RestoreMode::Replica | RestoreMode::Authority | RestoreMode::Merge) => document,
            };
            if wanted.is_some() {
                self.bring_one(id, wanted.as_ref(), done)?;
            }
        }
        Ok(())
    }

    /// What becomes of a record that is in the copy, by its collection's strategy: the copy is the other side. Nothing if it
    /// stays as it is.
    fn merged(&mut self, id: &RecordId, document: Document, stamp: i64) -> Result<Option<Document>, Failure> {
        let place = self.collections.place(id)?;
        let here = self.find(place)?;
        let changed = match &here {
            Some(record) => Some(record.stamp),
            None => self.deleted_at(id)?,
        };
        let present = here.and_then(|record| record.state.document);
        let is_newer = changed.is_none_or(|changed| changed < stamp);
        Ok(match (self.collections.get(place.at).rules.strategy, present) {
            (Strategy::RemoteWins, _) => Some(document),
            (Strategy::NewestWins, _) | (Strategy::Merge, None) => Some(document).filter(|_| is_newer),
            (Strategy::Merge, Some(present)) if is_newer => Some(present.overlaid(&document)),
            (Strategy::Merge, Some(present)) => Some(document.overlaid(&present)),
            // What somebody would have to decide stays as it is: the backup can be asked again.
            (Strategy::LocalWins | Strategy::Manual, _) => Some(document).filter(|_| changed.is_none()),
        })
    }

    /// When a record that is no more was deleted, as far as that is kept.
    fn deleted_at(&self, id: &RecordId) -> Result<Option<i64>, Failure> {
        let mut statement =
            self.connection.prepare_cached("SELECT max(ended) FROM tl_history WHERE collection = ?1 AND key = ?2")?;
        Ok(statement.query_row([&id.collection, &id.key], |row| row.get(0))?)
    }

    /// Records that are not in the copy go.
    fn delete_others(&mut self, copy: &Connection, name: &Arc<str>, done: &mut RolledBack) -> Result<(), Failure> {
        let keys = "SELECT key FROM tl_records WHERE collection = ?1 AND document IS NOT NULL";
        let mut statement = self.connection.prepare_cached(keys)?;
        let keys = statement.query_map([name], |row| row.get::<_, Arc<str>>(0))?;
        let mut is_there =
            copy.prepare("SELECT 1 FROM tl_records WHERE collection = ?1 AND key = ?2 AND document IS NOT NULL")?;
        let mut others = Vec::new();
        for key in keys {
            let key = key?;
            if is_there.query_row([name, &key], |_| Ok(())).optional()?.is_none() {
                others.push(RecordId { collection: name.clone(), key });
            }
        }
        others.into_iter().try_for_each(|id| self.bring_one(id, None, done))
    }

    fn bring_one(&mut self, id: RecordId, wanted: Option<&Document>, done: &mut RolledBack) -> Result<(), Failure> {
        let before = done.count;
        self.bring_and_note(id, wanted, done)?;
        if done.count > before && done.count.is_multiple_of(TOGETHER) {
            self.wait_whole()?;
            self.transaction = None;
        }
        Ok(())
    }
}

/// What becomes of a collection.
enum Part {
    /// It is restored.
    Restored,
    /// It would be, but takes no local changes.
    Refused,
    /// It is not asked for.
    Left,
}

#[cfg(test)]
mod tests {
    use super::super::copy::copy;
    use super::super::world::{World, id, row};
    use super::super::writer::file;
    use super::*;
    use tidelock_actors::model::Change;
    use tidelock_actors::writes::{RollbackTarget, Write};

    /// Copies the store as it is now.
    fn copied(world: &World) -> std::path::PathBuf {
        let to = world.directory.path().join("copy.db");
        let _ = std::fs::remove_file(&to);
        copy(&file(world.directory.path()), &to).unwrap();
        to
    }

    fn restore(world: &mut World, copy: &std::path::Path, mode: RestoreMode, is_trial: bool) -> RolledBack {
        let wanted = Restore { copy: copy.to_owned(), mode, is_trial };
        match world.commit(Write::Restore(wanted)).unwrap() {
            Written::RolledBack(done) => done,
            other => panic!("{other:?}"),
        }
    }

    /// Two shared records and one of the device's own, as they were; then all of them otherwise.
    fn world() -> (World, std::path::PathBuf) {
        let mut world = World::new();
        world.save("notes/kept", r#"{"n":1}"#);
        world.save("notes/deleted", r#"{"n":1}"#);
        world.save("drafts/own", r#"{"n":1}"#);
        world.take(vec![row("catalogue/c", r#"{"id":"c","n":1}"#, "v1")]);
        world.applied("notes/kept", &[1], "v1");
        world.applied("notes/deleted", &[2], "v1");
        let copy = copied(&world);
        world.save("notes/kept", r#"{"n":2}"#);
        world.delete("notes/deleted");
        world.save("notes/new", r#"{"n":2}"#);
        world.save("drafts/own", r#"{"n":2}"#);
        world.save("drafts/newer", r#"{"n":2}"#);
        (world, copy)
    }

    #[test]
    fn h32_with_authority_the_backup_wins_as_new_operations() {
        let (mut world, copy) = world();
        let before = world.outbox();
        let done = restore(&mut world, &copy, RestoreMode::Authority, false);
        assert_eq!((done.count, done.left.get(&LeftAlone::Skipped)), (5, Some(&1)));
        assert_eq!(world.get("notes/kept").unwrap(), r#"{"id":"kept","n":1}"#);
        assert_eq!(world.get("notes/deleted").unwrap(), r#"{"id":"deleted","n":1}"#);
        assert_eq!((world.get("notes/new"), world.get("drafts/newer")), (None, None));
        assert_eq!(world.get("drafts/own").unwrap(), r#"{"id":"own","n":1}"#);
        let after = world.outbox();
        assert_eq!(after[..before.len()], before, "what waited to be sent still waits");
        let new: Vec<&str> = after[before.len()..].iter().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(
            new,
            [r#"notes/deleted create {"id":"deleted","n":1}"#, r#"notes/kept update {"n":1}"#, "notes/new delete {}"]
        );
        world.assert_healthy();
    }

    #[test]
    fn h32_as_a_replica_only_what_never_leaves_the_device_is_restored() {
        let (mut world, copy) = world();
        let before = world.outbox();
        assert_eq!(restore(&mut world, &copy, RestoreMode::Replica, false).count, 2);
        assert_eq!(world.get("drafts/own").unwrap(), r#"{"id":"own","n":1}"#);
        assert_eq!(world.get("drafts/newer"), None);
        assert_eq!((world.get("notes/kept").unwrap().as_str(), world.outbox()), (r#"{"id":"kept","n":2}"#, before));
        world.assert_healthy();
    }

    #[test]
    fn h33_a_restore_is_taken_back_like_a_round() {
        let (mut world, copy) = world();
        let places = ["notes/kept", "notes/deleted", "notes/new", "drafts/own", "drafts/newer"];
        let before = places.map(|place| world.get(place));
        let done = restore(&mut world, &copy, RestoreMode::Authority, false);
        world.roll_back(RollbackTarget::Round { number: done.number, collections: vec![], force: false });
        assert_eq!(places.map(|place| world.get(place)), before);
        world.assert_healthy();
    }

    #[test]
    fn a_trial_tells_the_same_and_writes_nothing() {
        let (mut world, copy) = world();
        let (outbox, history) = (world.outbox(), world.rows("tl_history"));
        let trial = restore(&mut world, &copy, RestoreMode::Authority, true);
        assert_eq!((trial.count, trial.changed.len(), trial.shown.len()), (5, 0, 5));
        assert_eq!((world.outbox(), world.rows("tl_history")), (outbox, history));
        assert_eq!(restore(&mut world, &copy, RestoreMode::Authority, false).count, 5);
        assert_eq!(restore(&mut world, &copy, RestoreMode::Authority, false).count, 0, "once is enough");
    }

    #[test]
    fn merged_each_record_becomes_what_its_collections_strategy_says() {
        for (strategy, shared, deleted) in [
            (Strategy::NewestWins, r#"{"id":"shared","n":2,"here":1}"#, false),
            (Strategy::LocalWins, r#"{"id":"shared","n":2,"here":1}"#, false),
            (Strategy::Manual, r#"{"id":"shared","n":2,"here":1}"#, false),
            (Strategy::Merge, r#"{"here":1,"id":"shared","n":2,"old":1}"#, false),
            (Strategy::RemoteWins, r#"{"id":"shared","n":1,"old":1}"#, true),
        ] {
            let mut world = World::with(|options| {
                options.collections.iter_mut().for_each(|rules| rules.strategy = strategy);
            });
            world.save("drafts/shared", r#"{"n":1,"old":1}"#);
            world.save("drafts/deleted", "{}");
            let copy = copied(&world);
            world.delete("drafts/shared");
            world.save("drafts/shared", r#"{"n":2,"here":1}"#);
            world.delete("drafts/deleted");
            world.save("drafts/own", "{}");
            let before = world.rows("tl_records");
            restore(&mut world, &copy, RestoreMode::Merge, false);
            assert_eq!(world.get("drafts/shared").unwrap(), shared, "{strategy:?}");
            assert_eq!(world.get("drafts/deleted").is_some(), deleted, "{strategy:?}");
            assert!(world.get("drafts/own").is_some() && world.rows("tl_records") >= before);
            world.assert_healthy();
        }
    }

    #[test]
    fn merged_into_an_empty_store_everything_of_the_backup_is_there() {
        let mut other = World::new();
        other.save("notes/a", r#"{"n":1}"#);
        other.save("drafts/b", r#"{"n":1}"#);
        let copy = copied(&other);
        let mut world = World::new();
        assert_eq!(restore(&mut world, &copy, RestoreMode::Merge, false).count, 2);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1}"#);
        assert_eq!(world.outbox(), [r#"1 notes/a create {"id":"a","n":1}"#]);
    }

    #[test]
    fn much_is_restored_in_several_transactions() {
        let mut world = World::new();
        let save = |n: u64| (id(&format!("notes/{n}")), Change::Save(Document::parse("{}").unwrap()));
        world.change((0..1_200).map(save).collect()).unwrap();
        let copy = copied(&world);
        world.change((0..1_200).map(|n| (id(&format!("notes/{n}")), Change::Delete)).collect()).unwrap();
        assert_eq!(restore(&mut world, &copy, RestoreMode::Authority, false).count, 1_200);
        let sizes = "SELECT count(*) AS n FROM tl_operations WHERE seq > 2400 GROUP BY transaction_id ORDER BY 1";
        let sizes: Vec<_> = world.sql(sizes).iter().map(ToString::to_string).collect();
        assert_eq!(sizes, [r#"{"n":200}"#, r#"{"n":500}"#, r#"{"n":500}"#]);
        world.assert_healthy();
    }

    #[test]
    fn a_collection_that_the_copy_does_not_know_is_left_alone() {
        let mut world = World::with(|options| options.collections.retain(|rules| &*rules.name != "notes"));
        world.save("drafts/own", "{}");
        let copy = copied(&world);
        let mut world = world.reopen();
        world.save("notes/a", "{}");
        assert_eq!(restore(&mut world, &copy, RestoreMode::Authority, false).count, 0);
        assert!(world.get("notes/a").is_some());
    }
}
