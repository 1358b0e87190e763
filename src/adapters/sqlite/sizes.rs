//! How large everything is. What is told at once is counted or estimated; on request everything is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::model::{CollectionCounts, Counts};

use super::faults::Failure;
use super::quota::{Fullness, Quota, Usage};
use super::{counters, writer};

/// Sizes and counts of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Documents that the app sees.
    pub records: u64,
    /// Bytes that count against the quota: the database less what is free within it, the log that is kept for backups,
    /// the backups.
    pub bytes: u64,
    /// `storage.quota`; nothing where there is none.
    pub quota_bytes: Option<u64>,
    /// How near that is.
    pub quota_state: Fullness,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
    /// Operations that are to be sent.
    pub pending: u64,
    /// Operations that are set aside.
    pub parked: u64,
    /// Conflicts that wait for a decision.
    pub conflicts: u64,
    /// Earlier versions that are kept.
    pub history: u64,
    /// The counts of each collection.
    pub collections: Counts,
    /// What takes how much.
    pub sizes: Sizes,
}

/// What takes how much, in bytes. The parts of the database are the text of what they hold; keys, indexes and the rest
/// of half-filled pages come on top.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sizes {
    /// Whether the parts of the database were read as a whole; else those of more than 128 rows are estimated from some.
    pub exact: bool,
    /// The documents of each collection, here and as the server has them.
    pub collections: BTreeMap<Arc<str>, u64>,
    /// Earlier versions.
    pub history: u64,
    /// What is to be sent, and what is set aside.
    pub outbox: u64,
    /// Both sides of conflicts, open and decided.
    pub conflicts: u64,
    /// The database's file.
    pub database: u64,
    /// What is free within it, and what compacting gives back at least.
    pub reclaimable: u64,
    /// The log beside it.
    pub log: u64,
    /// What was copied from the log for the next backup.
    pub kept_log: u64,
    /// The backups.
    pub backups: u64,
}

/// Bytes of a page: SQLite's own choice, which nobody changes.
const PAGE_BYTES: u64 = 4_096;
/// Rows that are looked at for an estimate.
const SAMPLE: u64 = 128;
/// Rows of a collection that are enough for one of its own.
const ENOUGH: u64 = 32;

/// A table, and how large its rows are.
struct Table {
    name: &'static str,
    /// Its key, a number that rises.
    id: &'static str,
    /// What a row takes.
    size: &'static str,
}

const RECORDS: Table = Table {
    name: "tl_records",
    id: "id",
    size: "ifnull(octet_length(document), 0) + ifnull(octet_length(server_document), 0)",
};
const HISTORY: Table = Table { name: "tl_history", id: "id", size: "octet_length(document)" };
const OPERATIONS: Table =
    Table { name: "tl_operations", id: "seq", size: "octet_length(patch) + ifnull(octet_length(cause), 0)" };
const CONFLICTS: Table = Table {
    name: "tl_conflicts",
    id: "id",
    size: "ifnull(octet_length(base), 0) + ifnull(octet_length(local), 0) + ifnull(octet_length(remote), 0) \
           + ifnull(octet_length(result), 0)",
};

/// Some rows and what they take.
#[derive(Debug, Clone, Copy, Default)]
struct Sampled {
    rows: u64,
    bytes: u64,
}

impl Sampled {
    /// What so many rows take, if these stand for all of them.
    fn times(self, count: u64) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(count) / u128::from(self.rows.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Table {
    fn exact(&self, connection: &Connection) -> Result<u64, Failure> {
        let Self { name, size, .. } = self;
        Ok(connection.query_row(&format!("SELECT ifnull(sum({size}), 0) FROM {name}"), [], |row| row.get(0))?)
    }

    fn estimate(&self, connection: &Connection, count: u64) -> Result<u64, Failure> {
        if count <= SAMPLE {
            return self.exact(connection);
        }
        let sampled = self.sample(connection)?.into_values();
        let all = sampled.fold(Sampled::default(), |all, some| Sampled {
            rows: all.rows + some.rows,
            bytes: all.bytes + some.bytes,
        });
        Ok(all.times(count))
    }

    /// Rows from all over the table, by collection.
    fn sample(&self, connection: &Connection) -> Result<BTreeMap<String, Sampled>, Failure> {
        let Self { name, id, size } = self;
        let end = |which: &str| -> Result<i64, Failure> {
            let sql = format!("SELECT ifnull({which}({id}), 0) FROM {name}");
            Ok(connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
        };
        let (first, last) = (end("min")?, end("max")?);
        let next = format!("SELECT collection, {size} FROM {name} WHERE {id} >= ?1 ORDER BY {id} LIMIT 1");
        let mut statement = connection.prepare_cached(&next)?;
        let mut sampled: BTreeMap<String, Sampled> = BTreeMap::new();
        for place in 0..SAMPLE {
            let after = u128::from(last.abs_diff(first)) * u128::from(place) / u128::from(SAMPLE - 1);
            let found = statement.query_row([first + after as i64], |row| Ok((row.get(0)?, row.get::<_, u64>(1)?)));
            if let Some((collection, bytes)) = found.optional()? {
                let of = sampled.entry(collection).or_default();
                *of = Sampled { rows: of.rows + 1, bytes: of.bytes + bytes };
            }
        }
        Ok(sampled)
    }
}

/// Everything that can be told at once or, if that is wanted, after reading everything.
pub(super) fn stats(connection: &Connection, directory: &Path, quota: &Quota, exact: bool) -> Result<Stats, Failure> {
    let collections = counters::read_counts(connection)?;
    let total = |of: fn(&CollectionCounts) -> u64| collections.values().map(of).sum();
    let count = |table: &str| -> Result<u64, Failure> {
        Ok(connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?)
    };
    let history = count("tl_history")?;
    let (kept_log, backups) = quota.beside();
    let Usage { quota_bytes, state: quota_state, .. } = quota.usage();
    let size_of = |table: &Table, count| match exact {
        true => table.exact(connection),
        false => table.estimate(connection, count),
    };
    let sizes = Sizes {
        exact,
        collections: if exact { documents(connection)? } else { estimated_documents(connection, &collections)? },
        history: size_of(&HISTORY, history)?,
        outbox: size_of(&OPERATIONS, count("tl_operations")?)?,
        conflicts: size_of(&CONFLICTS, conflicts_at_most(connection)?)?,
        database: bytes_of(&writer::file(directory)),
        reclaimable: free_bytes(connection)?,
        log: bytes_of(&super::wal::log_of(&writer::file(directory))),
        kept_log,
        backups,
    };
    Ok(Stats {
        records: total(|counts| counts.records),
        bytes: used_bytes(connection)? + kept_log + backups,
        quota_bytes,
        quota_state,
        free_bytes: fs4::available_space(directory).unwrap_or(0),
        pending: total(|counts| counts.pending),
        parked: total(|counts| counts.parked),
        conflicts: total(|counts| counts.conflicts),
        history,
        collections,
        sizes,
    })
}

/// Decided ones go by age, so few are missing between; to count them would be to read them.
fn conflicts_at_most(connection: &Connection) -> Result<u64, Failure> {
    let span = "SELECT ifnull((SELECT max(id) FROM tl_conflicts) - (SELECT min(id) FROM tl_conflicts) + 1, 0)";
    Ok(connection.query_row(span, [], |row| row.get(0))?)
}

/// Of collections that few of the sampled rows belong to the first rows are looked at, which may be all there are.
fn estimated_documents(connection: &Connection, counts: &Counts) -> Result<BTreeMap<Arc<str>, u64>, Failure> {
    let sampled = RECORDS.sample(connection)?;
    let of = |(name, counts): (&Arc<str>, &CollectionCounts)| {
        let enough = sampled.get(&**name).filter(|some| counts.records > SAMPLE && some.rows >= ENOUGH);
        let some = enough.map_or_else(|| first_rows(connection, name), |some| Ok(*some))?;
        Ok((name.clone(), if some.rows < SAMPLE && enough.is_none() { some.bytes } else { some.times(counts.records) }))
    };
    counts.iter().map(of).collect()
}

fn first_rows(connection: &Connection, collection: &str) -> Result<Sampled, Failure> {
    let sql = format!(
        "SELECT count(*), ifnull(sum(size), 0) FROM
         (SELECT {} AS size FROM tl_records INDEXED BY tl_records_place WHERE collection = ?1 ORDER BY key LIMIT {SAMPLE})",
        RECORDS.size
    );
    let read = |row: &Row<'_>| Ok(Sampled { rows: row.get(0)?, bytes: row.get(1)? });
    Ok(connection.prepare_cached(&sql)?.query_row([collection], read)?)
}

/// In the order of the file, which is the fastest.
fn documents(connection: &Connection) -> Result<BTreeMap<Arc<str>, u64>, Failure> {
    let mut sums: BTreeMap<Arc<str>, u64> =
        counters::read_counts(connection)?.into_keys().map(|name| (name, 0)).collect();
    let mut statement =
        connection.prepare(&format!("SELECT collection, {} FROM tl_records NOT INDEXED", RECORDS.size))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, bytes): (&str, u64) = (row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, row.get(1)?);
        if let Some(sum) = sums.get_mut(name) {
            *sum += bytes;
        }
    }
    Ok(sums)
}

/// Bytes of the database that hold something, also within a transaction.
pub(super) fn used_bytes(connection: &Connection) -> Result<u64, Failure> {
    let pages = pragma(connection, "PRAGMA page_count")?.saturating_sub(pragma(connection, "PRAGMA freelist_count")?);
    Ok(pages * PAGE_BYTES)
}

fn free_bytes(connection: &Connection) -> Result<u64, Failure> {
    Ok(pragma(connection, "PRAGMA freelist_count")? * PAGE_BYTES)
}

fn pragma(connection: &Connection, sql: &str) -> Result<u64, Failure> {
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// What a file takes; nothing if there is none.
pub(super) fn bytes_of(file: &Path) -> u64 {
    file.metadata().map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use futures::executor::block_on;

    #[test]
    fn stats_tell_sizes_and_counts() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        world.save("drafts/d", "{}");
        let stats = block_on(world.reads.stats(false)).unwrap();
        assert_eq!((stats.records, stats.pending, stats.parked, stats.conflicts, stats.history), (2, 2, 0, 0, 1));
        assert!(stats.bytes > 4096 && stats.free_bytes > 0 && stats.sizes.database > 0);
        assert_eq!((stats.quota_bytes, stats.sizes.backups), (None, 0));
        assert_eq!(stats.collections["notes"].pending, 2);
        assert_eq!(block_on(world.reads.counts()).unwrap(), stats.collections);
    }

    #[test]
    fn of_few_rows_every_byte_is_told_at_once() {
        let mut world = World::new();
        world.save("notes/a", r#"{"id":"a","n":1}"#);
        world.save("notes/a", r#"{"id":"a","n":22}"#);
        let sizes = block_on(world.reads.stats(false)).unwrap().sizes;
        assert_eq!((sizes.collections["notes"], sizes.history, sizes.outbox, sizes.conflicts), (17, 16, 16 + 8, 0));
        assert_eq!(sizes.collections["drafts"], 0);
        assert_eq!(block_on(world.reads.stats(true)).unwrap().sizes.history, 16);
    }

    #[test]
    fn of_many_rows_an_estimate_is_told_at_once_and_every_byte_on_request() {
        let mut world = World::new();
        for n in 0..1_000 {
            world.save(&format!("notes/{n:04}"), &format!(r#"{{"text":"{}"}}"#, "x".repeat(90 + n / 5)));
        }
        let told = |exact| block_on(world.reads.stats(exact)).unwrap().sizes;
        let (estimated, exact) = (told(false), told(true));
        assert_eq!((estimated.exact, exact.exact), (false, true));
        let real: usize = (0..1_000).map(|n| world.get(&format!("notes/{n:04}")).unwrap().len()).sum();
        assert_eq!(exact.collections["notes"], real as u64);
        let off = estimated.collections["notes"].abs_diff(exact.collections["notes"]);
        assert!(off < real as u64 / 20 && estimated.outbox.abs_diff(exact.outbox) < real as u64 / 20, "{estimated:?}");
    }
}
