//! The outbox: hands out batches of operations and settles them by the server's verdicts, parks what the
//! server refuses and puts it back by hand. It never talks HTTP; its decisions are in `machine::outbox`.

use std::sync::Arc;

use actix::prelude::*;
use futures::FutureExt;
use tokio::sync::watch;

use crate::limits::ACTOR_MAILBOX;
use crate::machine::coalesce::Coalesced;
use crate::machine::outbox::{Outbox, Reading, cancelled, settlement, whole_transactions};
use crate::model::{Action, Counts, Fault, Operation, Outgoing, RecordId, RemoteRow, Sequence, Verdict};
use crate::peer::{PartError, Peer};
use crate::ports::{Reader, StoreError};
use crate::storage::{Perform, Storage};
use crate::supervisor::{Crash, Stop};
use crate::writes::{Fate, Settlement, Write, Written};

/// A new round begins: earlier leases have ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginRound;

/// Asks for the next batch.
#[derive(Message)]
#[rtype(result = "Result<Leased, QueueError>")]
pub struct Lease {
    /// The most operations, unless one transaction alone has more.
    pub limit: usize,
}

/// A batch.
#[derive(Debug, Default)]
pub struct Leased {
    /// What to send, in order.
    pub batch: Vec<Outgoing>,
    /// Whether the outbox has been read to its end in this round.
    pub is_last: bool,
}

/// The server's word on a batch.
#[derive(Message)]
#[rtype(result = "Result<Settled, QueueError>")]
pub struct Settle(pub Vec<(Outgoing, Verdict)>);

/// What the verdicts came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Sent operations that took effect.
    pub applied: u64,
    /// Sent operations that did not, and are tried again.
    pub failed: u64,
    /// Operations set aside, dependants included.
    pub parked: u64,
    /// Rows that have to be resolved before their operations can go.
    pub conflicts: Vec<RemoteRow>,
    /// The last fault that leaves operations for another round.
    pub fault: Option<Fault>,
}

/// Takes over a changed number of attempts.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure {
    /// Attempts before a doubtful refusal parks.
    pub max_retries: u32,
}

/// Puts parked operations back to the end of the queue; none named means all.
#[derive(Message)]
#[rtype(result = "Result<u64, QueueError>")]
pub struct Redrive(pub Vec<Sequence>);

/// Gives parked operations up; none named means all.
#[derive(Message)]
#[rtype(result = "Result<u64, QueueError>")]
pub struct Discard(pub Vec<Sequence>);

/// Why the queue could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage part did not answer.
    #[error(transparent)]
    Part(#[from] PartError),
}

/// The actor.
pub struct Queue {
    outbox: Outbox,
    reader: Arc<dyn Reader>,
    storage: Peer<Storage>,
    counts: watch::Receiver<Counts>,
}

impl Queue {
    /// An outbox over the store.
    pub fn new(
        outbox: Outbox,
        reader: Arc<dyn Reader>,
        storage: Peer<Storage>,
        counts: watch::Receiver<Counts>,
    ) -> Self {
        Self { outbox, reader, storage, counts }
    }

    /// Sorts verdicts; ordering faults wait for what the store knows of their parents.
    fn read(&mut self, verdicts: Vec<(Outgoing, Verdict)>) -> (Vec<Settlement>, Vec<(Outgoing, Fault)>, Settled) {
        let (mut settlements, mut orderings, mut settled) = (Vec::new(), Vec::new(), Settled::default());
        for (outgoing, verdict) in verdicts {
            match self.outbox.read(outgoing, verdict) {
                Reading::Settle(settlement) => settlements.push(settlement),
                Reading::Conflict(row) => settled.conflicts.push(row),
                Reading::Ordering(outgoing, fault) => orderings.push((outgoing, fault)),
                Reading::Later(fault) => {
                    settled.failed += 1;
                    settled.fault = Some(fault);
                }
            }
        }
        (settlements, orderings, settled)
    }

    /// An operation whose parent is parked is parked with it; one whose parent may still be sent waits
    /// and is not charged; any other is charged an attempt.
    fn settle_ordering(
        &mut self,
        outgoing: Outgoing,
        fault: Fault,
        parked_parent: Option<Sequence>,
    ) -> Option<Settlement> {
        if let Some(parent) = parked_parent {
            return Some(settlement(outgoing, Fate::Dependent(fault, parent)));
        }
        let may_make_way =
            self.counts.borrow().iter().any(|(collection, counts)| {
                counts.pending > 0 && self.outbox.related(collection, &outgoing.id.collection)
            });
        (!may_make_way).then(|| self.outbox.charge(outgoing, fault))
    }

    fn move_parked(&self, write: Write) -> ResponseFuture<Result<u64, QueueError>> {
        let storage = self.storage.clone();
        Box::pin(async move {
            match storage.ask_soon(Perform(write)).await?? {
                Written::Moved { count, .. } => Ok(count),
                other => Err(unexpected(&other)),
            }
        })
    }
}

/// Reads whole transactions after `after`, up to `limit` operations.
async fn read_window(
    reader: Arc<dyn Reader>,
    after: Sequence,
    limit: usize,
) -> Result<(Vec<Operation>, bool), StoreError> {
    let mut window: Vec<Operation> = Vec::new();
    loop {
        let from = window.last().map_or(after, |last| last.sequence);
        let more = reader.pending(from, limit + 1).await?;
        let is_all = more.len() <= limit;
        window.extend(more);
        if let Some(cut) = whole_transactions(&window, limit, is_all) {
            let is_last = is_all && cut == window.len();
            window.truncate(cut);
            return Ok((window, is_last));
        }
    }
}

/// Adds what the server is believed to have under each operation.
async fn outfit(reader: Arc<dyn Reader>, batch: Vec<Coalesced>) -> Result<Vec<Outgoing>, StoreError> {
    let ids: Vec<RecordId> = batch.iter().map(|one| one.id.clone()).collect();
    let bases = reader.bases(ids).await?;
    let outgoing = |(one, base): (Coalesced, crate::ports::Base)| {
        one.action.map(|action: Action| Outgoing {
            covers: one.covers,
            id: one.id,
            action,
            patch: one.patch,
            base: base.document,
            base_version: base.version,
            attempts: one.attempts,
        })
    };
    Ok(batch.into_iter().zip(bases).filter_map(outgoing).collect())
}

/// The string values of a patch: what may be a parent's key.
fn strings_of(outgoing: &Outgoing) -> Vec<String> {
    outgoing.patch.fields().values().filter_map(|value| serde_json::from_str(value.get()).ok()).collect()
}

async fn record(storage: &Peer<Storage>, settlements: Vec<Settlement>) -> Result<u64, QueueError> {
    if settlements.is_empty() {
        return Ok(0);
    }
    match storage.ask_soon(Perform(Write::Settle(settlements))).await?? {
        Written::Settled { parked, .. } => Ok(parked),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Written) -> QueueError {
    QueueError::Store(StoreError::Failed(format!("the store answered another question: {answer:?}")))
}

impl Actor for Queue {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(ACTOR_MAILBOX);
    }
}

impl Supervised for Queue {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.outbox.begin_round();
    }
}

impl Handler<BeginRound> for Queue {
    type Result = ();

    fn handle(&mut self, _: BeginRound, _: &mut Self::Context) {
        self.outbox.begin_round();
    }
}

impl Handler<Lease> for Queue {
    type Result = AtomicResponse<Self, Result<Leased, QueueError>>;

    fn handle(&mut self, lease: Lease, _: &mut Self::Context) -> Self::Result {
        let (reader, storage) = (self.reader.clone(), self.storage.clone());
        let window = read_window(reader.clone(), self.outbox.read_to(), lease.limit);
        AtomicResponse::new(Box::pin(window.into_actor(self).then(move |window, queue, _| {
            let leased = window.map(|(window, is_last)| (queue.outbox.lease(window), is_last));
            async move {
                let (batch, is_last) = leased?;
                let (to_send, cancelled_out): (Vec<_>, Vec<_>) =
                    batch.into_iter().partition(|one| one.action.is_some());
                record(&storage, cancelled_out.into_iter().map(cancelled).collect()).await?;
                Ok(Leased { batch: outfit(reader, to_send).await?, is_last })
            }
            .into_actor(queue)
        })))
    }
}

impl Handler<Settle> for Queue {
    type Result = AtomicResponse<Self, Result<Settled, QueueError>>;

    fn handle(&mut self, settle: Settle, _: &mut Self::Context) -> Self::Result {
        let (mut settlements, orderings, mut settled) = self.read(settle.0);
        let (reader, storage) = (self.reader.clone(), self.storage.clone());
        let lookups = orderings.into_iter().map(|(outgoing, fault)| {
            let parents = self.outbox.parents(&outgoing.id.collection);
            reader.parked_parent(parents, strings_of(&outgoing)).map(move |parent| (outgoing, fault, parent))
        });
        let lookups = futures::future::join_all(lookups);
        AtomicResponse::new(Box::pin(lookups.into_actor(self).then(move |found, queue, _| {
            for (outgoing, fault, parent) in found {
                let parent = parent.unwrap_or_default();
                match queue.settle_ordering(outgoing, fault, parent) {
                    Some(settlement) => settlements.push(settlement),
                    None => settled.failed += 1,
                }
            }
            settled.applied += count(&settlements, |fate| matches!(fate, Fate::Applied { .. }));
            settled.failed += count(&settlements, |fate| matches!(fate, Fate::Charged(_)));
            async move {
                settled.parked = record(&storage, settlements).await?;
                Ok(settled)
            }
            .into_actor(queue)
        })))
    }
}

fn count(settlements: &[Settlement], is: impl Fn(&Fate) -> bool) -> u64 {
    settlements.iter().filter(|settlement| is(&settlement.fate)).count() as u64
}

impl Handler<Configure> for Queue {
    type Result = ();

    fn handle(&mut self, configure: Configure, _: &mut Self::Context) {
        self.outbox.configure(configure.max_retries);
    }
}

impl Handler<Redrive> for Queue {
    type Result = ResponseFuture<Result<u64, QueueError>>;

    fn handle(&mut self, redrive: Redrive, _: &mut Self::Context) -> Self::Result {
        self.move_parked(Write::Redrive(redrive.0))
    }
}

impl Handler<Discard> for Queue {
    type Result = ResponseFuture<Result<u64, QueueError>>;

    fn handle(&mut self, discard: Discard, _: &mut Self::Context) -> Self::Result {
        self.move_parked(Write::Discard(discard.0))
    }
}

impl Handler<Stop> for Queue {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Crash> for Queue {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to crash");
    }
}
