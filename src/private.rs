//! Files that only their owner may read, from their first byte.

use std::fs::OpenOptions;

/// Makes a file that these options create its owner's alone.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
