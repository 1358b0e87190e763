//! The tables of a log book, and what is done with them.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Type};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params, params_from_iter};
use tidelock_actors::limits::{LOG_HISTORY_MAX, LOG_PENDING_BYTES, LOG_PENDING_ROWS};
use tidelock_actors::logs::{BookState, Drained, Entry, Kept, LogQuery, Settled};

use crate::private::private;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        level INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        is_call INTEGER NOT NULL,
        is_pending INTEGER NOT NULL,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS entries_pending ON entries (is_call, number, bytes) WHERE is_pending = 1;
    CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";
const INSERT: &str = "INSERT INTO entries (level, last_ms, is_call, is_pending, count, bytes, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const SET: &str = "INSERT OR REPLACE INTO counts VALUES (?1, ?2)";
/// Among the counts: when the server last took some.
const SHIPPED: &str = "shipped_ms";
/// Bytes to which the log of the file is cut back.
const LOG_BYTES: i64 = 4 * 1024 * 1024;

/// An open book.
pub(super) struct Book {
    connection: Connection,
    /// Those up to this number that are pending are on their way.
    leased: i64,
    /// Entries that stay readable.
    history: usize,
}

impl Book {
    /// The book in this file, which is made for its owner's eyes alone. Whoever has it locked is waited for, `busy` at most.
    pub fn open(path: &Path, busy: Duration) -> rusqlite::Result<Self> {
        // SQLite gives the log and its index the permissions of the database. If the file cannot be made, opening tells.
        let _ = private(OpenOptions::new().write(true).create(true).truncate(false)).open(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::prepared(Connection::open_with_flags(path, flags)?, busy)
    }

    /// A book that ends with the process.
    pub fn in_memory() -> rusqlite::Result<Self> {
        Self::prepared(Connection::open_in_memory()?, Duration::ZERO)
    }

    fn prepared(connection: Connection, busy: Duration) -> rusqlite::Result<Self> {
        connection.busy_timeout(busy)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // A power cut may take the last entries with it; nobody who logs waits for the disk.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, leased: 0, history: LOG_HISTORY_MAX })
    }

    /// Writes down and sheds in one transaction.
    pub fn append(&mut self, drained: &Drained, history: usize) -> rusqlite::Result<BookState> {
        let leased = self.leased;
        self.history = history;
        let transaction = self.connection.transaction()?;
        for entry in &drained.entries {
            insert(&transaction, entry)?;
        }
        add(&transaction, "shed", i64::try_from(drained.shed).unwrap_or(i64::MAX))?;
        add(&transaction, "folded", drained.folded)?;
        shed(&transaction, leased)?;
        if !drained.entries.is_empty() {
            prune(&transaction, history)?;
        }
        let state = state(&transaction)?;
        transaction.commit()?;
        Ok(state)
    }

    /// Takes over all that another book has.
    pub fn take_over(&mut self, other: &Self) -> rusqlite::Result<()> {
        let mut found = other
            .connection
            .prepare("SELECT level, last_ms, is_call, is_pending, count, bytes, body FROM entries ORDER BY number")?;
        let mut counted = other.connection.prepare("SELECT name, value FROM counts")?;
        let history = other.history;
        let transaction = self.connection.transaction()?;
        let mut entries = found.query([])?;
        while let Some(entry) = entries.next()? {
            let values = (0..7).map(|column| entry.get_ref(column)).collect::<rusqlite::Result<Vec<_>>>()?;
            let values = values.into_iter().map(ToSqlOutput::Borrowed);
            transaction.prepare_cached(INSERT)?.execute(params_from_iter(values))?;
        }
        let mut counts = counted.query([])?;
        while let Some(count) = counts.next()? {
            let (name, value): (String, i64) = (count.get(0)?, count.get(1)?);
            match name.as_str() {
                SHIPPED => transaction.execute(SET, params![SHIPPED, value]).map(drop)?,
                name => add(&transaction, name, value)?,
            }
        }
        shed(&transaction, 0)?;
        prune(&transaction, history)?;
        transaction.commit()?;
        self.history = history;
        Ok(())
    }

    /// Whether entries of it are on their way.
    pub fn is_leased(&self) -> bool {
        self.leased > 0
    }

    /// The newest of those that the query means, the oldest first.
    pub fn newest(&self, query: &LogQuery) -> rusqlite::Result<Vec<Kept>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, is_pending, body FROM entries
             WHERE number > ?1 AND level <= ?2 AND last_ms >= ?3 ORDER BY number DESC LIMIT ?4",
        )?;
        let level = query.level.map_or(u8::MAX, |level| level.rank());
        let since = query.since.map_or(i64::MIN, |since| since.as_millisecond());
        let limit = query.limit.unwrap_or(self.history).min(self.history);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![query.after.unwrap_or(0), level, since, limit], kept)?;
        let mut newest = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        newest.reverse();
        Ok(newest)
    }

    /// The oldest that are to be shipped.
    pub fn lease(&mut self, rows: usize, bytes: usize) -> rusqlite::Result<Vec<Kept>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, is_pending, body FROM entries NOT INDEXED WHERE is_pending = 1 ORDER BY number LIMIT ?1",
        )?;
        let mut leased: Vec<Kept> = Vec::new();
        let mut taken = 0;
        let mut found = statement.query([i64::try_from(rows).unwrap_or(i64::MAX)])?;
        while let Some(row) = found.next()? {
            taken += row.get_ref(2)?.as_str()?.len();
            if taken > bytes && !leased.is_empty() {
                break;
            }
            leased.push(kept(row)?);
        }
        self.leased = leased.last().map_or(0, |last| last.number);
        Ok(leased)
    }

    /// Says what became of those that were leased up to `last`.
    pub fn settle(&mut self, last: i64, settled: Settled) -> rusqlite::Result<BookState> {
        // Those of a book that was set aside meanwhile are not in this one.
        let is_known = last > 0 && last == self.leased;
        let history = self.history;
        let transaction = self.connection.transaction()?;
        let settle = || -> rusqlite::Result<usize> {
            let sent = "UPDATE entries SET is_pending = 0 WHERE is_pending = 1 AND number <= ?1";
            let count = transaction.execute(sent, [last])?;
            prune(&transaction, history)?;
            Ok(count)
        };
        match settled {
            Settled::Shipped { now_ms } if is_known => {
                settle()?;
                transaction.execute(SET, params![SHIPPED, now_ms])?;
            }
            Settled::Refused if is_known => {
                let count = settle()?;
                add(&transaction, "refused", i64::try_from(count).unwrap_or(i64::MAX))?;
            }
            Settled::Shipped { .. } | Settled::Refused | Settled::Kept => {}
        }
        let state = state(&transaction)?;
        transaction.commit()?;
        self.leased = 0;
        Ok(state)
    }
}

fn insert(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let body = serde_json::to_string(entry).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut statement = transaction.prepare_cached(INSERT)?;
    let count = i64::try_from(entry.count).unwrap_or(i64::MAX);
    let (level, last_ms, bytes) = (entry.level.rank(), entry.last_at.as_millisecond(), body.len());
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    statement.execute(params![level, last_ms, entry.call.is_some(), entry.ships, count, bytes, body])?;
    Ok(())
}

/// Sheds the oldest of what is too much, calls last.
fn shed(transaction: &Transaction<'_>, leased: i64) -> rusqlite::Result<()> {
    let (mut rows, mut bytes) = pending(transaction)?;
    let is_full = |rows: u64, bytes: u64| rows > LOG_PENDING_ROWS as u64 || bytes > LOG_PENDING_BYTES as u64;
    if !is_full(rows, bytes) {
        return Ok(());
    }
    let (mut gone, mut folded) = (0_i64, 0_i64);
    let mut oldest = transaction.prepare_cached(
        "SELECT number, bytes, count FROM entries WHERE is_pending = 1 AND number > ?1 ORDER BY is_call, number",
    )?;
    let mut mark = transaction.prepare_cached("UPDATE entries SET is_pending = 0 WHERE number = ?1")?;
    let mut too_much = Vec::new();
    let mut found = oldest.query([leased])?;
    while is_full(rows, bytes)
        && let Some(row) = found.next()?
    {
        let (number, size, count): (i64, u64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        (rows, bytes) = (rows - 1, bytes.saturating_sub(size));
        (gone, folded) = (gone + count, folded + count - 1);
        too_much.push(number);
    }
    for number in too_much {
        mark.execute([number])?;
    }
    add(transaction, "shed", gone)?;
    add(transaction, "folded", -folded)
}

/// Forgets what is neither among the newest nor to be shipped.
fn prune(transaction: &Transaction<'_>, history: usize) -> rusqlite::Result<()> {
    let history = i64::try_from(history).unwrap_or(i64::MAX);
    let oldest = "SELECT number FROM entries ORDER BY number DESC LIMIT 1 OFFSET ?1";
    let first_out: Option<i64> =
        transaction.prepare_cached(oldest)?.query_row([history], |row| row.get(0)).optional()?;
    if let Some(number) = first_out {
        transaction
            .prepare_cached("DELETE FROM entries NOT INDEXED WHERE number <= ?1 AND is_pending = 0")?
            .execute([number])?;
    }
    Ok(())
}

fn pending(transaction: &Transaction<'_>) -> rusqlite::Result<(u64, u64)> {
    let sums = "SELECT count(*), coalesce(sum(bytes), 0) FROM entries WHERE is_pending = 1";
    transaction.prepare_cached(sums)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn add(transaction: &Transaction<'_>, name: &str, more: i64) -> rusqlite::Result<()> {
    if more != 0 {
        let sum = "INSERT INTO counts VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value";
        transaction.prepare_cached(sum)?.execute(params![name, more])?;
    }
    Ok(())
}

fn state(transaction: &Transaction<'_>) -> rusqlite::Result<BookState> {
    let mut statement = transaction.prepare_cached("SELECT value FROM counts WHERE name = ?1")?;
    let mut count = |name: &str| statement.query_row([name], |row| row.get::<_, i64>(0)).optional();
    let [shed, folded, refused] = ["shed", "folded", "refused"]
        .map(|name| count(name).map(|count| u64::try_from(count.unwrap_or_default()).unwrap_or_default()));
    let shipped_ms = count(SHIPPED)?;
    let (pending, _) = pending(transaction)?;
    Ok(BookState { pending, shed: shed?, folded: folded?, refused: refused?, shipped_ms, trouble: None })
}

fn kept(row: &rusqlite::Row<'_>) -> rusqlite::Result<Kept> {
    let entry = serde_json::from_str(row.get_ref(2)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, Type::Text, error.into()))?;
    Ok(Kept { number: row.get(0)?, pending: row.get(1)?, entry })
}
