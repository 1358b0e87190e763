//! The local store on SQLite: the `Store` and `Reader` ports, and the reads that the handle needs.
//!
//! One file, one writer, some readers. The writer ([`SqliteStore`]) performs whole groups of writes in one
//! durable transaction; readers ([`SqliteReads`]) never wait for it. Tables begin with `tl_`; each
//! collection is also a view with one column a known field. Nothing here decides policy.

mod answers;
mod audit;
mod backlog;
mod batch;
mod bring_to;
mod checkpointer;
mod collections;
mod compact;
mod copy;
mod counters;
mod faults;
mod history;
mod identity;
mod keeper;
mod list;
mod listing;
mod local;
mod lock;
mod observe;
mod open;
mod operations;
mod park;
mod past;
mod pool;
mod query;
mod quota;
mod reads;
mod records;
mod resolve;
mod restore;
mod rollback;
mod salvage;
mod schema;
mod settle;
mod sizes;
mod spool;
mod statements;
mod suspicion;
mod together;
mod verify;
mod versions;
mod views;
mod wal;
mod withdraw;
mod writer;

pub use answers::{ConflictCause, ConflictState, ConflictView, QueueFilter, QueuedOperation, Verified, VersionView};
pub(crate) use backlog::Backlog;
pub(crate) use checkpointer::Log;
pub(crate) use copy::{Contents, Replay, check, check_pages, contents_of, copy, uproot};
pub use identity::Identity;
pub(crate) use identity::machine;
pub(crate) use keeper::{Cut, joined};
pub use list::{Condition, ListQuery, Listed, Operator};
pub use lock::is_owned;
pub(crate) use lock::own;
pub use open::{Durability, OpenError, StoreOptions, open};
pub use operations::OperationState;
pub use pool::Answer;
pub(crate) use quota::Quota;
pub use quota::{Fullness, Usage};
pub use reads::SqliteReads;
pub(crate) use salvage::{Found, Salvaged, salvage};
pub(crate) use schema::is_of_earlier_build;
pub use sizes::{Sizes, Stats};
pub(crate) use suspicion::{examine, is_suspect, suspect, trust};
pub use versions::{Difference, FieldChange, RoundKind, RoundView, field_changes};
pub use wal::LogPosition;
pub(crate) use writer::file as database;
pub use writer::{SqliteStore, has_none};

/// A store's files and folders, the database last.
pub(crate) const FILES: [&str; 5] = ["log", "tidelock.db-journal", "tidelock.db-shm", "tidelock.db-wal", "tidelock.db"];

#[cfg(test)]
mod time_travel;
#[cfg(test)]
mod workload;
#[cfg(test)]
mod world;
