//! Records become again what they were: as new local changes, all in one transaction, which can be rolled back in turn.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Params, params};
use tidelock_actors::document::Document;
use tidelock_actors::limits::{ROLLBACK_SHOWN, TRANSACTION_RECORDS};
use tidelock_actors::model::{RecordId, Stamp};
use tidelock_actors::writes::{LeftAlone, Rewritten, RollBack, RollbackTarget, RolledBack, Written};

use super::batch::Batch;
use super::faults::Failure;
use super::past::{Effect, Then};
use super::records::{Cause, Record};
use super::versions::version_document;

/// What is to become of a record.
enum Plan {
    /// It becomes this document, or is deleted.
    Bring(Option<Document>),
    /// It is what it was.
    Keep,
    /// It is left alone, and the answer says why.
    Leave(LeftAlone),
}

/// The number of the newest rollback.
const NEWEST: &str = "newest_rollback";

impl Batch<'_> {
    /// Rolls back, or only tries what that would come to.
    pub(super) fn roll_back(&mut self, wanted: &RollBack) -> Result<Written, Failure> {
        self.tentatively(|batch| {
            let mut rolled_back = batch.bring_back_all(&wanted.target)?;
            if wanted.is_trial {
                rolled_back.changed.clear();
            }
            Ok((Written::RolledBack(rolled_back), !wanted.is_trial))
        })
    }

    fn bring_back_all(&mut self, target: &RollbackTarget) -> Result<RolledBack, Failure> {
        self.transaction = None;
        let records = self.concerned(target)?;
        let mut done = RolledBack { number: self.next_number()?, ..RolledBack::default() };
        // Parents are made before their children and deleted after them. Deletions keep only their keys until then.
        let mut deletions = Vec::new();
        for id in records {
            match self.plan(&id, target)? {
                Plan::Bring(Some(document)) => self.bring(id, Some(&document), &mut done)?,
                Plan::Bring(None) => deletions.push(id),
                Plan::Keep => {}
                Plan::Leave(why) => leave(&mut done, id, why),
            }
        }
        for id in deletions.into_iter().rev() {
            self.bring(id, None, &mut done)?;
        }
        self.wait_whole()?;
        Ok(done)
    }

    /// The records that may have to change, parents first.
    fn concerned(&self, target: &RollbackTarget) -> Result<Vec<RecordId>, Failure> {
        let records = match target {
            RollbackTarget::Version { id, .. } | RollbackTarget::Record { id, .. } => {
                self.local_place(id)?;
                return Ok(vec![id.clone()]);
            }
            RollbackTarget::Round { number, collections, .. } => {
                self.check_named(collections)?;
                let mut records = self.touched_by(*number)?;
                records.retain(|id| collections.is_empty() || collections.contains(&id.collection));
                records
            }
            RollbackTarget::Collections { names, at } => {
                self.check_named(names)?;
                let mut records = Vec::new();
                for name in names {
                    records.extend(self.changed_after(name, *at)?);
                }
                records
            }
        };
        let generations = self.collections.generations();
        let generation = |id: &RecordId| Ok::<_, Failure>(generations[self.collections.find(&id.collection)?]);
        let mut ranked =
            records.into_iter().map(|id| Ok((generation(&id)?, id))).collect::<Result<Vec<_>, Failure>>()?;
        ranked.sort();
        ranked.dedup();
        Ok(ranked.into_iter().map(|(_, id)| id).collect())
    }

    fn check_named(&self, names: &[Arc<str>]) -> Result<(), Failure> {
        names.iter().try_for_each(|name| self.check_writable(self.collections.find(name)?, format!("{:?}", &**name)))
    }

    fn touched_by(&self, round: i64) -> Result<Vec<RecordId>, Failure> {
        let sql = "SELECT collection, key FROM tl_history WHERE ended_round = ?1
                   UNION SELECT collection, key FROM tl_history WHERE round = ?1
                   UNION SELECT collection, key FROM tl_records WHERE round = ?1";
        let touched = self.records_of(sql, [round])?;
        if touched.is_empty() {
            let said = format!("no round {round} has changed anything that is still kept; see the list of rounds");
            return Err(Failure::not_found(said));
        }
        Ok(touched)
    }

    fn changed_after(&self, collection: &str, time: Stamp) -> Result<Vec<RecordId>, Failure> {
        let sql = "SELECT collection, key FROM tl_records WHERE collection = ?1 AND stamp > ?2
                   UNION SELECT collection, key FROM tl_history WHERE collection = ?1 AND ended > ?2";
        self.records_of(sql, params![collection, time.0])
    }

    fn records_of(&self, sql: &str, values: impl Params) -> Result<Vec<RecordId>, Failure> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            let at = self.collections.find(row.get_ref(0)?.as_str().unwrap_or_default())?;
            records.push(RecordId { collection: self.collections.name(at).clone(), key: row.get(1)? });
        }
        Ok(records)
    }

    fn plan(&mut self, id: &RecordId, target: &RollbackTarget) -> Result<Plan, Failure> {
        let place = self.collections.place(id)?;
        if !self.takes_local_changes(place.at) {
            return Ok(Plan::Leave(LeftAlone::Skipped));
        }
        let record = self.find(place)?;
        let past = self.past_of(id, record.as_ref())?;
        let then = match target {
            RollbackTarget::Version { version, .. } => Then::Version(*version),
            RollbackTarget::Record { at, .. } | RollbackTarget::Collections { at, .. } => past.at(at.0),
            RollbackTarget::Round { number, force, .. } => match past.effect_of(*number) {
                Some(Effect { before, after }) if *force || self.is_still(id, record.as_ref(), after)? => before,
                Some(_) => return Ok(Plan::Leave(LeftAlone::ChangedSince)),
                None => Then::AsNow,
            },
        };
        Ok(match then {
            Then::AsNow => Plan::Keep,
            Then::Version(version) => Plan::Bring(Some(version_document(self.connection, id, version)?)),
            Then::Nothing => Plan::Bring(None),
            Then::Unknown => Plan::Leave(LeftAlone::Unknown),
        })
    }

    /// Whether a record is what it was then; a new stamp of the server's alone makes no difference.
    fn is_still(&self, id: &RecordId, record: Option<&Record>, then: Then) -> Result<bool, Failure> {
        let document = match then {
            Then::AsNow => return Ok(true),
            Then::Unknown => return Ok(false),
            Then::Nothing => None,
            Then::Version(version) => Some(version_document(self.connection, id, version)?),
        };
        let now = record.and_then(|record| record.state.document.as_ref());
        Ok(self.same_unstamped(self.collections.place(id)?, document.as_ref(), now))
    }

    fn bring(&mut self, id: RecordId, wanted: Option<&Document>, done: &mut RolledBack) -> Result<(), Failure> {
        self.bring_and_note(id, wanted, done)?;
        if done.count > TRANSACTION_RECORDS as u64 {
            return Err(Failure::invalid(format!(
                "the rollback would change more than {TRANSACTION_RECORDS} records, the most that one transaction takes; \
                 name fewer collections, a later time, or single records"
            )));
        }
        Ok(())
    }

    /// Brings a record to a document and notes what that did.
    pub(super) fn bring_and_note(
        &mut self,
        id: RecordId,
        wanted: Option<&Document>,
        done: &mut RolledBack,
    ) -> Result<(), Failure> {
        let is_shown = done.shown.len() < ROLLBACK_SHOWN;
        let before = if is_shown { self.document_of(&id)? } else { None };
        if !self.bring_to(&id, wanted, Cause::restored(self.now, done.number))? {
            return Ok(());
        }
        done.count += 1;
        if is_shown {
            let after = self.document_of(&id)?;
            done.shown.push(Rewritten { id: id.clone(), before, after });
        }
        done.changed.push(id);
        Ok(())
    }

    fn document_of(&mut self, id: &RecordId) -> Result<Option<Document>, Failure> {
        let place = self.collections.place(id)?;
        Ok(self.find(place)?.and_then(|record| record.state.document))
    }

    /// A number that no round and no other rollback has: the time in milliseconds, odd, and above the last one. Rounds
    /// are even.
    pub(super) fn next_number(&self) -> Result<i64, Failure> {
        let newest = "SELECT CAST(value AS INTEGER) FROM tl_meta WHERE name = ?1";
        let newest: Option<i64> =
            self.connection.prepare_cached(newest)?.query_row([NEWEST], |row| row.get(0)).optional()?;
        let number = self.now.millis().max(newest.unwrap_or_default() + 1) | 1;
        let mut remember = self.connection.prepare_cached(
            "INSERT INTO tl_meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?;
        remember.execute(params![NEWEST, number.to_string()])?;
        Ok(number)
    }
}

fn leave(done: &mut RolledBack, id: RecordId, why: LeftAlone) {
    *done.left.entry(why).or_default() += 1;
    if done.left_shown.len() < ROLLBACK_SHOWN {
        done.left_shown.push((id, why));
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, gone, id, row, said};
    use super::*;
    use futures::executor::block_on;
    use std::collections::BTreeMap;
    use tidelock_actors::model::RemoteRow;
    use tidelock_actors::ports::Store;
    use tidelock_actors::writes::Write;

    fn round(number: i64) -> RollbackTarget {
        RollbackTarget::Round { number, collections: Vec::new(), force: false }
    }

    fn collections(names: &[&str], at: Stamp) -> RollbackTarget {
        RollbackTarget::Collections { names: names.iter().map(|name| (*name).into()).collect(), at }
    }

    #[test]
    fn a_record_goes_back_to_one_of_its_versions_and_to_a_time() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        let then = world.now();
        world.save("notes/a", r#"{"n":2}"#);
        world.delete("notes/a");
        let version = block_on(world.reads.history(id("notes/a"))).unwrap()[0].id;
        let done = world.roll_back(RollbackTarget::Version { id: id("notes/a"), version });
        assert_eq!((done.count, &*done.changed), (1, &[id("notes/a")][..]));
        assert_eq!(done.shown[0].before, None);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2}"#);
        world.roll_back(RollbackTarget::Record { id: id("notes/a"), at: then });
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1}"#);
        world.roll_back(RollbackTarget::Record { id: id("notes/a"), at: Stamp(then.0 - (1 << 20)) });
        assert_eq!(world.get("notes/a"), None, "it was not there yet");
        world.assert_healthy();
        let missing = RollbackTarget::Version { id: id("notes/a"), version: 99 };
        let error = "there is no version 99 of notes/a; see its history for those that are kept";
        assert_eq!(said(world.try_roll_back(missing)), error);
    }

    #[test]
    fn h33_what_a_round_brought_is_undone_and_the_undoing_is_undone() {
        let mut world = World::new();
        world.pull(2, vec![row("tasks/a", r#"{"z":1,"id":"a", "updated_at":"t1"}"#, "v1"), row("tasks/b", "{}", "v1")]);
        let brought = vec![
            row("tasks/a", r#"{"z":2,"id":"a", "updated_at":"t2"}"#, "v2"),
            gone("tasks/b"),
            row("tasks/c", r#"{"z":3, "id":"c", "updated_at":"t2"}"#, "v2"),
        ];
        world.pull(4, brought);
        let all = |world: &World| ["a", "b", "c"].map(|key| world.get(&format!("tasks/{key}")));
        let after = all(&world);
        let first = world.roll_back(round(4));
        assert_eq!((first.count, first.left.len()), (3, 0));
        assert_eq!(all(&world)[0].as_deref(), Some(r#"{"z":1,"id":"a", "updated_at":"t2"}"#));
        assert_eq!(all(&world)[1..], [Some(r#"{"id":"b"}"#.to_owned()), None]);
        world.assert_healthy();
        let second = world.roll_back(round(first.number));
        assert!(second.number > first.number && first.number % 2 == 1);
        assert_eq!(all(&world), after);
        world.assert_healthy();
        world.roll_back(round(second.number));
        assert_eq!(all(&world)[2], None);
        let transactions: std::collections::BTreeSet<_> = world.pending().iter().map(|one| one.transaction).collect();
        assert_eq!(transactions.len(), 3, "each is one transaction");
        world.assert_healthy();
    }

    #[test]
    fn what_was_changed_since_the_round_is_left_alone_unless_it_is_forced() {
        let mut world = World::new();
        world.pull(2, vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b","n":1}"#, "v1")]);
        world.pull(4, vec![row("notes/a", r#"{"id":"a","n":2}"#, "v2"), row("notes/b", r#"{"id":"b","n":2}"#, "v2")]);
        world.save("notes/a", r#"{"n":3}"#);
        let done = world.roll_back(round(4));
        assert_eq!((done.count, done.left_shown), (1, vec![(id("notes/a"), LeftAlone::ChangedSince)]));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":3}"#);
        assert_eq!(world.get("notes/b").unwrap(), r#"{"id":"b","n":1}"#);
        let forced = RollbackTarget::Round { number: 4, collections: vec!["notes".into()], force: true };
        assert_eq!(world.roll_back(forced).changed, [id("notes/a")]);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1}"#);
        world.assert_healthy();
    }

    #[test]
    fn a_new_stamp_of_the_servers_is_no_change_since() {
        let mut world = World::new();
        world.pull(2, vec![row("notes/a", r#"{"id":"a","n":1,"updated_at":"t1"}"#, "v1")]);
        world.pull(4, vec![row("notes/a", r#"{"id":"a","n":2,"updated_at":"t2"}"#, "v2")]);
        let first = world.roll_back(round(4));
        world.applied("notes/a", &[1], "v3");
        world.pull(6, vec![row("notes/a", r#"{"id":"a","n":1,"updated_at":"t3"}"#, "v3")]);
        assert_eq!(world.roll_back(round(first.number)).count, 1);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2,"updated_at":"t3"}"#);
        world.assert_healthy();
    }

    #[test]
    fn what_is_only_pulled_is_left_out_of_a_round_and_refused_by_name() {
        let mut world = World::new();
        world.pull(2, vec![row("catalogue/a", r#"{"id":"a"}"#, "v1"), row("notes/a", r#"{"id":"a"}"#, "v1")]);
        let done = world.roll_back(round(2));
        assert_eq!((done.count, done.left), (1, BTreeMap::from([(LeftAlone::Skipped, 1)])));
        assert!(world.get("catalogue/a").is_some() && world.get("notes/a").is_none());
        let refused =
            r#""catalogue" cannot be changed here: the collection "catalogue" is only pulled (direction = "pull")"#;
        let now = world.now();
        assert_eq!(said(world.try_roll_back(collections(&["catalogue"], now))), refused);
        assert_eq!(
            said(world.try_roll_back(round(8))),
            "no round 8 has changed anything that is still kept; see the list of rounds"
        );
        world.assert_healthy();
    }

    #[test]
    fn a_state_that_is_no_longer_kept_is_left_alone_and_told() {
        let mut world = World::with(|options| options.history_keep = 2);
        world.save("notes/old", r#"{"n":0}"#);
        let then = world.now();
        for n in 1..=20 {
            world.save("notes/old", &format!(r#"{{"n":{n}}}"#));
        }
        world.save("notes/new", r#"{"n":1}"#);
        let done = world.roll_back(collections(&["notes"], then));
        assert_eq!(
            (&*done.changed, done.left_shown),
            (&[id("notes/new")][..], vec![(id("notes/old"), LeftAlone::Unknown)])
        );
        assert_eq!(world.get("notes/old").unwrap(), r#"{"id":"old","n":20}"#);
        world.assert_healthy();
    }

    #[test]
    fn without_a_history_nothing_of_the_past_is_known() {
        let mut world = World::with(|options| options.history_keep = 0);
        let then = world.now();
        world.save("notes/a", r#"{"n":1}"#);
        assert_eq!(world.roll_back(collections(&["notes"], then)).left[&LeftAlone::Unknown], 1);
        let mut world = world.reopen_with(|options| options.history_keep = 5);
        assert_eq!(world.roll_back(collections(&["notes"], then)).left[&LeftAlone::Unknown], 1);
        let then = world.now();
        world.save("notes/b", r#"{"n":1}"#);
        assert_eq!(world.roll_back(collections(&["notes"], then)).changed, [id("notes/b")]);
        world.assert_healthy();
    }

    #[test]
    fn what_grew_too_old_is_not_taken_for_what_never_was() {
        let mut world = World::new();
        world.save("drafts/a", r#"{"n":1}"#);
        let then = world.now();
        world.delete("drafts/a");
        world.wait(std::time::Duration::from_secs(31 * 24 * 60 * 60));
        world.save("drafts/a", r#"{"n":2}"#);
        world.store.maintain().unwrap();
        assert_eq!(world.rows("tl_history"), 0);
        let done = world.roll_back(collections(&["drafts"], then));
        assert_eq!((done.count, done.left[&LeftAlone::Unknown]), (0, 1));
        assert!(world.get("drafts/a").is_some());
        world.assert_healthy();
    }

    #[test]
    fn a_trial_answers_the_same_and_writes_nothing() {
        let mut world = World::new();
        let then = world.now();
        world.save("projects/p", r#"{"n":1}"#);
        world.save("tasks/t", r#"{"project":"p"}"#);
        let before = world.sql("SELECT * FROM tl_meta");
        let target = collections(&["tasks", "projects", "tasks"], then);
        let trial = Write::RollBack(RollBack { target: target.clone(), is_trial: true });
        let Written::RolledBack(tried) = world.commit(trial).unwrap() else { panic!() };
        assert_eq!((tried.count, tried.changed.len(), world.outbox().len()), (2, 0, 2));
        assert_eq!(tried.shown[0].id, id("tasks/t"), "children are deleted before their parents");
        assert_eq!((world.rows("tl_history"), world.sql("SELECT * FROM tl_meta")), (0, before));
        world.assert_healthy();
        assert_eq!(world.roll_back(target).shown, tried.shown);
        world.assert_healthy();
    }

    #[test]
    fn ten_thousand_records_go_back_in_one_transaction_and_one_more_is_refused() {
        let mut world = World::new();
        let rows = |collection: &str, count: usize, n: i32| -> Vec<RemoteRow> {
            let text = |key: usize| format!(r#"{{"n":{n}, "id":"{key}"}}"#);
            (0..count).map(|key| row(&format!("{collection}/{key}"), &text(key), &format!("v{n}"))).collect()
        };
        world.pull(2, rows("notes", TRANSACTION_RECORDS, 1));
        world.pull(4, rows("notes", TRANSACTION_RECORDS, 2));
        world.pull(6, rows("tasks", TRANSACTION_RECORDS + 1, 1));
        let error = said(world.try_roll_back(round(6)));
        assert!(error.starts_with("the rollback would change more than 10000 records"), "{error}");
        world.assert_healthy();
        let notes = |world: &World| world.sql("SELECT group_concat(document, '') AS texts FROM tl_records");
        let after = notes(&world);
        let first = world.roll_back(round(4));
        assert_eq!((first.count, first.shown.len()), (10_000, ROLLBACK_SHOWN));
        assert_ne!(notes(&world), after);
        assert_eq!(world.pending().iter().filter(|one| one.transaction != 1).count(), 0, "one transaction");
        assert_eq!(world.roll_back(round(first.number)).count, 10_000);
        assert_eq!(notes(&world), after, "byte for byte");
        world.assert_healthy();
    }
}
