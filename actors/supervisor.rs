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
use crate::metrics;
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
        let mut end = run(&mut actor).await;
        while let End::Failed(cause) = end {
            tracing::error!(part = self.care.name, cause, "a part failed");
            let Some(pause) = self.pause_after(cause) else { return };
            tokio::time::sleep(pause).await;
            self.restarts += 1;
            metrics::RESTARTS.add(1, &[self.care.name.into()]);
            end = match revive(&mut actor) {
                Revived::Running => {
                    self.report(Health::Running { restarts: self.restarts });
                    run(&mut actor).await
                }
                Revived::Failed(cause) => End::Failed(cause),
                Revived::Abandoned => End::Stopped,
            };
        }
        self.report(Health::Stopped);
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

enum Revived {
    Running,
    Failed(String),
    /// Nobody can reach it any more.
    Abandoned,
}

fn revive<A: Actor<Context = Context<A>> + Supervised>(actor: &mut ContextFut<A, Context<A>>) -> Revived {
    match catch_unwind(AssertUnwindSafe(|| actor.restart())) {
        Ok(true) => Revived::Running,
        Ok(false) => Revived::Abandoned,
        Err(panic) => Revived::Failed(words_of(panic.as_ref())),
    }
}

/// What a panic said.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::peer::PartError;

    /// Counts what it handled, and restarts, outside of itself.
    struct Counter {
        handled: Rc<Cell<u32>>,
        restarted: Rc<Cell<u32>>,
        restart_panics: Rc<Cell<bool>>,
    }

    impl Actor for Counter {
        type Context = Context<Self>;
    }

    impl Supervised for Counter {
        fn restarting(&mut self, _: &mut Self::Context) {
            assert!(!self.restart_panics.take(), "asked to fail while restarting");
            self.restarted.set(self.restarted.get() + 1);
        }
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Count;

    impl Handler<Count> for Counter {
        type Result = u32;

        fn handle(&mut self, _: Count, _: &mut Self::Context) -> u32 {
            self.handled.set(self.handled.get() + 1);
            self.handled.get()
        }
    }

    impl Handler<Crash> for Counter {
        type Result = ();

        fn handle(&mut self, _: Crash, _: &mut Self::Context) {
            panic!("asked to crash");
        }
    }

    impl Handler<Stop> for Counter {
        type Result = ();

        fn handle(&mut self, _: Stop, context: &mut Self::Context) {
            actix::ActorContext::stop(context);
        }
    }

    struct World {
        peer: Peer<Counter>,
        restarted: Rc<Cell<u32>>,
        restart_panics: Rc<Cell<bool>>,
    }

    fn world(restarts: u32, expendable: bool) -> World {
        let care = Care {
            name: "counter",
            mailbox: 256,
            allowance: Allowance { restarts, within: Duration::from_secs(60) },
            backoff: Backoff { base: Duration::from_millis(10), cap: Duration::from_millis(50) },
            expendable,
            seed: 1,
        };
        let (handled, restarted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let restart_panics = Rc::new(Cell::new(false));
        let counter = Counter { handled, restarted: restarted.clone(), restart_panics: restart_panics.clone() };
        World { peer: supervise(care, |_| counter), restarted, restart_panics }
    }

    /// Runs on stopped time: waits cost nothing.
    fn on_fake_time(test: impl Future<Output = ()>) {
        actix::System::new().block_on(async {
            tokio::time::pause();
            test.await;
        });
    }

    #[test]
    fn h46_a_panic_keeps_the_address_and_the_queued_messages() {
        on_fake_time(async {
            let World { peer, restarted, .. } = world(5, true);
            for round in 1..=3 {
                let crash = peer.ask(Crash);
                let queued: Vec<_> = (0..100).map(|_| peer.ask(Count)).collect();
                let (crashed, answers) = futures::join!(crash, futures::future::join_all(queued));
                assert_eq!(crashed, Err(PartError::Restarting { part: "counter" }), "only the guilty message fails");
                assert_eq!(answers.last(), Some(&Ok(round * 100)));
                assert_eq!(restarted.get(), round);
            }
        });
    }

    #[test]
    fn h46_past_its_allowance_an_expendable_part_is_degraded_and_comes_back_later() {
        on_fake_time(async {
            let World { peer, .. } = world(2, true);
            for _ in 0..3 {
                let _ = peer.ask(Crash).await;
            }
            let mut health = peer.watch_health();
            health.wait_for(|health| matches!(health, Health::Degraded { .. })).await.unwrap();
            let refused = peer.ask(Count).await;
            assert_eq!(refused, Err(PartError::Degraded { part: "counter", cause: "asked to crash".to_owned() }));
            let began = tokio::time::Instant::now();
            health.wait_for(|health| matches!(health, Health::Running { restarts: 3 })).await.unwrap();
            assert!(began.elapsed() >= DEGRADED_RETRY - Duration::from_secs(1));
            assert_eq!(peer.ask(Count).await, Ok(1));
        });
    }

    #[test]
    fn past_its_allowance_an_indispensable_part_fails_for_good() {
        on_fake_time(async {
            let World { peer, .. } = world(0, false);
            let (crashed, queued) = futures::join!(peer.ask(Crash), peer.ask(Count));
            assert!(crashed.is_err());
            assert!(matches!(queued, Err(PartError::Stopped { .. })), "nobody waits for ever: {queued:?}");
        });
    }

    #[test]
    fn a_panic_while_restarting_is_one_more_failure() {
        on_fake_time(async {
            let World { peer, restarted, restart_panics } = world(5, true);
            restart_panics.set(true);
            let _ = peer.ask(Crash).await;
            assert_eq!(peer.ask(Count).await, Ok(1));
            assert_eq!(restarted.get(), 1, "the second try to restart succeeded");
        });
    }

    #[test]
    fn a_part_that_is_asked_to_stop_is_not_restarted() {
        on_fake_time(async {
            let World { peer, restarted, .. } = world(5, true);
            peer.stop(Duration::from_secs(1)).await;
            assert_eq!(peer.health(), Health::Stopped);
            assert!(matches!(peer.ask(Count).await, Err(PartError::Stopped { .. })));
            assert_eq!(restarted.get(), 0);
        });
    }
}
