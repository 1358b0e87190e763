//! Does the server in front of the database answer as PostgREST does? These tests say what tidelock counts on, as
//! it was seen on PostgREST 16; they fail when the test server drifts from it, and when the real one does: run them
//! on it with the four `TIDELOCK_TEST_` variables.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod crash;
mod errors;
mod exact;
mod proxy;
mod reads;
mod resumable;
mod storage;
mod support;
mod writes;
