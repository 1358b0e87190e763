//! Gives back what deleted records left: history beyond its bounds goes, and the database is written anew without what
//! is free within it. SQLite does that in one transaction, so a crash leaves it as it was or as it is to be; reads go
//! on, writes wait.

use tidelock_actors::model::Compacted;
use tidelock_actors::ports::StoreError;

use super::faults::Failure;
use super::sizes::{bytes_of, used_bytes};
use super::wal::log_of;
use super::writer::{self, SqliteStore};
use super::open;
use crate::config::Size;

/// What is left free on the disk, whatever compacting needs.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

impl SqliteStore {
    /// Everything that was performed must have been committed.
    pub(super) fn write_anew(&mut self) -> Result<Compacted, Failure> {
        let before_bytes = self.bytes_on_disk();
        self.forget_history()?;
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
        let needed = 2 * used_bytes(self.connection())? + RESERVE_BYTES;
        let free = fs4::available_space(self.directory()).unwrap_or(u64::MAX);
        if free >= needed {
            return Ok(());
        }
        let (needed, free) = (Size(needed), Size(free));
        Err(StoreError::Full(format!("compacting needs about {needed} for a moment, and {free} are free")).into())
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
