//! The words of `diff` and `rollback`.

use clap::{ArgGroup, Args, Subcommand};
use tidelock::Timestamp;

use super::super::moment;

/// `diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// The collection
    pub collection: String,
    /// The record's key
    pub id: String,
    /// The earlier version, by the id that `history` prints [default: the one before the other]
    pub from: Option<i64>,
    /// The later version [default: the record as it is now]
    pub to: Option<i64>,
}

/// `rollback`
#[derive(Debug, Subcommand)]
pub enum Rollback {
    /// One record to one of its versions, or to a time
    #[command(group = ArgGroup::new("then").args(["version", "to"]).required(true))]
    Record {
        /// The collection
        collection: String,
        /// The record's key
        id: String,
        /// The version, by the id that `history` prints
        version: Option<i64>,
        /// The time: 2026-11-23T10:00:00Z, or how long ago: 2h
        #[arg(long, value_name = "TIME", value_parser = moment::parse)]
        to: Option<Timestamp>,
        /// Only say what it would do
        #[arg(long)]
        dry_run: bool,
    },
    /// Undo what a round, or an earlier rollback, has changed
    ///
    /// A record that was changed again since is left alone, unless --force.
    Round {
        /// Its number, as `rounds` and `history` print it
        #[arg(value_name = "NUMBER")]
        round: i64,
        /// Only in these collections [default: all]
        collections: Vec<String>,
        /// Also records that were changed again since
        #[arg(long)]
        force: bool,
        /// Only say what it would do
        #[arg(long)]
        dry_run: bool,
    },
    /// Whole collections to a time
    Collection {
        /// The collections
        #[arg(required = true)]
        collections: Vec<String>,
        /// The time: 2026-11-23T10:00:00Z, or how long ago: 2h
        #[arg(long, value_name = "TIME", value_parser = moment::parse)]
        to: Timestamp,
        /// Only say what it would do
        #[arg(long)]
        dry_run: bool,
    },
}
