//! Records: read, saved and deleted on the device.

use futures::Stream;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Change, CollectionRules, Direction, RecordId};
use tidelock_actors::storage::Save;
use tidelock_actors::writes::Written;

use super::Tidelock;
use crate::adapters::sqlite::{ListQuery, Listed};
use crate::error::Error;
use crate::transaction::Transaction;
use crate::watch::{Watched, watch};

impl Tidelock {
    /// The record, if it is there.
    pub async fn get(&self, collection: &str, key: &str) -> Result<Option<Document>, Error> {
        let id = self.record(collection, key)?;
        Ok(self.inner.reads.get(id).await?)
    }

    /// The records that the query finds.
    pub async fn list(&self, query: ListQuery) -> Result<Listed, Error> {
        self.rule(&query.collection)?;
        Ok(self.inner.reads.list(query).await?)
    }

    /// Runs read-only SQL over the views: one per collection, one column per field.
    pub async fn query(&self, sql: &str, parameters: Vec<serde_json::Value>) -> Result<Vec<Document>, Error> {
        Ok(self.inner.reads.query(sql, parameters).await?)
    }

    /// Creates the record or lays the document's fields over it; fields that are not named stay. Durable when it returns.
    pub async fn save(&self, collection: &str, key: &str, document: Document) -> Result<(), Error> {
        let id = self.writable(collection, key)?;
        self.write(vec![(id, Change::Save(document))]).await?;
        Ok(())
    }

    /// Saves all of them in one transaction; returns how many records really changed.
    pub async fn bulk_save(&self, collection: &str, documents: Vec<(String, Document)>) -> Result<u64, Error> {
        let changes: Result<Vec<_>, Error> = documents
            .into_iter()
            .map(|(key, document)| Ok((self.writable(collection, &key)?, Change::Save(document))))
            .collect();
        self.write(changes?).await
    }

    /// Removes the record; whether it was there.
    pub async fn delete(&self, collection: &str, key: &str) -> Result<bool, Error> {
        let id = self.writable(collection, key)?;
        Ok(self.write(vec![(id, Change::Delete)]).await? > 0)
    }

    /// Does all that `build` gathers in one local transaction; returns how many records really changed.
    /// Where `build` fails, nothing is written.
    pub async fn transaction(&self, build: impl FnOnce(&mut Transaction) -> Result<(), Error>) -> Result<u64, Error> {
        let mut transaction = Transaction::default();
        build(&mut transaction)?;
        for (id, _) in &transaction.changes {
            self.writable(&id.collection, &id.key)?;
        }
        self.write(transaction.changes).await
    }

    /// The original system's way to queue an operation: `create` and `update` save the payload, `delete` removes.
    pub async fn enqueue(
        &self,
        collection: &str,
        operation: &str,
        key: &str,
        payload: Option<Document>,
    ) -> Result<(), Error> {
        match (operation, payload) {
            ("create" | "update", Some(payload)) => self.save(collection, key, payload).await,
            ("create" | "update", None) => Err(Error::Invalid(format!("{operation} needs a payload"))),
            ("delete", _) => self.delete(collection, key).await.map(|_| ()),
            (other, _) => {
                Err(Error::Invalid(format!("unknown operation {other:?}; create, update and delete are allowed")))
            }
        }
    }

    /// The changes of a collection from now on, by whomever.
    pub fn watch(&self, collection: &str) -> impl Stream<Item = Watched> + Send + Unpin + 'static {
        watch(self.inner.parts.changes.subscribe(), collection.to_owned())
    }

    /// The changes of all collections from now on.
    #[cfg(feature = "process")]
    pub(crate) fn changes(&self) -> tokio::sync::broadcast::Receiver<std::sync::Arc<[RecordId]>> {
        self.inner.parts.changes.subscribe()
    }

    pub(super) fn rule(&self, collection: &str) -> Result<&CollectionRules, Error> {
        self.inner.rules.iter().find(|rule| *rule.name == *collection).ok_or_else(|| Error::UnknownCollection {
            name: collection.to_owned(),
            known: self.inner.rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>().join(", "),
        })
    }

    pub(super) fn record(&self, collection: &str, key: &str) -> Result<RecordId, Error> {
        Ok(RecordId::new(self.rule(collection)?.name.clone(), key))
    }

    pub(super) fn writable(&self, collection: &str, key: &str) -> Result<RecordId, Error> {
        let rule = self.rule(collection)?;
        if rule.direction == Direction::Pull {
            return Err(Error::PullOnly(collection.to_owned()));
        }
        Ok(RecordId::new(rule.name.clone(), key))
    }

    async fn write(&self, changes: Vec<(RecordId, Change)>) -> Result<u64, Error> {
        match self.inner.parts.storage.ask(Save(changes)).await?? {
            Written::Local { changed } => Ok(changed.len() as u64),
            other => Err(Error::Invalid(format!("the store answered another question: {other:?}"))),
        }
    }
}
