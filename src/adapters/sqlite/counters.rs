//! Exact numbers a collection, kept in memory and written once a commit, in the transaction that changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};
use tidelock_actors::model::{CollectionCounts, Counts, Sequence, Stamp};

use super::collections::{Collections, Index};
use super::faults::Failure;
use super::operations::OperationState;

/// What is durable.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// The exact counts.
    pub(super) counts: Counts,
    /// The newest sequence ever given.
    pub(super) sequence: Sequence,
    /// The newest stamp ever seen.
    pub(super) stamp: Stamp,
}

/// What one commit adds to that.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    of: Vec<Change>,
    /// The newest sequence.
    pub(super) sequence: Sequence,
    /// The newest stamp.
    pub(super) stamp: Stamp,
}

#[derive(Debug, Clone, Copy, Default)]
struct Change {
    records: i64,
    pending: i64,
    parked: i64,
    conflicts: i64,
    on_server: i64,
    sequence: Sequence,
    stamp: i64,
}

const SELECT: &str =
    "SELECT collection, records, pending, parked, conflicts, on_server, sequence, stamp FROM tl_counters";

/// Reads the counts as they are in the file.
pub(super) fn read_counts(connection: &Connection) -> Result<Counts, Failure> {
    Ok(read(connection)?.counts)
}

/// Reads everything from the file.
pub(super) fn read(connection: &Connection) -> Result<Counters, Failure> {
    let mut counters = Counters::default();
    let mut statement = connection.prepare_cached(SELECT)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: Arc<str> = row.get(0)?;
        let counts = CollectionCounts {
            records: row.get(1)?,
            pending: row.get(2)?,
            parked: row.get(3)?,
            conflicts: row.get(4)?,
            on_server: row.get(5)?,
        };
        counters.counts.insert(name, counts);
        counters.sequence = counters.sequence.max(row.get(6)?);
        counters.stamp = counters.stamp.max(Stamp(row.get(7)?));
    }
    Ok(counters)
}

/// Writes the counts as they really are, where they are others in the file.
pub(super) fn correct(connection: &Connection) -> Result<(), Failure> {
    let (mut kept, real) = (read_counts(connection)?, recount(connection)?);
    kept.values_mut().for_each(|counts| *counts = CollectionCounts::default());
    kept.extend(real);
    for (name, counts) in kept {
        connection.execute(
            "UPDATE tl_counters SET records = ?2, pending = ?3, parked = ?4, conflicts = ?5, on_server = ?6
             WHERE collection = ?1",
            params![name, counts.records, counts.pending, counts.parked, counts.conflicts, counts.on_server],
        )?;
    }
    Ok(())
}

impl Counters {
    /// An empty tally that goes on from here.
    pub(super) fn tally(&self, collections: usize) -> Tally {
        Tally { of: vec![Change::default(); collections], sequence: self.sequence, stamp: self.stamp }
    }

    /// The counts of a collection.
    pub(super) fn of(&self, name: &str) -> CollectionCounts {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Takes over what was committed.
    pub(super) fn adopt(&mut self, tally: &Tally, collections: &Collections) {
        for (at, change) in tally.changed() {
            let name = collections.name(at);
            let counts = change.added_to(self.of(name));
            self.counts.insert(name.clone(), counts);
        }
        self.sequence = tally.sequence;
        self.stamp = tally.stamp;
    }
}

impl Change {
    fn is_empty(&self) -> bool {
        let counted = [self.records, self.pending, self.parked, self.conflicts, self.on_server];
        counted == [0; 5] && self.sequence == 0 && self.stamp == 0
    }

    fn added_to(&self, counts: CollectionCounts) -> CollectionCounts {
        CollectionCounts {
            records: counts.records.saturating_add_signed(self.records),
            pending: counts.pending.saturating_add_signed(self.pending),
            parked: counts.parked.saturating_add_signed(self.parked),
            conflicts: counts.conflicts.saturating_add_signed(self.conflicts),
            on_server: counts.on_server.saturating_add_signed(self.on_server),
        }
    }
}

impl Tally {
    /// A sequence above all others.
    pub(super) fn next_sequence(&mut self, at: Index) -> Sequence {
        self.sequence += 1;
        self.of[at].sequence = self.sequence;
        self.sequence
    }

    /// A stamp was used in a collection.
    pub(super) fn see(&mut self, at: Index, stamp: Stamp) {
        self.stamp = self.stamp.max(stamp);
        self.of[at].stamp = self.of[at].stamp.max(stamp.0);
    }

    /// A document came (+1) or went (-1).
    pub(super) fn count_record(&mut self, at: Index, by: i64) {
        self.of[at].records += by;
    }

    /// The server got or lost a record.
    pub(super) fn count_on_server(&mut self, at: Index, by: i64) {
        self.of[at].on_server += by;
    }

    /// An open conflict came or went.
    pub(super) fn count_conflict(&mut self, at: Index, by: i64) {
        self.of[at].conflicts += by;
    }

    /// An operation came into a state or left it.
    pub(super) fn count_operation(&mut self, at: Index, state: OperationState, by: i64) {
        match state {
            OperationState::Pending => self.of[at].pending += by,
            OperationState::Parked => self.of[at].parked += by,
            // Held operations are not counted: their record's open conflict is.
            OperationState::Held => {}
        }
    }

    /// The counts of a collection in the middle of the commit.
    pub(super) fn counts(&self, counters: &Counters, collections: &Collections, at: Index) -> CollectionCounts {
        self.of[at].added_to(counters.of(collections.name(at)))
    }

    fn changed(&self) -> impl Iterator<Item = (Index, &Change)> {
        self.of.iter().enumerate().filter(|(_, change)| !change.is_empty())
    }

    /// Writes what changed.
    pub(super) fn write(
        &self,
        connection: &Connection,
        before: &Counters,
        collections: &Collections,
    ) -> Result<(), Failure> {
        for (at, change) in self.changed() {
            let name = collections.name(at);
            let counts = change.added_to(before.of(name));
            let mut statement = connection.prepare_cached(
                "UPDATE tl_counters SET records = ?2, pending = ?3, parked = ?4, conflicts = ?5, on_server = ?6,
                 sequence = max(sequence, ?7), stamp = max(stamp, ?8) WHERE collection = ?1",
            )?;
            statement.execute(params![
                name,
                counts.records,
                counts.pending,
                counts.parked,
                counts.conflicts,
                counts.on_server,
                change.sequence,
                change.stamp
            ])?;
        }
        Ok(())
    }
}

/// Makes sure that every collection has its row.
pub(super) fn prepare(connection: &Connection, collections: &Collections) -> Result<(), Failure> {
    for (at, _) in collections.iter() {
        connection.execute("INSERT OR IGNORE INTO tl_counters (collection) VALUES (?1)", [collections.name(at)])?;
    }
    Ok(())
}

/// The real numbers, by reading every row: what the counters are checked against.
pub(super) fn recount(connection: &Connection) -> Result<BTreeMap<Arc<str>, CollectionCounts>, Failure> {
    let mut real: BTreeMap<Arc<str>, CollectionCounts> = BTreeMap::new();
    let mut count = |sql: &str, set: fn(&mut CollectionCounts, u64, u64)| -> Result<(), Failure> {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            set(real.entry(row.get(0)?).or_default(), row.get(1)?, row.get(2)?);
        }
        Ok(())
    };
    count(
        "SELECT collection, count(document), sum(on_server) FROM tl_records GROUP BY collection",
        |counts, here, there| {
            (counts.records, counts.on_server) = (here, there);
        },
    )?;
    count(
        "SELECT collection, sum(state = 'pending'), sum(state = 'parked') FROM tl_operations GROUP BY collection",
        |counts, pending, parked| (counts.pending, counts.parked) = (pending, parked),
    )?;
    count(
        "SELECT collection, count(*), 0 FROM tl_conflicts WHERE state = 'open' GROUP BY collection",
        |counts, open, _| {
            counts.conflicts = open;
        },
    )?;
    Ok(real)
}
