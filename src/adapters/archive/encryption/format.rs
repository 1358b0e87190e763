//! The age format itself (age-encryption.org/v1).

use std::io::{Read, Write};
use std::path::Path;

use age::secrecy::ExposeSecret;
use age::{Decryptor, Encryptor, Identity, IdentityFile, scrypt, x25519};
use tidelock_actors::backups::ArchiveError;

use super::{Keys, PASSPHRASE};
use crate::adapters::archive::faults::{damaged, io};

/// How hard a passphrase is to try, as a power of two: about 30 ms and 32 MB each time, since every backup has its own.
const WORK_FACTOR: u8 = 15;
/// The hardest that is still read.
const WORK_FACTOR_MAX: u8 = 20;

/// Whether a text is a recipient's name.
pub(crate) fn is_recipient(text: &str) -> bool {
    text.parse::<x25519::Recipient>().is_ok()
}

/// Encrypts what is written by `fill`.
pub(super) fn encrypted<T>(
    keys: &Keys,
    sink: &mut dyn Write,
    fill: impl FnOnce(&mut dyn Write) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    let mut encrypted = encryptor(keys)?.wrap_output(sink).map_err(io)?;
    let filled = fill(&mut encrypted)?;
    encrypted.finish().map_err(io)?;
    Ok(filled)
}

fn encryptor(keys: &Keys) -> Result<Encryptor, ArchiveError> {
    let encryptor = match (keys.encrypt.as_str(), &keys.passphrase) {
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
    encryptor.map_err(cannot)
}

fn cannot(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Failed(format!("the backup could not be encrypted: {error}"))
}

/// What was encrypted.
pub(super) fn decrypted<'r>(
    keys: &Keys,
    encrypted: impl Read + 'r,
    path: &Path,
) -> Result<Box<dyn Read + 'r>, ArchiveError> {
    let identities = identities(keys, path)?;
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

fn identities(keys: &Keys, path: &Path) -> Result<Vec<Box<dyn Identity>>, ArchiveError> {
    let mut identities: Vec<Box<dyn Identity>> = Vec::new();
    if let Some(passphrase) = keys.passphrase.as_ref().filter(|passphrase| !passphrase.expose_secret().is_empty()) {
        let mut identity = scrypt::Identity::new(passphrase.clone());
        identity.set_max_work_factor(WORK_FACTOR_MAX);
        identities.push(Box::new(identity));
    }
    if let Some(file) = &keys.identity {
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
