//! One process owns a store: an advisory lock on a file beside the database that names its owner.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use fs4::{FileExt, TryLockError};

use super::open::OpenError;
pub(super) use crate::private::private;

/// The file beside the database.
pub(super) const FILE: &str = "tidelock.lock";

/// The ownership of a store's directory; it ends when this is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    _file: File,
}

impl OwnerLock {
    /// Takes the ownership, or tells who has it.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(FILE);
        let mut file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&path)
            .map_err(|source| OpenError::Files { path: path.clone(), source })?;
        match FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Owned { owner: owner(&mut file), directory: directory.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::Files { path, source }),
        }
        let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        named.map_err(|source| OpenError::Files { path, source })?;
        Ok(Self { _file: file })
    }
}

/// Takes the ownership of a store's directory without opening the store.
pub(crate) fn own(directory: &Path) -> Result<OwnerLock, OpenError> {
    OwnerLock::take(directory)
}

/// Whether somebody owns the store in this directory just now. What else lies there may be left over from a
/// process that was killed.
pub fn is_owned(directory: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(directory.join(FILE));
    // Dropping the file gives a lock that was taken here back.
    file.is_ok_and(|file| matches!(FileExt::try_lock(&file), Err(TryLockError::WouldBlock)))
}

/// Who holds the lock, as it wrote itself into the file.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) if pid == std::process::id() => format!("this process (pid {pid})"),
        (Ok(_), Ok(pid)) => format!("another process (pid {pid})"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let first = OwnerLock::take(directory.path()).unwrap();
        let error = OwnerLock::take(directory.path()).unwrap_err().to_string();
        let expected = format!(
            "this process (pid {}) owns the store in {}; stop it, or talk to it instead of opening the store",
            std::process::id(),
            directory.path().display()
        );
        assert_eq!(error, expected);
        assert!(is_owned(directory.path()));
        drop(first);
        assert!(!is_owned(directory.path()));
        OwnerLock::take(directory.path()).unwrap();
    }
}
