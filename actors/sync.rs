//! When a round runs, and what the world is told about it. It never resolves a conflict and holds no data:
//! a nudge says only that it is worth looking. Its decisions are in `machine::schedule`, the round itself in `round`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::watch;

use crate::deferred::Deferred;
use crate::instant::now;
use crate::limits::{ACTOR_MAILBOX, TRUSTED_COUNTS};
use crate::machine::audit::Scope;
use crate::machine::schedule::{Input, Schedule, State, Task};
use crate::metrics;
use crate::model::{Checkpoints, CollectionRules, Fault, FaultKind, Findings};
use crate::ports::Clock;
use crate::remembered::{CLOCK_OFFSET, LAST_AUDITED, LAST_MOVED, LAST_SYNCED, Remembered};
use crate::round::{self, Crew, Cut, Motion, Round, RoundReport};
use crate::status::{self, SyncPhase, SyncStatus};
use crate::storage::Perform;
use crate::supervisor::{Crash, Stop};
use crate::writes::{Observation, Write};

pub use crate::machine::schedule::Settings;

/// There may be something to send or to fetch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Nudge;

/// Waiting has no point any more: new credentials, or the network is back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refresh;

/// Asks for a round now; the answer comes at its end.
#[derive(Message)]
#[rtype(result = "RoundReport")]
pub struct Sync {
    /// Send.
    pub push: bool,
    /// Fetch.
    pub pull: bool,
}

/// Asks for an audit now; the answer comes at its end.
#[derive(Message)]
#[rtype(result = "RoundReport")]
pub struct Audit(pub Scope);

/// Takes over changed settings and collections.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure {
    /// The settings.
    pub settings: Settings,
    /// The collections, parents first.
    pub rules: Arc<[CollectionRules]>,
}

/// The actor.
pub struct SyncScheduler {
    schedule: Schedule,
    crew: Crew,
    clock: Arc<dyn Clock>,
    status: watch::Sender<SyncStatus>,
    running: Option<SpawnHandle>,
    /// Who waits for the round that runs, and who for the next one.
    answering: Vec<Deferred<RoundReport>>,
    asking: Vec<Deferred<RoundReport>>,
    /// What the next audit is to be; without it, of everything.
    scope: Option<Scope>,
    audited_ms: Option<i64>,
    moved_ms: Arc<AtomicI64>,
    /// Whether something was to be done when it was last looked.
    had_work: bool,
    rounds: i64,
    trusted_rounds: u32,
    wake_up: Option<SpawnHandle>,
}

impl SyncScheduler {
    /// Goes on where the store stands; the first round is due at once.
    pub fn new(
        settings: Settings,
        mut crew: Crew,
        clock: Arc<dyn Clock>,
        status: watch::Sender<SyncStatus>,
        remembered: Remembered,
        seed: u64,
    ) -> Self {
        let moved_ms = Arc::new(AtomicI64::new(clock.now_ms()));
        crew.moved = status::on_motion(moved_ms.clone(), clock.clone(), status.clone());
        status.send_modify(|status| {
            status.last_synced_ms = remembered.last_synced_ms;
            status.clock_offset_ms = remembered.clock_offset_ms;
            status.moved = remembered.moved;
        });
        let rounds = clock.now_ms() & !1;
        let mut schedule = Schedule::new(settings, now(), seed);
        if let Some(audited_ms) = remembered.audited_ms {
            let ago_ms = u64::try_from(clock.now_ms() - audited_ms).unwrap_or_default();
            schedule.handle(Input::Audited(Duration::from_millis(ago_ms)), now());
        }
        Self {
            schedule,
            crew,
            clock,
            status,
            running: None,
            answering: Vec::new(),
            asking: Vec::new(),
            scope: None,
            audited_ms: remembered.audited_ms,
            moved_ms,
            had_work: false,
            rounds,
            trusted_rounds: 0,
            wake_up: None,
        }
    }

    fn step(&mut self, input: Input, context: &mut Context<Self>) {
        if let Some(task) = self.schedule.handle(input, now()) {
            self.perform(task, context);
        }
        self.publish();
        self.rearm(context);
    }

    fn perform(&mut self, task: Task, context: &mut Context<Self>) {
        // Rounds are even, rollbacks odd: they share one space of numbers and never meet.
        self.rounds += 2;
        let Settings { batch_size, batch_size_max, .. } = *self.schedule.settings();
        let distrusts_counts = task.deep && self.trusted_rounds >= TRUSTED_COUNTS;
        self.trusted_rounds = if distrusts_counts { 0 } else { self.trusted_rounds + u32::from(task.deep) };
        let round = Round { number: self.rounds, task, distrusts_counts, batch_size, batch_size_max };
        let scope = task.audit.then(|| self.scope.take().unwrap_or_else(Scope::everything));
        metrics::RETRIES.add(u64::from(task.probe), &[]);
        let ended = round::run(self.crew.clone(), round, scope.clone()).into_actor(self);
        self.running =
            Some(context.spawn(ended.map(move |report, sync, context| sync.conclude(task, scope, report, context))));
        self.answering.append(&mut self.asking);
    }

    fn conclude(&mut self, task: Task, scope: Option<Scope>, report: RoundReport, context: &mut Context<Self>) {
        self.running = None;
        self.note(task, &report);
        self.note_audit(scope, &report);
        self.answering.drain(..).for_each(|asker| asker.give(report.clone()));
        self.step(Input::RoundEnded(report.cut()), context);
    }

    /// What the round says about the world, for the status and for the next run.
    fn note(&self, task: Task, report: &RoundReport) {
        let is_out_of_reach = |fault: &Fault| fault.kind == FaultKind::Transient && fault.status.is_none();
        let is_synced = task.pull && report.cut().is_none();
        let (now_ms, offset_ms) = (self.clock.now_ms(), self.crew.remote.clock_offset_ms());
        self.status.send_modify(|status| {
            status.is_online = match (&report.cut, &report.fault) {
                (Some(Cut::Local(_)), _) => status.is_online,
                (Some(Cut::Remote(fault)), _) | (None, Some(fault)) => !is_out_of_reach(fault),
                (None, None) => true,
            };
            status.last_error = report.trouble();
            status.paused.clone_from(&report.paused);
            if is_synced {
                status.last_synced_ms = Some(now_ms);
            }
            status.clock_offset_ms = offset_ms.or(status.clock_offset_ms);
        });
        let moved = serde_json::to_string(&self.status.borrow().moved).ok();
        let text = |number: Option<i64>| number.map(|number| number.to_string());
        self.remember([
            (LAST_SYNCED, text(is_synced.then_some(now_ms))),
            (CLOCK_OFFSET, text(offset_ms)),
            (LAST_MOVED, moved.filter(|_| is_synced || report.pushed > 0)),
        ]);
    }

    /// Periodic audits are counted from the last one that repaired everything, or from the first round that ended well.
    fn note_audit(&mut self, scope: Option<Scope>, report: &RoundReport) {
        let is_whole = scope == Some(Scope::everything()) && report.audit.is_some();
        if is_whole || self.audited_ms.is_none() && report.cut().is_none() {
            self.audited_ms = Some(self.clock.now_ms());
            self.remember([(LAST_AUDITED, self.audited_ms.map(|ms| ms.to_string()))]);
            self.schedule.handle(Input::Audited(Duration::ZERO), now());
        }
        for (collection, findings) in report.audit.iter().flatten().filter(|(_, findings)| !findings.is_empty()) {
            let Findings { missing, extra, different, repaired } = *findings;
            tracing::warn!(%collection, missing, extra, different, repaired, "an audit found differences to the server");
        }
    }

    fn remember<const N: usize>(&self, texts: [(&str, Option<String>); N]) {
        let known = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
        let checkpoints: Checkpoints = known.collect();
        if !checkpoints.is_empty() {
            let remember = Observation { checkpoints, ..Observation::default() };
            self.crew.storage.hint(Perform(Write::Observe(remember)));
        }
    }

    fn publish(&mut self) {
        let (phase, reason) = match self.schedule.state() {
            State::Waiting { .. } => (SyncPhase::Idle, None),
            State::Running { .. } => (SyncPhase::Syncing, None),
            State::Offline { fault, .. } => (SyncPhase::Offline, Some(fault.to_string())),
            State::Unauthorized { fault, .. } if fault.kind == FaultKind::Replaced => {
                (SyncPhase::Paused, Some(fault.to_string()))
            }
            State::Unauthorized { fault, .. } => (SyncPhase::NeedsAuth, Some(fault.to_string())),
            State::Paused => (SyncPhase::Paused, Some(self.pause_reason().to_owned())),
        };
        let stalled_since_ms = self.stalled_since();
        let now_ms = self.clock.now_ms();
        let due = |(at, _): (Instant, _)| now_ms + at.saturating_duration_since(now()).as_millis() as i64;
        let deadline = self.schedule.deadline();
        let next_round_ms = deadline.map(due);
        self.status.send_if_modified(|status| {
            let before = status.clone();
            (status.phase, status.reason) = (phase, reason);
            (status.stalled_since_ms, status.next_round_ms) = (stalled_since_ms, next_round_ms);
            status.next_round_reason = deadline.map(|(_, reason)| reason);
            *status != before
        });
    }

    fn pause_reason(&self) -> &'static str {
        match self.schedule.settings().enabled {
            false => "nothing is synced: sync.enabled is false, or no server is configured (remote.url)",
            true => "rounds run only when they are asked for (sync.auto is false)",
        }
    }

    /// Since when nothing moved, once that is too long while something should (H13).
    fn stalled_since(&mut self) -> Option<i64> {
        let has_work = self.running.is_some() || self.crew.counts.borrow().values().any(|counts| counts.pending > 0);
        let had_work = std::mem::replace(&mut self.had_work, has_work);
        if !had_work {
            // Nothing could move before there was something to do.
            (self.crew.moved)(Motion::Other);
        }
        if !has_work {
            return None;
        }
        let moved_ms = self.moved_ms.load(Ordering::Relaxed);
        let still_ms = self.clock.now_ms() - moved_ms;
        (still_ms >= self.schedule.settings().stall_after.as_millis() as i64).then_some(moved_ms)
    }

    /// A stall is told when it is one; while there is nothing to do, or it is told already, it is looked now and then.
    fn until_stall(&self) -> Duration {
        let stall_after = self.schedule.settings().stall_after;
        let still_ms = self.clock.now_ms() - self.moved_ms.load(Ordering::Relaxed);
        let left = stall_after.saturating_sub(Duration::from_millis(u64::try_from(still_ms).unwrap_or_default()));
        if left.is_zero() { stall_after / 4 } else { left.min(stall_after / 4) }
    }

    /// One timer: at the machine's deadline, or when it is time to look for a stall.
    fn rearm(&mut self, context: &mut Context<Self>) {
        if let Some(old) = self.wake_up.take() {
            context.cancel_future(old);
        }
        let until_due = self.schedule.deadline().map(|(due, _)| due.saturating_duration_since(now()));
        let pause = until_due.into_iter().chain([self.until_stall()]).min().unwrap_or_default();
        let pause = pause.max(Duration::from_millis(1));
        self.wake_up = Some(context.run_later(pause, |sync, context| sync.step(Input::Woken, context)));
    }
}

impl Actor for SyncScheduler {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(ACTOR_MAILBOX);
        self.step(Input::Woken, context);
    }
}

impl Supervised for SyncScheduler {
    /// The round that ran is gone with the old context; those who waited for it learn that.
    fn restarting(&mut self, context: &mut Self::Context) {
        (self.running, self.wake_up) = (None, None);
        self.answering.clear();
        self.asking.clear();
        self.step(Input::Restarted, context);
    }
}

impl Handler<Nudge> for SyncScheduler {
    type Result = ();

    fn handle(&mut self, _: Nudge, context: &mut Self::Context) {
        self.step(Input::Nudge, context);
    }
}

impl Handler<Refresh> for SyncScheduler {
    type Result = ();

    fn handle(&mut self, _: Refresh, context: &mut Self::Context) {
        self.step(Input::Refreshed, context);
    }
}

impl Handler<Sync> for SyncScheduler {
    type Result = Deferred<RoundReport>;

    fn handle(&mut self, sync: Sync, context: &mut Self::Context) -> Self::Result {
        let answer = Deferred::default();
        self.asking.push(answer.clone());
        self.step(Input::Manual { push: sync.push, pull: sync.pull }, context);
        answer
    }
}

impl Handler<Audit> for SyncScheduler {
    type Result = Deferred<RoundReport>;

    fn handle(&mut self, Audit(scope): Audit, context: &mut Self::Context) -> Self::Result {
        let answer = Deferred::default();
        self.asking.push(answer.clone());
        self.scope = Some(match self.scope.take() {
            Some(other) => other.and(scope),
            None => scope,
        });
        self.step(Input::Audit, context);
        answer
    }
}

impl Handler<Configure> for SyncScheduler {
    type Result = ();

    fn handle(&mut self, configure: Configure, context: &mut Self::Context) {
        self.crew.rules = configure.rules;
        self.step(Input::Configured(configure.settings), context);
    }
}

impl Handler<Stop> for SyncScheduler {
    type Result = ();

    /// A round in the middle is dropped: every step of it is safe to repeat.
    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Crash> for SyncScheduler {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to crash");
    }
}
