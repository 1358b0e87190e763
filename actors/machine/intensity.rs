//! Restart intensity: how many restarts a part may have in a period before the failure moves up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Restarts allowed …
    pub restarts: u32,
    /// … within this time.
    pub within: Duration,
}

/// The restarts of one part.
#[derive(Debug)]
pub struct Intensity {
    allowance: Allowance,
    failures: VecDeque<Instant>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Restart; this is the n-th failure within the period.
    Restart(u32),
    /// The allowance is used up.
    Exhausted,
}

impl Intensity {
    /// No failure so far.
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, failures: VecDeque::new() }
    }

    /// Counts a failure.
    pub fn failed(&mut self, now: Instant) -> AfterFailure {
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|first| now.duration_since(*first) > self.allowance.within) {
            self.failures.pop_front();
        }
        let failures = self.failures.len() as u32;
        if failures > self.allowance.restarts { AfterFailure::Exhausted } else { AfterFailure::Restart(failures) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_counts_only_failures_within_the_period() {
        let start = Instant::now();
        let mut intensity = Intensity::new(Allowance { restarts: 2, within: Duration::from_secs(60) });
        let after = [0, 10, 61, 65, 66].map(|second| intensity.failed(start + Duration::from_secs(second)));
        use AfterFailure::{Exhausted, Restart};
        assert_eq!(after, [Restart(1), Restart(2), Restart(2), Exhausted, Exhausted]);
    }
}
