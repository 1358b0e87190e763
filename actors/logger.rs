//! Keeps what is logged and ships what is important to the server. It never makes anybody wait who logs, and says
//! nothing about itself through itself: its troubles are in its status. Its decisions are in `machine::shipping`.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tracing::Instrument;

use crate::deferred::Deferred;
use crate::instant::now;
use crate::limits::{ACTOR_MAILBOX, LOG_BATCH_BYTES, REMOTE_DEADLINE};
use crate::logs::{BookError, BookState, Drained, Kept, Settled, TableName};
use crate::machine::shipping::{Effect, Input, Shipping, Times, Verdict, judge};
use crate::model::{Fault, FaultKind};
use crate::ports::{Clock, LogBook, LogPorts, LogSink};
use crate::supervisor::{Crash, Stop};

/// What stands before the names of everything that the logger says and does. It is never logged by itself.
pub const OWN_TARGET: &str = "tidelock_logger";

/// A hint: something has gathered in the intake.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Noticed;

/// Writes down what has gathered and answers when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteDown;

/// A hint: the server can be reached again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reached;

/// A hint: there are other credentials.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Renewed;

/// Takes over changed settings.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure(pub Settings);

/// The logger's part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When to ship.
    pub times: Times,
    /// Where to on the server.
    pub table: TableName,
    /// Entries that stay readable.
    pub history: usize,
}

/// What the world is told about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggerStatus {
    /// How the book stands.
    pub book: BookState,
    /// Why what has gathered could not be written down, until it is.
    pub unwritten: Option<String>,
    /// Why the last batch did not arrive, until one does.
    pub last_error: Option<String>,
}

/// The actor.
pub struct RemoteLogger {
    shipping: Shipping,
    settings: Settings,
    ports: LogPorts,
    clock: Arc<dyn Clock>,
    status: watch::Sender<LoggerStatus>,
    /// What the book did not take; it is tried again.
    unwritten: Drained,
    /// Those who wait for the write at work, and for the one after it.
    waiting: [Vec<Deferred<()>>; 2],
    wake_up: Option<SpawnHandle>,
}

/// What became of a batch.
struct Ended {
    verdict: Verdict,
    sent: usize,
    fault: Option<String>,
    state: Option<BookState>,
}

impl RemoteLogger {
    /// Goes on where the book stands.
    pub fn new(
        settings: Settings,
        ports: LogPorts,
        clock: Arc<dyn Clock>,
        status: watch::Sender<LoggerStatus>,
        seed: u64,
    ) -> Self {
        let shipping = Shipping::new(settings.times, now(), seed);
        let (unwritten, waiting, wake_up) = (Drained::default(), Default::default(), None);
        Self { shipping, settings, ports, clock, status, unwritten, waiting, wake_up }
    }

    fn step(&mut self, input: Input, context: &mut Context<Self>) {
        for effect in self.shipping.handle(input, now()) {
            self.perform(effect, context);
        }
        self.rearm(context);
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::Write { all } => self.write(all, context),
            Effect::Ship { rows } => {
                let ended = self.ship(rows).into_actor(self).map(|ended, logger, context| {
                    logger.note_batch(&ended);
                    let pending = ended.state.map(|state| state.pending);
                    logger.step(Input::Shipped { verdict: ended.verdict, sent: ended.sent, pending }, context);
                });
                context.spawn(ended);
            }
            Effect::Finish => context.stop(),
        }
    }

    fn write(&mut self, all: bool, context: &mut Context<Self>) {
        let drained = Arc::new(std::mem::take(&mut self.unwritten).followed_by(self.ports.intake.drain(all)));
        let is_counting = drained.is_counting;
        let [now_served, later] = &mut self.waiting;
        now_served.append(later);
        let written = self.ports.book.append(drained.clone(), self.settings.history);
        let ended = written.into_actor(self).map(move |state, logger, context| {
            logger.note_write(&state);
            if state.is_err() {
                logger.unwritten = Arc::unwrap_or_clone(drained);
            }
            let state = state.ok();
            let waiting = std::mem::take(&mut logger.waiting[0]);
            waiting.iter().for_each(|waiting| waiting.give(()));
            logger.step(Input::Written { pending: state.map(|state| state.pending), is_counting }, context);
        });
        context.spawn(ended);
    }

    fn ship(&self, rows: usize) -> BoxFuture<'static, Ended> {
        let (book, sink, table) = (self.ports.book.clone(), self.ports.sink.clone(), self.settings.table.clone());
        let clock = self.clock.clone();
        let work = async move {
            match shipped(book.as_ref(), sink.as_ref(), table, rows, clock.as_ref()).await {
                Ok(ended) => ended,
                // The book will answer another time.
                Err(error) => {
                    let fault = Some(error.to_string());
                    Ended { verdict: Verdict::Later(Duration::ZERO), sent: 0, fault, state: None }
                }
            }
        };
        Box::pin(work.instrument(tracing::error_span!(target: OWN_TARGET, "ship")))
    }

    /// Says it on the console when writing begins to fail.
    fn note_write(&self, written: &Result<BookState, BookError>) {
        let before = self.show(|status| match written {
            Ok(state) => (status.book, status.unwritten) = (state.clone(), None),
            Err(error) => status.unwritten = Some(error.to_string()),
        });
        if let (Err(error), None) = (written, before.unwritten) {
            tracing::warn!(target: OWN_TARGET, %error, "log entries are not written down; they wait in memory, so many as may, and are tried again");
        }
    }

    /// Says it on the console when shipping begins to fail.
    fn note_batch(&self, ended: &Ended) {
        let before = self.show(|status| {
            status.last_error.clone_from(&ended.fault);
            if let Some(state) = &ended.state {
                status.book.clone_from(state);
            }
        });
        let Some(error) = ended.fault.as_ref().filter(|_| before.last_error.is_none()) else { return };
        if ended.verdict == Verdict::GivenUp {
            tracing::warn!(target: OWN_TARGET, error, "the server refuses a log entry; it is kept here and not sent again");
        } else {
            tracing::warn!(target: OWN_TARGET, error, "log entries do not reach the server; they are kept and tried again");
        }
    }

    /// Publishes what has changed, and gives what was published before.
    fn show(&self, change: impl FnOnce(&mut LoggerStatus)) -> LoggerStatus {
        let before = self.status.borrow().clone();
        self.status.send_if_modified(|status| {
            change(status);
            *status != before
        });
        before
    }

    /// One timer, at the machine's deadline.
    fn rearm(&mut self, context: &mut Context<Self>) {
        if let Some(old) = self.wake_up.take() {
            context.cancel_future(old);
        }
        if let Some((due, _)) = self.shipping.deadline() {
            let pause = due.saturating_duration_since(now()).max(Duration::from_millis(1));
            self.wake_up = Some(context.run_later(pause, |logger, context| logger.step(Input::Woken, context)));
        }
    }
}

/// Leases a batch, sends it and settles it by the answer.
async fn shipped(
    book: &dyn LogBook,
    sink: &dyn LogSink,
    table: TableName,
    rows: usize,
    clock: &dyn Clock,
) -> Result<Ended, BookError> {
    let leased = book.lease(rows, LOG_BATCH_BYTES).await?;
    let sent = leased.len();
    let (numbers, entries): (Vec<i64>, Vec<_>) =
        leased.into_iter().map(|Kept { number, entry, .. }| (number, entry)).unzip();
    let answer = match entries.is_empty() {
        true => Ok(()),
        false => in_time(sink.send(table, entries)).await,
    };
    let verdict = judge(&answer, sent);
    let settled = match verdict {
        Verdict::Taken if sent > 0 => Settled::Shipped { now_ms: clock.now_ms() },
        Verdict::GivenUp => Settled::Refused,
        Verdict::Taken | Verdict::Later(_) | Verdict::Resting | Verdict::Smaller => Settled::Kept,
    };
    let state = book.settle(numbers, settled).await?;
    Ok(Ended { verdict, sent, fault: answer.err().map(|fault| fault.to_string()), state: Some(state) })
}

async fn in_time(answer: BoxFuture<'static, Result<(), Fault>>) -> Result<(), Fault> {
    let late = |_| Fault::new(FaultKind::Transient, format!("no answer within {} s", REMOTE_DEADLINE.as_secs()));
    tokio::time::timeout(REMOTE_DEADLINE, answer).await.map_err(late)?
}

impl Actor for RemoteLogger {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(ACTOR_MAILBOX);
        self.step(Input::Woken, context);
    }
}

impl Supervised for RemoteLogger {
    fn restarting(&mut self, context: &mut Self::Context) {
        self.wake_up = None;
        self.waiting = Default::default();
        self.step(Input::Restarted, context);
    }
}

impl Handler<Noticed> for RemoteLogger {
    type Result = ();

    fn handle(&mut self, _: Noticed, context: &mut Self::Context) {
        let is_urgent = self.ports.intake.is_urgent();
        self.step(Input::Noticed { is_urgent }, context);
    }
}

impl Handler<WriteDown> for RemoteLogger {
    type Result = Deferred<()>;

    /// A write that is at work may have missed what the asker means: the next one counts.
    fn handle(&mut self, _: WriteDown, context: &mut Self::Context) -> Self::Result {
        let answer = Deferred::default();
        self.waiting[1].push(answer.clone());
        self.step(Input::Wanted, context);
        answer
    }
}

impl Handler<Reached> for RemoteLogger {
    type Result = ();

    fn handle(&mut self, _: Reached, context: &mut Self::Context) {
        self.step(Input::Reached, context);
    }
}

impl Handler<Renewed> for RemoteLogger {
    type Result = ();

    fn handle(&mut self, _: Renewed, context: &mut Self::Context) {
        self.step(Input::Renewed, context);
    }
}

impl Handler<Configure> for RemoteLogger {
    type Result = ();

    fn handle(&mut self, Configure(settings): Configure, context: &mut Self::Context) {
        self.settings = settings;
        self.step(Input::Configured(self.settings.times), context);
    }
}

impl Handler<Stop> for RemoteLogger {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        self.step(Input::Stopping, context);
    }
}

impl Handler<Crash> for RemoteLogger {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to crash");
    }
}

#[cfg(test)]
mod tests;
