//! Files, read and written on threads that may wait for a disk.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use tidelock_actors::backups::ArchiveError;
use tidelock_actors::model::{Fault, FaultKind};

/// Does something with files, away from the threads that serve everybody.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// At most so many bytes of a file, from an offset on.
pub(super) async fn read(file: &Path, offset: u64, most: u64) -> Result<Bytes, Fault> {
    let file = file.to_owned();
    let read = apart(move || {
        let mut file = std::fs::File::open(file)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(Bytes::from(bytes))
    });
    read.await.map_err(unread)
}

pub(super) fn unread(error: std::io::Error) -> Fault {
    Fault::new(FaultKind::Transient, format!("the backup cannot be read: {error}"))
}

pub(super) fn unwritten(error: std::io::Error) -> ArchiveError {
    ArchiveError::Failed(format!("a file could not be written: {error}"))
}
