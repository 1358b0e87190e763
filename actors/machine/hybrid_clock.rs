//! A hybrid logical clock: wall time corrected by the server's, never going back, with a counter for ties.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks", 2014. A stamp of somebody else's that lies
//! further ahead than `limits::CLOCK_AHEAD` is clamped, so that no wrong clock wins for ever (H38).

use crate::limits::CLOCK_AHEAD;
use crate::model::Stamp;

const COUNTER_BITS: u32 = 16;

/// The clock's state.
#[derive(Debug, Clone, Copy, Default)]
pub struct HybridClock {
    newest: Stamp,
    offset_ms: i64,
}

impl HybridClock {
    /// Goes on from the newest stamp in the store.
    pub fn resume(newest: Stamp) -> Self {
        Self { newest, offset_ms: 0 }
    }

    /// Takes over what the server's clock shows: its time less this device's.
    pub fn correct(&mut self, offset_ms: i64) {
        self.offset_ms = offset_ms;
    }

    /// This device's time as the server would show it, milliseconds since 1970.
    pub fn corrected_ms(&self, now_ms: i64) -> i64 {
        now_ms + self.offset_ms
    }

    /// A stamp above all earlier ones. A store that was written under a clock far ahead does not drag
    /// the future on: beyond the clamp the wall clock counts again.
    pub fn tick(&mut self, now_ms: i64) -> Stamp {
        let wall = self.corrected_ms(now_ms);
        let wall_stamp = Stamp(wall << COUNTER_BITS);
        let ahead = self.newest.millis() - wall;
        self.newest = if wall_stamp > self.newest || ahead > CLOCK_AHEAD.as_millis() as i64 {
            wall_stamp
        } else {
            Stamp(self.newest.0 + 1)
        };
        self.newest
    }
}

/// A time for comparison with the server's: never further ahead than the clamp allows.
pub fn clamped_ms(stamp_ms: i64, server_now_ms: i64) -> i64 {
    stamp_ms.min(server_now_ms + CLOCK_AHEAD.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_while_the_wall_clock_stands_or_goes_back_a_little() {
        let mut clock = HybridClock::default();
        let stamps = [1_000, 1_000, 999, 1_001].map(|now| clock.tick(now));
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    }

    #[test]
    fn the_servers_time_corrects_a_wrong_device_clock() {
        let mut clock = HybridClock::default();
        clock.correct(-86_400_000);
        assert_eq!(clock.tick(86_400_000 + 5).millis(), 5);
    }

    #[test]
    fn h38_a_stamp_from_a_clock_days_ahead_does_not_bind_the_next_one() {
        let mut clock = HybridClock::resume(Stamp(900_000_000_000 << COUNTER_BITS));
        assert_eq!(clock.tick(1_000).millis(), 1_000);
        assert_eq!(clamped_ms(900_000_000_000, 1_000), 301_000);
    }
}
