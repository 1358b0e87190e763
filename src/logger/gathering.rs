//! What gathers between two writes: bounded, identical warnings folded into one, everything counted. It knows neither
//! threads nor the clock: time is an argument.
//!
//! Of what the server is to have: given = drained entries + folded + shed.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tidelock_actors::limits::{
    LOG_FOLD_WINDOW, LOG_FOLD_WINDOWS, LOG_INTAKE_BYTES, LOG_INTAKE_ROWS, LOG_LOCAL_BYTES, LOG_LOCAL_ROWS,
};
use tidelock_actors::logs::{Drained, Entry, Severity};

/// An entry with its place among all and its size.
struct Held {
    order: u64,
    bytes: usize,
    entry: Entry,
}

/// Entries in their order.
#[derive(Default)]
struct Line {
    held: VecDeque<Held>,
    bytes: usize,
}

impl Line {
    fn push(&mut self, held: Held) {
        self.bytes += held.bytes;
        self.held.push_back(held);
    }

    fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.bytes;
        Some(held)
    }

    fn exceeds(&self, rows: usize, bytes: usize) -> bool {
        self.held.len() > rows || self.bytes > bytes
    }
}

/// A warning that was said a moment ago; repetitions are counted until the window ends.
struct Window {
    ends: Instant,
    repeated: Option<Held>,
}

/// What has gathered.
#[derive(Default)]
pub(super) struct Gathering {
    /// What stays on this device.
    local: Line,
    /// Warnings and errors.
    messages: Line,
    /// Calls of services, which are shed last.
    calls: Line,
    windows: HashMap<u64, Window>,
    /// The windows in the order in which they end.
    ending: VecDeque<u64>,
    counting: usize,
    counting_bytes: usize,
    shed: u64,
    folded: i64,
    order: u64,
    is_noticed: bool,
    is_urgent: bool,
}

/// What had gathered. It is put in order once nobody has to wait for that.
pub(super) struct Taken {
    lines: [Line; 3],
    shed: u64,
    folded: i64,
    is_counting: bool,
}

impl From<Taken> for Drained {
    fn from(taken: Taken) -> Self {
        let Taken { lines, shed, folded, is_counting } = taken;
        let mut held: Vec<Held> = lines.into_iter().flat_map(|line| line.held).collect();
        held.sort_by_key(|held| held.order);
        let entries = held.into_iter().map(|held| held.entry).collect();
        Self { entries, shed, folded, is_counting }
    }
}

/// What the logger should hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The first entry, or the first error, since the last time that it was drained.
    Notice,
    /// Nothing that it does not know.
    Nothing,
}

impl Gathering {
    /// Takes an entry. Those with the same `fold` are the same, if it has one.
    pub fn offer(&mut self, entry: Entry, fold: Option<u64>, now: Instant) -> News {
        let is_urgent = entry.level == Severity::Error && entry.call.is_none();
        if let Some(news) = fold.and_then(|key| self.fold(key, &entry, now)) {
            return news;
        }
        self.order += 1;
        let held = Held { order: self.order, bytes: entry.bytes(), entry };
        match (held.entry.ships, held.entry.call.is_some()) {
            (false, _) => self.local.push(held),
            (true, false) => self.messages.push(held),
            (true, true) => self.calls.push(held),
        }
        self.make_room();
        self.notice(is_urgent)
    }

    /// Counts a repetition; nothing if it is none, and then a window is open for those that come.
    fn fold(&mut self, key: u64, entry: &Entry, now: Instant) -> Option<News> {
        match self.windows.get_mut(&key) {
            Some(window) if window.ends > now => match &mut window.repeated {
                Some(held) => {
                    held.entry.count += entry.count;
                    held.entry.last_at = entry.last_at;
                    self.folded += 1;
                    Some(News::Nothing)
                }
                None => {
                    self.order += 1;
                    let held = Held { order: self.order, bytes: entry.bytes(), entry: entry.clone() };
                    (self.counting, self.counting_bytes) = (self.counting + 1, self.counting_bytes + held.bytes);
                    window.repeated = Some(held);
                    self.make_room();
                    Some(self.notice(false))
                }
            },
            _ => {
                self.close_windows(|window| window.ends <= now);
                if self.ending.len() >= LOG_FOLD_WINDOWS {
                    self.close_oldest();
                }
                self.windows.insert(key, Window { ends: now + LOG_FOLD_WINDOW, repeated: None });
                self.ending.push_back(key);
                None
            }
        }
    }

    /// Gives what has gathered; what is still being counted as well, if `all`.
    pub fn take(&mut self, now: Instant, all: bool) -> Taken {
        self.close_windows(|window| all || window.ends <= now);
        let lines = [&mut self.local, &mut self.messages, &mut self.calls].map(std::mem::take);
        (self.is_noticed, self.is_urgent) = (false, false);
        let (shed, folded) = (std::mem::take(&mut self.shed), std::mem::take(&mut self.folded));
        Taken { lines, shed, folded, is_counting: self.counting > 0 }
    }

    /// Whether there is an error among it.
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    fn close_windows(&mut self, is_over: impl Fn(&Window) -> bool) {
        while self.ending.front().and_then(|key| self.windows.get(key)).is_some_and(&is_over) {
            self.close_oldest();
        }
    }

    /// What was counted takes its place among the others.
    fn close_oldest(&mut self) {
        let closed = self.ending.pop_front().and_then(|key| self.windows.remove(&key));
        if let Some(held) = closed.and_then(|window| window.repeated) {
            (self.counting, self.counting_bytes) = (self.counting - 1, self.counting_bytes - held.bytes);
            let line = if held.entry.ships { &mut self.messages } else { &mut self.local };
            line.push(held);
            self.make_room();
        }
    }

    /// Sheds the oldest; calls only when no warning is left.
    fn make_room(&mut self) {
        while self.local.exceeds(LOG_LOCAL_ROWS, LOG_LOCAL_BYTES) {
            // It is a ring: what leaves it is not missed.
            self.local.pop();
        }
        while self.is_full() {
            let counted = || -> Option<Held> {
                let held = self.windows.values_mut().filter_map(|window| window.repeated.take()).next()?;
                (self.counting, self.counting_bytes) = (self.counting - 1, self.counting_bytes - held.bytes);
                Some(held)
            };
            let Some(shed) = self.messages.pop().or_else(counted).or_else(|| self.calls.pop()) else { return };
            let count = i64::try_from(shed.entry.count).unwrap_or(i64::MAX);
            self.shed = self.shed.saturating_add(shed.entry.count);
            self.folded -= count - 1;
        }
    }

    fn is_full(&self) -> bool {
        self.messages.held.len() + self.calls.held.len() + self.counting > LOG_INTAKE_ROWS
            || self.messages.bytes + self.calls.bytes + self.counting_bytes > LOG_INTAKE_BYTES
    }

    fn notice(&mut self, is_urgent: bool) -> News {
        let is_news = !self.is_noticed || (is_urgent && !self.is_urgent);
        self.is_noticed = true;
        self.is_urgent |= is_urgent;
        if is_news { News::Notice } else { News::Nothing }
    }
}

#[cfg(test)]
mod tests;
