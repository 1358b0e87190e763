//! What the server tells of this device's backups, for the user's other devices: the `Publisher` port. The folder is the
//! truth; each time the server's rows are made equal to it, and the newest backup is uploaded where that is wanted. Only
//! what was told from this very folder before can be taken for gone.
//!
//! `telling` is what is done each time, `told` is what was told before, `board` is the table, `objects` are the files in
//! Supabase Storage, `resumable` is how a large one gets there, `files` are those here.

mod board;
mod files;
mod objects;
mod resumable;
mod telling;
mod told;

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tidelock_actors::backups::{ArchiveError, PublishError};
use tidelock_actors::model::{Fault, FaultKind};
use tidelock_actors::ports::Publisher;

use crate::adapters::archive::{FileArchive, Manifest, Notice, UNFINISHED, demand_new};
use crate::adapters::room::lack_of;
use crate::adapters::supabase::Account;
use crate::locks::locked;
use crate::private::private_directory;
use board::Board;
use files::{apart, unwritten};

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

    /// Fetches a backup from Supabase Storage, with those that it continues, and writes it into one file that needs no
    /// other; the newest that is there, if none is named.
    pub(crate) async fn fetch(&self, id: Option<&str>, to: &Path) -> Result<Manifest, FetchError> {
        self.demand_user()?;
        demand_new(to)?;
        let board = Board(&self.account);
        let backup = board.find(id).await?;
        let chain = board.chain(&backup).await?;
        let folder = self.scratch(chain.iter().map(|notice| notice.bytes).sum()).await?;
        let mut files = Vec::new();
        for (number, notice) in chain.iter().enumerate() {
            let file = folder.path().join(format!("{number}.tidelock"));
            let away = || missing(format!("the backup {} is not in Supabase Storage", notice.id));
            let object = notice.object.as_deref().ok_or_else(away)?;
            objects::download(&self.account, object, &file, notice.bytes).await?;
            files.push((file, notice.digest.clone()));
        }
        let to = to.to_owned();
        Ok(self.archive.run(move |archive| archive.join(files, &to)).await?)
    }

    /// A folder beside the backups that goes when nobody holds it any more, on a disk with room for so much.
    async fn scratch(&self, bytes: u64) -> Result<tempfile::TempDir, FetchError> {
        let directory = self.archive.directory();
        let made = apart(move || {
            private_directory(&directory)?;
            match lack_of(&directory, bytes)? {
                None => tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(directory).map(Ok),
                Some(lack) => Ok(Err(ArchiveError::NoRoom(format!("the backup takes {lack}")))),
            }
        });
        Ok(made.await.map_err(unwritten)??)
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
