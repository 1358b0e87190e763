//! Requests that are on their way, and since when: what a round waits for while nothing moves (H13).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;
use tidelock_actors::metrics;

use crate::locks::locked;

/// The requests without an answer, by number, each with the time it was sent at.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<BTreeMap<u64, i64>>);

/// One of them, until its answer is read or nobody waits for it any more.
pub(super) struct Waiting<'a> {
    all: &'a Unanswered,
    number: u64,
    began: Instant,
}

impl Unanswered {
    /// A request is sent.
    pub fn begin(&self) -> Waiting<'_> {
        let mut all = locked(&self.0);
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(number, Timestamp::now().as_millisecond());
        Waiting { all: self, number, began: Instant::now() }
    }

    /// Since when the oldest one waits, milliseconds since 1970.
    pub fn since_ms(&self) -> Option<i64> {
        locked(&self.0).values().min().copied()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        locked(&self.all.0).remove(&self.number);
        metrics::REQUEST_SECONDS.observe(self.began.elapsed().as_secs_f64(), &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_request_counts_until_nobody_waits_for_it() {
        let unanswered = Unanswered::default();
        assert_eq!(unanswered.since_ms(), None);
        let (first, second) = (unanswered.begin(), unanswered.begin());
        *locked(&unanswered.0).get_mut(&first.number).unwrap() = 10;
        *locked(&unanswered.0).get_mut(&second.number).unwrap() = 20;
        assert_eq!(unanswered.since_ms(), Some(10));
        drop(first);
        assert_eq!(unanswered.since_ms(), Some(20));
        drop(second);
        assert_eq!(unanswered.since_ms(), None);
    }
}
