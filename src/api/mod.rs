//! The local API: what a running process offers on loopback to commands and front ends, and the client that commands
//! use. JSON under `/v1`; errors are problem documents (RFC 9457).
//!
//! It knows the handle and nothing behind it: whatever it answers, a host gets from [`crate::Tidelock`] as well.

mod address;
mod answered;
mod asked;
mod backups;
mod bodies;
mod client;
mod endpoint;
mod events;
mod exporter;
mod feed;
mod guard;
mod history;
mod keys;
mod logs;
mod openapi;
mod problem;
mod records;
mod review;
mod routes;
mod server;
mod sync;
mod upkeep;

use std::time::Duration;

pub use bodies::{
    BulkSaved, Change, Changes, Chosen, Decided, Decision, Deleted, Discarded, GivenUp, Keyed, Keys, LeveledLog,
    LoggedCall, Noted, Question, Read, Redriven, Saved, Side,
};
pub use client::Client;
pub use endpoint::{ADDRESS_FILE, Announced, Endpoint, TOKEN_FILE};
pub use exporter::Exporter;
pub use keys::key_of;
pub use openapi::document;
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
/// Seconds for which a browser may remember what pages of another origin may do.
const CROSS_ORIGIN_SECONDS: usize = 600;
/// Event streams at the same time.
const EVENT_STREAMS: usize = 64;
/// Keys of changed records that are kept for clients that come back.
const EVENT_KEYS_KEPT: usize = 65_536;
/// Keys in one event.
const EVENT_KEYS: usize = 1_000;
/// How long changes gather before they are told.
const EVENT_PAUSE: Duration = Duration::from_millis(5);
/// How long an event stream is silent at most.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Records that are read by their keys at once.
const READ_KEYS: usize = 1_000;
