//! What the server tells of this device's backups, for the user's other devices: the `Publisher` port. The folder is the
//! truth; each time the server's rows are made equal to it, and the newest backup is uploaded where that is wanted. Only
//! what was told from this very folder before can be taken for gone.
//!
//! `told` is what was told before, `board` is the table, `objects` are the files in Supabase Storage, `resumable` is how a large one gets there.

mod board;
mod objects;
mod resumable;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tidelock_actors::backups::{ArchiveError, PublishError};
use tidelock_actors::model::{Fault, FaultKind};
use tidelock_actors::ports::Publisher;

use crate::adapters::archive::{FileArchive, Manifest, Notice, Notices, UNFINISHED};
use crate::adapters::room::lack_of;
use crate::adapters::supabase::Account;
use crate::locks::locked;
use crate::private::private_directory;
use board::{Board, Known};
use told::Told;

const NO_TABLE: &str = "the server has no table tidelock_backups; install the server kit with: tidelock remote sql";
const NOBODY: &str = "nobody is signed in whose backups they would be";

/// The user's backups, on whichever device they are.
pub struct Everywhere {
    account: Account,
    archive: FileArchive,
    /// What the store's folder is called.
    name: String,
    /// The bucket that files go to; none where they stay on the device.
    bucket: Mutex<Option<String>>,
}

impl Everywhere {
    pub(crate) fn new(account: Account, archive: FileArchive, name: String, bucket: Option<String>) -> Self {
        Self { account, archive, name, bucket: Mutex::new(bucket) }
    }

    /// Takes over a changed setting.
    pub(crate) fn configure(&self, bucket: Option<String>) {
        *locked(&self.bucket) = bucket;
    }

    /// All backups of the user's that the server knows of, newest first.
    pub(crate) async fn list(&self) -> Result<Vec<Notice>, Fault> {
        self.demand_user()?;
        Board(&self.account).all().await.map_err(explained)
    }

    async fn publish(&self) -> Result<(), PublishError> {
        let bucket = locked(&self.bucket).clone();
        // Whoever wants files there is told why they are not.
        let nowhere = |words: &str| match bucket {
            Some(_) => PublishError::Failed(words.to_owned()),
            None => PublishError::Nowhere(words.to_owned()),
        };
        let failed = |error: &dyn std::fmt::Display| PublishError::Failed(error.to_string());
        let Some(user) = self.account.user() else { return Err(nowhere(NOBODY)) };
        let directory = self.archive.directory();
        let mut told = Told::read(&directory).unwrap_or_else(|| Told::new(&user));
        if told.user != user {
            return Err(nowhere("the backups in this folder are another user's"));
        }
        let (board, place) = (Board(&self.account), told.place(&self.name, &directory));
        let known = board.of_place(&place).await.map_err(|fault| match fault.kind {
            FaultKind::Schema => nowhere(NO_TABLE),
            _ => failed(&fault),
        })?;
        let of = place.clone();
        let Notices { mut all, unread, newest_chain } =
            self.archive.run(move |archive| archive.notices(&of)).await.map_err(|error| failed(&error))?;
        if all.is_empty() && told.ids.is_empty() {
            return Ok(());
        }
        for notice in &mut all {
            let same = known.get(&notice.id).filter(|known| known.digest == notice.digest);
            notice.object = same.and_then(|known| known.object.clone());
        }
        told.ids.extend(all.iter().map(|notice| notice.id.clone()));
        told.write(&directory).map_err(|error| failed(&error))?;
        let is_new = |notice: &&Notice| known.get(&notice.id) != Some(&Known::from(*notice));
        let new: Vec<Notice> = all.iter().filter(is_new).cloned().collect();
        board.put(&new).await.map_err(|fault| failed(&fault))?;

        let uploaded = match (&bucket, newest_chain) {
            (None, _) => Ok(()),
            (Some(_), Err(why)) => Err(failed(&why)),
            (Some(bucket), Ok(chain)) => {
                let wanted = all.iter_mut().filter(|notice| chain.contains(&notice.id));
                self.upload(bucket, &user, wanted).await.map_err(|fault| failed(&fault))
            }
        };
        // What the folder does not have any more goes from the server as well. While the newest cannot be uploaded, older
        // files stay there.
        let is_gone = |id: &String| !unread.contains(id) && all.iter().all(|notice| notice.id != *id);
        let gone = told.ids.iter().filter(|id| is_gone(id)).filter_map(|id| Some((id.clone(), known.get(id)?.clone())));
        let gone: BTreeMap<String, Known> =
            gone.filter(|(_, known)| uploaded.is_ok() || known.object.is_none()).collect();
        self.forget(&place, &user, bucket.as_deref(), &gone).await.map_err(|fault| failed(&fault))?;
        told.ids.retain(|id| known.contains_key(id) && !gone.contains_key(id) || !is_gone(id));
        told.write(&directory).map_err(|error| failed(&error))?;
        uploaded
    }

    /// Puts those files into the bucket that are not there yet, and says so of each.
    async fn upload(&self, bucket: &str, user: &str, wanted: impl Iterator<Item = &mut Notice>) -> Result<(), Fault> {
        let is_there = |notice: &Notice| {
            let object = notice.object.as_deref().and_then(|object| object.split_once('/'));
            object.is_some_and(|(held, _)| held == bucket)
        };
        for notice in wanted.filter(|notice| !is_there(notice)) {
            let (object, path) = (objects::name_of(user, &notice.place, &notice.id), PathBuf::from(&notice.path));
            objects::upload(&self.account, bucket, &object, &path, &self.archive.directory()).await?;
            notice.object = Some(format!("{bucket}/{object}"));
            Board(&self.account).put(std::slice::from_ref(notice)).await?;
        }
        Ok(())
    }

    /// Removes files, then the rows that tell of them. A file may be there of which no row tells: its upload ended and the
    /// device did.
    async fn forget(
        &self,
        place: &str,
        user: &str,
        bucket: Option<&str>,
        gone: &BTreeMap<String, Known>,
    ) -> Result<(), Fault> {
        let file = |(id, known): (&String, &Known)| {
            let untold = || bucket.map(|bucket| format!("{bucket}/{}", objects::name_of(user, place, id)));
            known.object.clone().or_else(untold)
        };
        let files: Vec<String> = gone.iter().filter_map(file).collect();
        objects::remove(&self.account, &files).await?;
        let ids: Vec<&str> = gone.keys().map(String::as_str).collect();
        Board(&self.account).remove(place, &ids).await
    }

    /// Fetches a backup from Supabase Storage, with those that it continues, and writes it into one file that needs no
    /// other; the newest that is there, if none is named.
    pub(crate) async fn fetch(&self, id: Option<&str>, to: &Path) -> Result<Manifest, FetchError> {
        self.demand_user()?;
        if to.exists() {
            let words = format!("{} exists already; name another file", to.display());
            return Err(ArchiveError::Invalid(words).into());
        }
        let board = Board(&self.account);
        let backup = board.find(id).await?;
        let chain = board.chain(&backup).await?;
        let folder = self.scratch(chain.iter().map(|notice| notice.bytes).sum())?;
        let mut files = Vec::new();
        for (number, notice) in chain.iter().enumerate() {
            let file = folder.path().join(format!("{number}.tidelock"));
            let object = notice.object.as_deref();
            let object =
                object.ok_or_else(|| missing(format!("the backup {} is not in Supabase Storage", notice.id)))?;
            objects::download(&self.account, object, &file, notice.bytes).await?;
            files.push((file, notice.digest.clone()));
        }
        let to = to.to_owned();
        Ok(self.archive.run(move |archive| archive.join(files, &to)).await?)
    }

    /// A folder beside the backups that goes when nobody holds it any more, on a disk with room for so much.
    fn scratch(&self, bytes: u64) -> Result<tempfile::TempDir, FetchError> {
        let directory = self.archive.directory();
        private_directory(&directory).map_err(objects::io)?;
        if let Some(lack) = lack_of(&directory, bytes).map_err(objects::io)? {
            return Err(ArchiveError::NoRoom(format!("the backup takes {lack}")).into());
        }
        tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(directory).map_err(objects::io)
    }

    /// Row-level security would show nothing to nobody, which looks like there being nothing.
    fn demand_user(&self) -> Result<(), Fault> {
        let nobody = || Fault::new(FaultKind::Unauthorized, NOBODY);
        self.account.user().map(drop).ok_or_else(nobody)
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
