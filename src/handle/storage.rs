//! How much the store takes, and how it becomes smaller.

use futures::executor::block_on;
use tidelock_actors::model::{Compacted, Past};
use tidelock_actors::storage::Compact;

use super::Tidelock;
use crate::adapters::sqlite::Stats;
use crate::error::Error;

impl Tidelock {
    /// Sizes and counts, at once; of what takes more than a look the sizes are estimates.
    pub async fn stats(&self) -> Result<Stats, Error> {
        Ok(self.inner.reads.stats(false).await?)
    }

    /// The same with exact sizes: everything is read for it.
    pub async fn exact_stats(&self) -> Result<Stats, Error> {
        Ok(self.inner.reads.stats(true).await?)
    }

    /// Gives back what deleted records left: history beyond its bounds goes, and the database is written anew. It takes as
    /// long as that takes; reads go on, saves wait. The next backup is a full one.
    pub async fn compact(&self) -> Result<Compacted, Error> {
        self.write_anew(Past::Kept).await
    }

    /// The same without earlier versions and decided conflicts: what was deleted is gone, and nothing from before can be
    /// rolled back.
    pub async fn compact_and_forget(&self) -> Result<Compacted, Error> {
        self.write_anew(Past::Forgotten).await
    }

    async fn write_anew(&self, past: Past) -> Result<Compacted, Error> {
        let storage = self.inner.parts.storage.clone();
        // No backup reads the database meanwhile, so that the file can become smaller at once.
        let compacted = self.inner.archive.run(move |_| Ok(block_on(storage.ask(Compact(past))))).await???;
        // A round that found no room may find some now.
        self.nudge();
        Ok(compacted)
    }
}
