//! One transaction in the making: what the writes of a group share while they are performed.

use rusqlite::Connection;
use tidelock_actors::model::{CollectionCounts, Stamp};
use tidelock_actors::writes::{Write, Written};

use super::collections::{Collections, Index};
use super::counters::{Counters, Tally};
use super::faults::Failure;
use super::history::Retention;
use super::statements::Statements;

/// The transaction at work.
pub(super) struct Batch<'a> {
    /// Where it is written.
    pub(super) connection: &'a Connection,
    /// What every save needs.
    pub(super) statements: Statements<'a>,
    /// The collections as of the last commit.
    pub(super) collections: &'a Collections,
    /// The numbers as of the last commit.
    pub(super) counters: &'a Counters,
    /// How much history is kept.
    pub(super) retention: Retention,
    /// The time of changes that bring none of their own.
    pub(super) now: Stamp,
    /// What this commit adds to the numbers.
    pub(super) tally: Tally,
    /// Fields that no document had before.
    pub(super) discovered: Vec<(Index, String)>,
    /// The local transaction at work, by its first operation, once it has one.
    pub(super) transaction: Option<i64>,
    /// Whether the last record looked for was not there: then the next one is made without looking first.
    pub(super) expects_new: bool,
    /// Whether the server's rows at hand were read by their keys.
    pub(super) by_key: bool,
}

/// What a transaction has come to so far, beside what it wrote.
pub(super) struct Pending {
    /// What it adds to the numbers.
    pub(super) tally: Tally,
    /// Fields that no document had before.
    pub(super) discovered: Vec<(Index, String)>,
}

impl Batch<'_> {
    /// Performs writes, each with its answer at the same place.
    pub(super) fn perform_all(&mut self, writes: &[Write]) -> Result<Vec<Written>, Failure> {
        writes.iter().map(|write| self.perform(write)).collect()
    }

    fn perform(&mut self, write: &Write) -> Result<Written, Failure> {
        match write {
            Write::Local(transaction) => self.local(transaction),
            Write::Settle(settlements) => self.settle(settlements),
            Write::Observe(observation) => self.observe(observation),
            Write::Redrive(sequences) => self.redrive(sequences),
            Write::Discard(sequences) => self.discard(sequences),
            Write::DiscardAlone(sequences) => self.discard_alone(sequences),
            Write::Decide { conflict, choice } => self.decide(*conflict, choice),
            Write::Undo { conflict } => self.undo(*conflict),
            Write::Listing(keys) => self.list_keys(keys),
            Write::RollBack(wanted) => self.roll_back(wanted),
            Write::Restore(wanted) => self.restore(wanted),
        }
    }

    /// The counts of a collection with what this commit has done so far.
    pub(super) fn counts(&self, at: Index) -> CollectionCounts {
        self.tally.counts(self.counters, self.collections, at)
    }

    /// Whether the server's rows at hand are known to match their collection's filter.
    pub(super) fn confirms(&self, at: Index) -> bool {
        !self.by_key || self.collections.get(at).rules.filter.is_none()
    }

    /// Whether there is any operation on any record of a collection.
    pub(super) fn has_any_operation(&self, at: Index) -> bool {
        self.counts(at).pending > 0 || self.has_any_set_aside(at)
    }

    /// Whether any operation of a collection is parked or held.
    pub(super) fn has_any_set_aside(&self, at: Index) -> bool {
        let CollectionCounts { parked, conflicts, .. } = self.counts(at);
        parked + conflicts > 0
    }

    /// Performs `work`; where it answers `false`, everything it wrote is taken back.
    pub(super) fn tentatively<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(T, bool), Failure>,
    ) -> Result<T, Failure> {
        self.connection.prepare_cached("SAVEPOINT tentative")?.execute([])?;
        let (tally, discovered) = (self.tally.clone(), self.discovered.len());
        let (answer, is_kept) = work(self)?;
        if !is_kept {
            self.connection.prepare_cached("ROLLBACK TO tentative")?.execute([])?;
            self.tally = tally;
            self.discovered.truncate(discovered);
        }
        self.connection.prepare_cached("RELEASE tentative")?.execute([])?;
        Ok(answer)
    }
}
