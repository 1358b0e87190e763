//! What the server tells of this device's backups, for the user's other devices: the `Publisher` port. The folder is the
//! truth; each time the server's rows, and its files where that is wanted, are made equal to it.
//!
//! `board` is the table, `objects` are the files in Supabase Storage, `resumable` is how a large one gets there.

mod board;
mod objects;
mod resumable;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tidelock_actors::backups::{ArchiveError, PublishError};
use tidelock_actors::model::{Fault, FaultKind};
use tidelock_actors::ports::Publisher;

use crate::adapters::archive::{FileArchive, Manifest, Notice};
use crate::adapters::supabase::Account;
use board::Board;

const NO_TABLE: &str = "the server has no table tidelock_backups; install the server kit with: tidelock remote sql";
const NOBODY: &str = "nobody is signed in whose backups they would be";

/// The user's backups, on whichever device they are.
pub struct Everywhere {
    account: Account,
    archive: FileArchive,
    /// This device's folder, among all of the user's.
    place: String,
    /// The bucket that files go to; none where they stay on the device.
    bucket: Mutex<Option<String>>,
}

impl Everywhere {
    pub(crate) fn new(account: Account, archive: FileArchive, place: String, bucket: Option<String>) -> Self {
        Self { account, archive, place, bucket: Mutex::new(bucket) }
    }

    /// Takes over a changed setting.
    pub(crate) fn configure(&self, bucket: Option<String>) {
        *locked(&self.bucket) = bucket;
    }

    /// All backups of the user's that the server knows of, newest first.
    pub(crate) async fn list(&self) -> Result<Vec<Notice>, Fault> {
        Board(&self.account).all().await.map_err(explained)
    }

    async fn publish(&self) -> Result<(), PublishError> {
        let bucket = locked(&self.bucket).clone();
        // Whoever wants files there is told why they are not.
        let nowhere = |words: String| match bucket {
            Some(_) => PublishError::Failed(words),
            None => PublishError::Nowhere(words),
        };
        let Some(user) = self.account.user() else { return Err(nowhere(NOBODY.to_owned())) };
        let failed = |fault: Fault| match fault.kind {
            FaultKind::Schema => nowhere(explained(fault).to_string()),
            _ => PublishError::Failed(fault.to_string()),
        };
        let place = self.place.clone();
        let notices = self.archive.run(move |archive| archive.notices(&place));
        let notices = notices.await.map_err(|error: ArchiveError| PublishError::Failed(error.to_string()))?;
        let board = Board(&self.account);
        let known = board.of_place(&self.place).await.map_err(failed)?;
        let mut wanted = notices.all;
        for notice in &mut wanted {
            notice.object =
                known.get(&notice.id).filter(|known| known.digest == notice.digest).and_then(|k| k.object.clone());
        }
        let is_new = |notice: &&Notice| known.get(&notice.id) != Some(&board::Known::from(*notice));
        let new: Vec<Notice> = wanted.iter().filter(is_new).cloned().collect();
        board.put(&new).await.map_err(failed)?;
        if let Some(bucket) = &bucket {
            let chain = notices.newest_chain;
            for notice in wanted.iter_mut().filter(|notice| notice.object.is_none() && chain.contains(&notice.id)) {
                let object = objects::name_of(&user, notice);
                let (path, directory) = (PathBuf::from(&notice.path), self.archive.directory());
                objects::upload(&self.account, bucket, &object, &path, &directory).await.map_err(failed)?;
                notice.object = Some(format!("{bucket}/{object}"));
                board.put(std::slice::from_ref(notice)).await.map_err(failed)?;
            }
        }
        self.forget(known, &wanted).await.map_err(failed)
    }

    /// What is no longer in the folder goes from the server as well: first its file, then its row.
    async fn forget(&self, known: BTreeMap<String, board::Known>, wanted: &[Notice]) -> Result<(), Fault> {
        let gone: Vec<_> = known.iter().filter(|(id, _)| wanted.iter().all(|notice| notice.id != **id)).collect();
        let files: Vec<&str> = gone.iter().filter_map(|(_, known)| known.object.as_deref()).collect();
        objects::remove(&self.account, &files).await?;
        let ids: Vec<&str> = gone.iter().map(|(id, _)| id.as_str()).collect();
        Board(&self.account).remove(&self.place, &ids).await
    }

    /// Fetches a backup from Supabase Storage, with those that it continues, and writes it into one file that needs no
    /// other; the newest that is there, if none is named.
    pub(crate) async fn fetch(&self, id: Option<&str>, to: &Path) -> Result<Manifest, FetchError> {
        let board = Board(&self.account);
        let backup = board.find(id).await?;
        let chain = board.chain(&backup).await?;
        let folder = tempfile::Builder::new().prefix("tidelock-").tempdir().map_err(objects::io)?;
        let mut files = Vec::new();
        for (number, notice) in chain.iter().enumerate() {
            let file = folder.path().join(format!("{number}.tidelock"));
            let object = notice.object.as_deref();
            let object =
                object.ok_or_else(|| missing(format!("the backup {} is not in Supabase Storage", notice.id)))?;
            objects::download(&self.account, object, &file).await?;
            files.push(file);
        }
        let to = to.to_owned();
        let joined = self.archive.run(move |archive| archive.join(files, &to)).await;
        drop(folder);
        Ok(joined?)
    }
}

/// Why a backup could not be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FetchError {
    /// The server could not be asked.
    #[error(transparent)]
    Server(#[from] Fault),
    /// It is not there, is not what was uploaded, or could not be written here.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

fn missing(what: String) -> FetchError {
    ArchiveError::Unknown(what).into()
}

/// A table that is not there is the kit that is not there.
fn explained(fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::Schema => Fault { message: NO_TABLE.to_owned(), details: None, ..fault },
        _ => fault,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The port, for the timer.
pub(crate) struct Publishing(pub Option<Arc<Everywhere>>);

impl Publisher for Publishing {
    fn publish(&self) -> BoxFuture<'static, Result<(), PublishError>> {
        match self.0.clone() {
            Some(everywhere) => async move { everywhere.publish().await }.boxed(),
            None => ready(Err(PublishError::Nowhere("no server is configured".to_owned()))).boxed(),
        }
    }
}
