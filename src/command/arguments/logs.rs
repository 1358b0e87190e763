//! The words of `logs`.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tidelock::config::Level;
use tidelock::logs::Severity;

use crate::command::moment;

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on with what is said from now on, until stopped; with --json one document a line
    #[arg(long, short)]
    pub follow: bool,
    /// Only what is at least as important
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<EntryLevel>,
    /// Only what was said since then: 2026-11-23T10:00:00Z, or 2h
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    pub since: Option<Timestamp>,
    /// So many at most, the newest ones
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Let the running process say and keep messages from this level on, until it reads its configuration anew
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["follow", "level", "since", "limit"])]
    pub set_level: Option<ConsoleLevel>,
}

/// The level of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EntryLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl From<EntryLevel> for Severity {
    fn from(level: EntryLevel) -> Self {
        match level {
            EntryLevel::Error => Self::Error,
            EntryLevel::Warn => Self::Warn,
            EntryLevel::Info => Self::Info,
            EntryLevel::Debug => Self::Debug,
            EntryLevel::Trace => Self::Trace,
        }
    }
}

/// A level from which on messages are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConsoleLevel {
    /// None.
    Off,
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl From<ConsoleLevel> for Level {
    fn from(level: ConsoleLevel) -> Self {
        match level {
            ConsoleLevel::Off => Self::Off,
            ConsoleLevel::Error => Self::Error,
            ConsoleLevel::Warn => Self::Warn,
            ConsoleLevel::Info => Self::Info,
            ConsoleLevel::Debug => Self::Debug,
            ConsoleLevel::Trace => Self::Trace,
        }
    }
}
