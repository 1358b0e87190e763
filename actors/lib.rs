//! The inside of tidelock: what travels, what is decided, and what is needed of the outside.
//!
//! This crate knows nothing of SQLite, HTTP, files or the clock on the wall. The cast:
//!
//! - [`storage::Storage`]: the only writer of the local store; groups commits.
//! - [`queue::Queue`]: the outbox; leases operations and settles them by the server's verdicts.
//! - [`conflict::ConflictResolver`]: decides what becomes of rows that changed on both sides.
//! - [`sync::SyncScheduler`]: when a round runs, and the round itself.
//! - [`backup::BackupTimer`]: when a backup is taken and tried.
//! - [`logger::RemoteLogger`]: keeps the last log entries and ships the important ones to the server.
//! - [`supervisor`]: restarts what fails.

pub mod backup;
pub mod backups;
pub mod conflict;
pub mod deferred;
pub mod document;
mod fault;
mod instant;
pub mod limits;
pub mod logger;
pub mod logs;
pub mod machine;
pub mod metrics;
pub mod model;
pub mod peer;
pub mod ports;
pub mod queue;
pub mod remembered;
pub mod round;
pub mod status;
pub mod storage;
pub mod supervisor;
pub mod sync;
pub mod window;
pub mod writes;
