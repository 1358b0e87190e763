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
use crate::adapters::sqlite::{self, Found, OpenError, Quota, Salvaged, SqliteReads, SqliteStore};
use crate::config::Config;
use crate::error::Error;
use crate::private::{new_private_file, private, private_directory, sync_directory};

/// The folder of damaged files, each in a folder of its own.
const ASIDE: &str = "damaged";
/// The file that says what was done.
const REPORT: &str = "repair.json";
/// What could be read and has no place.
const UNPLACED: &str = "unplaced.jsonl";
/// The file that says that a repair was begun.
const BEGUN: &str = "repairing.json";
/// Records of collections that never leave the device that are made again in one transaction.
const OWN_TOGETHER: usize = 500;
/// The folder, beside the damaged files, in which the store is made that takes their place.
const NEW: &str = "new";

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

/// Opens a store, and repairs it first where it is damaged and that is wanted, or where a repair was not finished.
pub(super) fn open(config: &Config) -> Result<(SqliteStore, SqliteReads), Error> {
    let data_dir = &config.storage.data_dir;
    let options = || store_options(config, &config.rules());
    if let Some(begun) = Begun::read(data_dir) {
        return repaired(config, begun);
    }
    back_up_before_migration(config);
    let opened = match sqlite::is_suspect(data_dir) {
        true => sqlite::examine(data_dir).and_then(|()| sqlite::open(options())),
        false => sqlite::open(options()),
    };
    match opened {
        Err(OpenError::Store(StoreError::Damaged(cause))) if config.storage.self_repair => {
            // Somebody else may have repaired it meanwhile, and indexes alone can be made anew.
            if sqlite::examine(data_dir).is_ok() {
                return Ok(sqlite::open(options())?);
            }
            tracing::error!(cause, "the store is damaged; it is kept aside and replaced by the newest good backup");
            repaired(config, Begun::now(data_dir, &cause))
        }
        opened => Ok(opened?),
    }
}

fn repaired(config: &Config, begun: Begun) -> Result<(SqliteStore, SqliteReads), Error> {
    let data_dir = &config.storage.data_dir;
    let (mut repair, after) = replace(config, &begun)?;
    let (mut store, reads) = sqlite::open(store_options(config, &config.rules()))?;
    let own = config.rules().into_iter().filter(|rules| rules.direction == Direction::Local);
    let own: Vec<Arc<str>> = own.map(|rules| rules.name).collect();
    let damaged = sqlite::database(&repair.kept_aside);
    lay_over(&mut store, sqlite::salvage(&damaged, after.sequence, after.stamp, &own), &mut repair);
    write_report(&repair)?;
    begun.end(data_dir).map_err(files(data_dir))?;
    tracing::error!(?repair, "the store was repaired");
    Ok((store, reads))
}

/// A repair, written down before anything is moved: whoever opens the store after a crash in the middle goes on with it.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    at: Timestamp,
    cause: String,
    aside: PathBuf,
}

impl Begun {
    fn now(data_dir: &Path, cause: &str) -> Self {
        let at = Timestamp::now();
        let aside = data_dir.join(ASIDE).join(at.strftime("%Y%m%dT%H%M%S.%3fZ").to_string());
        Self { at, cause: cause.to_owned(), aside }
    }

    fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data_dir.join(BEGUN)).ok()?).ok()
    }

    fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        write_durably(&data_dir.join(BEGUN), &serde_json::to_vec(self)?)
    }

    fn end(&self, data_dir: &Path) -> std::io::Result<()> {
        std::fs::remove_file(data_dir.join(BEGUN))
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = new_private_file(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Changing the tables is one transaction, so that a backup which fails is no reason not to go on.
fn back_up_before_migration(config: &Config) {
    let data_dir = &config.storage.data_dir;
    if !config.backup.enabled || !sqlite::is_of_earlier_build(&sqlite::database(data_dir)) {
        return;
    }
    let taken = sqlite::own(data_dir)
        .map_err(|error| ArchiveError::Failed(error.to_string()))
        .and_then(|_owned| FileArchive::new(archive_options(config), None, Quota::new(None)).create(Reason::Migration));
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

/// Keeps the damaged files aside and puts the newest good backup in their place. Every step may be done again.
fn replace(config: &Config, begun: &Begun) -> Result<(Repair, After), Error> {
    let data_dir = &config.storage.data_dir;
    let _owned = sqlite::own(data_dir)?;
    let (aside, new) = (&begun.aside, begun.aside.join(NEW));
    private_directory(aside).map_err(files(aside))?;
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(files(&new)(error)),
        _ => {}
    }
    let (repair, after) = newest_good(config, begun, &new)?;
    begun.write(data_dir).map_err(files(data_dir))?;
    put_aside(data_dir, aside).map_err(files(aside))?;
    let (database, made) = (sqlite::database(data_dir), sqlite::database(&new));
    if made.exists() && !database.exists() {
        std::fs::rename(&made, &database).and_then(|()| sync_directory(data_dir)).map_err(files(&database))?;
    }
    sqlite::trust(data_dir).map_err(files(data_dir))?;
    Ok((repair, after))
}

/// The database goes last: once it is there, what lies in the data folder is not the damaged one.
fn put_aside(data_dir: &Path, aside: &Path) -> std::io::Result<()> {
    if sqlite::database(aside).exists() {
        return Ok(());
    }
    for name in sqlite::FILES {
        match std::fs::rename(data_dir.join(name), aside.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_directory(data_dir)?;
    sync_directory(aside)
}

/// Makes a store of the newest backup that is good, in a folder of its own.
fn newest_good(config: &Config, begun: &Begun, new: &Path) -> Result<(Repair, After), Error> {
    let archive = FileArchive::new(archive_options(config), None, Quota::new(None));
    let Begun { at, cause, aside } = begun;
    let (at, cause, kept_aside) = (*at, cause.clone(), aside.clone());
    let mut repair = Repair { at, cause, kept_aside, backup: None, backup_timestamp: None, salvaged: 0, unplaced: 0 };
    let mut out_of_reach: Option<ArchiveError> = None;
    for view in archive.list()? {
        let point = Point { backup: Some(view.id.clone()), at: None };
        match archive.verify(&view.id).and_then(|_| archive.restore_to(&point, new)) {
            Ok(rebuilt) => {
                let after = After { sequence: rebuilt.contents.sequence, stamp: rebuilt.contents.stamp };
                repair.backup_timestamp = Timestamp::from_millisecond(after.stamp.millis()).ok();
                repair.backup = Some(view.id);
                return Ok((repair, after));
            }
            Err(error) => {
                tracing::error!(%error, "the next older backup is tried");
                let _ = std::fs::remove_dir_all(new);
                let is_bad = matches!(error, ArchiveError::Damaged(_) | ArchiveError::Store(StoreError::Damaged(_)));
                out_of_reach = out_of_reach.or((!is_bad).then_some(error));
            }
        }
    }
    match out_of_reach {
        // Nothing has been moved yet: another time will do.
        Some(error) => Err(error.into()),
        None => Ok((repair, After::default())),
    }
}

/// Makes again what was read, each transaction whole.
fn lay_over(store: &mut SqliteStore, salvaged: Salvaged, repair: &mut Repair) {
    let Salvaged { transactions, own } = salvaged;
    let own = own.chunks(OWN_TOGETHER).map(<[Found]>::to_vec);
    for transaction in transactions.into_iter().chain(own) {
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
                    let records: Vec<String> = transaction.iter().map(|found| found.id.to_string()).collect();
                    tracing::error!(%error, ?records, "it could not be written down either");
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
    let report = serde_json::to_vec_pretty(repair).map_err(std::io::Error::from);
    report.and_then(|report| write_durably(&path, &report)).map_err(files(&path))
}

fn files(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| OpenError::Files { path, source }.into()
}
