//! Keeps what goes through the log: it is copied before SQLite may write over it, so that a backup can hold every commit
//! since the one before.
//!
//! SQLite begins its log anew only when all of it is in the database and nobody reads from it. So there is always a
//! reader, whose place is one that has been copied; a new one is put in place before the old one goes. When everything
//! is copied and in the database, the new reader needs nothing of the log any more, and the next commit may begin it anew.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::spool::{self, Spool};
use super::wal::{LogPosition, LogReader, log_of};

/// What is copied at once.
const LOOK_BYTES: u64 = 8 * 1024 * 1024;
/// What may wait for its backup: where none is made, a log is not kept for ever.
const SPOOL_BYTES: u64 = 512 * 1024 * 1024;
/// How long SQLite may be at changing what it counts, which takes it less than a blink.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one question for that to the next.
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
    pub(super) fn begin(
        database: &Path,
        directory: &Path,
        connections: [Connection; 2],
        counter: &Connection,
    ) -> Result<Self, KeepError> {
        let pins = Pins::new(connections)?;
        let mut keeper = Self { pins, reader: LogReader::new(log_of(database)), spool: Spool::begin(directory)? };
        keeper.advance(counter)?;
        Ok(keeper)
    }

    /// Goes on where an earlier keeper ended, if the log is still the same one.
    pub(super) fn resume(
        database: &Path,
        directory: &Path,
        connections: [Connection; 2],
        counter: &Connection,
    ) -> Result<Self, KeepError> {
        let interrupted = |why: &str| KeepError::Interrupted(why.to_owned());
        let pins = Pins::new(connections)?;
        let known = spool::end_of(directory)?.ok_or_else(|| interrupted("nothing says where it ended"))?;
        let mut reader = LogReader::new(log_of(database));
        if !reader.go_to(known, counted(counter)?.unwrap_or(0))? {
            return Err(interrupted("the log has begun anew since, and nobody has copied what was in it"));
        }
        Ok(Self { pins, reader, spool: Spool::resume(directory)? })
    }

    /// Copies what was committed since the last time. The old reader stays until that is done, so that what one alone
    /// holds has always been copied.
    pub(super) fn advance(&mut self, counter: &Connection) -> Result<(), KeepError> {
        let (old, new) = (self.pins.held, self.pins.other());
        self.pins.hold(new)?;
        self.pins.held = new;
        self.copy(counter)?;
        self.pins.let_go(old)?;
        if self.spool.bytes() > SPOOL_BYTES {
            return Err(KeepError::Interrupted(format!("{SPOOL_BYTES} bytes wait for a backup that is not made")));
        }
        Ok(())
    }

    /// Copies what SQLite counts as committed, and nothing else: a commit lies in the log before it counts, for as long as
    /// its flush takes, and one that fails then lies there until others are written over it.
    fn copy(&mut self, counter: &Connection) -> Result<(), KeepError> {
        let began = Instant::now();
        loop {
            // In this order: what is counted is of the log whose header was there before.
            let (header, counted) = (self.reader.header()?, counted(counter)?);
            if counted == Some(0) {
                // The log is just beginning anew: everything before has been copied, or it could not.
                return Ok(());
            }
            if let (Some(header), Some(counted)) = (header, counted) {
                let end = header.after(counted);
                while let Some(committed) = self.reader.look(end, LOOK_BYTES)? {
                    self.spool.add(&committed)?;
                }
                if self.position() == Some(end) && self.reader.is_still_there()? {
                    return Ok(());
                }
                if self.reader.header()?.is_some_and(|now| now.after(counted) == end) {
                    let words =
                        format!("{:?} was reached in the log, and SQLite counts until {end:?}", self.position());
                    return Err(KeepError::Interrupted(words));
                }
            }
            if began.elapsed() >= PATIENCE {
                return Err(KeepError::Interrupted("SQLite does not tell what is in the log".to_owned()));
            }
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
        self.advance(counter)?;
        let position = self.position().ok_or_else(|| KeepError::Interrupted("the log is empty".to_owned()))?;
        Ok(Cut { parts: self.spool.cut(position)?, position })
    }
}

/// The frames of the log that SQLite counts as committed; nothing while it is changing that.
fn counted(counter: &Connection) -> Result<Option<u64>, KeepError> {
    let counted: i64 = counter.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    Ok(u64::try_from(counted).ok())
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
