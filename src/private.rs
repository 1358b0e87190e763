//! Files and folders that only their owner may read, from their first byte.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Makes a file that these options create its owner's alone.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// An empty file that is its owner's alone, in place of what was there.
pub(crate) fn new_private_file(path: &Path) -> std::io::Result<File> {
    private(OpenOptions::new().read(true).write(true).create(true).truncate(true)).open(path)
}

/// Replaces a file's text as a whole: whoever reads it meanwhile, or after a crash, has the old one or the new one.
pub(crate) fn replace_private_file(directory: &Path, name: &str, text: &[u8]) -> std::io::Result<()> {
    let unfinished = directory.join(format!(".unfinished-{name}"));
    let mut file = new_private_file(&unfinished)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, directory.join(name))
}

/// Makes a folder, and those that it lies in, where there is none.
pub(crate) fn private_directory(directory: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}
