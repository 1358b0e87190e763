//! The outside of the ports: the store on SQLite, its backups, the server through PostgREST, the clock of the system.

pub mod archive;
pub mod clock;
pub(crate) mod log_book;
pub mod nowhere;
pub mod publisher;
mod room;
pub mod sqlite;
pub mod supabase;
