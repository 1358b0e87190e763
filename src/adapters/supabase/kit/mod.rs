//! The server through its kit (`supabase/kit`): exact pulls by snapshot, pushes that take effect once.
//!
//! - `changes` pulls, with `place` (checkpoints) and `filter` (selective sync);
//! - `open_transactions` tells what the snapshots say of them;
//! - `send` pushes;
//! - `audit` compares.
//!
//! What the kit does not do goes through PostgREST as in the plain mode: rows by key, listings, counts.

mod audit;
mod changes;
mod filter;
mod open_transactions;
mod place;
mod seen;
mod send;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Method;
use serde_json::value::RawValue;
use tidelock_actors::model::{Checkpoints, Fault, FaultKind, Outgoing, Reference, RemoteRow, RemoteState, Version};
use tidelock_actors::ports::{Fetched, OpenTransactions, PullRequest, Pulled, Pushed, Remote};

use self::open_transactions::Lookout;
use self::place::is_visible;
use super::Plain;
use super::fault::{self, Refusal};
use super::http::{Answer, Question};
use super::table::Table;
use crate::locks::locked;
use seen::Seen;

/// The column that the kit stamps.
pub(super) const VERSION: &str = "tidelock_version";
/// The checkpoint that holds the server's epoch. No collection has such a name. An empty one means that whatever the
/// server is now has been accepted.
pub const SERVER_EPOCH: &str = "server epoch";
/// What all versions begin with that the kit gave: no other mode can use them.
pub(super) const STAMP: &str = "kit-";
/// The kit's word for another database than the one that was expected.
const REPLACED: &str = "TL001";
/// Its word for a device that was away for longer than deletions are remembered.
const BEHIND: &str = "TL003";

/// Who sends: the ledger's key.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    /// This store among all of its user's.
    pub client: String,
    /// Which incarnation of it this is.
    pub epoch: String,
    /// The server's epoch, as far as it is known.
    pub server_epoch: Option<String>,
    /// How far the collections have been pulled.
    pub checkpoints: Checkpoints,
}

/// The server through its kit.
pub(super) struct Kit {
    plain: Arc<Plain>,
    identity: Sender,
    epoch: Mutex<Option<String>>,
    seen: Mutex<Seen>,
    /// Transactions of our own about which all is known here.
    own: Mutex<BTreeSet<u64>>,
    /// The snapshot of the last pull.
    last_snapshot: Mutex<String>,
    lookout: Mutex<Lookout>,
    page_rows: AtomicUsize,
    /// Whether rows may be here that the server does not have, without it having said so.
    is_suspicious: AtomicBool,
    has_compared: AtomicBool,
    compared: Mutex<Instant>,
    compare_every: Duration,
}

impl Kit {
    pub fn new(plain: Arc<Plain>, identity: Sender, compare_every: Duration) -> Self {
        let places = plain.tables.values().map(|table| changes::place(table, &identity.checkpoints));
        Self {
            seen: Mutex::new(Seen::of(places)),
            plain,
            epoch: Mutex::new(identity.server_epoch.clone()),
            identity,
            own: Mutex::default(),
            last_snapshot: Mutex::default(),
            lookout: Mutex::default(),
            page_rows: AtomicUsize::new(changes::FIRST_PAGE_ROWS),
            is_suspicious: AtomicBool::new(false),
            has_compared: AtomicBool::new(false),
            compared: Mutex::new(Instant::now()),
            compare_every,
        }
    }

    /// Tables are read as the kit keeps them.
    pub fn take_over(&self) {
        self.plain.tables.values().for_each(Table::use_kit);
    }

    pub async fn push(&self, batch: &[Outgoing]) -> Pushed {
        send::push(self, batch).await
    }

    pub async fn pull(&self, have: &Checkpoints, request: &PullRequest) -> Result<Pulled, Fault> {
        changes::pull(self, have, request).await
    }

    /// The references between the collections' tables; nothing where the server has no kit.
    pub async fn references(&self) -> Result<Option<Vec<Reference>>, Fault> {
        let tables: Vec<&Table> = self.plain.tables.values().collect();
        let names: Vec<&str> = tables.iter().map(|table| table.rules.table.as_str()).collect();
        let Some(description) = self.plain.describe(&names).await? else { return Ok(None) };
        let references = tables.iter().zip(&description.tables).flat_map(|(child, described)| {
            let parents = |parent: &&Table| described.references.iter().any(|one| one.is_to(&parent.rules.table));
            let named =
                |parent: &Table| Reference { child: child.rules.name.clone(), parent: parent.rules.name.clone() };
            tables.iter().copied().filter(parents).map(named)
        });
        Ok(Some(references.collect()))
    }

    /// Rows by key, within the collection's filter.
    pub async fn fetch_rows(&self, collection: &Arc<str>, keys: Vec<Arc<str>>) -> Result<Vec<RemoteRow>, Fault> {
        Ok(self.versioned(self.plain.fetch(collection.clone(), keys).await?))
    }

    /// Rows in the order of their keys, within the collection's filter.
    pub async fn rows(&self, collection: Arc<str>, after: Option<Arc<str>>) -> Result<Fetched, Fault> {
        Ok(Fetched { rows: self.versioned(self.plain.rows(collection, after).await?) })
    }

    fn versioned(&self, fetched: Fetched) -> Vec<RemoteRow> {
        let epoch = self.epoch().unwrap_or_default();
        let versioned = |row: RemoteRow| RemoteRow { state: changes::versioned(row.state, &epoch), ..row };
        fetched.rows.into_iter().map(versioned).collect()
    }

    /// As `fetch_rows`, without those that the next pull brings: it brings them with all of their transactions.
    pub async fn fetch_overlooked(&self, collection: &Arc<str>, keys: Vec<Arc<str>>) -> Result<Vec<RemoteRow>, Fault> {
        let mut rows = self.fetch_rows(collection, keys).await?;
        let (epoch, snapshot) = (self.epoch().unwrap_or_default(), locked(&self.last_snapshot).clone());
        let is_to_come = |version: &Version| {
            transaction_of(version, &epoch)
                .and_then(|number| number.parse().ok())
                .is_some_and(|t| !is_visible(t, &snapshot))
        };
        rows.retain(|row| !matches!(&row.state, RemoteState::Present { version: Some(v), .. } if is_to_come(v)));
        Ok(rows)
    }

    /// Whether it is time to compare keys: after something that leaves no tombstones, and now and then.
    pub fn needs_listing(&self) -> bool {
        self.is_suspicious.load(Ordering::Relaxed) || locked(&self.compared).elapsed() >= self.compare_every
    }

    /// Keys have been compared; the next pull makes that durable.
    pub fn listed(&self) {
        self.is_suspicious.store(false, Ordering::Relaxed);
        self.has_compared.store(true, Ordering::Relaxed);
        locked(&self.seen).is_doubtful = false;
        *locked(&self.compared) = Instant::now();
    }

    fn compare(&self) {
        self.is_suspicious.store(true, Ordering::Relaxed);
    }

    async fn call(&self, function: &str, body: String) -> Result<Answer, Fault> {
        let line = format!("{}/rest/v1/rpc/{function}", self.plain.base);
        let question = Question { method: Method::POST, line, schema: None, prefer: None, body: Some(body) };
        self.plain.link.send(question).await.map_err(|fault| match fault.code.as_deref() {
            Some(REPLACED) => changes::replaced(),
            Some("PGRST202") => Fault { message: gone(function), details: None, ..fault },
            Some(BEHIND) => Fault { kind: FaultKind::Behind, ..fault },
            // About the call, not about an operation: those have verdicts of their own.
            Some(fault::DENIED | "42883") => Fault { kind: FaultKind::Schema, ..fault },
            _ => fault,
        })
    }

    fn epoch(&self) -> Option<String> {
        locked(&self.epoch).clone()
    }

    /// A pull tells which database this is, once what the store knows of it does not speak against it.
    fn learn_epoch(&self, epoch: &str) {
        *locked(&self.epoch) = Some(epoch.to_owned());
    }

    fn learn_seen(&self, seen: Seen) {
        *locked(&self.seen) = seen;
    }

    /// How much the store has seen of the server's past.
    fn seen(&self) -> Option<u64> {
        locked(&self.seen).told()
    }

    fn own(&self, transaction: u64) {
        locked(&self.own).insert(transaction);
    }

    fn own_transactions(&self) -> Vec<String> {
        locked(&self.own).iter().map(u64::to_string).collect()
    }

    fn saw(&self, snapshot: &str) {
        snapshot.clone_into(&mut locked(&self.last_snapshot));
        locked(&self.lookout).see(snapshot, Timestamp::now().as_millisecond());
    }

    /// The server's writing transactions, as of the last pull.
    pub fn open_transactions(&self) -> Option<OpenTransactions> {
        locked(&self.lookout).seen()
    }

    fn forget_own(&self, is_behind: impl Fn(u64) -> bool) {
        locked(&self.own).retain(|transaction| !is_behind(*transaction));
    }
}

/// What it means that a function of the kit is not found.
fn gone(function: &str) -> String {
    format!(
        "the server kit's function {function} is not there any more; install the kit again with: tidelock remote sql"
    )
}

/// A row's version: the transaction that stamped it, and the beginning of the epoch in which its number counts.
fn stamp(epoch: &str, transaction: &str) -> Version {
    format!("{}{transaction}", prefix(epoch)).into()
}

/// The transaction of a version, if it is one of this epoch's.
fn transaction_of<'v>(version: &'v str, epoch: &str) -> Option<&'v str> {
    version.strip_prefix(&prefix(epoch))
}

fn prefix(epoch: &str) -> String {
    let beginning: String = epoch.chars().take(8).collect();
    format!("{STAMP}{beginning}:")
}

/// An error inside of an answer, read as if it were the answer.
fn fault_of(error: &RawValue) -> Fault {
    let refusal = Refusal { status: 400, retry_after: None, now: Timestamp::UNIX_EPOCH, body: error.get().as_bytes() };
    Fault { status: None, ..fault::read(&refusal) }
}
