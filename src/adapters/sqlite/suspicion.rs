//! Whether a store may be damaged: noted when that is seen, looked into when the store is next opened.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tidelock_actors::ports::StoreError;

use super::counters;
use super::faults::Failure;
use super::lock::OwnerLock;
use super::open::{OpenError, keep_log_on_close};
use super::verify::found_damaged;
use super::writer::file;

/// The file that says so.
const SUSPECT: &str = "suspect";

fn mark(directory: &Path) -> PathBuf {
    directory.join(SUSPECT)
}

/// Notes that something is wrong with the store.
pub(crate) fn suspect(directory: &Path) {
    if let Err(error) = std::fs::write(mark(directory), "") {
        tracing::warn!(%error, "it could not be noted that the store may be damaged");
    }
}

/// Whether something was found wrong with the store.
pub(crate) fn is_suspect(directory: &Path) -> bool {
    mark(directory).exists()
}

/// Nothing is wrong with the store any more.
pub(crate) fn trust(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(mark(directory)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Looks at every page of a store that nobody has open; an error where they are damaged. Indexes alone are made anew, and
/// counts are corrected.
pub(crate) fn examine(directory: &Path) -> Result<(), OpenError> {
    let _owned = OwnerLock::take(directory)?;
    let examined = || -> Result<(), Failure> {
        let connection = Connection::open(file(directory))?;
        keep_log_on_close(&connection)?;
        if let Err(damage) = integrity(&connection) {
            tracing::warn!(?damage, "the store's indexes are made anew");
            connection.execute_batch("REINDEX")?;
            integrity(&connection)?;
        }
        counters::correct(&connection)
    };
    examined()?;
    trust(directory).map_err(|source| OpenError::Files { path: mark(directory), source })
}

fn integrity(connection: &Connection) -> Result<(), Failure> {
    let said = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))?;
    let damaged = || Failure::Store(StoreError::Damaged(found_damaged(&said)));
    (said == "ok").then_some(()).ok_or_else(damaged)
}
