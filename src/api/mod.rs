//! The local API: what a running process offers on loopback to commands and front ends, and the client that commands
//! use. JSON under `/v1`; errors are problem documents (RFC 9457).
//!
//! It knows the handle and nothing behind it: whatever it answers, a host gets from [`crate::Tidelock`] as well.

mod bodies;
mod client;
mod endpoint;
mod exporter;
mod guard;
mod keys;
mod logs;
mod problem;
mod routes;
mod server;

use std::time::Duration;

pub use bodies::{
    BulkSaved, Chosen, Decided, Decision, Deleted, Discarded, GivenUp, Keyed, LeveledLog, LoggedCall, Noted, Question,
    Redriven, Saved, Side,
};
pub use client::Client;
pub use endpoint::{ADDRESS_FILE, Announced, Endpoint, TOKEN_FILE};
pub use exporter::Exporter;
pub use keys::key_of;
pub use problem::Problem;
pub use server::{ApiError, Server};

/// Bytes of a request's body.
pub const BODY_BYTES: usize = 32 * 1024 * 1024;
/// How long a client may take to send its request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long one answer may take; a round of sync takes as long as it takes.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// How long requests in flight may take when the process stops.
const STOP_SECONDS: u64 = 5;
/// Connections at the same time.
const CONNECTIONS: usize = 256;
