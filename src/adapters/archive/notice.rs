//! What is told of a backup: the row in `tidelock_backups` of the server kit, and what other devices show.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidelock_actors::backups::{ArchiveError, Reason};

use super::catalogue;
use super::manifest::Kind;
use super::{FileArchive, view};

/// A backup as its user's other devices see it: never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The folder that it is in, among all of the user's: a name and a digest of where it is.
    pub place: String,
    /// Its name.
    pub id: String,
    /// What the device is called.
    pub device: String,
    /// Its file there.
    pub path: String,
    /// The whole store, or what was committed since the backup before it.
    pub kind: Kind,
    /// Why it was taken.
    pub reason: Reason,
    /// When it was taken.
    pub timestamp: Timestamp,
    /// Its size.
    pub bytes: u64,
    /// Documents in it.
    pub records: u64,
    /// Operations in it that were still to be sent.
    pub pending: u64,
    /// The store that it is of.
    pub client_id: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// The digest of the backup that it continues; none where it stands alone.
    pub after: Option<String>,
    /// When it was restored into a file beside and found good.
    pub verified_at: Option<Timestamp>,
    /// Where in Supabase Storage its file is, if it is there: bucket and name.
    pub object: Option<String>,
}

/// Everything that is told of a folder of backups.
pub(crate) struct Notices {
    /// One a backup, oldest first.
    pub all: Vec<Notice>,
    /// The names of those that it takes to restore the newest, in their order.
    pub newest_chain: Vec<String>,
}

impl FileArchive {
    /// What is to be told of the backups.
    pub(crate) fn notices(&self, place: &str) -> Result<Notices, ArchiveError> {
        let (catalogue, tried) = (self.catalogue()?, catalogue::tried(&self.options().directory));
        let device = gethostname::gethostname().to_string_lossy().into_owned();
        let all = catalogue.entries.iter().map(|entry| {
            let (view, manifest) = (view(entry, &tried), &entry.manifest);
            Notice {
                place: place.to_owned(),
                id: view.id,
                device: device.clone(),
                path: view.path.to_string_lossy().into_owned(),
                kind: view.kind,
                reason: view.reason,
                timestamp: view.timestamp,
                bytes: view.bytes,
                records: view.records,
                pending: view.pending,
                client_id: view.client_id,
                encrypted: view.encrypted,
                digest: manifest.digest.clone(),
                after: manifest.after.clone(),
                verified_at: view.verified_at,
                object: None,
            }
        });
        let chain = catalogue.newest().and_then(|newest| catalogue.chain(newest).ok()).unwrap_or_default();
        let newest_chain = chain.into_iter().map(|entry| entry.manifest.id.clone()).collect();
        Ok(Notices { all: all.collect(), newest_chain })
    }

    /// The folder of the backups.
    pub(crate) fn directory(&self) -> PathBuf {
        self.options().directory
    }
}
