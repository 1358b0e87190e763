//! What a build without encryption says.

use std::io::{Read, Write};
use std::path::Path;

use tidelock_actors::backups::ArchiveError;

use super::Keys;

/// Nobody can be encrypted for.
pub(crate) fn is_recipient(_: &str) -> bool {
    false
}

fn absent(what: &str) -> ArchiveError {
    ArchiveError::Invalid(format!("{what}, and this build has no encryption (the cargo feature `encryption`)"))
}

pub(super) fn encrypted<T>(
    _: &Keys,
    _: &mut dyn Write,
    _: impl FnOnce(&mut dyn Write) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    Err(absent("backup.encrypt is set"))
}

pub(super) fn decrypted<'r>(_: &Keys, _: impl Read + 'r, path: &Path) -> Result<Box<dyn Read + 'r>, ArchiveError> {
    Err(absent(&format!("the backup {} is encrypted", path.display())))
}
