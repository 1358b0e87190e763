//! The way back: a chain of backups becomes a database again, at the moment that is wanted, and is looked at closely.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;
use tidelock_actors::backups::{ArchiveError, Reason};
use tidelock_actors::model::Stamp;
use tidelock_actors::ports::StoreError;

use super::catalogue;
use super::create::{manifest, name};
use super::encryption::Keys;
use super::faults::{damaged, io};
use super::manifest::{Kind, Manifest};
use super::{FileArchive, container, scratch};
use crate::adapters::sqlite::{self, Contents, Replay};
use crate::private::{new_private_file, private_directory, sync_directory};

/// What to restore.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Point {
    /// A backup by its name, or a backup's file by its path; without it, the newest one.
    pub backup: Option<String>,
    /// The state at this moment, whichever backups it takes.
    pub at: Option<Timestamp>,
}

/// A database that was put together from backups.
pub(crate) struct Rebuilt {
    /// What it was made of, the last one.
    pub manifest: Manifest,
    /// What is in it.
    pub contents: Contents,
}

/// What it takes to put a database together.
struct Parts {
    /// The files, the full backup first.
    chain: Vec<PathBuf>,
    /// The moment that is wanted, if it is not the end of the last one.
    until: Option<Stamp>,
}

impl FileArchive {
    /// Puts the database at a point together in a file that goes when nobody holds it any more.
    pub(crate) fn rebuild_beside(&self, point: &Point) -> Result<(TempPath, Rebuilt), ArchiveError> {
        let (copy, rebuilt) = self.rebuild_in(&self.options().directory, &self.parts_of(point)?)?;
        sqlite::check_pages(&copy)?;
        Ok((copy, rebuilt))
    }

    /// The same in a folder, made if it is not there, and not yet looked at.
    fn rebuild_in(&self, folder: &Path, parts: &Parts) -> Result<(TempPath, Rebuilt), ArchiveError> {
        private_directory(folder).map_err(io)?;
        let copy = scratch(folder)?;
        let rebuilt = rebuild(parts, &self.options().keys, &copy)?;
        Ok((copy, rebuilt))
    }

    fn parts_of(&self, point: &Point) -> Result<Parts, ArchiveError> {
        let catalogue = self.catalogue()?;
        let entry = match (&point.backup, point.at) {
            (Some(_), Some(_)) => {
                return Err(ArchiveError::Invalid("name a backup or a moment, not both".to_owned()));
            }
            (Some(name), None) if is_path(name) => {
                return Ok(Parts { chain: vec![PathBuf::from(name)], until: None });
            }
            (Some(id), None) => catalogue.find(id)?,
            (None, Some(moment)) => catalogue.at(moment)?,
            (None, None) => match catalogue.newest() {
                Some(newest) => newest,
                None => return Err(ArchiveError::Unknown("there is no backup yet".to_owned())),
            },
        };
        let until = point.at.map(|moment| Stamp::end_of(moment.as_millisecond()));
        let chain = catalogue.chain(entry)?.into_iter().map(|entry| entry.path.clone()).collect();
        Ok(Parts { chain, until })
    }

    /// Restores a backup into a file beside and checks every byte, page and promise of it.
    pub(crate) fn verify(&self, name: &str) -> Result<String, ArchiveError> {
        let directory = self.options().directory;
        let point = Point { backup: Some(name.to_owned()), at: None };
        let rebuilt = self.parts_of(&point).and_then(|parts| self.rebuild_in(&directory, &parts));
        let tried = rebuilt.and_then(|(to, rebuilt)| {
            let verified = sqlite::check(&to)?;
            match verified.healthy {
                true => Ok(rebuilt.manifest),
                false => Err(damaged(Path::new(name), &verified.issues.join("; "))),
            }
        });
        let catalogue = self.catalogue()?;
        let known = catalogue.entries.iter().find(|entry| entry.manifest.id == name);
        let is_told =
            matches!(tried, Ok(_) | Err(ArchiveError::Damaged(_) | ArchiveError::Store(StoreError::Damaged(_))));
        if let Some(entry) = known.filter(|_| is_told) {
            let noted = catalogue::note(&directory, &entry.manifest.digest, tried.is_ok(), &catalogue);
            noted.unwrap_or_else(|error| tracing::warn!(%error, "what was found of a backup could not be noted"));
        }
        tried.map(|manifest| manifest.id)
    }

    /// Makes a store of the state at a point, in a folder that has none yet.
    pub(crate) fn restore_to(&self, point: &Point, folder: &Path) -> Result<Rebuilt, ArchiveError> {
        let database = sqlite::database(folder);
        if let Some(left) = sqlite::FILES.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
            let (folder, left) = (folder.display(), left.display());
            let words =
                format!("there is a store in {folder} already, or what is left of one ({left}); name another folder");
            return Err(ArchiveError::Invalid(words));
        }
        let (copy, rebuilt) = self.rebuild_in(folder, &self.parts_of(point)?)?;
        sqlite::check_pages(&copy)?;
        sqlite::uproot(&copy)?;
        File::open(&copy).and_then(|file| file.sync_all()).map_err(io)?;
        copy.persist(&database).map_err(|error| io(error.error))?;
        sync_directory(folder).map_err(io)?;
        Ok(rebuilt)
    }

    /// Writes a backup that stands alone, whatever it is made of.
    pub(crate) fn export(&self, point: &Point, to: &Path) -> Result<Manifest, ArchiveError> {
        demand_new(to)?;
        self.write_alone(&self.parts_of(point)?, to)
    }

    /// The same of files that lie elsewhere.
    pub(crate) fn join(&self, files: Vec<(PathBuf, String)>, to: &Path) -> Result<Manifest, ArchiveError> {
        for (file, digest) in &files {
            if container::open(file)?.manifest.digest != *digest {
                return Err(damaged(file, "it is another one than was uploaded"));
            }
        }
        let chain = files.into_iter().map(|(file, _)| file).collect();
        self.write_alone(&Parts { chain, until: None }, to)
    }

    fn write_alone(&self, parts: &Parts, to: &Path) -> Result<Manifest, ArchiveError> {
        let (copy, Rebuilt { contents, .. }) = self.rebuild_in(&self.options().directory, parts)?;
        let began = Timestamp::now();
        let payload =
            |sink: &mut dyn std::io::Write| std::io::copy(&mut File::open(&copy).map_err(io)?, sink).map_err(io);
        let own =
            |bytes| manifest(&name(began, Kind::Full), Kind::Full, Reason::Requested, began, &contents, bytes, None);
        Ok(container::write(to, &self.options().keys, payload, own)?.0)
    }
}

/// No file is overwritten, and nothing is put together for one that could not be written.
pub(crate) fn demand_new(file: &Path) -> Result<(), ArchiveError> {
    let words = || format!("{} exists already; name another file", file.display());
    if file.exists() { Err(ArchiveError::Invalid(words())) } else { Ok(()) }
}

/// A backup's name never has a slash or an ending.
fn is_path(name: &str) -> bool {
    name.contains(['/', '\\']) || Path::new(name).extension().is_some_and(|end| end == catalogue::EXTENSION)
}

fn rebuild(Parts { chain, until }: &Parts, keys: &Keys, to: &Path) -> Result<Rebuilt, ArchiveError> {
    let until = *until;
    let mut replay: Option<Replay> = None;
    let mut last: Option<Manifest> = None;
    for path in chain {
        let mut backup = container::open(path)?;
        backup.check()?;
        let continues = last.as_ref().map(|last| last.digest.clone());
        if backup.manifest.after != continues {
            return Err(damaged(path, "it does not continue the backup before it, which it needs"));
        }
        match &mut replay {
            None => {
                pour_out(&mut backup, keys, to, path)?;
                replay = Some(Replay::new(to, until)?);
            }
            Some(replay) => replay.take(backup.payload(keys)?).map_err(|error| damaged(path, &error.to_string()))?,
        }
        last = Some(backup.manifest);
    }
    match (replay, last) {
        (Some(replay), Some(manifest)) => {
            let contents = replay.finish()?;
            if until.is_none() && contents.stamp.0 < manifest.stamp {
                return Err(damaged(to, "it holds less than it says"));
            }
            Ok(Rebuilt { contents, manifest })
        }
        _ => Err(ArchiveError::Unknown("there is no backup yet".to_owned())),
    }
}

fn pour_out(backup: &mut container::Backup, keys: &Keys, to: &Path, path: &Path) -> Result<(), ArchiveError> {
    let expected = backup.manifest.plain_bytes;
    let mut file = new_private_file(to).map_err(io)?;
    let poured = std::io::copy(&mut backup.payload(keys)?, &mut file).map_err(io)?;
    (poured == expected).then_some(()).ok_or_else(|| damaged(path, "it holds less than it says"))
}
