//! Encryption of what a backup holds, in the age format: for a recipient, or with a passphrase.

#[cfg(not(feature = "encryption"))]
#[path = "encryption/absent.rs"]
mod format;
#[cfg(feature = "encryption")]
mod format;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tidelock_actors::backups::ArchiveError;

pub(crate) use format::is_recipient;

/// What `backup.encrypt` says where the passphrase is meant.
pub(crate) const PASSPHRASE: &str = "passphrase";

/// What backups are encrypted with, and read.
#[derive(Clone)]
pub struct Keys {
    encrypt: String,
    passphrase: Option<SecretString>,
    identity: Option<PathBuf>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("encrypt", &self.encrypt).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Keys {
    /// As the configuration has them.
    pub(crate) fn new(encrypt: &str, passphrase: Option<&SecretString>, identity: &Path) -> Self {
        let identity = (!identity.as_os_str().is_empty()).then(|| identity.to_owned());
        Self { encrypt: encrypt.to_owned(), passphrase: passphrase.cloned(), identity }
    }

    /// Whether what is written is encrypted.
    pub(super) fn encrypts(&self) -> bool {
        !self.encrypt.is_empty()
    }

    /// Whether anything that is encrypted may be read.
    pub(super) fn can_read(&self) -> bool {
        self.passphrase.is_some() || self.identity.is_some()
    }

    /// Writes what `fill` writes, encrypted where that is wanted.
    pub(super) fn write<T>(
        &self,
        sink: &mut dyn Write,
        fill: impl FnOnce(&mut dyn Write) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        if self.encrypts() { format::encrypted(self, sink, fill) } else { fill(sink) }
    }

    /// What was encrypted.
    pub(super) fn decrypted<'r>(
        &self,
        encrypted: impl Read + 'r,
        path: &Path,
    ) -> Result<Box<dyn Read + 'r>, ArchiveError> {
        format::decrypted(self, encrypted, path)
    }
}
