//! The one error of the public interface: what went wrong, and what to do, in one line.

use tidelock_actors::backups::ArchiveError;
use tidelock_actors::conflict::ConflictError;
use tidelock_actors::document::NotADocument;
use tidelock_actors::logs::BookError;
use tidelock_actors::model::{Fault, FaultKind};
use tidelock_actors::peer::PartError;
use tidelock_actors::ports::StoreError;
use tidelock_actors::queue::QueueError;

use crate::adapters::publisher::FetchError;
use crate::adapters::sqlite::OpenError;
use crate::adapters::supabase::SetupError;
use crate::config::ConfigError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The way to the server cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A backup could not be made, read or restored.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The log book gives no answer.
    #[error(transparent)]
    Logs(#[from] BookError),
    /// There is no such collection.
    #[error("unknown collection {name:?}; the configuration declares: {known}")]
    UnknownCollection {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The collection only takes what the server has.
    #[error("collection {0:?} is pull-only (direction = \"pull\"): it takes no local writes")]
    PullOnly(String),
    /// The text or value is not a document.
    #[error(transparent)]
    Document(#[from] NotADocument),
    /// The argument is not usable.
    #[error("{0}")]
    Invalid(String),
    /// No server is configured.
    #[error("no server is configured: set remote.url and remote.anon_key (or SUPABASE_URL and SUPABASE_ANON_KEY)")]
    NoServer,
    /// The server does not accept the credentials.
    #[error("the server does not accept the credentials ({0}); check remote.anon_key and remote.access_token")]
    Unauthorized(Fault),
    /// The server cannot be reached, or not now.
    #[error("the server cannot be reached ({0}); local work goes on and nothing is lost")]
    Unreachable(Fault),
    /// The server refused.
    #[error("the server refused: {0}")]
    Remote(Fault),
    /// Waiting does not bring everything to the server.
    #[error(
        "{parked} operations are parked and {conflicts} conflicts wait for a decision; see queue list and conflicts list"
    )]
    SetAside {
        /// Operations that are parked.
        parked: u64,
        /// Conflicts that wait for a decision.
        conflicts: u64,
    },
    /// A part of the runtime is down.
    #[error(transparent)]
    Part(PartError),
    /// The runtime has stopped.
    #[error("tidelock has stopped: {cause}")]
    Stopped {
        /// Why.
        cause: String,
    },
}

impl Error {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::Setup(_) => "config",
            Self::Open(_) => "open",
            Self::Store(StoreError::Full(_)) => "disk_full",
            Self::Store(StoreError::OverQuota(_)) | Self::Archive(ArchiveError::OverQuota(_)) => "quota_exceeded",
            Self::Store(StoreError::ReadOnly(_)) => "read_only",
            Self::Store(StoreError::Damaged(_)) => "damaged",
            Self::Store(StoreError::Invalid(_)) | Self::Invalid(_) => "invalid",
            Self::Store(StoreError::NotFound(_)) => "not_found",
            Self::Store(StoreError::Failed(_)) => "store",
            Self::Archive(ArchiveError::Damaged(_)) => "damaged_backup",
            Self::Archive(ArchiveError::Unknown(_)) => "not_found",
            Self::Archive(ArchiveError::NoRoom(_)) => "disk_full",
            Self::Archive(ArchiveError::Invalid(_)) => "invalid",
            Self::Archive(ArchiveError::Failed(_) | ArchiveError::Store(_)) => "backup",
            Self::Logs(_) => "logs",
            Self::UnknownCollection { .. } => "unknown_collection",
            Self::PullOnly(_) => "pull_only",
            Self::Document(_) => "not_a_document",
            Self::NoServer => "no_server",
            Self::Unauthorized(_) => "unauthorized",
            Self::Unreachable(_) => "unreachable",
            Self::Remote(_) => "remote",
            Self::SetAside { .. } => "set_aside",
            Self::Part(_) => "part_down",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The exit code of a command that ends with this error: 1 failed, 2 usage, 4 not authorised, 5 unreachable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Setup(_)
            | Self::UnknownCollection { .. }
            | Self::PullOnly(_)
            | Self::Document(_)
            | Self::Invalid(_)
            | Self::NoServer
            | Self::Archive(ArchiveError::Invalid(_))
            | Self::Store(StoreError::Invalid(_)) => 2,
            Self::Unauthorized(_) => 4,
            Self::Unreachable(_) => 5,
            Self::SetAside { .. } => 3,
            Self::Open(_)
            | Self::Store(_)
            | Self::Archive(_)
            | Self::Logs(_)
            | Self::Remote(_)
            | Self::Part(_)
            | Self::Stopped { .. } => 1,
        }
    }
}

impl From<PartError> for Error {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Stopped { cause } => Self::Stopped { cause },
            PartError::Restarting { .. } | PartError::Degraded { .. } | PartError::Late { .. } => Self::Part(error),
        }
    }
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            other => Self::Archive(other),
        }
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Server(fault) => fault.into(),
            FetchError::Archive(error) => error.into(),
        }
    }
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(error) => error.into(),
            QueueError::Part(error) => error.into(),
        }
    }
}

impl From<ConflictError> for Error {
    fn from(error: ConflictError) -> Self {
        match error {
            ConflictError::Store(error) => error.into(),
            ConflictError::Part(error) => error.into(),
            ConflictError::Restless => Self::Store(StoreError::Failed(error.to_string())),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Unauthorized => Self::Unauthorized(fault),
            FaultKind::Transient => Self::Unreachable(fault),
            FaultKind::Ordering
            | FaultKind::Refused
            | FaultKind::Doubtful
            | FaultKind::Schema
            | FaultKind::Replaced
            | FaultKind::Behind => Self::Remote(fault),
        }
    }
}
