//! The only writer: writes are performed in one transaction until it is committed.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tidelock_actors::model::{CollectionRules, Compacted, Counts, Past, Stamp};
use tidelock_actors::ports::{Store, StoreError};
use tidelock_actors::writes::{Write, Written};

use super::batch::{Batch, Pending};
use super::checkpointer::{Checkpointer, Log};
use super::collections::Collections;
use super::counters::{self, Counters};
use super::faults::Failure;
use super::history::{self, Looked, Retention};
use super::lock::OwnerLock;
use super::open::LOG_BYTES;
use super::quota::Quota;
use super::sizes::used_bytes;
use super::statements::Statements;
use super::{suspicion, views};

/// The store. It owns its directory until it is dropped.
pub struct SqliteStore {
    checkpointer: Checkpointer,
    connection: Connection,
    collections: Collections,
    counters: Counters,
    retention: Retention,
    looked: Looked,
    /// The transaction at hand.
    pending: Option<Pending>,
    quota: Quota,
    directory: PathBuf,
    _lock: OwnerLock,
}

/// What a store is made of, once its file is open.
pub(super) struct Made {
    /// The opened and migrated database.
    pub(super) connection: Connection,
    /// Who moves its log.
    pub(super) checkpointer: Checkpointer,
    /// The collections.
    pub(super) rules: Vec<CollectionRules>,
    /// How much history is kept.
    pub(super) retention: Retention,
    /// How much the store may take.
    pub(super) quota: Quota,
    /// Its folder.
    pub(super) directory: PathBuf,
    /// The claim on that.
    pub(super) lock: OwnerLock,
}

impl SqliteStore {
    /// Takes over an opened and migrated database.
    pub(super) fn new(made: Made) -> Result<Self, Failure> {
        let Made { connection, checkpointer, rules, retention, quota, directory, lock } = made;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let in_file = counters::read_counts(&connection)?.into_keys().collect();
        let mut collections = Collections::new(rules, in_file);
        counters::prepare(&connection, &collections)?;
        views::prepare(&connection, &mut collections)?;
        connection.execute_batch("COMMIT")?;
        let counters = counters::read(&connection)?;
        history::prepare(&connection, retention, counters.stamp)?;
        let looked = Looked::default();
        let (pending, _lock) = (None, lock);
        let store = Self {
            checkpointer,
            connection,
            collections,
            counters,
            retention,
            looked,
            pending,
            quota,
            directory,
            _lock,
        };
        store.count()?;
        store.bound_log()?;
        Ok(store)
    }

    /// As on a disk that has room for so many pages.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: i64) {
        self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    }

    fn begin(&self) -> Result<Pending, Failure> {
        // A transaction that panicked half-way was left open.
        self.roll_back();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Pending { tally: self.counters.tally(self.collections.len()), discovered: Vec::new() })
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    /// Works in the transaction at hand.
    pub(super) fn work<T>(
        &mut self,
        now: Stamp,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Pending { tally, discovered } = match self.pending.take() {
            Some(pending) => pending,
            None => self.begin()?,
        };
        let mut batch = Batch {
            connection: &self.connection,
            statements: Statements::default(),
            collections: &self.collections,
            counters: &self.counters,
            retention: self.retention,
            now,
            tally,
            discovered,
            transaction: None,
            expects_new: false,
            by_key: false,
        };
        let done = work(&mut batch)?;
        self.pending = Some(Pending { tally: batch.tally, discovered: batch.discovered });
        Ok(done)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Some(Pending { tally, discovered }) = self.pending.take() else { return Ok(()) };
        views::widen(&self.connection, &self.collections, &discovered)?;
        tally.write(&self.connection, &self.counters, &self.collections)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.counters.adopt(&tally, &self.collections);
        views::adopt(&mut self.collections, discovered);
        self.checkpointer.note(self.connection.total_changes());
        // What is committed stays so.
        if let Err(failure) = self.count() {
            tracing::debug!(?failure, "what the store takes could not be counted");
        }
        Ok(())
    }

    /// Tells what the database takes.
    pub(super) fn count(&self) -> Result<(), Failure> {
        self.quota.count_database(used_bytes(&self.connection)?);
        Ok(())
    }

    /// The log beside the database is not counted: it is kept small beside the quota.
    fn bound_log(&self) -> Result<(), Failure> {
        let bytes = self.quota.bytes().map_or(LOG_BYTES, |quota| LOG_BYTES.min(quota / 16));
        self.connection.pragma_update_and_check(None, "journal_size_limit", bytes, |_| Ok(()))?;
        self.connection.pragma_update_and_check(None, "wal_autocheckpoint", bytes / LOGGED_PAGE_BYTES, |_| Ok(()))?;
        Ok(())
    }

    fn or_roll_back<T>(&mut self, result: Result<T, Failure>) -> Result<T, StoreError> {
        result.map_err(|failure| {
            self.roll_back();
            let error = StoreError::from(failure);
            match error {
                StoreError::Damaged(_) => suspicion::suspect(&self.directory),
                StoreError::Full(_) => self.quota.note_full_disk(),
                _ => {}
            }
            error
        })
    }

    /// For those who make backups.
    pub(crate) fn log(&self) -> Log {
        self.checkpointer.log()
    }

    /// How much the store may take, for all who add to it.
    pub(crate) fn quota(&self) -> Quota {
        self.quota.clone()
    }

    /// Keeps the log no longer: the next backup is a full one.
    pub(super) fn end_log(&self) {
        self.checkpointer.log().end();
    }

    /// The writer's own.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The store's folder.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Forgets all history that is beyond its bounds, or all of it.
    pub(super) fn forget(&mut self, past: Past) -> Result<(), Failure> {
        self.looked = Looked::default();
        history::prune_all(&self.connection, self.retention, self.counters.stamp, past)
    }

    /// Moves the log into the database where no reader is in the way, and never waits for one. A log that is kept begins
    /// anew only when it has been copied.
    fn truncate_log(&self) -> Result<(), Failure> {
        if self.checkpointer.keeps_log() {
            return Ok(());
        }
        self.connection.busy_handler(None)?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(super::open::BUSY_TIMEOUT)?;
        match busy {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Store for SqliteStore {
    fn perform(&mut self, writes: &[Write], now: Stamp) -> Result<Vec<Written>, StoreError> {
        let quota = self.quota.clone();
        let performed = self.work(now, |batch| {
            let written = batch.perform_all(writes)?;
            quota.admit_writes(writes, batch.connection)?;
            Ok(written)
        });
        self.or_roll_back(performed)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let finished = self.finish();
        self.or_roll_back(finished)
    }

    fn counts(&self) -> &Counts {
        &self.counters.counts
    }

    fn newest_stamp(&self) -> Stamp {
        self.counters.stamp
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        history::prune(&self.connection, self.retention, self.counters.stamp, &mut self.looked)?;
        self.count()?;
        self.bound_log()?;
        Ok(self.truncate_log()?)
    }

    fn compact(&mut self, past: Past) -> Result<Compacted, StoreError> {
        Ok(self.write_anew(past)?)
    }

    fn reload(&mut self) -> Result<(), StoreError> {
        self.pending = None;
        self.roll_back();
        self.counters = counters::read(&self.connection)?;
        Ok(views::reload(&self.connection, &mut self.collections)?)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.roll_back();
        // Readers may still be at work, so the last words are not always in the database; the log keeps them.
        let _ = self.truncate_log();
    }
}

/// A page in the log with its header, and a little more: so the log is moved just before it would have to be cut back.
const LOGGED_PAGE_BYTES: u64 = 4_200;
/// The database's file.
pub(super) const FILE: &str = "tidelock.db";

/// Where the database of a store is.
pub(crate) fn file(directory: &std::path::Path) -> PathBuf {
    directory.join(FILE)
}

/// Whether there is no store in this folder; where that cannot be told, opening it says why.
pub fn has_none(directory: &std::path::Path) -> bool {
    matches!(file(directory).try_exists(), Ok(false))
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, row, said};
    use super::super::{OpenError, open};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::model::Change;

    #[test]
    fn a_reopened_store_has_everything_and_is_the_same_one() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.take(vec![row("notes/b", r#"{"id":"b"}"#, "v1")]);
        let before =
            (world.store.counts().clone(), world.store.newest_stamp(), block_on(world.reads.identity()).unwrap());
        let mut world = world.reopen();
        assert_eq!(before.0, *world.store.counts());
        assert_eq!(before.1, world.store.newest_stamp());
        assert_eq!(before.2, block_on(world.reads.identity()).unwrap());
        assert_eq!(before.2.client_id.len(), 36);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1}"#);
        assert!(!world.save("notes/a", r#"{"n":1}"#));
        world.assert_healthy();
    }

    #[test]
    fn a_second_owner_is_refused_and_the_first_goes_on() {
        let mut world = World::new();
        let second = open(super::super::world::options(world.directory.path()));
        assert!(matches!(second.err(), Some(OpenError::Owned { .. })));
        assert!(world.save("notes/a", "{}"));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("deep/store");
        let (store, _reads) = open(super::super::world::options(&directory)).unwrap();
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 4, "{files:?}");
        assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
        drop(store);
    }

    #[test]
    fn a_file_that_is_no_database_is_told_as_damage() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(file(directory.path()), "this is no database, but it is long enough to be looked at".repeat(99))
            .unwrap();
        let error = open(super::super::world::options(directory.path())).err().unwrap();
        assert!(matches!(error, OpenError::Store(StoreError::Damaged(_))), "{error}");
    }

    #[test]
    fn h44_a_full_disk_writes_nothing_by_halves_and_mends_without_a_restart() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let pages: i64 = world.store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        world.store.limit_pages(pages + 20);
        let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(3_000));
        let changes = (0..100).map(|n| (id(&format!("notes/{n}")), Change::Save(document(&text)))).collect();
        let error = world.change(changes).unwrap_err();
        assert!(matches!(error, StoreError::Full(_)) && error.is_transient(), "{error}");
        assert_eq!((world.outbox().len(), world.counts("notes")), (1, (1, 1, 0, 0, 0)));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1}"#, "reads go on");
        world.assert_healthy();
        world.store.limit_pages(1_000_000);
        assert!(world.save("notes/b", &text));
        assert_eq!(world.outbox()[1].split(' ').next(), Some("2"));
        world.assert_healthy();
    }

    #[test]
    fn a_read_only_store_says_so_and_goes_on_reading() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        world.store.connection.pragma_update(None, "query_only", true).unwrap();
        assert!(matches!(world.try_save("notes/b", "{}"), Err(StoreError::ReadOnly(_))));
        assert!(world.get("notes/a").is_some());
        world.store.connection.pragma_update(None, "query_only", false).unwrap();
        assert!(world.save("notes/b", "{}"));
    }

    #[test]
    fn a_commit_that_was_torn_off_leaves_nothing() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        world.store.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM tl_records").unwrap();
        world.store.counters.counts.clear();
        world.store.reload().unwrap();
        assert_eq!((world.counts("notes"), world.rows("tl_records")), ((1, 1, 0, 0, 0), 1));
        world.store.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM tl_records").unwrap();
        assert!(world.save("notes/b", "{}"), "the next commit takes it back as well");
        world.assert_healthy();
    }

    #[test]
    fn reads_see_whole_commits_while_a_reader_keeps_an_old_state() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let old = super::super::open::reader(&file(world.directory.path())).unwrap();
        let count = |connection: &Connection| -> i64 {
            connection.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap()
        };
        old.execute_batch("BEGIN").unwrap();
        assert_eq!(count(&old), 1);
        world.save("notes/b", r#"{"new_field":1}"#);
        world.store.maintain().unwrap();
        assert_eq!(count(&old), 1);
        assert_eq!(world.rows("notes"), 2);
        old.execute_batch("COMMIT").unwrap();
        world.store.maintain().unwrap();
        let log = world.directory.path().join(format!("{FILE}-wal"));
        assert_eq!(log.metadata().unwrap().len(), 0, "the log is cut back once nobody reads from it");
    }

    #[test]
    fn what_is_left_of_a_collection_that_is_no_longer_configured_is_settled_but_not_added_to() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let mut world = world.reopen_with(|options| options.collections.retain(|rules| &*rules.name != "notes"));
        assert!(said(world.try_save("notes/a", "{}")).starts_with("there is no collection \"notes\""));
        world.applied("notes/a", &[1], "v1");
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn what_is_performed_in_several_steps_is_one_transaction() {
        let mut world = World::new();
        let mut local = |place: &str| {
            let stamp = world.stamp();
            let changes = vec![(id(place), Change::Save(document(r#"{"fresh":1}"#)))];
            [Write::Local(tidelock_actors::writes::LocalTransaction { changes, stamp })]
        };
        let (first, second, wrong) = (local("notes/a"), local("notes/b"), local("nowhere/c"));
        let now = world.stamp();
        world.store.perform(&first, now).unwrap();
        world.store.perform(&second, now).unwrap();
        assert_eq!((world.rows("tl_records"), world.counts("notes")), (0, (0, 0, 0, 0, 0)));
        assert!(world.store.perform(&wrong, now).is_err());
        world.store.commit().unwrap();
        assert_eq!((world.rows("tl_records"), world.counts("notes")), (0, (0, 0, 0, 0, 0)), "one failed, so all did");
        world.store.perform(&first, now).unwrap();
        world.store.perform(&second, now).unwrap();
        world.store.commit().unwrap();
        assert_eq!((world.rows("notes"), world.counts("notes")), (2, (2, 2, 0, 0, 0)));
        assert_eq!(world.outbox().iter().map(|line| &line[..1]).collect::<Vec<_>>(), ["1", "2"]);
        world.assert_healthy();
    }

    #[test]
    fn an_empty_commit_and_one_of_many_writes_answer_in_order() {
        let mut world = World::new();
        let now = world.stamp();
        assert_eq!(world.group(&[]).unwrap(), []);
        let writes = ["notes/a", "notes/b"].map(|place| {
            let changes = vec![(id(place), Change::Save(document("{}")))];
            Write::Local(tidelock_actors::writes::LocalTransaction { changes, stamp: now })
        });
        let answers = world.group(&writes).unwrap();
        assert_eq!(answers, ["notes/a", "notes/b"].map(|place| Written::Local { changed: vec![id(place)] }));
    }
}
