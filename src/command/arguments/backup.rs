//! The words of `backup`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

/// `backup`
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Take a backup now; the store goes on being used
    Create,
    /// Print the backups, the newest first
    List {
        /// Those of all of the user's devices, as far as they have told the server (which needs the server kit)
        #[arg(long)]
        all_devices: bool,
    },
    /// Show what is known of the newest backup
    Info,
    /// Restore a backup into a file beside and check every byte and record of it
    Verify {
        /// The backup, or a file [default: the newest backup]
        #[arg(value_name = "ID|PATH")]
        backup: Option<String>,
    },
    /// Restore a backup into the store, or into a new one
    ///
    /// Into the store: what waits to be sent still waits, what is replaced goes to the history, and the store as it was is
    /// backed up before. `rollback round NUMBER` takes it back.
    #[command(group = ArgGroup::new("where").args(["mode", "to"]).required(true))]
    Restore {
        /// What to restore
        #[command(flatten)]
        point: BackupPoint,
        /// Whose word counts: the server's (only what never leaves the device is taken from the backup, all else is held
        /// against the server), or the backup's (it is sent as new changes, and wins everywhere)
        #[arg(long, value_name = "MODE")]
        mode: Option<Mode>,
        /// Only say what it would do
        #[arg(long, requires = "mode")]
        dry_run: bool,
        /// Leave the store alone and make a new one in this folder
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Take what a backup's file has into the store, as new changes that can be taken back
    ///
    /// Records that only the file has are added; where both have one, the collection's conflict strategy decides, with the
    /// file as the other side.
    Import {
        /// The file
        file: PathBuf,
        /// The file has the last word, and what it does not have goes
        #[arg(long)]
        replace: bool,
        /// Only say what it would do
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a backup into one file that needs no other, to be carried to another machine
    Export {
        /// The file
        file: PathBuf,
        /// What to write
        #[command(flatten)]
        point: BackupPoint,
    },
    /// Fetch a backup of any device's from Supabase Storage into one file that needs no other
    ///
    /// It can then be restored or imported by its path. It takes the key that the backup was encrypted with.
    Fetch {
        /// The file
        file: PathBuf,
        /// The backup's name [default: the newest that was uploaded]
        #[arg(value_name = "ID")]
        backup: Option<String>,
    },
}

/// Whose word counts after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The server's.
    Replica,
    /// The backup's.
    Authority,
}

/// What to take from the backups.
#[derive(Debug, Args)]
pub struct BackupPoint {
    /// The backup, or a file [default: the newest backup]
    #[arg(value_name = "ID|PATH", conflicts_with = "at")]
    pub backup: Option<String>,
    /// The state at this moment (RFC 3339, such as 2026-11-22T10:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub at: Option<jiff::Timestamp>,
}
