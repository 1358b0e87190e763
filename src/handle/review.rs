//! What waits, what was set aside, what was in conflict: seen and decided by people.

use tidelock_actors::conflict::{Decide, Undo};
use tidelock_actors::queue::{Discard, Redrive};
use tidelock_actors::writes::Choice;

use super::Tidelock;
use crate::adapters::sqlite::{self, ConflictView, QueueFilter, QueuedOperation, Verified};
use crate::error::Error;

impl Tidelock {
    /// Operations in the outbox, parked ones with their cause.
    pub async fn queue(&self, filter: QueueFilter) -> Result<Vec<QueuedOperation>, Error> {
        Ok(self.inner.reads.operations(filter).await?)
    }

    /// Puts parked operations back to the end of the queue; none named means all. With the server kit each takes its whole
    /// transaction along. Returns how many.
    pub async fn redrive(&self, ids: Vec<i64>) -> Result<u64, Error> {
        Ok(self.inner.parts.queue.ask(Redrive(ids)).await??)
    }

    /// Gives operations up, those that are still to be sent only by name; none named means all that are parked.
    /// With the server kit each takes its whole transaction along. Returns how many. What they held stays in the history.
    pub async fn discard(&self, named: Vec<i64>) -> Result<u64, Error> {
        Ok(self.inner.parts.queue.ask(Discard { named, alone: false }).await??)
    }

    /// The same without the rest of their transactions, which can then no longer take effect as they were saved.
    pub async fn discard_alone(&self, named: Vec<i64>) -> Result<u64, Error> {
        Ok(self.inner.parts.queue.ask(Discard { named, alone: true }).await??)
    }

    /// Open conflicts, or all that were ever recorded.
    pub async fn conflicts(&self, all: bool) -> Result<Vec<ConflictView>, Error> {
        Ok(self.inner.reads.conflicts(all).await?)
    }

    /// One conflict, open or decided.
    pub async fn conflict(&self, id: i64) -> Result<ConflictView, Error> {
        Ok(self.inner.reads.conflict(id).await?)
    }

    /// Decides an open conflict.
    pub async fn resolve(&self, conflict: i64, choice: Choice) -> Result<(), Error> {
        Ok(self.inner.parts.resolver.ask(Decide { conflict, choice }).await??)
    }

    /// Takes a resolution back: the side that lost becomes a new local change.
    pub async fn undo(&self, conflict: i64) -> Result<(), Error> {
        Ok(self.inner.parts.resolver.ask(Undo { conflict }).await??)
    }

    /// Checks the store against itself. Only damage of the file is looked into again by itself when the store is next
    /// opened, and repaired then where the configuration wants that; for what else is at odds there is [`Self::suspect`].
    pub async fn verify_integrity(&self) -> Result<Verified, Error> {
        Ok(self.inner.reads.verify().await?)
    }

    /// Has the store looked at closely when it is next opened: indexes and counts are mended, and a damaged file is replaced
    /// where the configuration wants that.
    pub fn suspect(&self) {
        sqlite::suspect(&self.config().storage.data_dir);
    }
}
