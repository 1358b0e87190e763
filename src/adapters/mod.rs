//! The outside of the ports.
pub mod sqlite;
pub mod supabase;
