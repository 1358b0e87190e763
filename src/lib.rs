//! tidelock.
pub mod adapters;
