//! The words of `logs`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
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
    #[arg(long, value_name = "LEVEL", value_parser = severity())]
    pub level: Option<Severity>,
    /// Only what was said since then: 2026-11-23T10:00:00Z, or 2h
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    pub since: Option<Timestamp>,
    /// So many at most, the newest ones
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Let the running process say and keep messages from this level on, until it reads its configuration anew
    #[arg(long, value_name = "LEVEL", value_parser = level(), conflicts_with_all = ["follow", "level", "since", "limit"])]
    pub set_level: Option<Level>,
}

/// No other name gets that far.
const NOT_A_LEVEL: &str = "not a level";

/// The names of entries' levels.
fn severity() -> impl TypedValueParser<Value = Severity> {
    let of = |name: String| Severity::ALL.into_iter().find(|severity| severity.name() == name);
    PossibleValuesParser::new(Severity::ALL.map(Severity::name)).try_map(move |name| of(name).ok_or(NOT_A_LEVEL))
}

/// The names of levels from which on messages are said.
fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(Level::ALL.map(Level::name)).try_map(|name| Level::named(&name).ok_or(NOT_A_LEVEL))
}
