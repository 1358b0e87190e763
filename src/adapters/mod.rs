//! The outside of the ports: the store on SQLite, the server through PostgREST, the clock of the system.

pub mod clock;
pub mod nowhere;
pub mod sqlite;
pub mod supabase;
