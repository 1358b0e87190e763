//! Keeps what goes through the log: it is copied before SQLite may write over it, so that a backup can hold every commit
//! since the one before.
//!
//! SQLite begins its log anew only when all of it is in the database and nobody reads from it. So there is always a
//! reader, whose place is one that has been copied; a new one is put in place before the old one goes. When everything
//! is copied and in the database, the new reader needs nothing of the log any more, and the next commit may begin it anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::spool::{self, Spool};
use super::wal::{LogPosition, LogReader, log_of};

/// What is copied at once.
const LOOK_BYTES: u64 = 8 * 1024 * 1024;
/// What may wait for its backup: where none is made, a log is not kept for ever.
const SPOOL_BYTES: u64 = 512 * 1024 * 1024;
/// How long a flush may take before its commit counts as failed.
const FLUSH: Duration = Duration::from_secs(5);
/// How often the writer may be ahead again before that is left to the next time.
const LOOKS: usize = 100;
/// From one look at what SQLite counts to the next.
const PAUSE: Duration = Duration::from_micros(500);

/// Why a log could not be kept; what was kept of it is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// What was copied does not join what is there.
    #[error("{0}")]
    Interrupted(String),
    /// A file could not be read or written.
    #[error(transparent)]
    Files(#[from] std::io::Error),
    /// SQLite could not.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Reads from the log so that it is not begun anew.
struct Pins {
    connections: [Connection; 2],
    held: usize,
}

impl Pins {
    fn new(connections: [Connection; 2]) -> Result<Self, KeepError> {
        let pins = Self { connections, held: 0 };
        pins.hold(0)?;
        Ok(pins)
    }

    fn other(&self) -> usize {
        1 - self.held
    }

    fn hold(&self, which: usize) -> Result<(), KeepError> {
        let connection = &self.connections[which];
        connection.execute_batch("BEGIN")?;
        // A transaction reads from nowhere until it reads something.
        Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?)
    }

    fn let_go(&self, which: usize) -> Result<(), KeepError> {
        Ok(self.connections[which].execute_batch("COMMIT")?)
    }
}

/// The keeper of a database's log.
pub(super) struct Keeper {
    pins: Pins,
    reader: LogReader,
    spool: Spool,
}

/// What a backup is made of: files of sections, and where the last of them ends.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The files, oldest first; they are whoever asked's to remove.
    pub(crate) parts: Vec<PathBuf>,
    /// Where the last of them ends.
    pub(crate) position: LogPosition,
}

impl Keeper {
    /// Keeps the log from its beginning on, whatever was kept before. The log must have a beginning.
    pub(super) fn begin(database: &Path, directory: &Path, connections: [Connection; 2]) -> Result<Self, KeepError> {
        let pins = Pins::new(connections)?;
        let mut keeper = Self { pins, reader: LogReader::new(log_of(database)), spool: Spool::begin(directory)? };
        keeper.advance()?;
        Ok(keeper)
    }

    /// Goes on where an earlier keeper ended, if the log is still the same one.
    pub(super) fn resume(database: &Path, directory: &Path, connections: [Connection; 2]) -> Result<Self, KeepError> {
        let interrupted = |why: &str| KeepError::Interrupted(why.to_owned());
        let pins = Pins::new(connections)?;
        let known = spool::end_of(directory)?.ok_or_else(|| interrupted("nothing says where it ended"))?;
        let mut reader = LogReader::new(log_of(database));
        if !reader.skip_to(known)? {
            return Err(interrupted("the log has begun anew since, and nobody has copied what was in it"));
        }
        Ok(Self { pins, reader, spool: Spool::resume(directory)? })
    }

    /// Copies what was committed since the last time. The old reader stays until that is done, so that what one alone
    /// holds has always been copied.
    pub(super) fn advance(&mut self) -> Result<(), KeepError> {
        let (old, new) = (self.pins.held, self.pins.other());
        self.pins.hold(new)?;
        self.pins.held = new;
        while let Some(committed) = self.reader.look(LOOK_BYTES)? {
            self.spool.add(&committed)?;
        }
        self.pins.let_go(old)?;
        if self.spool.bytes() > SPOOL_BYTES {
            return Err(KeepError::Interrupted(format!("{SPOOL_BYTES} bytes wait for a backup that is not made")));
        }
        Ok(())
    }

    /// Copies until what was copied is what SQLite counts as committed, or the writer is ahead again. A commit lies in the
    /// log before it counts, for as long as its flush takes; one that fails then lies there until others are written over it.
    pub(super) fn catch_up(&mut self, counter: &Connection) -> Result<(), KeepError> {
        let (mut before, mut waited, mut looks) = (None, Duration::ZERO, 0);
        loop {
            self.advance()?;
            let count = "PRAGMA wal_checkpoint(NOOP)";
            let counted: i64 = counter.query_row(count, [], |row| row.get(1))?;
            let (counted, read) = (counted.unsigned_abs(), self.reader.frames());
            // The log is just beginning anew: everything before has been copied, or it could not.
            if counted == 0 || counted == read && self.reader.is_still_there()? {
                return Ok(());
            }
            let reached = self.position();
            if before == Some(reached) && waited >= FLUSH {
                let words = format!("{read} frames of the log were copied, and SQLite counts {counted}");
                return Err(KeepError::Interrupted(words));
            }
            let has_moved = before != Some(reached);
            looks += 1;
            if has_moved && looks >= LOOKS {
                return Ok(());
            }
            waited = if has_moved { Duration::ZERO } else { waited + PAUSE };
            before = Some(reached);
            std::thread::sleep(PAUSE);
        }
    }

    /// Where the log is now, everything before it copied.
    pub(super) fn position(&self) -> Option<LogPosition> {
        self.reader.position()
    }

    /// How much is copied and in no backup yet.
    pub(super) fn bytes(&self) -> u64 {
        self.spool.bytes()
    }

    /// Everything that was committed until now, as files.
    pub(super) fn cut(&mut self, counter: &Connection) -> Result<Cut, KeepError> {
        self.catch_up(counter)?;
        let position = self.position().ok_or_else(|| KeepError::Interrupted("the log is empty".to_owned()))?;
        Ok(Cut { parts: self.spool.cut(position)?, position })
    }
}

/// A cut that goes on exactly where a backup ended. Files of before are left over from a crash; nothing if some are
/// missing between.
pub(crate) fn joined(mut cut: Cut, ended: LogPosition) -> Option<Cut> {
    let begins = |part: &PathBuf| {
        let (sections, _) = spool::sections(part).ok()?;
        sections.first().map(|section| section.from)
    };
    let first = cut.parts.iter().position(|part| begins(part) == Some(ended))?;
    for part in cut.parts.drain(..first) {
        if let Err(error) = std::fs::remove_file(&part) {
            tracing::warn!(%error, part = %part.display(), "what was copied twice could not be removed");
        }
    }
    Some(cut)
}
