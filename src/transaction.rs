//! What a host does in one local transaction, gathered before it is written.

use serde::Serialize;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Change, RecordId};

use crate::error::Error;

/// Changes that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    pub(crate) changes: Vec<(RecordId, Change)>,
}

impl Transaction {
    /// Creates the record or lays these fields over it.
    pub fn save(&mut self, collection: &str, key: &str, value: &impl Serialize) -> Result<(), Error> {
        self.save_document(collection, key, Document::from_value(value)?);
        Ok(())
    }

    /// As `save`, with a document that is already at hand.
    pub fn save_document(&mut self, collection: &str, key: &str, document: Document) {
        self.changes.push((RecordId::new(collection, key), Change::Save(document)));
    }

    /// Removes the record; removing what is not there is no error.
    pub fn delete(&mut self, collection: &str, key: &str) {
        self.changes.push((RecordId::new(collection, key), Change::Delete));
    }
}
