//! How far the server's clock is from this device's, learnt from the `Date` of its answers.
//!
//! A `Date` counts whole seconds, so each answer only bounds the difference; what all bounds have in common narrows it.

use std::sync::Mutex;

use crate::locks::locked;

/// The least and the greatest difference that all answers allow, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct ServerClock(Mutex<Option<(i64, i64)>>);

impl ServerClock {
    /// Learns from an answer dated `date_ms` to a request sent and answered at these times of this device's clock.
    pub fn learn(&self, sent_ms: i64, answered_ms: i64, date_ms: i64) {
        let (least, greatest) = (date_ms - answered_ms, date_ms + 1_000 - sent_ms);
        if least > greatest {
            return;
        }
        let mut known = locked(&self.0);
        *known = match *known {
            Some((low, high)) if low.max(least) <= high.min(greatest) => Some((low.max(least), high.min(greatest))),
            // One of the two clocks was set: what was known before no longer counts.
            Some(_) | None => Some((least, greatest)),
        };
    }

    /// The server's clock less this device's, in milliseconds, once an answer told it. Clocks that may agree are
    /// taken to agree: a guess within the second would put two edits into the wrong order.
    pub fn offset_ms(&self) -> Option<i64> {
        let known = *locked(&self.0);
        known.map(|(low, high)| if low <= 0 && high >= 0 { 0 } else { low.midpoint(high) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_narrow_the_difference() {
        let clock = ServerClock::default();
        assert_eq!(clock.offset_ms(), None);
        // The server is 5,250 ms ahead; its date leaves the fraction of the second out.
        for sent in [10_000, 10_400, 10_730, 10_750] {
            let date = (sent + 10 + 5_250) / 1_000 * 1_000;
            clock.learn(sent, sent + 20, date);
        }
        let offset = clock.offset_ms().unwrap();
        assert!((5_150..=5_350).contains(&offset), "{offset}");
    }

    #[test]
    fn clocks_that_may_agree_are_taken_to_agree() {
        let clock = ServerClock::default();
        clock.learn(10_700, 10_720, 10_000);
        assert_eq!(clock.offset_ms(), Some(0));
    }

    #[test]
    fn a_clock_that_was_set_is_learnt_anew() {
        let clock = ServerClock::default();
        clock.learn(1_000, 1_010, 1_000);
        clock.learn(900_000, 900_010, 2_000);
        assert!(clock.offset_ms().unwrap() < -890_000);
    }
}
