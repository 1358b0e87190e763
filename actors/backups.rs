//! What travels between the backup timer and the archive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Fault;
use crate::ports::StoreError;

/// Why a backup was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It was time.
    Periodic,
    /// Somebody asked for it.
    Requested,
    /// The tables are about to be changed.
    Migration,
    /// Documents are about to be imported.
    Import,
    /// A backup is about to be restored.
    Restore,
}

/// How many backups are kept: of each hour, day and week the newest one, and the newest ones whatever their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: usize,
    /// Hours.
    pub hourly: usize,
    /// Days.
    pub daily: usize,
    /// Weeks.
    pub weekly: usize,
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub id: String,
    /// When, milliseconds since 1970.
    pub taken_ms: i64,
    /// Its size.
    pub bytes: u64,
}

/// What the archive tells at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveState {
    /// When the newest backup was taken, milliseconds since 1970.
    pub taken_ms: Option<i64>,
    /// When one was last restored to try it, milliseconds since 1970.
    pub drilled_ms: Option<i64>,
    /// Since when there is something to back up, milliseconds since 1970.
    pub since_ms: Option<i64>,
}

/// Why a backup could not be made, read or restored, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes are not the ones that were written, or what it holds is not sound.
    #[error("{0}; use another one (tidelock backup list)")]
    Damaged(String),
    /// There is no such backup.
    #[error("{0}; see tidelock backup list, or --all-devices with it")]
    Unknown(String),
    /// It would fill the disk.
    #[error("{0}; free some space, or set backup.dir or backup.keep_… to other values")]
    NoRoom(String),
    /// With it the store would take more than the user allows.
    #[error("{0}; compact (tidelock compact), keep fewer backups (backup.keep_…), or raise storage.quota")]
    OverQuota(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error("{0}")]
    Failed(String),
}

/// Why the server was not told of the backups.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is nothing on the server to tell them to, or nobody is signed in whose they would be.
    #[error("{0}")]
    Nowhere(String),
    /// It was tried and did not succeed.
    #[error("{0}")]
    Failed(String),
}

impl From<Fault> for PublishError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.to_string())
    }
}

impl From<ArchiveError> for PublishError {
    fn from(error: ArchiveError) -> Self {
        Self::Failed(error.to_string())
    }
}
