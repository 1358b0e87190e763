//! SQLite's errors in the store's words.

use rusqlite::ErrorCode;
use tidelock_actors::ports::StoreError;

/// What can go wrong inside this adapter; turned into a [`StoreError`] where it leaves.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite's error.
    Sqlite(rusqlite::Error),
    /// An error in the store's own words.
    Store(StoreError),
}

impl Failure {
    /// The request is wrong, for this reason.
    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::Store(StoreError::Invalid(reason.into()))
    }

    /// What was asked for is not there.
    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::Store(StoreError::NotFound(what.into()))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Sqlite(error) => classify(&error),
        }
    }
}

/// Shared memory of the log could not be enlarged: the disk is full, though SQLite calls it an I/O error.
const IOERR_SHMSIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

fn classify(error: &rusqlite::Error) -> StoreError {
    let said = error.to_string();
    let extended = error.sqlite_error().map(|inner| inner.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(said),
        Some(ErrorCode::SystemIoFailure) if extended == Some(IOERR_SHMSIZE) => StoreError::Full(said),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly(said),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(said),
        _ => StoreError::Failed(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_has_its_own_error() {
        use rusqlite::ffi;
        let check = |code, expected: fn(String) -> StoreError| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let said = error.to_string();
            assert_eq!(StoreError::from(Failure::from(error)), expected(said));
        };
        check(ffi::SQLITE_FULL, StoreError::Full);
        check(ffi::SQLITE_IOERR_SHMSIZE, StoreError::Full);
        check(ffi::SQLITE_READONLY_DBMOVED, StoreError::ReadOnly);
        check(ffi::SQLITE_PERM, StoreError::ReadOnly);
        check(ffi::SQLITE_CORRUPT_INDEX, StoreError::Damaged);
        check(ffi::SQLITE_NOTADB, StoreError::Damaged);
        check(ffi::SQLITE_IOERR_FSYNC, StoreError::Failed);
    }
}
