//! The only writer of the local store. What arrives while a commit runs forms the next one, so that many
//! savers share one flush to the disk. It stamps local changes, tells who listens what changed, and never
//! decides what should be written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::{broadcast, watch};

use crate::deferred::Deferred;
use crate::limits::{GROUP_WRITES, STORAGE_MAILBOX};
use crate::machine::cadence::{Cadence, Step};
use crate::machine::hybrid_clock::HybridClock;
use crate::metrics;
use crate::model::{Change, Compacted, Counts, Past, RecordId, Stamp};
use crate::ports::{Clock, Store, StoreError};
use crate::supervisor::{Crash, Stop, words_of};
use crate::writes::{LocalTransaction, Restore, RollBack, Write, Written};

/// Saves and deletes records in one local transaction; the answer comes when it is durable.
#[derive(Message)]
#[rtype(result = "Result<Written, StoreError>")]
pub struct Save(pub Vec<(RecordId, Change)>);

/// Performs any other write.
#[derive(Message)]
#[rtype(result = "Result<Written, StoreError>")]
pub struct Perform(pub Write);

/// Asks for a stamp above all others.
#[derive(Message)]
#[rtype(result = "Stamp")]
pub struct Tick;

/// Tells how far the server's clock is from this device's.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CorrectClock {
    /// The server's time less this device's, milliseconds.
    pub offset_ms: i64,
}

/// Asks for the small chores between two commits.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Maintain;

/// Asks for the room that what was deleted has left; other writes wait meanwhile.
#[derive(Message)]
#[rtype(result = "Result<Compacted, StoreError>")]
pub struct Compact(pub Past);

/// What the storage actor tells the world after each commit.
#[derive(Clone)]
pub struct Announcements {
    /// The exact counts.
    pub counts: watch::Sender<Counts>,
    /// The records that changed.
    pub changes: broadcast::Sender<Arc<[RecordId]>>,
    /// Rises when there is something new to send.
    pub outbox: watch::Sender<u64>,
}

/// The actor.
pub struct Storage {
    store: Box<dyn Store>,
    clock: Arc<dyn Clock>,
    stamps: HybridClock,
    announcements: Announcements,
    group: Group,
    cadence: Cadence,
    is_awake: bool,
}

type Answer = Deferred<Result<Written, StoreError>>;

/// The writes of the transaction at hand. The first of them are performed already.
#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    answers: Vec<Answer>,
    written: Vec<Written>,
    /// What performing them took so far.
    took: Duration,
}

impl Group {
    fn has_fresh(&self) -> bool {
        self.written.len() < self.writes.len()
    }
}

impl Storage {
    /// Goes on where the store stands.
    pub fn new(store: Box<dyn Store>, clock: Arc<dyn Clock>, announcements: Announcements) -> Self {
        let stamps = HybridClock::resume(store.newest_stamp());
        announcements.counts.send_replace(store.counts().clone());
        Self {
            store,
            clock,
            stamps,
            announcements,
            group: Group::default(),
            cadence: Cadence::default(),
            is_awake: false,
        }
    }

    fn stamp(&mut self) -> Stamp {
        self.stamps.tick(self.clock.now_ms())
    }

    /// Puts a write into the group that is committed once it is complete.
    fn enlist(&mut self, write: Write, context: &mut Context<Self>) -> Answer {
        let answer = Deferred::default();
        self.group.writes.push(write);
        self.group.answers.push(answer.clone());
        if self.group.writes.len() >= GROUP_WRITES {
            self.commit();
        } else {
            self.wake(context);
        }
        answer
    }

    fn wake(&mut self, context: &mut Context<Self>) {
        if !self.is_awake {
            self.is_awake = true;
            context.spawn(Awake);
        }
    }

    /// Performs what has come since the last time, so that it is done by when the group is complete.
    fn perform(&mut self) {
        if !self.group.has_fresh() {
            return;
        }
        let (began, now) = (Instant::now(), self.stamp());
        let Group { writes, written, .. } = &mut self.group;
        let fresh = &writes[written.len()..];
        match guarded(&mut self.store, |store| store.perform(fresh, now)) {
            Ok(answers) => written.extend(answers),
            Err(error) => return self.give_up(error),
        }
        self.group.took += began.elapsed();
    }

    fn commit(&mut self) {
        self.perform();
        if self.group.writes.is_empty() {
            return;
        }
        let began = Instant::now();
        match guarded(&mut self.store, |store| store.commit()) {
            Ok(()) => {
                metrics::COMMIT_SECONDS.observe(began.elapsed().as_secs_f64(), &[]);
                metrics::COMMIT_WRITES.add(self.group.writes.len() as u64, &[]);
                self.conclude(began);
            }
            Err(error) => self.give_up(error),
        }
    }

    fn conclude(&mut self, began: Instant) {
        let Group { writes, answers, written, took } = std::mem::take(&mut self.group);
        self.announce(&writes, &written);
        let size = writes.len();
        for (answer, written) in answers.iter().zip(written) {
            answer.give(Ok(written));
        }
        let now = Instant::now();
        self.cadence.committed(size, took + now.duration_since(began), now);
    }

    /// After the group failed: where it was because of one of its writes, only that one is to fail.
    fn give_up(&mut self, error: StoreError) {
        let Group { writes, answers, .. } = std::mem::take(&mut self.group);
        if writes.len() == 1 || !is_of_one_write(&error) {
            answers.iter().for_each(|answer| answer.give(Err(error.clone())));
            return;
        }
        for (write, answer) in writes.into_iter().zip(answers) {
            self.group = Group { writes: vec![write], answers: vec![answer], ..Group::default() };
            self.commit();
        }
    }

    fn announce(&mut self, writes: &[Write], written: &[Written]) {
        self.announcements.counts.send_if_modified(|counts| {
            let changed = counts != self.store.counts();
            if changed {
                counts.clone_from(self.store.counts());
            }
            changed
        });
        let changed: Vec<RecordId> = written.iter().flat_map(changed_records).cloned().collect();
        if !changed.is_empty() {
            // No receiver is no error: nobody watches.
            let _ = self.announcements.changes.send(changed.into());
        }
        if writes.iter().any(feeds_the_outbox) {
            self.announcements.outbox.send_modify(|turn| *turn += 1);
        }
    }
}

/// The writer while it has something to write or soon may have. It is asked after the mailbox has been drained.
struct Awake;

impl ActorFuture<Storage> for Awake {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        storage: &mut Storage,
        _: &mut Context<Storage>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        match storage.cadence.next(storage.group.writes.len(), Instant::now()) {
            Step::Commit => storage.commit(),
            Step::Look if storage.group.has_fresh() => storage.perform(),
            Step::Look => std::thread::yield_now(),
            Step::Sleep => {
                storage.is_awake = false;
                return Poll::Ready(());
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A panic in a write is the failure of that one, not of its neighbours (H46).
fn guarded<T>(
    store: &mut Box<dyn Store>,
    work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let attempt = catch_unwind(AssertUnwindSafe(|| work(store.as_mut())));
    attempt.unwrap_or_else(|panic| {
        let words = words_of(panic.as_ref());
        tracing::error!(words, "a write made the store panic");
        store.reload()?;
        Err(StoreError::Failed(format!("the store panicked: {words}")))
    })
}

/// Whether the error says something about one write and not about the store.
fn is_of_one_write(error: &StoreError) -> bool {
    match error {
        StoreError::Invalid(_) | StoreError::NotFound(_) | StoreError::OverQuota(_) | StoreError::Failed(_) => true,
        StoreError::Full(_) | StoreError::ReadOnly(_) | StoreError::Damaged(_) => false,
    }
}

fn changed_records(written: &Written) -> &[RecordId] {
    match written {
        Written::Local { changed }
        | Written::Settled { changed, .. }
        | Written::Observed { changed, .. }
        | Written::Moved { changed, .. } => changed,
        Written::RolledBack(rolled_back) => &rolled_back.changed,
        Written::Contested(_) | Written::Listed { .. } => &[],
    }
}

fn feeds_the_outbox(write: &Write) -> bool {
    match write {
        Write::Local(_) | Write::Redrive(_) | Write::Decide { .. } | Write::Undo { .. } => true,
        Write::RollBack(RollBack { is_trial, .. }) | Write::Restore(Restore { is_trial, .. }) => !is_trial,
        Write::Settle(_) | Write::Observe(_) | Write::Discard(_) | Write::DiscardAlone(_) | Write::Listing(_) => false,
    }
}

impl Actor for Storage {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(STORAGE_MAILBOX);
    }
}

impl Supervised for Storage {
    /// Writes that were not begun are kept; what a torn commit left in memory is read anew.
    fn restarting(&mut self, context: &mut Self::Context) {
        self.is_awake = false;
        self.group.written.clear();
        if let Err(error) = self.store.reload() {
            panic!("the store could not be read again: {error}");
        }
        self.announcements.counts.send_replace(self.store.counts().clone());
        self.wake(context);
    }
}

impl Handler<Save> for Storage {
    type Result = Deferred<Result<Written, StoreError>>;

    fn handle(&mut self, save: Save, context: &mut Self::Context) -> Self::Result {
        let stamp = self.stamp();
        self.enlist(Write::Local(LocalTransaction { changes: save.0, stamp }), context)
    }
}

impl Handler<Perform> for Storage {
    type Result = Deferred<Result<Written, StoreError>>;

    fn handle(&mut self, perform: Perform, context: &mut Self::Context) -> Self::Result {
        self.enlist(perform.0, context)
    }
}

impl Handler<Tick> for Storage {
    type Result = MessageResult<Tick>;

    fn handle(&mut self, _: Tick, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.stamp())
    }
}

impl Handler<CorrectClock> for Storage {
    type Result = ();

    fn handle(&mut self, clock: CorrectClock, _: &mut Self::Context) {
        self.stamps.correct(clock.offset_ms);
    }
}

impl Handler<Maintain> for Storage {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, _: Maintain, _: &mut Self::Context) -> Self::Result {
        self.commit();
        self.store.maintain()
    }
}

impl Handler<Compact> for Storage {
    type Result = Result<Compacted, StoreError>;

    fn handle(&mut self, Compact(past): Compact, _: &mut Self::Context) -> Self::Result {
        self.commit();
        guarded(&mut self.store, |store| store.compact(past))
    }
}

impl Handler<Stop> for Storage {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        self.commit();
        context.stop();
    }
}

impl Handler<Crash> for Storage {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to crash");
    }
}
