//! The words of `doctor`.

use std::path::PathBuf;

use clap::Args;

/// `doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Write what a bug report needs into this file, which must be new
    ///
    /// Versions, configuration, all checks, status, sizes, causes in the queue, conflicts by their fields' names, rounds,
    /// backups, metrics and the log. Secrets are taken out, and no document is put into it; what was logged may tell of
    /// some. Read it before you send it.
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}
