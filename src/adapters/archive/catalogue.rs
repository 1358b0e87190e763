//! Which backups there are: their files in one folder, each with its manifest, and which of them have been tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidelock_actors::backups::ArchiveError;
use tidelock_actors::model::Stamp;

use super::container::{self, UNFINISHED};
use super::faults::{damaged, io};
use super::manifest::{Kind, Manifest};
use crate::private::replace_private_file;

/// How the names of backups end.
pub(super) const EXTENSION: &str = "tidelock";
/// The file that says which of them have been tried.
const TRIED: &str = "tried.json";

/// After how long what is not finished never will be.
const UNFINISHED_AGE: Duration = Duration::from_secs(60 * 60);

/// A file that was changed so long ago would have another time if it were changed again.
const SETTLED_AGE: Duration = Duration::from_secs(2);

/// How far in the future a backup may be by a clock that was set back a little.
const CLOCK_SLACK_MS: i64 = 60_000;

/// A backup in the folder.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Arc<Manifest>,
    /// Its size.
    pub bytes: u64,
}

/// What was read before, each with its file's time: what is as it was then need not be opened again.
pub(super) type Seen = BTreeMap<PathBuf, (SystemTime, Entry)>;

impl Entry {
    fn read(path: &Path) -> Result<Self, ArchiveError> {
        let backup = container::open(path)?;
        Ok(Self { path: path.to_owned(), manifest: Arc::new(backup.manifest), bytes: backup.bytes })
    }

    /// Whether its time can be believed: one of the future was taken while the clock was wrong.
    pub(super) fn is_dated(&self, now: Timestamp) -> bool {
        self.manifest.timestamp.as_millisecond() <= now.as_millisecond() + CLOCK_SLACK_MS
    }
}

/// The backups of a folder, oldest first and those of the future before them, and the files that look like some and are
/// none.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// The backups.
    pub entries: Vec<Entry>,
    /// What cannot be read, each with its fault.
    pub damaged: Vec<(PathBuf, ArchiveError)>,
    /// Where each of them stands, by its name and by its digest.
    by_id: BTreeMap<String, usize>,
    by_digest: BTreeMap<String, usize>,
}

impl Catalogue {
    /// Reads the manifests of all files that are not as they were seen. A folder that is not there has none.
    pub(super) fn read(directory: &Path, seen: &mut Seen) -> Result<Self, ArchiveError> {
        let (mut catalogue, before) = (Self::default(), std::mem::take(seen));
        for path in files(directory)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == EXTENSION)) {
            let (bytes, changed) = path.metadata().map_or((0, None), |file| (file.len(), file.modified().ok()));
            let is_same = |(at, entry): &&(SystemTime, Entry)| Some(*at) == changed && entry.bytes == bytes;
            let known = before.get(&path).filter(is_same).map(|(_, entry)| Ok(entry.clone()));
            match known.unwrap_or_else(|| Entry::read(&path)) {
                Ok(entry) => {
                    if let Some(at) = changed.filter(is_settled) {
                        seen.insert(path, (at, entry.clone()));
                    }
                    catalogue.entries.push(entry);
                }
                Err(error) => catalogue.damaged.push((path, error)),
            }
        }
        let now = Timestamp::now();
        catalogue.entries.sort_by_key(|entry| (entry.is_dated(now), entry.manifest.timestamp));
        let by = |name: fn(&Manifest) -> &String| {
            // The last one put in stays: of two copies the first.
            let places = catalogue.entries.iter().enumerate().rev();
            places.map(|(at, entry)| (name(&entry.manifest).clone(), at)).collect()
        };
        (catalogue.by_id, catalogue.by_digest) = (by(|manifest| &manifest.id), by(|manifest| &manifest.digest));
        Ok(catalogue)
    }

    /// What they take together.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// The newest one.
    pub(super) fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// One by its name.
    pub(super) fn find(&self, id: &str) -> Result<&Entry, ArchiveError> {
        if let Some(at) = self.by_id.get(id) {
            return Ok(&self.entries[*at]);
        }
        let is_named = |path: &Path| path.file_stem().is_some_and(|stem| stem == id);
        match self.damaged.iter().find(|(path, _)| is_named(path)) {
            Some((_, error)) => Err(error.clone()),
            None => Err(ArchiveError::Unknown(format!("there is no backup {id:?}"))),
        }
    }

    /// The backups that it takes to restore one: the full one first, then what continues it.
    pub(super) fn chain(&self, entry: &Entry) -> Result<Vec<&Entry>, ArchiveError> {
        let Manifest { id, .. } = &*entry.manifest;
        let mut chain = vec![self.find(id)?];
        while let Some(after) = chain.last().and_then(|last| last.manifest.after.as_deref()) {
            let before = self.by_digest.get(after).filter(|_| chain.len() <= self.entries.len());
            let missing = || damaged(&entry.path, "it continues a backup that is not there any more");
            chain.push(&self.entries[*before.ok_or_else(missing)?]);
        }
        chain.reverse();
        match chain[0].manifest.kind {
            Kind::Full => Ok(chain),
            Kind::Log => Err(damaged(&entry.path, "it continues no full backup")),
        }
    }

    /// The backup from which the state at a moment can be had: the first one taken after it that continues one taken
    /// before, or the last one before.
    pub(super) fn at(&self, moment: Timestamp) -> Result<&Entry, ArchiveError> {
        // By the store's own clock, as its commits are found.
        let is_before = |entry: &Entry| Stamp(entry.manifest.stamp).millis() <= moment.as_millisecond();
        let before = self.entries.iter().rposition(is_before);
        let Some(before) = before else {
            let oldest = self.entries.first().map_or("there is none".to_owned(), |entry| {
                format!("the oldest one is of {}", entry.manifest.timestamp)
            });
            return Err(ArchiveError::Unknown(format!("no backup reaches back to {moment}; {oldest}")));
        };
        let continues = |entry: &&Entry| entry.manifest.after.as_ref() == Some(&self.entries[before].manifest.digest);
        Ok(self.entries[before..].iter().find(continues).unwrap_or(&self.entries[before]))
    }
}

/// What was found when a backup was last tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// When.
    pub at: Timestamp,
    /// Whether it was good.
    pub good: bool,
}

/// The same of each backup, by digest.
pub(super) type Tried = BTreeMap<String, Trial>;

/// Reads it; what cannot be read has not been tried.
pub(super) fn tried(directory: &Path) -> Tried {
    let text = std::fs::read(directory.join(TRIED)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Notes that a backup is good, or that it is not, and forgets those that are gone.
pub(super) fn note(directory: &Path, digest: &str, good: bool, catalogue: &Catalogue) -> Result<(), ArchiveError> {
    let mut tried = tried(directory);
    tried.insert(digest.to_owned(), Trial { at: Timestamp::now(), good });
    tried.retain(|known, _| catalogue.entries.iter().any(|entry| entry.manifest.digest == *known));
    let text = serde_json::to_vec(&tried).unwrap_or_default();
    replace_private_file(directory, TRIED, &text).map_err(io)
}

/// Removes what was begun long ago and never finished. What is being written is younger.
pub(super) fn sweep(directory: &Path) -> Result<(), ArchiveError> {
    let is_unfinished = |path: &Path| {
        let is_old = path
            .metadata()
            .and_then(|file| file.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNFINISHED_AGE));
        is_old && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
    };
    for path in files(directory)?.into_iter().filter(|path| is_unfinished(path)) {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(io)?;
    }
    Ok(())
}

fn is_settled(changed: &SystemTime) -> bool {
    changed.elapsed().is_ok_and(|age| age > SETTLED_AGE)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    match std::fs::read_dir(directory) {
        Ok(files) => files.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().map_err(io),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io(error)),
    }
}
