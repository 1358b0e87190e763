//! Backups on request: taken, listed, tried, carried elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::backup::TakeBackup;
use tidelock_actors::backups::{ArchiveError, Reason, Taken};
use tidelock_actors::model::CollectionCounts;
use tidelock_actors::storage::Perform;
use tidelock_actors::writes::{Restore, RestoreMode, Write, Written};

use super::equipment::{archive_options, everywhere};
use super::{AuditReport, AuditRequest, Inner, RollbackReport, SyncRequest, Tidelock, history};
use crate::adapters::archive::{BackupInfo, BackupView, FileArchive, Manifest, Notice, Point, Rebuilt};
use crate::adapters::publisher::Everywhere;
use crate::adapters::sqlite::{Contents, Quota};
use crate::config::Config;
use crate::error::Error;
use crate::runtime::on;

/// A backup that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupTrial {
    /// Its name.
    pub id: String,
    /// Whether every byte, page and promise of it is as it should be.
    pub healthy: bool,
    /// What is wrong with it.
    pub issues: Vec<String>,
}

/// A file that a backup was written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// The name that the backup in it has.
    pub id: String,
    /// Documents in it.
    pub records: u64,
}

/// A store that was made of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// How to restore a backup into the store that is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// What to restore; the newest backup, if nothing is said.
    #[serde(default)]
    pub point: Point,
    /// Whose word counts afterwards.
    pub mode: RestoreMode,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReport {
    /// The backup that it was made of, the last one.
    pub id: String,
    /// The moment of the newest change in it.
    pub timestamp: Timestamp,
    /// Whose word counts.
    pub mode: RestoreMode,
    /// What became of the records here; by its number it can be rolled back.
    pub restored: RollbackReport,
    /// The backup that was taken of the store as it was before; none of a dry run.
    pub before: Option<String>,
    /// As a replica: what was held against the server and put right.
    pub audit: Option<AuditReport>,
    /// Why the server could not be asked; it is asked again in later rounds.
    pub server_error: Option<String>,
}

/// The backups of a store, whether it is open or not, sound or not.
#[derive(Clone)]
pub struct Backups {
    archive: FileArchive,
    everywhere: Option<Arc<Everywhere>>,
    /// Where requests are made; without it by whoever asks.
    thread: Option<tokio::runtime::Handle>,
}

impl Backups {
    /// The backups that lie where the configuration says; the store itself is not opened. What asks the server has to be
    /// awaited within tokio then.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let archive = FileArchive::new(archive_options(config), None, Quota::new(None));
        let token = Arc::new(RwLock::new(config.remote.access_token.clone()));
        let everywhere = everywhere(config, token, &archive)?;
        Ok(Self { archive, everywhere, thread: None })
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
            Ok(exported(to, manifest))
        });
        Ok(exported.await?)
    }

    /// The newest backups of all of the user's devices, as far as they have told the server, newest first.
    pub async fn list_everywhere(&self) -> Result<Vec<Notice>, Error> {
        self.ask(|everywhere| async move { Ok(everywhere.list().await?) }).await
    }

    /// Fetches a backup of any device's from Supabase Storage into one file that needs no other; the newest that is there,
    /// if none is named.
    pub async fn fetch(&self, backup: Option<String>, to: PathBuf) -> Result<Exported, Error> {
        let fetch = |everywhere: Arc<Everywhere>| async move {
            let manifest = everywhere.fetch(backup.as_deref(), &to).await?;
            Ok(exported(to, manifest))
        };
        self.ask(fetch).await
    }

    async fn ask<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
        &self,
        question: impl FnOnce(Arc<Everywhere>) -> F,
    ) -> Result<T, Error> {
        let question = question(self.everywhere.clone().ok_or(Error::NoServer)?);
        match &self.thread {
            Some(thread) => on(thread, question).await?,
            None => question.await,
        }
    }

    /// Makes a store of the state at a point, in a folder that has none yet. It goes by a name of its own; what was to be
    /// sent is compared with what the server has before it counts as new.
    pub async fn restore_to(&self, point: Point, folder: PathBuf) -> Result<RestoredCopy, Error> {
        let restored = self.archive.run(move |archive| {
            let Rebuilt { manifest, contents } = archive.restore_to(&point, &folder)?;
            let total = |of: fn(&CollectionCounts) -> u64| contents.counts.values().map(of).sum();
            let (records, pending) = (total(|counts| counts.records), total(|counts| counts.pending));
            let timestamp = moment(&contents);
            Ok(RestoredCopy { path: folder, id: manifest.id, timestamp, records, pending })
        });
        Ok(restored.await?)
    }
}

impl Tidelock {
    /// Takes a backup now, whether something has changed or not; the app goes on meanwhile.
    pub async fn backup(&self) -> Result<BackupView, Error> {
        let Taken { id, .. } = self.take(Reason::Requested).await?;
        let found = self.backups().list().await?.into_iter().find(|view| view.id == id);
        found.ok_or_else(|| Error::Archive(ArchiveError::Failed(format!("the backup {id} is gone already"))))
    }

    /// Restores a backup into this store, which goes on being used. What waits to be sent still waits, open conflicts stay
    /// open, what is replaced goes to the history; the store as it was is backed up before.
    ///
    /// With [`RestoreMode::Merge`] records that only the backup has are added, and where both have one its collection's
    /// strategy decides. With [`RestoreMode::Authority`] what the backup has becomes new local changes, and so wins
    /// everywhere once they are sent. With [`RestoreMode::Replica`] only collections that never leave the device are taken
    /// from the backup, and all others are held against the server and put right.
    pub async fn restore(&self, request: RestoreRequest) -> Result<RestoreReport, Error> {
        let RestoreRequest { point, mode, dry_run } = request;
        if let Some(at) = point.at
            && self.backups().info().await?.timestamp.is_none_or(|newest| newest < at)
        {
            // What was committed since the newest backup is in none yet.
            self.take(Reason::Requested).await?;
        }
        let (copy, rebuilt) = self.inner.archive.run(move |archive| archive.rebuild_beside(&point)).await?;
        let reason = if mode == RestoreMode::Merge { Reason::Import } else { Reason::Restore };
        let before = if dry_run { None } else { Some(self.take(reason).await?.id) };
        if mode != RestoreMode::Replica && !dry_run {
            // Changes made on what the server has now are no conflicts. Without the server they are made all the same.
            let pulled = self.sync(SyncRequest { push: false, pull: true, accept_server: false }).await;
            pulled.inspect_err(|error| tracing::info!(%error, "the server was not asked before the restore")).ok();
        }
        let wanted = Restore { copy: copy.to_path_buf(), mode, is_trial: dry_run };
        let restored = match self.inner.parts.storage.ask(Perform(Write::Restore(wanted))).await?? {
            Written::RolledBack(done) => history::report(done, dry_run),
            other => return Err(Error::Invalid(format!("the store answered another question: {other:?}"))),
        };
        let (mut audit, mut server_error) = (None, None);
        if mode == RestoreMode::Replica && !dry_run {
            match self.audit(AuditRequest { repair: true, collections: Vec::new() }).await {
                Ok(report) => audit = Some(report),
                Err(error) => server_error = Some(error.to_string()),
            }
        }
        let Rebuilt { manifest, contents } = rebuilt;
        let timestamp = moment(&contents);
        Ok(RestoreReport { id: manifest.id, timestamp, mode, restored, before, audit, server_error })
    }

    async fn take(&self, reason: Reason) -> Result<Taken, Error> {
        Ok(self.inner.parts.backup.ask(TakeBackup(reason)).await??)
    }

    /// The store's backups.
    pub fn backups(&self) -> Backups {
        let Inner { archive, everywhere, parts, .. } = &*self.inner;
        Backups { archive: archive.clone(), everywhere: everywhere.clone(), thread: Some(parts.thread.clone()) }
    }
}

fn exported(path: PathBuf, manifest: Manifest) -> Exported {
    let records = manifest.counts.values().map(|counts| counts.records).sum();
    Exported { path, id: manifest.id, records }
}

/// When the newest change in a copy was made.
fn moment(contents: &Contents) -> Timestamp {
    Timestamp::from_millisecond(contents.stamp.millis()).unwrap_or_default()
}
