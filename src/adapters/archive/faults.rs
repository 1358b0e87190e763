//! What goes wrong with files, in the archive's words.

use std::io::{Error, ErrorKind};
use std::path::Path;

use tidelock_actors::backups::ArchiveError;
use tidelock_actors::ports::StoreError;

/// A backup whose bytes are not what they should be.
pub(super) fn damaged(path: &Path, what: &str) -> ArchiveError {
    ArchiveError::Damaged(format!("the backup {} is damaged: {what}", path.display()))
}

/// A file that could not be read or written.
pub(super) fn io(error: Error) -> ArchiveError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(error.to_string()).into(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => StoreError::ReadOnly(error.to_string()).into(),
        _ => ArchiveError::Failed(format!("a file could not be read or written: {error}")),
    }
}
