//! Opening a store: its directory, its lock, its file, and the connections to it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tidelock_actors::model::CollectionRules;
use tidelock_actors::ports::StoreError;

use super::checkpointer::Checkpointer;
use super::faults::Failure;
use super::history::Retention;
use super::lock::{OwnerLock, private};
use super::quota::Quota;
use super::reads::SqliteReads;
use super::writer::{Made, SqliteStore, file};
use super::{identity, listing, schema};
pub use crate::config::Durability;
use crate::config::Size;
use crate::private::private_directory;

/// How long a connection waits for a lock that another one holds for a moment.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages of the database that the writer keeps in memory, in KiB. After a commit that moved pages SQLite looks through
/// all of them, and the system caches the file anyway.
const WRITER_CACHE_KIB: i32 = 2 * 1024;
/// The same of each reader.
const READER_CACHE_KIB: i32 = 4 * 1024;
/// Bytes of the log after which a commit moves it into the database itself, and to which its file is cut back then.
pub(super) const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Prepared statements a connection keeps.
const STATEMENTS: usize = 128;

/// The folder of what was copied from the log for the next backup.
const SPOOL: &str = "log";

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The store's directory; made if it is not there, for its owner's eyes alone.
    pub directory: PathBuf,
    /// When a write counts as done.
    pub durability: Durability,
    /// Connections that only read, each on a thread of its own; at least one.
    pub readers: usize,
    /// The collections.
    pub collections: Vec<CollectionRules>,
    /// Earlier versions kept of each record.
    pub history_keep: u32,
    /// How long they are kept.
    pub history_max_age: Duration,
    /// How much the store may take, its backups included.
    pub quota: Option<Size>,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Somebody has it open.
    #[error("{owner} owns the store in {}; stop it, or talk to it instead of opening the store", directory.display())]
    Owned {
        /// Who, as far as the lock file tells.
        owner: String,
        /// The store's directory.
        directory: PathBuf,
    },
    /// A later build has written it.
    #[error(
        "the store was written by a newer tidelock (schema {found}, this one knows up to {known}); update tidelock"
    )]
    Newer {
        /// Its schema.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// The schema could not be brought up to date.
    #[error("the store's schema could not be brought up to date: {0}")]
    Migration(String),
    /// A file or directory could not be made or opened.
    #[error("{} cannot be used: {source}", path.display())]
    Files {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite could not.
    #[error(transparent)]
    Store(StoreError),
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.into())
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Opens a store, making it where there is none: its only writer, and as many readers as are cloned.
pub fn open(options: StoreOptions) -> Result<(SqliteStore, SqliteReads), OpenError> {
    let StoreOptions { directory, durability, readers, collections, history_keep, history_max_age, quota } = options;
    make_directory(&directory)?;
    let lock = OwnerLock::take(&directory)?;
    let path = file(&directory);
    let mut connection = writer(&path, durability)?;
    // Before anything is written: what an earlier run has left in the log is kept as well.
    let quota = Quota::new(quota);
    let checkpointer = Checkpointer::start(log_mover(&path)?, path.clone(), directory.join(SPOOL), quota.clone())?;
    schema::migrate(&mut connection)?;
    identity::prepare(&connection, &path)?;
    let age_ms = i64::try_from(history_max_age.as_millis()).unwrap_or(i64::MAX);
    let retention = Retention { versions: history_keep, age_ms };
    let (rules, folder) = (collections.clone(), directory.clone());
    let made = Made { connection, checkpointer, rules, retention, quota: quota.clone(), directory: folder, lock };
    let store = SqliteStore::new(made)?;
    let connections = (0..readers.max(1)).map(|_| reader(&path)).collect::<Result<Vec<_>, _>>()?;
    let reads = SqliteReads::new(connections, directory, collections, quota)?;
    Ok((store, reads))
}

fn make_directory(directory: &Path) -> Result<(), OpenError> {
    private_directory(directory).map_err(|source| OpenError::Files { path: directory.to_owned(), source })
}

/// The connection that writes.
fn writer(path: &Path, durability: Durability) -> Result<Connection, OpenError> {
    // SQLite gives the log and its index the permissions of the database, so only this file is made by hand.
    let made = private(OpenOptions::new().write(true).create(true).truncate(false)).open(path);
    made.map_err(|source| OpenError::Files { path: path.to_owned(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection, WRITER_CACHE_KIB)?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    listing::prepare(&connection)?;
    Ok(connection)
}

/// The connection that moves the log. It never waits: another time will do.
fn log_mover(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(None)?;
    connection.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(()))?;
    keep_log_on_close(&connection)?;
    Ok(connection)
}

/// Whoever closes last leaves the log as it is: whether it may go is for the store to say.
pub(super) fn keep_log_on_close(connection: &Connection) -> Result<(), Failure> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection, READER_CACHE_KIB)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// The database is not mapped into memory: what is mapped counts as resident, and the system caches it anyway.
fn prepare(connection: &Connection, cache_kib: i32) -> Result<(), OpenError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    keep_log_on_close(connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(()))?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}
