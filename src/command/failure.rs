//! Why a command ends without success: one line for standard error, and the exit code.

use std::fmt;
use std::io;

use tidelock::Error;
use tidelock::api::{ApiError, Problem};
use tidelock::config::ConfigError;

/// Something failed.
pub const FAILED: u8 = 1;
/// The command or the configuration is wrong.
pub const USAGE: u8 = 2;
/// Done in part: something failed, was parked or is in conflict.
pub const IN_PART: u8 = 3;

/// The end of a command that did not do all it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// What, why, what to do; empty where the output has said it already.
    message: String,
}

impl Failure {
    /// With a line for standard error.
    pub fn new(exit: u8, message: impl fmt::Display) -> Self {
        // Servers and systems put line breaks into their words.
        let message = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { exit, message }
    }

    /// Without: the command's output tells.
    pub fn silent(exit: u8) -> Self {
        Self { exit, message: String::new() }
    }

    /// The line, if there is one.
    pub fn message(&self) -> Option<&str> {
        (!self.message.is_empty()).then_some(self.message.as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::new(problem.exit, problem.detail)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::new(FAILED, error)
    }
}

/// Writing to standard output: a reader that has read enough is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(0),
            _ => Self::new(FAILED, format!("standard output cannot be written ({error})")),
        }
    }
}
