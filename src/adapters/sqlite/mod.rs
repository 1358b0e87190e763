//! The local store on SQLite.
