//! A damaged store goes on (H45): the file is kept aside, the newest good backup takes its place, what can still be read
//! of the damaged file is laid over it, and the server tells the rest.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidelock_actors::backups::{ArchiveError, Reason};
use tidelock_actors::model::{Direction, Stamp};
use tidelock_actors::ports::{Store, StoreError};
use tidelock_actors::writes::{LocalTransaction, Write};

use super::equipment::{archive_options, store_options};
use crate::adapters::archive::{FileArchive, Point};
use crate::adapters::sqlite::{self, Found, OpenError, Salvaged, SqliteReads, SqliteStore};
use crate::config::Config;
use crate::error::Error;
use crate::private::private;

/// The folder of damaged files, each in a folder of its own.
const ASIDE: &str = "damaged";
/// The file that says what was done.
const REPORT: &str = "repair.json";
/// What could be read and has no place.
const UNPLACED: &str = "unplaced.jsonl";
/// A store's files.
const FILES: [&str; 4] = ["tidelock.db", "tidelock.db-wal", "tidelock.db-shm", "log"];

/// What was done about a damaged store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When.
    pub at: Timestamp,
    /// How the damage was seen.
    pub cause: String,
    /// The folder that the damaged files are kept in.
    pub kept_aside: PathBuf,
    /// The backup that took their place; without one the store begins anew.
    pub backup: Option<String>,
    /// The moment of the newest change in it.
    pub backup_timestamp: Option<Timestamp>,
    /// Changes that were read from the damaged file and made again.
    pub salvaged: u64,
    /// Changes that were read and could not be made again; they are in `unplaced.jsonl` beside the damaged files.
    pub unplaced: u64,
}

/// Opens a store, and repairs it first where it is damaged and that is wanted.
pub(super) fn open(config: &Config) -> Result<(SqliteStore, SqliteReads), Error> {
    let options = || store_options(config, &config.rules());
    back_up_before_migration(config);
    let opened = match sqlite::is_suspect(&config.storage.data_dir) {
        true => sqlite::examine(&config.storage.data_dir).and_then(|()| sqlite::open(options())),
        false => sqlite::open(options()),
    };
    match opened {
        Err(OpenError::Store(StoreError::Damaged(cause))) if config.storage.self_repair => {
            tracing::error!(cause, "the store is damaged; it is kept aside and replaced by the newest good backup");
            let (mut repair, after) = replace(config, &cause)?;
            let (mut store, reads) = sqlite::open(options())?;
            let own = config.rules().into_iter().filter(|rules| rules.direction == Direction::Local);
            let own: Vec<Arc<str>> = own.map(|rules| rules.name).collect();
            let damaged = sqlite::database(&repair.kept_aside);
            lay_over(&mut store, sqlite::salvage(&damaged, after.sequence, after.stamp, &own), &mut repair);
            write_report(&repair)?;
            tracing::error!(?repair, "the store was repaired");
            Ok((store, reads))
        }
        opened => Ok(opened?),
    }
}

/// Changing the tables is one transaction, so that a backup which fails is no reason not to go on.
fn back_up_before_migration(config: &Config) {
    let data_dir = &config.storage.data_dir;
    if !config.backup.enabled || !sqlite::is_of_earlier_build(&sqlite::database(data_dir)) {
        return;
    }
    let taken = sqlite::own(data_dir)
        .map_err(|error| ArchiveError::Failed(error.to_string()))
        .and_then(|_owned| FileArchive::new(archive_options(config), None).create(Reason::Migration));
    match taken {
        Ok(taken) => tracing::info!(?taken, "the store was backed up before its tables are changed"),
        Err(error) => tracing::warn!(%error, "the store could not be backed up before its tables are changed"),
    }
}

/// What was done last, if anything was.
pub(super) fn last(data_dir: &Path) -> Option<Repair> {
    let folders = std::fs::read_dir(data_dir.join(ASIDE)).ok()?;
    let reports = folders.filter_map(|folder| std::fs::read(folder.ok()?.path().join(REPORT)).ok());
    reports.filter_map(|report| serde_json::from_slice::<Repair>(&report).ok()).max_by_key(|repair| repair.at)
}

/// What the backup has already.
#[derive(Default)]
struct After {
    sequence: i64,
    stamp: Stamp,
}

/// Keeps the damaged files aside and puts the newest good backup in their place.
fn replace(config: &Config, cause: &str) -> Result<(Repair, After), Error> {
    let data_dir = &config.storage.data_dir;
    let _owned = sqlite::own(data_dir)?;
    let at = Timestamp::now();
    let kept_aside = data_dir.join(ASIDE).join(at.strftime("%Y%m%dT%H%M%S.%3fZ").to_string());
    crate::private::private_directory(&kept_aside).map_err(files(&kept_aside))?;
    for name in FILES {
        match std::fs::rename(data_dir.join(name), kept_aside.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(files(data_dir)(error)),
            _ => {}
        }
    }
    sqlite::trust(data_dir).map_err(files(data_dir))?;
    let archive = FileArchive::new(archive_options(config), None);
    let cause = cause.to_owned();
    let mut repair = Repair { at, cause, kept_aside, backup: None, backup_timestamp: None, salvaged: 0, unplaced: 0 };
    let mut after = After::default();
    for view in archive.list()? {
        let point = Point { backup: Some(view.id.clone()), at: None };
        match archive.verify(&view.id).and_then(|_| archive.restore_to(&point, data_dir)) {
            Ok(rebuilt) => {
                after = After { sequence: rebuilt.contents.sequence, stamp: rebuilt.contents.stamp };
                repair.backup_timestamp = Timestamp::from_millisecond(after.stamp.millis()).ok();
                repair.backup = Some(view.id);
                break;
            }
            Err(error @ ArchiveError::Damaged(_)) => tracing::error!(%error, "the next older backup is tried"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((repair, after))
}

/// Makes again what was read, each transaction whole.
fn lay_over(store: &mut SqliteStore, salvaged: Salvaged, repair: &mut Repair) {
    let Salvaged { transactions, own } = salvaged;
    let alone = own.into_iter().map(|found| vec![found]);
    for transaction in transactions.into_iter().chain(alone) {
        let stamp = transaction.iter().map(|found| found.stamp).max().unwrap_or_default();
        let changes = transaction.iter().map(Found::change).collect();
        let write = Write::Local(LocalTransaction { changes, stamp });
        let made = store.perform(&[write], stamp).and_then(|_| store.commit());
        let count = transaction.len() as u64;
        match made {
            Ok(()) => repair.salvaged += count,
            Err(error) => {
                tracing::error!(%error, "a change of the damaged store has no place");
                repair.unplaced += count;
                if let Err(error) = keep_unplaced(&repair.kept_aside, &transaction) {
                    tracing::error!(%error, ?transaction, "it could not be written down either");
                }
            }
        }
    }
}

fn keep_unplaced(aside: &Path, transaction: &[Found]) -> std::io::Result<()> {
    let mut file = private(OpenOptions::new().append(true).create(true)).open(aside.join(UNPLACED))?;
    for found in transaction {
        writeln!(file, "{}", serde_json::to_string(found)?)?;
    }
    file.sync_data()
}

fn write_report(repair: &Repair) -> Result<(), Error> {
    let path = repair.kept_aside.join(REPORT);
    let written = serde_json::to_vec_pretty(repair).map_err(std::io::Error::from).and_then(|report| {
        let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&path)?;
        file.write_all(&report)?;
        file.sync_data()
    });
    written.map_err(files(&path))
}

fn files(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| OpenError::Files { path, source }.into()
}
