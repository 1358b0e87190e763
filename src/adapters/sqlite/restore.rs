//! Collections become what they are in a copy of the store: record by record, as new local changes. Nothing of the
//! present is put away: what waits to be sent still waits, open conflicts stay open, and what is replaced goes to the
//! history.

use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Direction, RecordId};
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
            self.bring_all(copy, name, &mut done)?;
        }
        for name in parents_first.iter().rev() {
            self.delete_others(copy, name, &mut done)?;
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
            (RestoreMode::Authority, false) => Part::Refused,
            (RestoreMode::Replica | RestoreMode::Authority, true) => Part::Restored,
        }
    }

    /// Every record of the copy is brought to what it is there.
    fn bring_all(&mut self, copy: &Connection, name: &Arc<str>, done: &mut RolledBack) -> Result<(), Failure> {
        let mut statement =
            copy.prepare("SELECT key, document FROM tl_records WHERE collection = ?1 AND document IS NOT NULL")?;
        let mut rows = statement.query([name])?;
        while let Some(row) = rows.next()? {
            let id = RecordId { collection: name.clone(), key: row.get(0)? };
            self.bring_one(id, document(row, 1)?.as_ref(), done)?;
        }
        Ok(())
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
