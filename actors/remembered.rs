//! What a round leaves behind for the next run: it lies in the store beside the rows, as checkpoints that no collection
//! has the name of.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ports::Reader;
use crate::status::Moved;

/// The checkpoint that says when the last round ended well, milliseconds since 1970. No collection has such a name.
pub(crate) const LAST_SYNCED: &str = "last synced";

/// The checkpoint that says how far the server's clock was from this device's, in milliseconds. No collection has such
/// a name.
pub(crate) const CLOCK_OFFSET: &str = "clock offset";

/// The checkpoint that says when the last audit of everything ended well, milliseconds since 1970; before the first one,
/// when the store was first synced. No collection has such a name.
pub(crate) const LAST_AUDITED: &str = "last audited";

/// The checkpoint that says when each collection moved last, as JSON. No collection has such a name.
pub(crate) const LAST_MOVED: &str = "last moved";

/// What the rounds of earlier runs have left behind.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// When the last round ended well, milliseconds since 1970 (H39).
    pub last_synced_ms: Option<i64>,
    /// The server's clock less this device's, in milliseconds (H38).
    pub clock_offset_ms: Option<i64>,
    /// When the last audit of everything ended well, milliseconds since 1970.
    pub audited_ms: Option<i64>,
    /// When each collection moved last.
    pub moved: BTreeMap<Arc<str>, Moved>,
}

impl Remembered {
    /// Reads it; a store that cannot be read remembers nothing.
    pub async fn read(reader: &dyn Reader) -> Self {
        let checkpoints = reader.checkpoints().await.unwrap_or_default();
        let number = |name| checkpoints.get(name)?.parse().ok();
        Self {
            last_synced_ms: number(LAST_SYNCED),
            clock_offset_ms: number(CLOCK_OFFSET),
            audited_ms: number(LAST_AUDITED),
            moved: checkpoints.get(LAST_MOVED).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        }
    }
}
