//! When log entries are written down and when they are shipped. Something is always ahead while there is something to
//! ship; a batch that the server refuses gets smaller until the one entry that it will not have is given up.

use std::time::{Duration, Instant};

use super::Chance;
use super::backoff::Backoff;
use crate::limits::{
    LOG_BATCH_ROWS, LOG_FOLD_WINDOW, LOG_REFUSED_RETRY, LOG_SHIP_PAUSE, LOG_WRITE_LEAST, LOG_WRITE_PAUSE,
    RETRY_AFTER_MAX,
};
use crate::model::{Fault, FaultKind};

/// What the configuration says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Whether anything is shipped.
    pub ships: bool,
    /// The wait after a failure.
    pub backoff: Backoff,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Entries have gathered; an error is among them, or not.
    Noticed {
        /// Whether they are to be written at once.
        is_urgent: bool,
    },
    /// Somebody wants everything written down now.
    Wanted,
    /// Time has passed.
    Woken,
    /// A write is over.
    Written {
        /// What is to be shipped; nothing if the book gave no answer.
        pending: Option<u64>,
        /// Whether repetitions are still being counted.
        is_counting: bool,
    },
    /// A batch is over.
    Shipped {
        /// What became of it.
        verdict: Verdict,
        /// How many entries it had.
        sent: usize,
        /// What is to be shipped now, if the book has told.
        pending: Option<u64>,
    },
    /// The server can be reached again.
    Reached,
    /// There are other credentials now.
    Renewed,
    /// The settings are others now.
    Configured(Times),
    /// The part was restarted: what was at work is gone.
    Restarted,
    /// The end: what there is is written down, and nothing more is shipped.
    Stopping,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Write down what has gathered.
    Write {
        /// Also what is still being counted.
        all: bool,
    },
    /// Ship the oldest entries.
    Ship {
        /// So many at most.
        rows: usize,
    },
    /// All is written down: stop.
    Finish,
}

/// What the deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Entries are to be written down.
    Write,
    /// Entries are to be shipped.
    Ship,
}

/// What an answer means for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server has all of it.
    Taken,
    /// Another time, and not before this has passed.
    Later(Duration),
    /// Not with these credentials, or not into this table: it rests until somebody mends that.
    Resting,
    /// It is refused, and it may be for a part of it.
    Smaller,
    /// The only entry of it is refused.
    GivenUp,
}

/// Reads an answer.
pub fn judge(answer: &Result<(), Fault>, sent: usize) -> Verdict {
    let Err(fault) = answer else { return Verdict::Taken };
    let is_denied = matches!(fault.status, Some(401 | 403));
    match fault.kind {
        FaultKind::Transient => {
            let asked = Duration::from_millis(fault.retry_after_ms.unwrap_or_default());
            Verdict::Later(asked.min(RETRY_AFTER_MAX))
        }
        FaultKind::Unauthorized | FaultKind::Schema | FaultKind::Replaced | FaultKind::Behind => Verdict::Resting,
        FaultKind::Ordering | FaultKind::Refused | FaultKind::Doubtful if is_denied => Verdict::Resting,
        FaultKind::Ordering | FaultKind::Refused | FaultKind::Doubtful if sent > 1 => Verdict::Smaller,
        FaultKind::Ordering | FaultKind::Refused | FaultKind::Doubtful => Verdict::GivenUp,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Idle,
    Due(Instant),
    /// One is at work; another one is wanted after it, or not.
    Running {
        again: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// For more to come.
    Gathering,
    /// For the server.
    Failed,
    /// For somebody to mend the table, its policies or the credentials.
    Resting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shipment {
    Idle,
    Due {
        at: Instant,
        why: Waiting,
    },
    Running {
        /// What came meanwhile that a batch may have to wait for.
        over: Option<Waiting>,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Shipping {
    times: Times,
    writing: Writing,
    wrote: Option<Instant>,
    shipment: Shipment,
    pending: u64,
    rows: usize,
    failures: u32,
    is_stopping: bool,
    chance: Chance,
}

impl Shipping {
    /// Begins with a write, which tells how the book stands.
    pub fn new(times: Times, now: Instant, seed: u64) -> Self {
        Self {
            times,
            writing: Writing::Due(now),
            wrote: None,
            shipment: Shipment::Idle,
            pending: 0,
            rows: LOG_BATCH_ROWS,
            failures: 0,
            is_stopping: false,
            chance: Chance::from_seed(seed),
        }
    }

    /// Takes an input and tells what is to be done now.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        match input {
            Input::Noticed { is_urgent } => {
                let least = self.wrote.map_or(now, |wrote| wrote + LOG_WRITE_LEAST);
                self.write_by(if is_urgent { least.max(now) } else { now + LOG_WRITE_PAUSE });
            }
            Input::Wanted => self.write_by(now),
            Input::Woken => {}
            Input::Written { pending, is_counting } => self.written(pending, is_counting, now),
            Input::Shipped { verdict, sent, pending } => self.shipped(verdict, sent, pending, now),
            Input::Reached => self.hurry(Waiting::Failed, now),
            Input::Renewed => self.hurry(Waiting::Resting, now),
            Input::Configured(times) => {
                self.times = times;
                self.hurry(Waiting::Resting, now);
                self.look_ahead(now);
            }
            Input::Restarted => {
                (self.writing, self.shipment) = (Writing::Due(now), Shipment::Idle);
            }
            Input::Stopping => {
                self.is_stopping = true;
                self.write_by(now);
            }
        }
        self.due(now)
    }

    /// When there is something to do, and what.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        let write = match self.writing {
            Writing::Due(at) => Some((at, Reason::Write)),
            Writing::Idle | Writing::Running { .. } => None,
        };
        let ship = match self.shipment {
            Shipment::Due { at, .. } if self.may_ship() => Some((at, Reason::Ship)),
            Shipment::Idle | Shipment::Due { .. } | Shipment::Running { .. } => None,
        };
        [write, ship].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn may_ship(&self) -> bool {
        self.times.ships && !self.is_stopping
    }

    fn due(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Writing::Due(at) = self.writing
            && at <= now
        {
            self.writing = Writing::Running { again: false };
            self.wrote = Some(now);
            effects.push(Effect::Write { all: self.is_stopping });
        }
        if self.is_stopping && self.writing == Writing::Idle {
            effects.push(Effect::Finish);
        }
        if let Shipment::Due { at, .. } = self.shipment
            && at <= now
            && self.may_ship()
        {
            self.shipment = Shipment::Running { over: None };
            effects.push(Effect::Ship { rows: self.rows });
        }
        effects
    }

    /// At the latest then.
    fn write_by(&mut self, at: Instant) {
        self.writing = match self.writing {
            Writing::Idle => Writing::Due(at),
            Writing::Due(due) => Writing::Due(due.min(at)),
            Writing::Running { .. } => Writing::Running { again: true },
        };
    }

    fn written(&mut self, pending: Option<u64>, is_counting: bool, now: Instant) {
        let again = self.writing == Writing::Running { again: true };
        self.writing = match (again, self.is_stopping) {
            // What the book did not take is kept, and tried again.
            (_, false) if pending.is_none() => Writing::Due(now + LOG_WRITE_PAUSE),
            (true, true) => Writing::Due(now),
            (true, false) => Writing::Due(now + LOG_WRITE_LEAST),
            (false, false) if is_counting => Writing::Due(now + LOG_FOLD_WINDOW),
            (false, _) => Writing::Idle,
        };
        self.pending = pending.unwrap_or(self.pending);
        self.look_ahead(now);
    }

    /// Sees to it that what is pending has something ahead.
    fn look_ahead(&mut self, now: Instant) {
        if self.shipment == Shipment::Idle && self.pending > 0 {
            self.shipment = Shipment::Due { at: now + LOG_SHIP_PAUSE, why: Waiting::Gathering };
        }
    }

    fn shipped(&mut self, verdict: Verdict, sent: usize, pending: Option<u64>, now: Instant) {
        self.pending = pending.unwrap_or(self.pending);
        let (wait, why) = match verdict {
            Verdict::Taken => {
                self.failures = 0;
                self.rows = self.rows.saturating_mul(2).min(LOG_BATCH_ROWS);
                let is_backlog = self.pending >= self.rows as u64;
                (if is_backlog { Duration::ZERO } else { LOG_SHIP_PAUSE }, Waiting::Gathering)
            }
            Verdict::Later(least) => (self.backoff().max(least), Waiting::Failed),
            Verdict::Resting => (LOG_REFUSED_RETRY, Waiting::Resting),
            Verdict::Smaller => {
                self.rows = (sent / 2).max(1);
                (Duration::ZERO, Waiting::Gathering)
            }
            // A table that refuses everything is not asked about one entry after the other at full speed.
            Verdict::GivenUp => (self.backoff(), Waiting::Failed),
        };
        // What it would have to wait for may have come while it was on its way.
        let is_over = matches!(self.shipment, Shipment::Running { over: Some(over) } if over == why);
        self.shipment = Shipment::Due { at: if is_over { now } else { now + wait }, why };
        if self.pending == 0 {
            self.shipment = Shipment::Idle;
        }
    }

    fn backoff(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.times.backoff.wait(self.failures, &mut self.chance)
    }

    /// What was waited for is there.
    fn hurry(&mut self, waited_for: Waiting, now: Instant) {
        match &mut self.shipment {
            Shipment::Due { at, why } if *why == waited_for => *at = now.min(*at),
            Shipment::Running { over } if *over != Some(Waiting::Resting) => *over = Some(waited_for),
            Shipment::Idle | Shipment::Due { .. } | Shipment::Running { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
