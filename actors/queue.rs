//! The outbox: hands out batches of operations and settles them by the server's verdicts, parks what the
//! server refuses and puts it back by hand. It never talks HTTP; its decisions are in `machine::outbox`.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use futures::FutureExt;
use tokio::sync::watch;

use crate::instant::now;
use crate::limits::ACTOR_MAILBOX;
use crate::machine::flights::Flights;
use crate::machine::outbox::{Outbox, Patience, Reading, cancelled, settlement};
use crate::metrics;
use crate::model::{Counts, Fault, Operation, Outgoing, RemoteRow, Sequence, Verdict};
use crate::peer::{PartError, Peer};
use crate::ports::{Nature, Reader, StoreError};
use crate::storage::{Perform, Storage};
use crate::supervisor::{Crash, Stop};
use crate::window::{Window, outfit, possible_keys, read_up_to, read_window};
use crate::writes::{Fate, Observation, Settlement, Write, Written};

/// The checkpoint that says what was leased together, by the last operation of each window, with commas between. No
/// collection has such a name.
pub const BOUNDARIES: &str = "leased together";

/// The checkpoint that says whether the server, as it was last met, applies a transaction whole or not at all: `yes` or
/// `no`. No collection has such a name.
pub const KEEPS_TRANSACTIONS: &str = "keeps transactions";

/// A new round begins: earlier leases have ended.
#[derive(Message)]
#[rtype(result = "Result<(), QueueError>")]
pub struct BeginRound {
    /// How the server takes operations.
    pub nature: Nature,
}

/// Asks for the next batch.
#[derive(Message)]
#[rtype(result = "Result<Leased, QueueError>")]
pub struct Lease {
    /// The most operations, unless one transaction alone has more.
    pub limit: usize,
    /// What is on its way: a window that touches a record of it stays closed.
    pub flights: Flights,
}

/// A batch.
#[derive(Debug, Default)]
pub struct Leased {
    /// What to send, in order.
    pub batch: Vec<Outgoing>,
    /// Whether the outbox has been read to its end in this round.
    pub is_last: bool,
    /// Whether it may be sent while the others are on their way; otherwise after them.
    pub may_overtake: bool,
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
    /// Collections that do not fit the server's schema, as of this round.
    pub paused: BTreeMap<Arc<str>, Fault>,
}

/// Takes over a changed number of attempts.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure {
    /// How often and how soon a doubtful refusal is tried again.
    pub patience: Patience,
}

/// Puts parked operations back to the end of the queue, with their whole transactions; none named means all.
#[derive(Message)]
#[rtype(result = "Result<u64, QueueError>")]
pub struct Redrive(pub Vec<Sequence>);

/// Gives parked operations up; none named means all.
#[derive(Message)]
#[rtype(result = "Result<u64, QueueError>")]
pub struct Discard {
    /// Which.
    pub named: Vec<Sequence>,
    /// Whether the rest of their transactions stays.
    pub alone: bool,
}

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

    /// Nothing is leased before it is known what was leased together earlier.
    fn resume(&self, context: &mut Context<Self>) {
        context.wait(self.reader.checkpoints().into_actor(self).map(|checkpoints, queue, _| match checkpoints {
            Ok(checkpoints) => {
                queue.outbox.resume(checkpoints.get(BOUNDARIES).map_or("", String::as_str));
                queue.outbox.keep_transactions(checkpoints.get(KEEPS_TRANSACTIONS).is_some_and(|keeps| keeps == "yes"));
            }
            Err(error) => panic!("the queue's boundaries could not be read: {error}"),
        }));
    }

    /// Leases a window; new boundaries have to be written down before anything is sent.
    fn lease(&mut self, (mut window, is_last): (Vec<Operation>, bool), flights: &Flights) -> Window {
        if flights.touch(&window) {
            return Window::default();
        }
        let may_overtake = self.outbox.may_overtake(&window, flights);
        let boundary = self.outbox.next_boundary();
        let is_last = !(boundary.is_none() && self.outbox.cut(&mut window)) && is_last;
        let (is_empty, is_new) = (window.is_empty(), self.outbox.draw_boundary(&window));
        let batch = self.outbox.lease(window, boundary.is_some());
        match boundary {
            Some(boundary) if is_empty => self.outbox.forget(boundary),
            Some(boundary) => self.outbox.pass(boundary),
            None => {}
        }
        let may_have_been_sent = boundary.is_some();
        Window {
            batch,
            boundaries: is_new.then(|| self.outbox.boundaries()),
            is_last,
            may_overtake,
            may_have_been_sent,
        }
    }

    /// Sorts verdicts; ordering faults wait for what the store knows of their parents.
    fn read(&mut self, verdicts: Vec<(Outgoing, Verdict)>) -> (Vec<Settlement>, Vec<(Outgoing, Fault)>, Settled) {
        let (mut settlements, mut orderings, mut settled) = (Vec::new(), Vec::new(), Settled::default());
        for (outgoing, verdict) in verdicts {
            match self.outbox.read(outgoing, verdict, now()) {
                Reading::Settle(settlement) => settlements.push(settlement),
                Reading::Conflict(row) => settled.conflicts.push(row),
                Reading::Ordering(outgoing, fault) => orderings.push((outgoing, fault)),
                Reading::Later(fault) => {
                    settled.failed += 1;
                    settled.fault = Some(fault);
                }
            }
        }
        settled.paused.clone_from(self.outbox.paused());
        (settlements, orderings, settled)
    }

    /// An operation whose parent is parked is parked with it; one that another may still make way for waits
    /// and is not charged; any other is charged an attempt.
    fn settle_ordering(
        &mut self,
        outgoing: Outgoing,
        fault: Fault,
        parked_parent: Option<Sequence>,
        batch: &BTreeMap<Arc<str>, u64>,
    ) -> Option<Settlement> {
        if let Some(parent) = parked_parent {
            return Some(settlement(outgoing, Fate::Dependent(fault, parent)));
        }
        let hope = self.outbox.may_make_way(&outgoing.id.collection, &self.counts.borrow(), batch);
        (!hope).then(|| self.outbox.charge(outgoing, fault, now()))
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

/// Makes durable what has to be known after a crash, or by the store.
async fn write_down(storage: &Peer<Storage>, name: &str, text: String) -> Result<(), QueueError> {
    let checkpoints = [(name.to_owned(), text)].into();
    storage.ask_soon(Perform(Write::Observe(Observation { checkpoints, ..Observation::default() }))).await??;
    Ok(())
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
        self.resume(context);
    }
}

impl Supervised for Queue {
    fn restarting(&mut self, context: &mut Self::Context) {
        self.outbox.begin_round(now());
        self.resume(context);
    }
}

impl Handler<BeginRound> for Queue {
    type Result = AtomicResponse<Self, Result<(), QueueError>>;

    fn handle(&mut self, round: BeginRound, _: &mut Self::Context) -> Self::Result {
        let (storage, keeps) = (self.storage.clone(), round.nature.keeps_transactions);
        let is_news = self.outbox.keeps_transactions() != keeps;
        let noted = async move {
            let word = if keeps { "yes" } else { "no" };
            if is_news { write_down(&storage, KEEPS_TRANSACTIONS, word.to_owned()).await } else { Ok(()) }
        };
        AtomicResponse::new(Box::pin(noted.into_actor(self).map(move |noted, queue, _| {
            queue.outbox.begin_round(now());
            noted.map(|()| queue.outbox.suit(&round.nature))
        })))
    }
}

impl Handler<Lease> for Queue {
    type Result = AtomicResponse<Self, Result<Leased, QueueError>>;

    fn handle(&mut self, lease: Lease, _: &mut Self::Context) -> Self::Result {
        let (reader, storage) = (self.reader.clone(), self.storage.clone());
        let window = match self.outbox.next_boundary() {
            Some(boundary) => read_up_to(reader.clone(), self.outbox.read_to(), boundary).boxed_local(),
            None => read_window(reader.clone(), self.outbox.read_to(), lease.limit).boxed_local(),
        };
        AtomicResponse::new(Box::pin(window.into_actor(self).then(move |window, queue, _| {
            let leased = window.map(|window| queue.lease(window, &lease.flights));
            async move {
                let Window { batch, boundaries, is_last, may_overtake, may_have_been_sent } = leased?;
                if let Some(boundaries) = boundaries {
                    write_down(&storage, BOUNDARIES, boundaries).await?;
                }
                let (to_send, cancelled_out): (Vec<_>, Vec<_>) =
                    batch.into_iter().partition(|one| one.action.is_some());
                record(&storage, cancelled_out.into_iter().map(cancelled).collect()).await?;
                let batch = outfit(reader, to_send, may_have_been_sent).await?;
                Ok(Leased { batch, is_last, may_overtake })
            }
            .into_actor(queue)
        })))
    }
}

impl Handler<Settle> for Queue {
    type Result = AtomicResponse<Self, Result<Settled, QueueError>>;

    fn handle(&mut self, settle: Settle, _: &mut Self::Context) -> Self::Result {
        let mut batch: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let mut verdicts: BTreeMap<(&Arc<str>, &'static str), u64> = BTreeMap::new();
        for (outgoing, verdict) in &settle.0 {
            let (collection, operations) = (&outgoing.id.collection, outgoing.covers.len() as u64);
            *batch.entry(collection.clone()).or_default() += operations;
            *verdicts.entry((collection, verdict.name())).or_default() += operations;
        }
        for ((collection, verdict), operations) in verdicts {
            metrics::OPERATIONS.add(operations, &[collection.clone().into(), verdict.into()]);
        }
        let (mut settlements, orderings, mut settled) = self.read(settle.0);
        let (reader, storage) = (self.reader.clone(), self.storage.clone());
        let lookups = orderings.into_iter().map(|(outgoing, fault)| {
            let parents = self.outbox.parents(&outgoing.id.collection);
            reader.parked_parent(parents, possible_keys(&outgoing.patch)).map(move |parent| (outgoing, fault, parent))
        });
        let lookups = futures::future::join_all(lookups);
        AtomicResponse::new(Box::pin(lookups.into_actor(self).then(move |found, queue, _| {
            for (outgoing, fault, parent) in found {
                let parent = parent.unwrap_or_default();
                match queue.settle_ordering(outgoing, fault.clone(), parent, &batch) {
                    Some(settlement) => settlements.push(settlement),
                    None => {
                        settled.failed += 1;
                        settled.fault.get_or_insert(fault);
                    }
                }
            }
            let is_applied = |settlement: &&Settlement| matches!(settlement.fate, Fate::Applied { .. });
            settled.applied += settlements.iter().filter(is_applied).count() as u64;
            let charged = settlements.iter().filter_map(|settlement| match &settlement.fate {
                Fate::Charged(fault) => Some(fault),
                Fate::Applied { .. } | Fate::Parked(_) | Fate::Dependent(..) => None,
            });
            for fault in charged {
                settled.failed += 1;
                settled.fault.get_or_insert_with(|| fault.clone());
            }
            async move {
                settled.parked = record(&storage, settlements).await?;
                Ok(settled)
            }
            .into_actor(queue)
        })))
    }
}

impl Handler<Configure> for Queue {
    type Result = ();

    fn handle(&mut self, configure: Configure, _: &mut Self::Context) {
        self.outbox.configure(configure.patience);
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
        let Discard { named, alone } = discard;
        self.move_parked(if alone { Write::DiscardAlone(named) } else { Write::Discard(named) })
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
