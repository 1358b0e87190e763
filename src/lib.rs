//! A local-first data layer for apps whose backend is Supabase.
//!
//! The app reads and writes SQLite on the device and never waits for the network; every change is carried to
//! Supabase and back, in order; what loses a conflict is kept; parts that fail are restarted.

pub mod adapters;
#[cfg(feature = "process")]
pub mod api;
pub mod collection;
pub mod config;
pub mod doctor;
pub mod error;
mod gauges;
pub mod handle;
mod locks;
pub mod logger;
mod private;
mod runtime;
pub mod status;
pub mod transaction;
pub mod watch;

pub use adapters::archive::{BackupInfo, BackupView, Notice, Point};
pub use collection::Collection;
pub use config::Config;
pub use doctor::Checkup;
pub use error::Error;
pub use handle::{
    AuditReport, AuditRequest, BackupTrial, Backups, Exported, Extras, Inspection, Repair, RestoreReport,
    RestoreRequest, RestoredCopy, RollbackReport, RollbackRequest, RollbackTarget, SyncReport, SyncRequest, Tidelock,
    blocking, global,
};
pub use jiff::Timestamp;
pub use logger::{Logger, tracing_layer};
pub use status::{CollectionStatus, NextRound, PartStatus, Phase, ServerStatus, Session, SessionState, Status};
pub use tidelock_actors::document::Document;
pub use tidelock_actors::logs;
pub use tidelock_actors::model;
pub use tidelock_actors::ports::Resolver;
pub use tidelock_actors::writes::{Choice, LeftAlone, RestoreMode};
pub use transaction::Transaction;
pub use watch::{Subscription, Watched};
