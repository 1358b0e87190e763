//! When a round runs. Every state has a deadline of its own, so nothing waits for an event that may never come.
//!
//! The circuit: a transient failure opens it; after a backoff with full jitter, never shorter than the server's
//! `Retry-After`, it half-opens with one probe (H43). Losing authorisation pauses sending, not local work (H14).

use std::time::{Duration, Instant};

use super::Chance;
use super::backoff::Backoff;
use crate::limits::{AUDIT_RETRY, NUDGE_DELAY, RETRY_AFTER_MAX, UNAUTHORIZED_RETRY};
use crate::model::{Fault, FaultKind};

/// What may be changed while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether anything is synced at all.
    pub enabled: bool,
    /// Whether rounds start by themselves.
    pub auto: bool,
    /// The longest time between two rounds.
    pub interval: Duration,
    /// The wait after failures.
    pub backoff: Backoff,
    /// The time between two rounds that also look for deletions and read tables without versions.
    pub deep_interval: Duration,
    /// The time between two audits; zero means that none starts by itself.
    pub audit_interval: Duration,
    /// Operations in the first batch of a backlog.
    pub batch_size: usize,
    /// Operations in the largest batch.
    pub batch_size_max: usize,
    /// How long nothing may move before it is called a stall.
    pub stall_after: Duration,
}

/// What a round is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Send.
    pub push: bool,
    /// Fetch.
    pub pull: bool,
    /// Also look for deletions and read tables without versions.
    pub deep: bool,
    /// Ask with one small request first.
    pub probe: bool,
    /// Compare everything that was fetched with what the server has.
    pub audit: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// There is something to send, or somebody hints at news.
    Nudge,
    /// Somebody asks for a round now.
    Manual {
        /// Send.
        push: bool,
        /// Fetch.
        pull: bool,
    },
    /// Somebody asks for an audit now.
    Audit,
    /// That long ago the last audit of everything ended well, in this run or before it.
    Audited(Duration),
    /// The round is over; the fault is what cut it short, not one of a collection or operation that the rest went past.
    RoundEnded(Option<Fault>),
    /// Time went by.
    Woken,
    /// New credentials or a network that came back: waiting has no point any more.
    Refreshed,
    /// Changed settings.
    Configured(Settings),
    /// The actor was restarted: whatever ran is gone.
    Restarted,
}

/// Why the machine will wake by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Something is to be sent.
    Nudged,
    /// The interval is over.
    Interval,
    /// The backoff is over.
    Retry,
}

/// The state, with the data that only it has.
#[derive(Debug, Clone)]
pub enum State {
    /// Waits for its time.
    Waiting {
        /// When the next round begins …
        due: Instant,
        /// … and why then.
        reason: Reason,
    },
    /// A round runs.
    Running {
        /// What it does.
        task: Task,
        /// What somebody asked for meanwhile, and waits for.
        asked: Option<Task>,
        /// What was hinted at meanwhile.
        hint: Hint,
    },
    /// The circuit is open.
    Offline {
        /// When one probe is sent.
        until: Instant,
        /// Why.
        fault: Fault,
    },
    /// The credentials are not accepted.
    Unauthorized {
        /// When they are tried again.
        until: Instant,
        /// Why.
        fault: Fault,
    },
    /// Rounds do not start by themselves.
    Paused,
}

/// A hint that came during a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// None.
    Nothing,
    /// There may be something new: another round follows this one, unless that failed.
    News,
    /// Waiting has no point any more: another round follows this one even if it failed.
    Refreshed,
}

/// The machine.
#[derive(Debug)]
pub struct Schedule {
    settings: Settings,
    state: State,
    failures: u32,
    deep_due: Instant,
    audited: Instant,
    audit_due: Instant,
    chance: Chance,
}

impl Schedule {
    /// The first round is due at once.
    pub fn new(settings: Settings, now: Instant, seed: u64) -> Self {
        let chance = Chance::from_seed(seed);
        let (audited, audit_due) = (now, now + settings.audit_interval);
        let state = State::Paused;
        let mut schedule = Self { settings, state, failures: 0, deep_due: now, audited, audit_due, chance };
        schedule.wait(now, Duration::ZERO, Reason::Interval);
        schedule
    }

    /// What happened → the round to start, if any.
    pub fn handle(&mut self, input: Input, now: Instant) -> Option<Task> {
        match input {
            Input::Nudge => self.nudge(now),
            Input::Manual { push, pull } => return self.ask(Task { push, pull, deep: pull, ..NOTHING }, now),
            Input::Audit => return self.ask(Task { pull: true, deep: true, audit: true, ..NOTHING }, now),
            Input::Audited(ago) => {
                let interval = self.settings.audit_interval;
                (self.audited, self.audit_due) = (now, now + interval.saturating_sub(ago));
            }
            Input::RoundEnded(fault) => return self.end(fault, now),
            Input::Woken => return self.wake(now),
            Input::Refreshed => self.refresh(now),
            Input::Configured(settings) => {
                if settings.audit_interval != self.settings.audit_interval {
                    self.audit_due = (self.audited + settings.audit_interval).max(now);
                }
                let starts = (settings.enabled && settings.auto) != (self.settings.enabled && self.settings.auto);
                self.settings = settings;
                if starts && !matches!(self.state, State::Running { .. }) {
                    self.wait(now, Duration::ZERO, Reason::Interval);
                } else if let State::Waiting { reason: Reason::Interval, .. } = self.state {
                    self.wait(now, self.settings.interval, Reason::Interval);
                }
            }
            Input::Restarted => self.wait(now, Duration::ZERO, Reason::Interval),
        }
        None
    }

    /// When the machine wants to be woken, and why.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        match &self.state {
            State::Waiting { due, reason } => Some((*due, *reason)),
            State::Offline { until, .. } | State::Unauthorized { until, .. } => Some((*until, Reason::Retry)),
            State::Running { .. } | State::Paused => None,
        }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn runs_by_itself(&self) -> bool {
        self.settings.enabled && self.settings.auto
    }

    fn wait(&mut self, now: Instant, pause: Duration, reason: Reason) {
        self.state = if self.runs_by_itself() { State::Waiting { due: now + pause, reason } } else { State::Paused };
    }

    fn nudge(&mut self, now: Instant) {
        let soon = now + NUDGE_DELAY;
        match &mut self.state {
            State::Running { hint, .. } => *hint = (*hint).max(Hint::News),
            State::Waiting { due, .. } if *due > soon => self.wait(now, NUDGE_DELAY, Reason::Nudged),
            State::Waiting { .. } | State::Offline { .. } | State::Unauthorized { .. } | State::Paused => {}
        }
    }

    fn refresh(&mut self, now: Instant) {
        self.failures = 0;
        match &mut self.state {
            State::Running { hint, .. } => *hint = Hint::Refreshed,
            State::Waiting { .. } | State::Offline { .. } | State::Unauthorized { .. } => {
                self.wait(now, Duration::ZERO, Reason::Nudged);
            }
            State::Paused => {}
        }
    }

    /// A round on request runs at once, whatever the circuit says; during another it runs after it.
    fn ask(&mut self, task: Task, now: Instant) -> Option<Task> {
        match &mut self.state {
            State::Running { asked, .. } => {
                *asked = Some(asked.map_or(task, |other| other.and(task)));
                None
            }
            State::Waiting { .. } | State::Offline { .. } | State::Unauthorized { .. } | State::Paused => {
                Some(self.start(task, now))
            }
        }
    }

    fn wake(&mut self, now: Instant) -> Option<Task> {
        let (due, reason) = self.deadline()?;
        let probe = reason == Reason::Retry;
        (due <= now).then(|| self.start(Task { probe, audit: !probe && self.is_audit_due(now), ..ROUND }, now))
    }

    fn is_audit_due(&self, now: Instant) -> bool {
        !self.settings.audit_interval.is_zero() && self.audit_due <= now
    }

    fn start(&mut self, mut task: Task, now: Instant) -> Task {
        task.deep |= task.pull && (self.deep_due <= now || task.audit);
        self.state = State::Running { task, asked: None, hint: Hint::Nothing };
        task
    }

    fn end(&mut self, fault: Option<Fault>, now: Instant) -> Option<Task> {
        let State::Running { task, asked, hint } = self.state.clone() else { return None };
        if task.audit && self.audit_due <= now {
            self.audit_due = now + self.settings.audit_interval.min(AUDIT_RETRY);
        }
        // An audit stands in for the listing of its round, and may be of some collections only.
        if task.deep && !task.audit && !fault.as_ref().is_some_and(Fault::concerns_everything) {
            self.deep_due = now + self.settings.deep_interval;
        }
        match fault {
            None => {
                self.failures = 0;
                self.wait(now, self.settings.interval, Reason::Interval);
            }
            Some(fault) => self.fail(fault, now),
        }
        let may_follow = match hint {
            Hint::Nothing => false,
            Hint::News => matches!(self.state, State::Waiting { .. }),
            Hint::Refreshed => self.runs_by_itself(),
        };
        // What was asked for by hand runs in any case: its asker waits for the answer.
        asked.or_else(|| may_follow.then_some(ROUND)).map(|task| self.start(task, now))
    }

    fn fail(&mut self, fault: Fault, now: Instant) {
        if !self.runs_by_itself() {
            self.state = State::Paused;
            return;
        }
        let asked = fault.retry_after_ms.map_or(Duration::ZERO, Duration::from_millis).min(RETRY_AFTER_MAX);
        match fault.kind {
            FaultKind::Unauthorized | FaultKind::Replaced => {
                self.state = State::Unauthorized { until: now + UNAUTHORIZED_RETRY, fault };
            }
            FaultKind::Transient if fault.concerns_everything() => {
                self.failures = self.failures.saturating_add(1);
                let pause = self.settings.backoff.wait(self.failures, &mut self.chance);
                self.state = State::Offline { until: now + asked + pause, fault };
            }
            FaultKind::Transient
            | FaultKind::Ordering
            | FaultKind::Refused
            | FaultKind::Doubtful
            | FaultKind::Schema
            | FaultKind::Behind => {
                self.failures = 0;
                self.wait(now, self.settings.interval, Reason::Interval);
            }
        }
    }
}

/// What a round does that nobody asked for in particular.
const ROUND: Task = Task { push: true, pull: true, ..NOTHING };

const NOTHING: Task = Task { push: false, pull: false, deep: false, probe: false, audit: false };

impl Task {
    fn and(self, other: Self) -> Self {
        Self {
            push: self.push || other.push,
            pull: self.pull || other.pull,
            deep: self.deep || other.deep,
            probe: false,
            audit: self.audit || other.audit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            enabled: true,
            auto: true,
            interval: Duration::from_secs(30),
            backoff: Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(300) },
            deep_interval: Duration::from_secs(300),
            audit_interval: Duration::from_secs(86_400),
            batch_size: 50,
            batch_size_max: 1_000,
            stall_after: Duration::from_secs(120),
        }
    }

    fn offline() -> Option<Fault> {
        Some(Fault::new(FaultKind::Transient, "no network"))
    }

    fn woken_at_its_deadline(schedule: &mut Schedule) -> (Instant, Option<Task>) {
        let (due, _) = schedule.deadline().expect("an armed deadline");
        (due, schedule.handle(Input::Woken, due))
    }

    #[test]
    fn a_nudge_during_a_round_runs_another_after_it() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        assert!(schedule.handle(Input::Woken, now).is_some());
        assert_eq!(schedule.handle(Input::Nudge, now), None);
        assert_eq!(schedule.handle(Input::RoundEnded(None), now), Some(ROUND));
        assert_eq!(schedule.handle(Input::RoundEnded(None), now), None);
        assert_eq!(schedule.deadline(), Some((now + settings().interval, Reason::Interval)));
    }

    #[test]
    fn h12_every_state_that_waits_has_an_armed_deadline() {
        let start = Instant::now();
        let unauthorized = Some(Fault::new(FaultKind::Unauthorized, "expired"));
        let schema = Some(Fault::new(FaultKind::Schema, "no such table"));
        for fault in [None, offline(), unauthorized, schema] {
            for before in [Input::Nudge, Input::Woken, Input::Refreshed] {
                let mut schedule = Schedule::new(settings(), start, 1);
                schedule.handle(Input::Woken, start);
                schedule.handle(before.clone(), start);
                let again = schedule.handle(Input::RoundEnded(fault.clone()), start);
                let waits = schedule.deadline().is_some();
                assert!(again.is_some() || waits, "{fault:?} after {before:?}: {:?}", schedule.state());
                if again.is_none() {
                    let (_, task) = woken_at_its_deadline(&mut schedule);
                    assert!(task.is_some(), "waking at the deadline starts a round");
                }
            }
        }
    }

    #[test]
    fn an_outage_ends_in_one_probe_after_a_growing_wait_and_goes_on_without_end() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        schedule.handle(Input::Woken, now);
        for _ in 0..100 {
            schedule.handle(Input::RoundEnded(offline()), now);
            let (due, task) = woken_at_its_deadline(&mut schedule);
            assert!(due - now <= settings().backoff.cap);
            assert!(task.is_some_and(|task| task.probe));
            now = due;
        }
    }

    #[test]
    fn h43_the_servers_retry_after_is_obeyed() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        schedule.handle(Input::Woken, now);
        let asked = Fault { retry_after_ms: Some(90_000), ..Fault::new(FaultKind::Transient, "429") };
        schedule.handle(Input::RoundEnded(Some(asked)), now);
        assert!(schedule.deadline().is_some_and(|(due, _)| due >= now + Duration::from_secs(90)));
        schedule.handle(Input::Nudge, now);
        assert!(
            schedule.deadline().is_some_and(|(due, _)| due >= now + Duration::from_secs(90)),
            "a nudge does not cut it"
        );
    }

    #[test]
    fn a_round_asked_for_by_hand_runs_while_offline_and_after_a_running_one() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        schedule.handle(Input::Woken, now);
        assert_eq!(schedule.handle(Input::Manual { push: true, pull: false }, now), None);
        let next = schedule.handle(Input::RoundEnded(offline()), now);
        assert!(next.is_some_and(|task| task.push && !task.pull));
        schedule.handle(Input::RoundEnded(offline()), now);
        assert!(schedule.handle(Input::Manual { push: true, pull: true }, now).is_some_and(|task| task.deep));
    }

    #[test]
    fn whoever_asks_is_answered_even_where_only_the_half_was_asked_for_and_the_round_fails() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Settings { auto: false, ..settings() }, now, 1);
        schedule.handle(Input::Manual { push: true, pull: true }, now);
        schedule.handle(Input::Nudge, now);
        schedule.handle(Input::Manual { push: true, pull: false }, now);
        let next = schedule.handle(Input::RoundEnded(offline()), now);
        assert!(next.is_some_and(|task| task.push), "{next:?}");
    }

    #[test]
    fn new_credentials_during_a_round_that_fails_for_the_old_ones_are_tried_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        schedule.handle(Input::Woken, now);
        schedule.handle(Input::Refreshed, now);
        let expired = Some(Fault::new(FaultKind::Unauthorized, "expired"));
        assert!(schedule.handle(Input::RoundEnded(expired), now).is_some());
    }

    #[test]
    fn one_collections_fault_does_not_make_every_round_deep() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        assert!(schedule.handle(Input::Woken, now).is_some_and(|task| task.deep));
        schedule.handle(Input::RoundEnded(Some(Fault::new(FaultKind::Schema, "no such table"))), now);
        let (_, task) = woken_at_its_deadline(&mut schedule);
        assert!(task.is_some_and(|task| !task.deep));
    }

    #[test]
    fn a_fault_of_one_statement_that_cut_a_round_is_no_outage() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        schedule.handle(Input::Woken, now);
        let too_long = Fault { code: Some("57014".to_owned()), ..Fault::new(FaultKind::Transient, "too long") };
        schedule.handle(Input::RoundEnded(Some(too_long)), now);
        assert!(matches!(schedule.state(), State::Waiting { .. }), "a save is sent soon, without a probe");
    }

    /// Rounds for so long; the times at which one was an audit, in seconds.
    fn audits_within(schedule: &mut Schedule, start: Instant, span: Duration, fault: Option<Fault>) -> Vec<u64> {
        let mut audits = Vec::new();
        while let Some((due, _)) = schedule.deadline().filter(|(due, _)| *due <= start + span) {
            let task = schedule.handle(Input::Woken, due).expect("a round");
            if task.audit {
                assert!(task.push && task.pull && task.deep);
                audits.push((due - start).as_secs());
            }
            let fault = fault.clone().filter(|_| task.audit);
            if task.audit && fault.is_none() {
                schedule.handle(Input::Audited(Duration::ZERO), due);
            }
            schedule.handle(Input::RoundEnded(fault), due);
        }
        audits
    }

    #[test]
    fn h08_an_audit_comes_by_itself_once_in_its_interval_counted_from_the_last_one_before_this_run() {
        let (start, day) = (Instant::now(), Duration::from_secs(86_400));
        let mut schedule = Schedule::new(settings(), start, 1);
        assert_eq!(audits_within(&mut schedule, start, 2 * day, None), [86_400, 172_800]);
        let mut restarted = Schedule::new(settings(), start, 1);
        restarted.handle(Input::Audited(Duration::from_secs(86_400 - 600)), start);
        assert_eq!(audits_within(&mut restarted, start, day, None), [600]);
        let mut overdue = Schedule::new(settings(), start, 1);
        overdue.handle(Input::Audited(30 * day), start);
        assert_eq!(audits_within(&mut overdue, start, day / 2, None), [0]);
        let mut never = Schedule::new(Settings { audit_interval: Duration::ZERO, ..settings() }, start, 1);
        assert_eq!(audits_within(&mut never, start, 2 * day, None), [0; 0]);
    }

    #[test]
    fn an_audit_that_is_cut_short_is_not_repeated_with_every_round() {
        let (start, day) = (Instant::now(), Duration::from_secs(86_400));
        let mut schedule = Schedule::new(settings(), start, 1);
        let audits = audits_within(&mut schedule, start, day + Duration::from_secs(7_200), offline());
        assert!((2..=3).contains(&audits.len()), "{audits:?}");
    }

    #[test]
    fn an_audit_on_request_sends_nothing_and_runs_at_once_or_after_the_round_that_runs() {
        let now = Instant::now();
        let mut schedule = Schedule::new(settings(), now, 1);
        let task = schedule.handle(Input::Audit, now).expect("a round");
        assert!(task.audit && task.pull && !task.push);
        assert_eq!(schedule.handle(Input::Audit, now), None);
        assert!(schedule.handle(Input::RoundEnded(offline()), now).is_some_and(|task| task.audit));
    }

    #[test]
    fn nothing_starts_by_itself_where_that_is_switched_off() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Settings { auto: false, ..settings() }, now, 1);
        schedule.handle(Input::Nudge, now);
        assert_eq!((schedule.deadline(), schedule.handle(Input::Woken, now)), (None, None));
        assert!(schedule.handle(Input::Manual { push: true, pull: true }, now).is_some());
        schedule.handle(Input::RoundEnded(offline()), now);
        assert_eq!(schedule.deadline(), None);
        schedule.handle(Input::Configured(settings()), now);
        assert!(schedule.deadline().is_some(), "switched on, it has a deadline");
    }
}
