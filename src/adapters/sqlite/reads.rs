//! Everything that is read: the `Reader` port for the inside, and the questions of the handle.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use tidelock_actors::document::Document;
use tidelock_actors::limits::QUERY_DEADLINE;
use tidelock_actors::model::{Checkpoints, CollectionRules, Counts, Operation, RecordId, Sequence, Stamp, Version};
use tidelock_actors::ports::{Base, Digesting, Digests, Reader, Standing, StoreError};

use super::answers::{ConflictView, QueueFilter, QueuedOperation, Verified, VersionView};
use super::backlog::{self, Backlog};
use super::identity::{self, Identity};
use super::list::{self, ListQuery, Listed};
use super::operations::StoredAction;
use super::pool::{Answer, Pool};
use super::quota::Quota;
use super::records::document;
use super::sizes::{self, Stats};
use super::versions::{self, Difference, RoundView};
use super::writer::file;
use super::{answers, audit, counters, open::OpenError, open::reader, query, suspicion, verify};

/// Reads of the store; clones share its threads. Never blocked by writes.
#[derive(Clone)]
pub struct SqliteReads {
    pool: Pool,
    /// Reads that may take long have threads of their own, so that the others never wait for them.
    long: Pool,
    directory: Arc<PathBuf>,
    quota: Quota,
    collections: Arc<BTreeMap<Arc<str>, CollectionRules>>,
}

impl SqliteReads {
    pub(super) fn new(
        connections: Vec<Connection>,
        directory: PathBuf,
        collections: Vec<CollectionRules>,
        quota: Quota,
    ) -> Result<Self, OpenError> {
        let more = connections.iter().map(|_| reader(&file(&directory))).collect::<Result<Vec<_>, _>>()?;
        let start = |connections| {
            Pool::start(connections).map_err(|source| OpenError::Files { path: directory.clone(), source })
        };
        let (pool, long) = (start(connections)?, start(more)?);
        let collections = collections.into_iter().map(|rules| (rules.name.clone(), rules)).collect();
        Ok(Self { pool, long, directory: Arc::new(directory), quota, collections: Arc::new(collections) })
    }

    /// The document that the app sees, if there is one.
    pub fn get(&self, id: RecordId) -> Answer<Option<Document>> {
        self.pool.ask(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT document FROM tl_records WHERE collection = ?1 AND key = ?2")?;
            Ok(statement.query_row(params![id.collection, id.key], |row| document(row, 0)).optional()?.flatten())
        })
    }

    /// The records that the query finds.
    pub fn list(&self, query: ListQuery) -> Answer<Listed> {
        if !self.collections.contains_key(query.collection.as_str()) {
            let known: Vec<&str> = self.collections.keys().map(|name| &**name).collect();
            let name = &query.collection;
            let error = format!("there is no collection {name:?}; the configuration has: {}", known.join(", "));
            return ready(Err(StoreError::Invalid(error))).boxed();
        }
        self.pool.ask(move |connection| list::list(connection, &query))
    }

    /// Runs read-only SQL over the views and answers its rows as objects. Parameters are bound in order
    /// (`?1`, `?2`, …). Whatever could write is refused, and a query that takes too long is stopped.
    pub fn query(&self, sql: &str, parameters: Vec<Value>) -> Answer<Vec<Document>> {
        let (sql, file) = (sql.to_owned(), file(&self.directory));
        self.long.ask(move |_| query::query(&file, &sql, &parameters, QUERY_DEADLINE))
    }

    /// Operations in the outbox, in order.
    pub fn operations(&self, filter: QueueFilter) -> Answer<Vec<QueuedOperation>> {
        self.pool.ask(move |connection| answers::operations(connection, &filter))
    }

    /// Conflicts, newest first: the open ones, or all that are kept.
    pub fn conflicts(&self, all: bool) -> Answer<Vec<ConflictView>> {
        self.pool.ask(move |connection| answers::conflicts(connection, all))
    }

    /// One conflict.
    pub fn conflict(&self, id: i64) -> Answer<ConflictView> {
        self.pool.ask(move |connection| answers::conflict(connection, id))
    }

    /// The exact counts.
    pub fn counts(&self) -> Answer<Counts> {
        self.pool.ask(counters::read_counts)
    }

    /// The earlier versions of a record, newest first.
    pub fn history(&self, id: RecordId) -> Answer<Vec<VersionView>> {
        self.pool.ask(move |connection| answers::history(connection, &id))
    }

    /// What changed between two versions of a record: without the first the one before the second, without the second
    /// the record as it is now.
    pub fn difference(&self, id: RecordId, from: Option<i64>, to: Option<i64>) -> Answer<Difference> {
        self.pool.ask(move |connection| versions::difference(connection, &id, from, to))
    }

    /// The rounds and rollbacks that changed records here, the newest first. It reads a little of every record.
    pub fn rounds(&self) -> Answer<Vec<RoundView>> {
        self.long.ask(versions::rounds)
    }

    /// Who this store is.
    pub fn identity(&self) -> Answer<Identity> {
        self.pool.ask(identity::read)
    }

    /// What waits to be sent.
    pub(crate) fn backlog(&self) -> Answer<Backlog> {
        self.long.ask(backlog::read)
    }

    /// Sizes and counts; exact sizes need everything to be read.
    pub fn stats(&self, exact: bool) -> Answer<Stats> {
        let (directory, quota) = (self.directory.clone(), self.quota.clone());
        let pool = if exact { &self.long } else { &self.pool };
        pool.ask(move |connection| sizes::stats(connection, &directory, &quota, exact))
    }

    /// Checks the store against itself, reading all of it.
    pub fn verify(&self) -> Answer<Verified> {
        let (names, directory) = (self.collections.keys().cloned().collect::<Vec<_>>(), self.directory.clone());
        self.long.ask(move |connection| {
            let verified = verify::verify(connection, &names);
            if verify::is_damaged(&verified) {
                suspicion::suspect(&directory);
            }
            verified
        })
    }
}

impl Reader for SqliteReads {
    fn pending(&self, after: Sequence, limit: usize) -> BoxFuture<'static, Result<Vec<Operation>, StoreError>> {
        self.pool.ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, transaction_id, collection, key, action, patch, stamp, attempts
                 FROM tl_operations INDEXED BY tl_operations_pending
                 WHERE state = 'pending' AND seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut names = Names::default();
            let rows = statement.query_map(params![after, limit], |row| operation(row, &mut names))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn bases(&self, ids: Vec<RecordId>) -> BoxFuture<'static, Result<Vec<Base>, StoreError>> {
        self.pool.ask(move |connection| {
            // One transaction: taking the file's lock costs more than looking a row up.
            let _reading = connection.unchecked_transaction()?;
            // Without operations the document is the server's; with some, it is kept beside it.
            let mut statement = connection.prepare_cached(
                "SELECT coalesce(server_document, document), version FROM tl_records
                 WHERE collection = ?1 AND key = ?2 AND on_server",
            )?;
            let mut base = |id: &RecordId| {
                let read = |row: &Row<'_>| {
                    Ok(Base { document: document(row, 0)?, version: row.get::<_, Option<Version>>(1)? })
                };
                Ok(statement.query_row(params![id.collection, id.key], read).optional()?.unwrap_or_default())
            };
            ids.iter().map(&mut base).collect()
        })
    }

    fn digests(&self, asked: Vec<Digesting>) -> BoxFuture<'static, Result<Vec<Vec<u64>>, StoreError>> {
        self.long.ask(move |connection| audit::digests(connection, &asked))
    }

    fn digests_within(&self, asked: Digesting, buckets: Vec<usize>) -> BoxFuture<'static, Result<Digests, StoreError>> {
        self.long.ask(move |connection| audit::digests_within(connection, &asked, &buckets))
    }

    fn standings(&self, ids: Vec<RecordId>) -> BoxFuture<'static, Result<Vec<Standing>, StoreError>> {
        self.long.ask(move |connection| audit::standings(connection, &ids))
    }

    fn checkpoints(&self) -> BoxFuture<'static, Result<Checkpoints, StoreError>> {
        self.pool.ask(|connection| {
            let mut statement = connection.prepare_cached("SELECT name, value FROM tl_checkpoints")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn parked_parent(
        &self,
        collections: Vec<Arc<str>>,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Option<Sequence>, StoreError>> {
        self.pool.ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT min(o.seq) FROM tl_records r JOIN tl_operations o ON o.record = r.id
                 WHERE r.collection = ?1 AND r.key = ?2 AND o.state = 'parked' AND o.action = 'create'",
            )?;
            let mut first: Option<Sequence> = None;
            for collection in &collections {
                for key in &keys {
                    let found: Option<Sequence> = statement.query_row(params![collection, key], |row| row.get(0))?;
                    first = first.into_iter().chain(found).min();
                }
            }
            Ok(first)
        })
    }
}

/// Collection names that repeat from row to row share their text.
#[derive(Default)]
struct Names(BTreeMap<Box<str>, Arc<str>>);

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(name) {
            return shared.clone();
        }
        let shared: Arc<str> = name.into();
        self.0.insert(name.into(), shared.clone());
        shared
    }
}

fn operation(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<Operation> {
    let collection = names.shared(row.get_ref(2)?.as_str()?);
    Ok(Operation {
        sequence: row.get(0)?,
        transaction: row.get(1)?,
        id: RecordId { collection, key: row.get(3)? },
        action: row.get::<_, StoredAction>(4)?.0,
        patch: Document::trusted(row.get(5)?),
        stamp: Stamp(row.get(6)?),
        attempts: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, id};
    use futures::FutureExt;
    use futures::executor::block_on;

    #[test]
    fn short_reads_do_not_wait_for_long_ones() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        let slow =
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 500000) SELECT max(n) AS n FROM t";
        let long: Vec<_> = (0..8).map(|_| world.reads.query(slow, vec![])).collect();
        assert!(block_on(world.reads.get(id("notes/a"))).unwrap().is_some());
        let answered = long.into_iter().filter_map(FutureExt::now_or_never).count();
        assert!(answered < 4, "the short read came after {answered} long ones");
    }
}
