//! The only writer: one call, one durable transaction.

use std::path::PathBuf;

use rusqlite::Connection;
use tidelock_actors::model::{CollectionRules, Counts, Stamp};
use tidelock_actors::ports::{Store, StoreError};
use tidelock_actors::writes::{Write, Written};

use super::batch::Batch;
use super::collections::Collections;
use super::counters::{self, Counters};
use super::faults::Failure;
use super::history::{self, Retention};
use super::lock::OwnerLock;
use super::views;

/// The store. It owns its directory until it is dropped.
pub struct SqliteStore {
    connection: Connection,
    collections: Collections,
    counters: Counters,
    retention: Retention,
    _lock: OwnerLock,
}

impl SqliteStore {
    /// Takes over an opened and migrated database.
    pub(super) fn new(
        connection: Connection,
        rules: Vec<CollectionRules>,
        retention: Retention,
        lock: OwnerLock,
    ) -> Result<Self, Failure> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let in_file = counters::read_counts(&connection)?.into_keys().collect();
        let mut collections = Collections::new(rules, in_file);
        counters::prepare(&connection, &collections)?;
        views::prepare(&connection, &mut collections)?;
        connection.execute_batch("COMMIT")?;
        let counters = counters::read(&connection)?;
        Ok(Self { connection, collections, counters, retention, _lock: lock })
    }

    fn begin(&self) -> Result<(), Failure> {
        // A commit that panicked half-way has left its transaction open.
        self.roll_back();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn perform(&mut self, writes: &[Write], now: Stamp) -> Result<Vec<Written>, Failure> {
        self.begin()?;
        let mut batch = Batch {
            connection: &self.connection,
            collections: &self.collections,
            counters: &self.counters,
            retention: self.retention,
            now,
            tally: self.counters.tally(self.collections.len()),
            discovered: Vec::new(),
            transaction: None,
        };
        let answers = writes.iter().map(|write| batch.perform(write)).collect::<Result<Vec<_>, _>>()?;
        batch.finish()?;
        let Batch { tally, discovered, .. } = batch;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.counters.adopt(&tally, &self.collections);
        views::adopt(&mut self.collections, discovered);
        Ok(answers)
    }

    /// Moves the log into the database where no reader is in the way, and never waits for one.
    fn truncate_log(&self) -> Result<(), Failure> {
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
    fn commit(&mut self, writes: &[Write], now: Stamp) -> Result<Vec<Written>, StoreError> {
        self.perform(writes, now).map_err(|failure| {
            self.roll_back();
            failure.into()
        })
    }

    fn counts(&self) -> &Counts {
        &self.counters.counts
    }

    fn newest_stamp(&self) -> Stamp {
        self.counters.stamp
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        history::prune(&self.connection, self.retention, self.counters.stamp)?;
        Ok(self.truncate_log()?)
    }

    fn reload(&mut self) -> Result<(), StoreError> {
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

/// The database's file.
pub(super) const FILE: &str = "tidelock.db";

/// Where the database of a store is.
pub(super) fn file(directory: &std::path::Path) -> PathBuf {
    directory.join(FILE)
}
