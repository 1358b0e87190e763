//! Backups as files in one folder: the `Archive` port, and what the handle asks of it.
//!
//! A chain of backups begins with a full one, a copy of the database; each further one holds what went through the
//! database's log since the one before. So a backup costs what has changed, and every commit between can be restored.
//! `container` is the form of a file, `catalogue` the folder, `rebuild` the way back.

mod catalogue;
mod container;
mod create;
mod encryption;
mod faults;
mod manifest;
mod notice;
mod rebuild;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::backups::{ArchiveError, ArchiveState, Keep, Reason, Taken};
use tidelock_actors::ports::Archive;

pub(crate) use self::container::UNFINISHED;
pub use self::encryption::Keys;
pub(crate) use self::encryption::{PASSPHRASE, is_recipient};
pub use self::manifest::{Kind, Manifest};
pub use self::notice::Notice;
pub(crate) use self::notice::Notices;
use crate::adapters::sqlite::{Log, Quota};
use crate::locks::locked;
use catalogue::{Catalogue, Entry, Seen};
pub use rebuild::Point;
pub(crate) use rebuild::{Rebuilt, demand_new};

/// How backups are kept.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// The store's folder.
    pub store: PathBuf,
    /// The backups' folder.
    pub directory: PathBuf,
    /// How many are kept.
    pub keep: Keep,
    /// Whether a backup may continue the one before it.
    pub incremental: bool,
    /// After how long one is full all the same.
    pub full_interval: std::time::Duration,
    /// What they are encrypted with.
    pub keys: Keys,
}

/// A backup as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupView {
    /// Its name.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// The whole store, or what was committed since the backup before it.
    pub kind: Kind,
    /// Why it was taken.
    pub reason: Reason,
    /// When it was taken.
    pub timestamp: Timestamp,
    /// How long ago that is.
    pub age_seconds: i64,
    /// Its size.
    pub bytes: u64,
    /// Documents in it.
    pub records: u64,
    /// Operations in it that were still to be sent.
    pub pending: u64,
    /// The store that it is of.
    pub client_id: String,
    /// The full backup that it needs.
    pub base: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether it was restored into a file beside and found good.
    pub verified: bool,
    /// When that was.
    pub verified_at: Option<Timestamp>,
}

/// What is known of the newest backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BackupInfo {
    /// Whether there is one.
    pub exists: bool,
    /// Its name.
    pub id: Option<String>,
    /// Its file.
    pub path: Option<PathBuf>,
    /// When it was taken.
    pub timestamp: Option<Timestamp>,
    /// How long ago that is.
    pub age_seconds: Option<i64>,
    /// Its size.
    pub bytes: Option<u64>,
    /// Whether it was restored into a file beside and found good.
    pub verified: bool,
    /// How many backups there are.
    pub count: usize,
    /// The size of all of them together.
    pub total_bytes: u64,
    /// Files in the folder that look like backups and cannot be read.
    pub damaged: Vec<PathBuf>,
}

/// The archive. Clones share it.
#[derive(Clone)]
pub struct FileArchive {
    inner: Arc<Inner>,
}

struct Inner {
    options: Mutex<ArchiveOptions>,
    log: Option<Log>,
    quota: Quota,
    /// One thing at a time.
    work: Mutex<()>,
    /// So that what happens often does not open every file.
    seen: Mutex<Seen>,
}

impl FileArchive {
    /// An archive over an opened store, or, without its log, over the files alone.
    pub(crate) fn new(options: ArchiveOptions, log: Option<Log>, quota: Quota) -> Self {
        let (options, work, seen) = (Mutex::new(options), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { options, log, quota, work, seen }) }
    }

    /// Takes over changed settings.
    pub(crate) fn configure(&self, options: ArchiveOptions) {
        *locked(&self.inner.options) = options;
    }

    fn options(&self) -> ArchiveOptions {
        locked(&self.inner.options).clone()
    }

    /// Does something on a thread of its own, after what is at work.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ArchiveError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ArchiveError>> {
        let (give, answer) = oneshot::channel();
        let archive = self.clone();
        let body = move || {
            let _at_work = locked(&archive.inner.work);
            // Nobody waits any more: no error.
            let _ = give.send(work(&archive));
        };
        let started = std::thread::Builder::new().name("tidelock-backup".to_owned()).spawn(body);
        async move {
            started.map_err(faults::io)?;
            answer.await.unwrap_or_else(|_| Err(ArchiveError::Failed("the archive's work panicked".to_owned())))
        }
        .boxed()
    }

    fn catalogue(&self) -> Result<Catalogue, ArchiveError> {
        self.catalogue_in(&self.options().directory)
    }

    fn catalogue_in(&self, directory: &Path) -> Result<Catalogue, ArchiveError> {
        Catalogue::read(directory, &mut locked(&self.inner.seen))
    }

    /// What all backups take, for the quota.
    fn count(&self) -> Result<(), ArchiveError> {
        self.inner.quota.count_backups(self.catalogue()?.bytes());
        Ok(())
    }

    /// All backups, newest first.
    pub(crate) fn list(&self) -> Result<Vec<BackupView>, ArchiveError> {
        let tried = catalogue::tried(&self.options().directory);
        let mut views: Vec<_> = self.catalogue()?.entries.iter().map(|entry| view(entry, &tried)).collect();
        views.reverse();
        Ok(views)
    }

    /// What is known of the newest one.
    pub(crate) fn info(&self) -> Result<BackupInfo, ArchiveError> {
        let catalogue = self.catalogue()?;
        let tried = catalogue::tried(&self.options().directory);
        let newest = catalogue.newest().map(|entry| view(entry, &tried));
        let info = BackupInfo {
            count: catalogue.entries.len(),
            total_bytes: catalogue.bytes(),
            damaged: catalogue.damaged.into_iter().map(|(path, _)| path).collect(),
            ..BackupInfo::default()
        };
        Ok(match newest {
            None => info,
            Some(view) => BackupInfo {
                exists: true,
                id: Some(view.id),
                path: Some(view.path),
                timestamp: Some(view.timestamp),
                age_seconds: Some(view.age_seconds),
                bytes: Some(view.bytes),
                verified: view.verified,
                ..info
            },
        })
    }
}

fn view(entry: &Entry, tried: &catalogue::Tried) -> BackupView {
    let manifest = &entry.manifest;
    let verified_at = tried.get(&manifest.digest).filter(|trial| trial.good).map(|trial| trial.at);
    BackupView {
        id: manifest.id.clone(),
        path: entry.path.clone(),
        kind: manifest.kind,
        reason: manifest.reason,
        timestamp: manifest.timestamp,
        age_seconds: Timestamp::now().as_second() - manifest.timestamp.as_second(),
        bytes: entry.bytes,
        records: manifest.counts.values().map(|counts| counts.records).sum(),
        pending: manifest.counts.values().map(|counts| counts.pending).sum(),
        client_id: manifest.client_id.clone(),
        base: manifest.base.clone(),
        encrypted: manifest.is_encrypted,
        verified: verified_at.is_some(),
        verified_at,
    }
}

impl Archive for FileArchive {
    fn state(&self) -> BoxFuture<'static, ArchiveState> {
        let state = self.run(|archive| {
            let options = archive.options();
            let (catalogue, tried) = (archive.catalogue()?, catalogue::tried(&options.directory));
            archive.inner.quota.count_backups(catalogue.bytes());
            let made = crate::adapters::sqlite::database(&options.store).metadata().and_then(|file| file.created());
            let made = made.ok().and_then(|made| Timestamp::try_from(made).ok());
            Ok(ArchiveState {
                taken_ms: catalogue.newest().map(|entry| entry.manifest.timestamp.as_millisecond()),
                drilled_ms: tried.values().map(|trial| trial.at.as_millisecond()).max(),
                since_ms: made.map(|at| at.as_millisecond()),
            })
        });
        state.map(Result::unwrap_or_default).boxed()
    }

    fn take(&self, reason: Reason) -> BoxFuture<'static, Result<Option<Taken>, ArchiveError>> {
        self.run(move |archive| {
            let taken = archive.create(reason);
            if taken.is_err()
                && let Err(error) = archive.count()
            {
                tracing::debug!(%error, "what the backups take could not be counted");
            }
            taken
        })
    }

    fn drill(&self) -> BoxFuture<'static, Result<(), ArchiveError>> {
        self.run(|archive| match archive.catalogue()?.newest() {
            // Without the key its bytes are all that can be looked at.
            Some(newest) if newest.manifest.is_encrypted && !archive.options().keys.can_read() => {
                container::open(&newest.path)?.check()
            }
            Some(newest) => archive.verify(&newest.manifest.id).map(|_| ()),
            None => Ok(()),
        })
    }
}

/// A file that stays only for as long as it is needed, beside the backups.
fn scratch(directory: &Path) -> Result<tempfile::TempPath, ArchiveError> {
    let made = tempfile::Builder::new().prefix(container::UNFINISHED).suffix(".db").tempfile_in(directory);
    Ok(made.map_err(faults::io)?.into_temp_path())
}

#[cfg(test)]
mod tests;
