//! What is told of a backup: the row in `tidelock_backups` of the server kit, and what other devices show.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::backups::{ArchiveError, Reason};

use super::catalogue::{self, Catalogue, Entry, Tried};
use super::manifest::Kind;
use super::{FileArchive, view};

/// A backup as its user's other devices see it: never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The names of files that look like backups and cannot be read: they are not gone.
    pub unread: BTreeSet<String>,
    /// The names of those that it takes to restore the newest, or why they cannot be uploaded.
    pub newest_chain: Result<BTreeSet<String>, String>,
}

impl FileArchive {
    /// What is to be told of the backups.
    pub(crate) fn notices(&self, place: &str) -> Result<Notices, ArchiveError> {
        let (catalogue, tried) = (self.catalogue()?, catalogue::tried(&self.options().directory));
        let device = gethostname::gethostname().to_string_lossy().into_owned();
        let mut all: Vec<Notice> =
            catalogue.entries.iter().map(|entry| notice(entry, &tried, place, &device)).collect();
        // A copy that somebody made of a file is no other backup.
        let mut names = BTreeSet::new();
        all.retain(|notice| names.insert(notice.id.clone()));
        let stem = |path: &PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
        let unread = catalogue.damaged.iter().filter_map(|(path, _)| stem(path)).collect();
        Ok(Notices { all, unread, newest_chain: uploadable(&catalogue, &tried) })
    }

    /// The folder of the backups.
    pub(crate) fn directory(&self) -> PathBuf {
        self.options().directory
    }
}

fn notice(entry: &Entry, tried: &Tried, place: &str, device: &str) -> Notice {
    let (view, manifest) = (view(entry, tried), &entry.manifest);
    Notice {
        place: place.to_owned(),
        id: view.id,
        device: device.to_owned(),
        path: view.path.to_string_lossy().into_owned(),
        kind: view.kind,
        reason: view.reason,
        timestamp: in_microseconds(view.timestamp),
        bytes: view.bytes,
        records: view.records,
        pending: view.pending,
        client_id: view.client_id,
        encrypted: view.encrypted,
        digest: manifest.digest.clone(),
        after: manifest.after.clone(),
        verified_at: view.verified_at.map(in_microseconds),
        object: None,
    }
}

/// As PostgreSQL keeps it, so that it comes back the same.
fn in_microseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// The chain of the newest backup, if it is whole, was not found bad, and nobody without the key can read any of it.
fn uploadable(catalogue: &Catalogue, tried: &Tried) -> Result<BTreeSet<String>, String> {
    let Some(newest) = catalogue.newest() else { return Ok(BTreeSet::new()) };
    let chain = catalogue.chain(newest).map_err(|error| error.to_string())?;
    let is_bad = |entry: &&&Entry| tried.get(&entry.manifest.digest).is_some_and(|trial| !trial.good);
    if let Some(bad) = chain.iter().find(is_bad) {
        return Err(format!("the backup {} was found damaged and is not uploaded", bad.manifest.id));
    }
    if let Some(readable) = chain.iter().find(|entry| !entry.manifest.is_encrypted) {
        let id = &readable.manifest.id;
        return Err(format!("the backup {id} is not encrypted and stays here; the next one is uploaded"));
    }
    Ok(chain.iter().map(|entry| entry.manifest.id.clone()).collect())
}
