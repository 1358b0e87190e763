//! Keeps an actor alive: same address, same mailbox, through any number of panics and errors.
//!
//! `actix::Supervisor` dies with a panic of its actor, so this one polls the actor's context itself,
//! catches the unwinding, waits with backoff and full jitter, and lets actix restart the context. Only
//! the message that was being handled is lost. Past its allowance a part is degraded and tried at long
//! intervals, or, where nothing works without it, the failure goes up. Nothing here knows what a part does.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::dev::ContextFut;
use actix::dev::channel::channel;
use actix::{Actor, Addr, Context, Handler, Message, Supervised};
use tokio::sync::watch;

use crate::limits::DEGRADED_RETRY;
use crate::machine::Chance;
use crate::machine::backoff::Backoff;
use crate::machine::intensity::{AfterFailure, Allowance, Intensity};
use crate::peer::Peer;

/// Asks an actor to finish what it holds and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Makes an actor panic, to see that nothing is lost by it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Crash;

/// How a part is kept alive.
#[derive(Debug, Clone, Copy)]
pub struct Care {
    /// The part's name in status and logs.
    pub name: &'static str,
    /// Messages that wait in its mailbox.
    pub mailbox: usize,
    /// Restarts allowed.
    pub allowance: Allowance,
    /// The wait before a restart.
    pub backoff: Backoff,
    /// Whether the rest goes on without it.
    pub expendable: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

/// How a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// At work.
    Running {
        /// Restarts so far.
        restarts: u32,
    },
    /// Failed; back after its backoff, with its mailbox.
    Restarting {
        /// Restarts so far.
        restarts: u32,
        /// Why.
        cause: String,
    },
    /// Failed too often; tried again at long intervals.
    Degraded {
        /// Restarts so far.
        restarts: u32,
        /// Why.
        cause: String,
    },
    /// Failed too often, and nothing works without it.
    Failed {
        /// Why.
        cause: String,
    },
    /// Stopped on request.
    Stopped,
}

/// Starts an actor on this thread and keeps it alive until it is asked to stop or nobody holds its address.
pub fn supervise<A>(care: Care, make: impl FnOnce(&mut Context<A>) -> A) -> Peer<A>
where
    A: Actor<Context = Context<A>> + Supervised + Handler<Stop>,
{
    let (sender, receiver) = channel(care.mailbox);
    let mut context = Context::with_receiver(receiver);
    let actor = make(&mut context);
    let (health, watched) = watch::channel(Health::Running { restarts: 0 });
    actix::spawn(Supervision::new(care, health).keep(context.into_future(actor)));
    Peer::new(care.name, Addr::new(sender), watched)
}

struct Supervision {
    care: Care,
    health: watch::Sender<Health>,
    intensity: Intensity,
    chance: Chance,
    restarts: u32,
}

enum End {
    Stopped,
    Failed(String),
}

impl Supervision {
    fn new(care: Care, health: watch::Sender<Health>) -> Self {
        let (intensity, chance) = (Intensity::new(care.allowance), Chance::from_seed(care.seed));
        Self { care, health, intensity, chance, restarts: 0 }
    }

    async fn keep<A>(mut self, mut actor: ContextFut<A, Context<A>>)
    where
        A: Actor<Context = Context<A>> + Supervised,
    {
        loop {
            let cause = match run(&mut actor).await {
                End::Stopped => return self.report(Health::Stopped),
                End::Failed(cause) => cause,
            };
            tracing::error!(part = self.care.name, cause, "a part failed");
            let Some(pause) = self.pause_after(cause) else { return };
            tokio::time::sleep(pause).await;
            self.restarts += 1;
            if !revive(&mut actor) {
                return self.report(Health::Stopped);
            }
            self.report(Health::Running { restarts: self.restarts });
        }
    }

    /// How long to wait before the restart; `None` where the failure goes up instead.
    fn pause_after(&mut self, cause: String) -> Option<Duration> {
        let restarts = self.restarts;
        match self.intensity.failed(Instant::now()) {
            AfterFailure::Restart(failures) => {
                self.report(Health::Restarting { restarts, cause });
                Some(self.care.backoff.wait(failures, &mut self.chance))
            }
            AfterFailure::Exhausted if self.care.expendable => {
                self.report(Health::Degraded { restarts, cause });
                Some(DEGRADED_RETRY)
            }
            AfterFailure::Exhausted => {
                self.report(Health::Failed { cause });
                None
            }
        }
    }

    fn report(&self, health: Health) {
        self.health.send_replace(health);
    }
}

/// Polls the actor until it stops, and turns a panic into a value.
async fn run<A: Actor<Context = Context<A>>>(actor: &mut ContextFut<A, Context<A>>) -> End {
    poll_fn(|task| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *actor).poll(task))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(End::Stopped),
        Err(panic) => Poll::Ready(End::Failed(words_of(panic.as_ref()))),
    })
    .await
}

/// Whether the actor is back; it is not where nobody can reach it any more. A panic while it
/// restarts shows at the next poll.
fn revive<A: Actor<Context = Context<A>> + Supervised>(actor: &mut ContextFut<A, Context<A>>) -> bool {
    catch_unwind(AssertUnwindSafe(|| actor.restart())).unwrap_or(true)
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}
