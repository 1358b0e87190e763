//! What can go wrong with the testbed itself. Each message says what, why and what to do, in one line.

use std::path::PathBuf;

/// A failure of the testbed, never of the code under test.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that the testbed needs is not installed.
    #[error("{what} not found: run `cargo xtask setup`, or {remedy}")]
    Missing {
        /// The program.
        what: &'static str,
        /// How to get it by hand.
        remedy: &'static str,
    },
    /// A process ended or stayed silent instead of becoming ready.
    #[error("{what} did not start: {detail}")]
    Start {
        /// The process.
        what: &'static str,
        /// The end of what it printed.
        detail: String,
    },
    /// The database refused a statement, or could not be reached.
    #[error("SQL failed: {detail}; statement: {statement}")]
    Sql {
        /// What the database said, with its SQLSTATE.
        detail: String,
        /// The beginning of the statement.
        statement: String,
    },
    /// The server answered a request of the testbed itself (a sign-up, say) with something else than success.
    #[error("the server answered {path} with {status}: {body}")]
    Answer {
        /// The path that was asked for.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The body of the answer.
        body: String,
    },
    /// An HTTP request of the testbed itself failed.
    #[error("an HTTP request failed: {0}")]
    Http(#[from] reqwest::Error),
    /// Only some of the four variables that name an external Supabase are set.
    #[error("to test on an external Supabase set all of {all}; missing: {missing}")]
    ExternalIncomplete {
        /// All four names.
        all: String,
        /// Those that are not set.
        missing: String,
    },
    /// This would stop, crash or mint keys for a Supabase that is not ours.
    #[error("{0} is not possible on an external project: unset the TIDELOCK_TEST_ variables to run this test")]
    NotOnExternal(&'static str),
    /// A pglite project has no PostgreSQL of its own.
    #[error("{0} is not possible on an embedded project: it has no PostgreSQL")]
    NotEmbedded(&'static str),
    /// A file or process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds what was tried to what the system said.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source })
    }
}

/// The last part of a log file, for an error message.
pub(crate) fn tail(log: &PathBuf) -> String {
    const MOST_BYTES: usize = 2_000;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let from = (0..=text.len()).rev().find(|&i| text.len() - i >= MOST_BYTES && text.is_char_boundary(i)).unwrap_or(0);
    text[from..].trim().to_owned()
}
