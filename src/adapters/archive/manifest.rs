//! What a backup says of itself: JSON at the end of its file, and the answer to whoever lists backups.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::backups::{ArchiveError, Reason};
use tidelock_actors::model::{Checkpoints, CollectionCounts};

use super::faults::damaged;
use crate::adapters::sqlite::LogPosition;

/// The form that this build writes.
pub(super) const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The whole database.
    Full,
    /// What was committed since the backup before it.
    Log,
}

/// A backup's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the form.
    pub format: u32,
    /// Its name.
    pub id: String,
    /// What it holds.
    pub kind: Kind,
    /// Why it was taken.
    pub reason: Reason,
    /// When it was begun. What it holds is the store at some moment from then on …
    pub began: Timestamp,
    /// … until then.
    pub timestamp: Timestamp,
    /// The backup that this one continues, by its digest; none where it stands alone.
    pub after: Option<String>,
    /// The full backup that its chain begins with.
    pub base: String,
    /// The store's client id.
    pub client_id: String,
    /// The store's epoch.
    pub epoch: String,
    /// The version of the tables.
    pub schema: i64,
    /// The newest change in it, as the store stamps changes.
    pub stamp: i64,
    /// How far the server had been read.
    pub checkpoints: Checkpoints,
    /// What was in each collection.
    pub counts: BTreeMap<String, CollectionCounts>,
    /// The size of what it holds, before compression.
    pub plain_bytes: u64,
    /// Whether what it holds is encrypted (age). What stands here never is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_encrypted: bool,
    /// Where in the database's log it ends.
    pub log: Option<LogPosition>,
    /// BLAKE3 of everything before it in the file, in hexadecimal digits. Not written: it stands behind the manifest.
    #[serde(skip)]
    pub digest: String,
}

impl Manifest {
    /// Reads a manifest. One of a later form is refused, whatever else it says.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, ArchiveError> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let unread = |error: serde_json::Error| damaged(path, &format!("its manifest cannot be read ({error})"));
        let Form { format } = serde_json::from_slice(text).map_err(unread)?;
        if format > FORMAT {
            let path = path.display();
            return Err(ArchiveError::Invalid(format!(
                "the backup {path} has format {format}, this build knows up to {FORMAT}; update tidelock"
            )));
        }
        serde_json::from_slice(text).map_err(unread)
    }
}
