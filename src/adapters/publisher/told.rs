//! What was told of a folder of backups, and by whom: noted in the folder itself. So a folder that is new, lost or not
//! mounted has told nothing, and nothing on the server is taken for gone because of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files::apart;
use crate::adapters::sqlite::machine;
use crate::private::replace_private_file;

const FILE: &str = "published.json";

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The folder's own name; a copy of the folder has it as well.
    folder: String,
    /// The user whose backups they are.
    pub user: String,
    /// The backups that were told of, the present ones included.
    pub ids: BTreeSet<String>,
}

impl Told {
    /// Reads the note; nothing where there is none, or none that can be read.
    pub async fn read(directory: &Path) -> Option<Self> {
        let file = directory.join(FILE);
        serde_json::from_slice(&apart(|| std::fs::read(file)).await.ok()?).ok()
    }

    /// A folder of which nothing was told.
    pub fn new(user: &str) -> Self {
        Self { folder: Uuid::new_v4().to_string(), user: user.to_owned(), ids: BTreeSet::new() }
    }

    /// Writes it, unless that is what it says already.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let is_same = std::fs::read(directory.join(FILE)).is_ok_and(|noted| noted == text);
        if is_same { Ok(()) } else { replace_private_file(directory, FILE, &text) }
    }

    /// What tells the folder from all others of the user's, copies of it on other machines or at other paths included.
    pub fn place(&self, name: &str, directory: &Path) -> String {
        let (host, machine, path) = (gethostname::gethostname(), machine(), directory.display());
        let place = format!("{} {machine} {} {path}", self.folder, host.to_string_lossy());
        format!("{name}-{}", &blake3::hash(place.as_bytes()).to_hex()[..16])
    }
}
