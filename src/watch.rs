//! Changes as they happen: of the records, and of the status.

use std::sync::Arc;

use futures::Stream;
use futures::stream::unfold;
use tidelock_actors::model::RecordId;
use tokio::sync::broadcast::{self, error::RecvError};

/// What a watcher of a collection is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// These records were saved, deleted, pulled or resolved.
    Changed(Vec<Arc<str>>),
    /// The watcher was too slow to be told of every change: read what you need anew.
    Missed,
}

/// Keeps a subscription alive; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) abort: futures::future::AbortHandle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// The changes of one collection, from now on.
pub(crate) fn watch(
    changes: broadcast::Receiver<Arc<[RecordId]>>,
    collection: String,
) -> impl Stream<Item = Watched> + Send + Unpin + 'static {
    Box::pin(unfold((changes, collection), |(mut changes, collection)| async move {
        loop {
            match changes.recv().await {
                Ok(changed) => {
                    let ours = changed.iter().filter(|id| *id.collection == *collection);
                    let keys: Vec<Arc<str>> = ours.map(|id| id.key.clone()).collect();
                    if !keys.is_empty() {
                        return Some((Watched::Changed(keys), (changes, collection)));
                    }
                }
                Err(RecvError::Lagged(_)) => return Some((Watched::Missed, (changes, collection))),
                Err(RecvError::Closed) => return None,
            }
        }
    }))
}
