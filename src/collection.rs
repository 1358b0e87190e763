//! A collection with a type: documents go in and come out as the host's own structs.

use std::marker::PhantomData;

use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidelock_actors::document::Document;

use crate::adapters::sqlite::ListQuery;
use crate::error::Error;
use crate::handle::Tidelock;
use crate::watch::Watched;

/// A typed view of one collection. Fields that the type does not know are kept as they are.
pub struct Collection<T> {
    handle: Tidelock,
    name: String,
    documents: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    pub(crate) fn new(handle: Tidelock, name: &str) -> Self {
        Self { handle, name: name.to_owned(), documents: PhantomData }
    }

    /// Creates the record or lays the value's fields over it; durable when it returns.
    pub async fn save(&self, key: &str, value: &T) -> Result<(), Error> {
        self.handle.save(&self.name, key, Document::from_value(value)?).await
    }

    /// Saves all of them in one transaction; returns how many records really changed.
    pub async fn bulk_save<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a T)>) -> Result<u64, Error>
    where
        T: 'a,
    {
        let documents: Result<Vec<_>, Error> =
            values.into_iter().map(|(key, value)| Ok((key.to_owned(), Document::from_value(value)?))).collect();
        self.handle.bulk_save(&self.name, documents?).await
    }

    /// The record, if it is there.
    pub async fn get(&self, key: &str) -> Result<Option<T>, Error> {
        self.handle.get(&self.name, key).await?.map(|document| typed(&document)).transpose()
    }

    /// The records that the query finds, with their keys. Its collection is this one, whatever it names.
    pub async fn list(&self, query: ListQuery) -> Result<Vec<(String, T)>, Error> {
        let listed = self.handle.list(ListQuery { collection: self.name.clone(), ..query }).await?;
        listed.rows.into_iter().map(|(key, document)| Ok((key, typed(&document)?))).collect()
    }

    /// Removes the record; whether it was there.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.handle.delete(&self.name, key).await
    }

    /// The changes from now on, by whomever.
    pub fn watch(&self) -> impl Stream<Item = Watched> + Send + Unpin + 'static {
        self.handle.watch(&self.name)
    }
}

fn typed<T: DeserializeOwned>(document: &Document) -> Result<T, Error> {
    serde_json::from_str(document.as_str())
        .map_err(|error| Error::Invalid(format!("a document does not fit the host's type: {error}")))
}
