//! Records that a stretch of the outbox makes, to see who names them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::relations::Relations;
use crate::document::Document;
use crate::model::RecordId;

/// The records, by key.
#[derive(Debug, Default)]
pub struct Made {
    collection_of: HashMap<Arc<str>, Arc<str>>,
    collections: BTreeSet<Arc<str>>,
}

impl Made {
    /// One more.
    pub fn add(&mut self, id: &RecordId) {
        self.collection_of.insert(id.key.clone(), id.collection.clone());
        self.collections.insert(id.collection.clone());
    }

    /// Whether a save names one of these that would be made after it when parents go first, though it came before:
    /// by a reference that no collection declares.
    pub fn would_follow(&self, id: &RecordId, patch: &Document, relations: &Relations) -> bool {
        let follows = |other: &Arc<str>| *other != id.collection && !relations.refers(&id.collection, other);
        let is_possible = self.collections.iter().any(follows);
        is_possible && patch.fields().strings().any(|text| self.collection_of.get(&*text).is_some_and(follows))
    }

    /// A new stretch begins.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
