//! The command line's words: every command, option and argument, as `--help` shows them.

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod backup;
mod doctor;
mod history;
mod logs;
mod storage;

pub use backup::{Backup, BackupPoint, Mode};
pub use doctor::Doctor;
pub use history::{Diff, Rollback};
pub use logs::Logs;
pub use storage::{Compact, Stats};

/// A local-first data layer for apps whose backend is Supabase.
///
/// Where a process (`tidelock run`) runs on the data folder, commands talk to it; else they open the store themselves.
#[derive(Debug, Parser)]
#[command(name = "tidelock", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct CommandLine {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 done in part (something failed, was parked or is in \
                          conflict), 4 not authorised, 5 unreachable.";

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file [default: ./tidelock.toml, then tidelock/tidelock.toml in the configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The store's folder, instead of storage.data_dir
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on standard error; -vv and -vvv say even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the process: keep the store in sync and serve the local API
    Run(Run),
    /// Show what is going on
    Status,
    /// Run a round now: send, then fetch
    Sync(Sync),
    /// Create a record or lay fields over it; fields that are not named stay
    Put(Put),
    /// Print a record
    Get(Record),
    /// Print records
    List(List),
    /// Remove a record
    Delete(Record),
    /// Save the documents of a JSON Lines file, one a line
    Import(Import),
    /// Print all records of a collection as JSON Lines
    Export(Collection),
    /// Look at and mend the operations that are still to be sent
    #[command(subcommand)]
    Queue(Queue),
    /// Look at and decide conflicts
    #[command(subcommand)]
    Conflicts(Conflicts),
    /// Print the earlier versions of a record, the newest first
    History(Record),
    /// Print what changed between two versions of a record, field by field
    Diff(Diff),
    /// Print the rounds and rollbacks that changed records here, the newest first
    Rounds,
    /// Make records again what they were, by new local changes in one transaction
    ///
    /// It can be taken back in turn: it answers a number, and `rollback round NUMBER` undoes it. At most 10,000 records
    /// change at once. Ends with 3 if a record was left alone.
    #[command(subcommand)]
    Rollback(Rollback),
    /// Take backups, look at them, try them, and restore them
    #[command(subcommand)]
    Backup(Backup),
    /// Check the store against itself
    Verify(Verify),
    /// Compare what came from the server with what it has
    ///
    /// Ends with 3 if something differs and is not put right.
    Audit(Audit),
    /// Show sizes and counts
    Stats(Stats),
    /// Show what was logged lately: the last 500 entries, unless log.history says otherwise
    Logs(Logs),
    /// Give back the room that what was deleted has left
    ///
    /// History beyond its bounds goes, and the database is written anew: for a moment that takes twice its size. Reads go
    /// on meanwhile, saves wait. The next backup is a full one.
    Compact(Compact),
    /// Install the server kit in the project's database, and look whether it fits
    #[command(subcommand)]
    Remote(Remote),
    /// Look at the configuration
    #[command(subcommand)]
    Config(Configuration),
    /// Check everything that tidelock needs, and say what to do about it; nothing is changed by it
    ///
    /// Begin with the first failure; what to do stands after its arrow. docs/troubleshooting.md tells of each case in full.
    Doctor(Doctor),
    /// Print the local API as an OpenAPI document
    Openapi,
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    /// How messages are written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `sync`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("half").args(["push", "pull"]))]
pub struct Sync {
    /// Send only
    #[arg(long)]
    pub push: bool,
    /// Fetch only
    #[arg(long)]
    pub pull: bool,
    /// First take the server as it is now, after it was found to be another database, or an earlier state of it
    #[arg(long)]
    pub accept_server: bool,
}

/// `audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// The collections [default: all that are fetched]
    pub collections: Vec<String>,
    /// Put right what differs, by taking what the server has; what waits here to be sent is kept
    #[arg(long)]
    pub repair: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Mend what is wrong: indexes and counts in place; a damaged file is kept aside and replaced by the newest good backup,
    /// what can still be read of it and what the server has
    #[arg(long)]
    pub repair: bool,
}

/// `put`
#[derive(Debug, Args)]
pub struct Put {
    /// The collection
    pub collection: String,
    /// The record's key and the document, or the document alone: then its key field counts, and where that is not set
    /// a new key is made. A document is JSON, or - for standard input
    #[arg(value_name = "[ID] JSON|-", num_args = 1..=2, required = true)]
    pub key_and_document: Vec<String>,
}

/// A record.
#[derive(Debug, Args)]
pub struct Record {
    /// The collection
    pub collection: String,
    /// The record's key
    pub id: String,
}

/// A collection.
#[derive(Debug, Args)]
pub struct Collection {
    /// The collection
    pub collection: String,
}

/// `list`
#[derive(Debug, Args)]
pub struct List {
    /// The collection
    pub collection: String,
    /// Only records with such a field: FIELD=VALUE, also with !=, <, <=, >, >= and ~ (like, with % for any text)
    ///
    /// The value is a number, true, false or null where it reads as one, else text; quote text that reads as one:
    /// 'code="42"'. May be given several times: all conditions must hold.
    #[arg(long = "where", value_name = "CONDITION")]
    pub conditions: Vec<String>,
    /// Order by a field, FIELD or FIELD:desc [default: by key]
    #[arg(long, value_name = "FIELD[:desc]")]
    pub order: Option<String>,
    /// At most so many [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// Go on after this key
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
}

/// `import`
#[derive(Debug, Args)]
pub struct Import {
    /// The collection
    pub collection: String,
    /// The file, or - for standard input
    pub file: PathBuf,
}

/// `queue`
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Print operations, the oldest first
    List {
        /// Only those that are to be sent, set aside, or waiting for a conflict's decision
        #[arg(long)]
        state: Option<State>,
        /// Only those of this collection
        #[arg(long)]
        collection: Option<String>,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
        limit: usize,
    },
    /// Print one operation with its payload
    Show {
        /// The operation
        id: i64,
    },
    /// Put parked operations back to the end of the queue
    ///
    /// With the server kit, what was saved together is sent together: an operation takes along all that is parked of its
    /// transaction, and what is parked on the same records. The answer says how many went back.
    Redrive(Chosen),
    /// Give parked operations up; what they held stays in the history
    ///
    /// An operation takes along the later ones of its record and, with the server kit, its whole transaction, which
    /// could no longer take effect as it was saved.
    Discard {
        #[command(flatten)]
        chosen: Chosen,
        /// Leave the rest of their transactions parked
        #[arg(long)]
        only: bool,
    },
}

/// What an operation is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// To be sent.
    Pending,
    /// Set aside with a cause.
    Parked,
    /// Waiting for a conflict's decision.
    Held,
}

/// Which parked operations.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["ids", "all"]).required(true))]
pub struct Chosen {
    /// The operations
    pub ids: Vec<i64>,
    /// All that are parked
    #[arg(long)]
    pub all: bool,
}

/// `conflicts`
#[derive(Debug, Subcommand)]
pub enum Conflicts {
    /// Print the conflicts that wait for a decision
    List {
        /// Also those that are decided
        #[arg(long)]
        all: bool,
    },
    /// Print one conflict with all its sides
    Show {
        /// The conflict
        id: i64,
    },
    /// Decide a conflict
    #[command(group = ArgGroup::new("decision").args(["take", "merged"]).required(true))]
    Resolve {
        /// The conflict
        id: i64,
        /// Take one side as it is
        #[arg(long)]
        take: Option<Side>,
        /// Take this document, or - for standard input
        #[arg(long, value_name = "JSON|-")]
        merged: Option<String>,
    },
    /// Take a decision back: the side that lost becomes a new local change
    Undo {
        /// The conflict
        id: i64,
    },
}

/// One side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The document on this device.
    Local,
    /// The server's row.
    Remote,
}

/// `remote`
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Print the SQL that installs or upgrades the server kit and attaches the collections' tables
    ///
    /// Needs no server and no store. Apply what it prints as the owner of the tables, with psql or as a migration of a
    /// Supabase project; it may be applied again at any time.
    Sql {
        /// Attach the tables of these collections only [default: all that travel]
        #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "remove")]
        collections: Vec<String>,
        /// Print the SQL that takes the kit away and leaves the tables as they were
        #[arg(long)]
        remove: bool,
    },
    /// Ask the server whether the kit is there and fits the configuration, and say what to do
    Check,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum Configuration {
    /// Print every value in use and where it was set
    Show,
    /// Say what is wrong, a line each
    Check,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_words_agree_with_each_other() {
        super::CommandLine::command().debug_assert();
    }
}
