//! The inside of tidelock: what travels, what is decided, and what is needed of the outside.
//!
//! This crate knows nothing of SQLite, HTTP, files or the clock on the wall.

pub mod document;
pub mod limits;
pub mod model;
pub mod ports;
pub mod writes;
