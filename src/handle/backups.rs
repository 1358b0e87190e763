//! Backups on request: taken, listed, tried, carried elsewhere.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidelock_actors::backup::TakeBackup;
use tidelock_actors::backups::{ArchiveError, Reason, Taken};
use tidelock_actors::model::CollectionCounts;

use super::Tidelock;
use super::equipment::archive_options;
use crate::adapters::archive::{BackupInfo, BackupView, FileArchive, Point, Rebuilt};
use crate::adapters::sqlite::Quota;
use crate::config::Config;
use crate::error::Error;

/// A backup that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTrial {
    /// Its name.
    pub id: String,
    /// Whether every byte, page and promise of it is as it should be.
    pub healthy: bool,
    /// What is wrong with it.
    pub issues: Vec<String>,
}

/// A file that a backup was written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// The name that the backup in it has.
    pub id: String,
    /// Documents in it.
    pub records: u64,
}

/// A store that was made of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredCopy {
    /// Its folder.
    pub path: PathBuf,
    /// The backup that it was made of, the last one.
    pub id: String,
    /// The moment of the newest change in it.
    pub timestamp: Timestamp,
    /// Documents in it.
    pub records: u64,
    /// Operations in it that are to be sent.
    pub pending: u64,
}

/// The backups of a store, whether it is open or not, sound or not.
#[derive(Clone)]
pub struct Backups {
    archive: FileArchive,
}

impl Backups {
    /// The backups that lie where the configuration says; the store itself is not opened.
    pub fn of(config: &Config) -> Self {
        Self { archive: FileArchive::new(archive_options(config), None, Quota::new(None)) }
    }

    /// The archive itself.
    #[cfg(test)]
    pub(crate) fn archive(&self) -> FileArchive {
        self.archive.clone()
    }

    /// All of them, newest first.
    pub async fn list(&self) -> Result<Vec<BackupView>, Error> {
        Ok(self.archive.run(|archive| archive.list()).await?)
    }

    /// What is known of the newest one.
    pub async fn info(&self) -> Result<BackupInfo, Error> {
        Ok(self.archive.run(|archive| archive.info()).await?)
    }

    /// Restores a backup, by its name or its file's path, into a file beside and checks it; the newest one if none is named.
    pub async fn verify(&self, backup: Option<String>) -> Result<BackupTrial, Error> {
        let tried = self.archive.run(move |archive| {
            let newest =
                || archive.info()?.id.ok_or_else(|| ArchiveError::Unknown("there is no backup yet".to_owned()));
            let name = backup.map_or_else(newest, Ok)?;
            match archive.verify(&name) {
                Ok(id) => Ok(BackupTrial { id, healthy: true, issues: Vec::new() }),
                Err(error @ ArchiveError::Damaged(_)) => {
                    Ok(BackupTrial { id: name, healthy: false, issues: vec![error.to_string()] })
                }
                Err(error) => Err(error),
            }
        });
        Ok(tried.await?)
    }

    /// Writes the state at a point into one file that needs no other, readable on any machine.
    pub async fn export(&self, point: Point, to: PathBuf) -> Result<Exported, Error> {
        let exported = self.archive.run(move |archive| {
            let manifest = archive.export(&point, &to)?;
            let records = manifest.counts.values().map(|counts| counts.records).sum();
            Ok(Exported { path: to, id: manifest.id, records })
        });
        Ok(exported.await?)
    }

    /// Makes a store of the state at a point, in a folder that has none yet. It goes by a name of its own; what was to be
    /// sent is compared with what the server has before it counts as new.
    pub async fn restore_to(&self, point: Point, folder: PathBuf) -> Result<RestoredCopy, Error> {
        let restored = self.archive.run(move |archive| {
            let Rebuilt { manifest, contents } = archive.restore_to(&point, &folder)?;
            let total = |of: fn(&CollectionCounts) -> u64| contents.counts.values().map(of).sum();
            let (records, pending) = (total(|counts| counts.records), total(|counts| counts.pending));
            let timestamp = Timestamp::from_millisecond(contents.stamp.millis()).unwrap_or_default();
            Ok(RestoredCopy { path: folder, id: manifest.id, timestamp, records, pending })
        });
        Ok(restored.await?)
    }
}

impl Tidelock {
    /// Takes a backup now, whether something has changed or not; the app goes on meanwhile.
    pub async fn backup(&self) -> Result<BackupView, Error> {
        let Taken { id, .. } = self.inner.parts.backup.ask(TakeBackup(Reason::Requested)).await??;
        let found = self.backups().list().await?.into_iter().find(|view| view.id == id);
        found.ok_or_else(|| Error::Archive(ArchiveError::Failed(format!("the backup {id} is gone already"))))
    }

    /// The store's backups.
    pub fn backups(&self) -> Backups {
        Backups { archive: self.inner.archive.clone() }
    }
}
