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
    longest: usize,
}

impl Made {
    /// One more.
    pub fn add(&mut self, id: &RecordId) {
        self.collection_of.insert(id.key.clone(), id.collection.clone());
        self.collections.insert(id.collection.clone());
        self.longest = self.longest.max(id.key.len());
    }

    /// The collection of the record with this key. A text that is longer than any key is not looked for.
    pub fn collection_of(&self, text: &str) -> Option<&Arc<str>> {
        if text.len() <= self.longest { self.collection_of.get(text) } else { None }
    }

    /// Whether a save names one of these that would be made after it when parents go first, though it came before:
    /// by a reference that no collection declares.
    pub fn would_follow(&self, id: &RecordId, patch: &Document, relations: &Relations) -> bool {
        let follows = |other: &Arc<str>| *other != id.collection && !relations.refers(&id.collection, other);
        let is_possible = self.collections.iter().any(follows);
        is_possible && patch.fields().strings().any(|text| self.collection_of(&text).is_some_and(follows))
    }

    /// A new stretch begins.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
