//! What the inside needs of the outside: one trait a dependency, and one struct that names them all.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::backups::{self, ArchiveError, PublishError, Reason, Taken};
use crate::document::{Document, Layout};
use crate::logs::{BookError, BookState, Drained, Entry, Kept, LogQuery, Settled, TableName};
use crate::model::{
    Checkpoints, Compacted, Contested, Counts, Fault, Operation, Outcome, Outgoing, Past, RecordId, Reference,
    RemoteRow, Sequence, Stamp, Verdict, Version,
};
use crate::writes::{Write, Written};

/// The only writer of the local store.
pub trait Store: Send {
    /// Performs writes in the transaction at hand, beginning one where there is none; each has its answer at the same
    /// place. If one fails, the whole transaction is taken back, with what it performed before.
    /// `now` is the time of those that bring no stamp of their own; it is above all stamps given before.
    fn perform(&mut self, writes: &[Write], now: Stamp) -> Result<Vec<Written>, StoreError>;
    /// Makes durable what was performed, or takes back all of it.
    fn commit(&mut self) -> Result<(), StoreError>;
    /// The counts after the last commit.
    fn counts(&self) -> &Counts;
    /// The newest stamp that the store has seen.
    fn newest_stamp(&self) -> Stamp;
    /// Prunes history and truncates the log; small enough to run between two commits.
    fn maintain(&mut self) -> Result<(), StoreError>;
    /// Gives back the room that what was deleted has left; it may take long. What was performed must be committed.
    fn compact(&mut self, past: Past) -> Result<Compacted, StoreError>;
    /// Forgets what is kept in memory and reads it again from the file, after a commit that was torn off.
    fn reload(&mut self) -> Result<(), StoreError>;
}

/// Why the store could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room: nothing was written.
    #[error("the disk is full; free some space and try again ({0})")]
    Full(String),
    /// It would take more than the user allows: nothing was written.
    #[error("{0}; delete what is not needed and run tidelock compact --forget-history, or raise storage.quota")]
    OverQuota(String),
    /// The medium or file may not be written.
    #[error("the store is read-only ({0})")]
    ReadOnly(String),
    /// The file is not what was written.
    #[error("the store is damaged ({0})")]
    Damaged(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such operation, conflict or record.
    #[error("{0}")]
    NotFound(String),
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the same write may succeed later without anything being mended in the request.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full(_) | Self::OverQuota(_) | Self::ReadOnly(_) | Self::Failed(_))
    }
}

/// Reads for the inside; never blocked by writes.
pub trait Reader: Send + Sync {
    /// Pending operations with a sequence above `after`, in order; what is parked or held is left out.
    fn pending(&self, after: Sequence, limit: usize) -> BoxFuture<'static, Result<Vec<Operation>, StoreError>>;
    /// The server's document and version under each record's pending operations, in the same order.
    fn bases(&self, ids: Vec<RecordId>) -> BoxFuture<'static, Result<Vec<Base>, StoreError>>;
    /// The digests of what the server is believed to have, by bucket, for each of these collections; one pass over all.
    fn digests(&self, asked: Vec<Digesting>) -> BoxFuture<'static, Result<Vec<Vec<u64>>, StoreError>>;
    /// The keys and digests in these buckets.
    fn digests_within(&self, asked: Digesting, buckets: Vec<usize>) -> BoxFuture<'static, Result<Digests, StoreError>>;
    /// What the server is believed to have of these records, in the same order.
    fn standings(&self, ids: Vec<RecordId>) -> BoxFuture<'static, Result<Vec<Standing>, StoreError>>;
    /// All checkpoints.
    fn checkpoints(&self) -> BoxFuture<'static, Result<Checkpoints, StoreError>>;
    /// The parked create, if any, among `collections` whose key is one of `keys`.
    fn parked_parent(
        &self,
        collections: Vec<Arc<str>>,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Option<Sequence>, StoreError>>;
}

/// What the server is believed to have under a record's pending operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base {
    /// The row; `None` where it was created here.
    pub document: Option<Document>,
    /// Its version.
    pub version: Option<Version>,
}

/// What the server is believed to have of a record, whatever was done to it here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The row, also where a decision on it is still open; `None` where it has none.
    pub document: Option<Document>,
    /// Its version.
    pub version: Option<Version>,
    /// Whether the server said so itself, within the collection's filter.
    pub confirmed: bool,
}

/// Keys, each with the digest of its row.
pub type Digests = Vec<(Arc<str>, u64)>;

/// How the digests of a collection are made, here and there.
#[derive(Debug, Clone)]
pub struct Digesting {
    /// The collection.
    pub collection: Arc<str>,
    /// The columns.
    pub layout: Arc<Layout>,
    /// The number of buckets, a power of two.
    pub buckets: usize,
    /// Whether records count that only a push has told of: they need not match the collection's filter.
    pub with_unconfirmed: bool,
}

/// The server. The plain mode and the server kit are two of them.
pub trait Remote: Send + Sync {
    /// Sends a batch, in order; each operation has its verdict at the same place.
    fn push(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Pushed>;
    /// How it takes operations.
    fn nature(&self) -> BoxFuture<'_, Result<Nature, Fault>>;
    /// Fetches the next page after `have`.
    fn pull(&self, have: Checkpoints, request: PullRequest) -> BoxFuture<'_, Result<Pulled, Fault>>;
    /// Reads rows by key; a key without a visible row answers `Gone`.
    fn fetch(&self, collection: Arc<str>, keys: Vec<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>>;
    /// Those of these keys that have a row, within the collection's filter or not.
    fn existing(&self, collection: Arc<str>, keys: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>>;
    /// How many rows the server has in a collection.
    fn count(&self, collection: Arc<str>) -> BoxFuture<'_, Result<u64, Fault>>;
    /// The keys after `after`, in the server's order; an empty page is the end.
    fn keys(&self, collection: Arc<str>, after: Option<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>>;
    /// The whole rows after `after`, in the order of their keys; an empty page is the end.
    fn rows(&self, collection: Arc<str>, after: Option<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>>;
    /// The columns that digests are made of, for each of these collections; nothing where the server cannot make any.
    fn layouts(&self, collections: Vec<Arc<str>>) -> BoxFuture<'_, Result<Option<Vec<Layout>>, Fault>>;
    /// The digests of the collection's rows, by bucket.
    fn digests(&self, asked: Digesting) -> BoxFuture<'_, Result<Vec<u64>, Fault>>;
    /// The keys and digests in these buckets.
    fn digests_within(&self, asked: Digesting, buckets: Vec<usize>) -> BoxFuture<'_, Result<Digests, Fault>>;
    /// The smallest request that tells whether the server is there and takes the credentials.
    fn probe(&self) -> BoxFuture<'_, Result<(), Fault>>;
    /// How the server is talked to, by the name that the configuration gives it.
    fn mode(&self) -> &'static str;
    /// Whether deletions have to be found by listing keys.
    fn needs_listing(&self) -> bool;
    /// The keys of all collections have been compared with the server's.
    fn listed(&self);
    /// Whether requests carry an access token beside the project's key.
    fn is_signed_in(&self) -> bool;
    /// Requests sent so far.
    fn requests(&self) -> u64;
    /// The server's clock less this device's, in milliseconds, once an answer told it.
    fn clock_offset_ms(&self) -> Option<i64>;
    /// What is known of the server, and of the way to it, without asking.
    fn heard(&self) -> Heard;
}

/// What is known of the server, and of the way to it, without asking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// Since when the oldest request that has no answer yet waits for one, milliseconds since 1970.
    pub unanswered_since_ms: Option<i64>,
    /// The user that the access token is of, if it says so.
    pub user: Option<String>,
    /// When the access token expires, milliseconds since 1970, if it says so.
    pub token_expires_ms: Option<i64>,
    /// The server's writing transactions, where it tells which are open.
    pub open_transactions: Option<OpenTransactions>,
}

/// The server's writing transactions that were open when it was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenTransactions {
    /// How many.
    pub count: u64,
    /// The oldest one's number, and when it was first seen open, milliseconds since 1970.
    pub oldest: Option<(u64, i64)>,
}

/// How a server takes operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nature {
    /// Whether what was saved together takes effect together or not at all.
    pub keeps_transactions: bool,
    /// The most batches that it takes at the same time.
    pub batches_at_once: usize,
    /// The references between collections that it knows of.
    pub references: Vec<Reference>,
}

impl Nature {
    /// Row by row, one batch after another.
    pub const PLAIN: Self = Self { keeps_transactions: false, batches_at_once: 1, references: Vec::new() };
}

/// What became of a batch.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    /// A verdict an operation, in the batch's order; unknown outcomes are transient failures.
    pub verdicts: Vec<Verdict>,
}

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// The collections, by local name.
    pub collections: Vec<Arc<str>>,
    /// Also read tables without a version column, row by row.
    pub deep: bool,
    /// The walk's number, mostly that of its round; another one than in the checkpoint begins a new walk.
    pub round: i64,
}

/// A page.
#[derive(Debug, Clone, Default)]
pub struct Pulled {
    /// Rows in the server's order.
    pub rows: Vec<RemoteRow>,
    /// What they make durable; give it back to fetch the next page.
    pub checkpoints: Checkpoints,
    /// Whether another page follows.
    pub more: bool,
    /// Collections that do not fit the server's schema, each with its fault; the others went on.
    pub paused: Vec<(Arc<str>, Fault)>,
}

/// Rows read by key.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// One a key, in no particular order.
    pub rows: Vec<RemoteRow>,
}

/// Where backups are kept.
pub trait Archive: Send + Sync {
    /// How it stands, for the timer to go on from.
    fn state(&self) -> BoxFuture<'static, backups::ArchiveState>;
    /// Takes a backup and removes those that need not be kept any more. A periodic one is not taken where nothing has
    /// changed since the newest.
    fn take(&self, reason: Reason) -> BoxFuture<'static, Result<Option<Taken>, ArchiveError>>;
    /// Restores the newest backup into a file beside, and checks what came of it. Without one there is nothing to try.
    fn drill(&self) -> BoxFuture<'static, Result<(), ArchiveError>>;
}

/// Where other devices see which backups this one has.
pub trait Publisher: Send + Sync {
    /// Makes what the server tells of this device's backups equal to what there is, files included where that is wanted.
    /// Safe to repeat, and to stop in the middle.
    fn publish(&self) -> BoxFuture<'static, Result<(), PublishError>>;
}

/// Where log entries gather before they are written. It is filled from any thread and never makes one wait.
pub trait LogIntake: Send + Sync {
    /// Gives what has gathered; what is still being counted as well, if `all`.
    fn drain(&self, all: bool) -> Drained;
    /// Whether there is an error among it, which is not to be lost.
    fn is_urgent(&self) -> bool;
}

/// Where log entries are kept. It is asked in order, and what was asked is done even if nobody waits for the answer.
pub trait LogBook: Send + Sync {
    /// Writes them down and sheds what is too much; `history` of them stay readable. Without entries it tells how it
    /// stands. With an error nothing of it was written, and it is to be tried again.
    fn append(&self, drained: Arc<Drained>, history: usize) -> BoxFuture<'static, Result<BookState, BookError>>;
    /// Those of the entries that stay readable, the oldest first.
    fn newest(&self, query: LogQuery) -> BoxFuture<'static, Result<Vec<Kept>, BookError>>;
    /// Leases the oldest ones that the server is to have: until they are settled none of them is shed.
    fn lease(&self, rows: usize, bytes: usize) -> BoxFuture<'static, Result<Vec<Kept>, BookError>>;
    /// Says what became of them.
    fn settle(&self, numbers: Vec<i64>, settled: Settled) -> BoxFuture<'static, Result<BookState, BookError>>;
}

/// The server's table for log entries.
pub trait LogSink: Send + Sync {
    /// Sends them. Those that are there already stay as they are.
    fn send(&self, table: TableName, entries: Vec<Entry>) -> BoxFuture<'static, Result<(), Fault>>;
}

/// Time.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 by this device's clock.
    fn now_ms(&self) -> i64;
}

/// A host's own way to decide conflicts.
pub trait Resolver: Send + Sync {
    /// Decides one conflict. `AlreadyThere` is decided before this is asked.
    fn resolve(&self, contested: &Contested) -> Outcome;
}

/// What the logger works with.
#[derive(Clone)]
pub struct LogPorts {
    /// Where log entries gather.
    pub intake: Arc<dyn LogIntake>,
    /// Where they are kept.
    pub book: Arc<dyn LogBook>,
    /// Where the important ones go.
    pub sink: Arc<dyn LogSink>,
}

/// Every dependency of the inside.
#[derive(Clone)]
pub struct Ports {
    /// Reads of the local store.
    pub reader: Arc<dyn Reader>,
    /// The server.
    pub remote: Arc<dyn Remote>,
    /// The backups.
    pub archive: Arc<dyn Archive>,
    /// What the server is told of them.
    pub publisher: Arc<dyn Publisher>,
    /// What is logged.
    pub logs: LogPorts,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The host's own conflict resolvers, by collection.
    pub resolvers: Arc<std::collections::BTreeMap<Arc<str>, Arc<dyn Resolver>>>,
}
