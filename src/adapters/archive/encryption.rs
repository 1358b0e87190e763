//! Encryption of what a backup holds, in the age format (age-encryption.org/v1): for a recipient, or with a passphrase.

use std::io::Read;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use age::{Decryptor, Encryptor, Identity, IdentityFile, scrypt, x25519};
use tidelock_actors::backups::ArchiveError;

use super::faults::damaged;

/// How hard a passphrase is to try, as a power of two: about 30 ms and 32 MB each time, since every backup has its own.
const WORK_FACTOR: u8 = 15;
/// The hardest that is still read.
const WORK_FACTOR_MAX: u8 = 20;
/// What `backup.encrypt` says where the passphrase is meant.
const PASSPHRASE: &str = "passphrase";

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

/// Whether a text is a recipient's name.
pub(crate) fn is_recipient(text: &str) -> bool {
    text.parse::<x25519::Recipient>().is_ok()
}

fn cannot(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Failed(format!("the backup could not be encrypted: {error}"))
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

    /// What encrypts; nothing where that is not wanted.
    pub(super) fn encryptor(&self) -> Result<Option<Encryptor>, ArchiveError> {
        if !self.encrypts() {
            return Ok(None);
        }
        let encryptor = match (self.encrypt.as_str(), &self.passphrase) {
            (PASSPHRASE, Some(passphrase)) => {
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK_FACTOR);
                Encryptor::with_recipients(std::iter::once(&recipient as _))
            }
            (PASSPHRASE, None) => return Err(cannot("backup.passphrase is not set")),
            (recipient, _) => {
                let recipient: x25519::Recipient = recipient.parse().map_err(cannot)?;
                Encryptor::with_recipients(std::iter::once(&recipient as _))
            }
        };
        encryptor.map(Some).map_err(cannot)
    }

    /// What was encrypted.
    pub(super) fn decrypted<'r>(
        &self,
        encrypted: impl Read + 'r,
        path: &Path,
    ) -> Result<Box<dyn Read + 'r>, ArchiveError> {
        let identities = self.identities(path)?;
        let decryptor = Decryptor::new(encrypted).map_err(|error| damaged(path, &error.to_string()))?;
        let opened = decryptor.decrypt(identities.iter().map(AsRef::as_ref));
        let locked = |error| {
            let path = path.display();
            let words = format!(
                "the backup {path} is encrypted ({error}); set backup.passphrase, or backup.identity to the file with the \
                 secret key that it was made with"
            );
            ArchiveError::Invalid(words)
        };
        Ok(Box::new(opened.map_err(locked)?))
    }

    fn identities(&self, path: &Path) -> Result<Vec<Box<dyn Identity>>, ArchiveError> {
        let mut identities: Vec<Box<dyn Identity>> = Vec::new();
        if let Some(passphrase) = self.passphrase.as_ref().filter(|passphrase| !passphrase.expose_secret().is_empty()) {
            let mut identity = scrypt::Identity::new(passphrase.clone());
            identity.set_max_work_factor(WORK_FACTOR_MAX);
            identities.push(Box::new(identity));
        }
        if let Some(file) = &self.identity {
            let unread = |error: String| {
                let (file, path) = (file.display(), path.display());
                ArchiveError::Invalid(format!("the key {file} for the backup {path} cannot be read ({error})"))
            };
            let name = file.to_string_lossy().into_owned();
            let keys = IdentityFile::from_file(name).map_err(|error| unread(error.to_string()))?;
            identities.extend(keys.into_identities().map_err(|error| unread(error.to_string()))?);
        }
        Ok(identities)
    }
}
