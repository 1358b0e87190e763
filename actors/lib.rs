//! The inside of tidelock.
