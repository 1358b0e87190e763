//! Backoff with full jitter: a wait uniform in [0, min(cap, base·2^attempt)].
//!
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. What the server asks for
//! (`Retry-After`) is a floor under it.

use std::time::Duration;

use super::Chance;

/// The bounds of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub base: Duration,
    /// The bound of every wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait before the try after `attempt` failures in a row (1 = the first failure).
    pub fn wait(&self, attempt: u32, chance: &mut Chance) -> Duration {
        let doublings = attempt.saturating_sub(1).min(32);
        let bound = self.base.saturating_mul(2_u32.saturating_pow(doublings)).min(self.cap);
        bound.mul_f64(chance.fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_over_the_whole_bound_and_never_leave_it() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
        for (attempt, bound) in [(1, 1), (2, 2), (5, 16), (7, 60), (4_000_000_000, 60)] {
            let bound = Duration::from_secs(bound);
            let mut chance = Chance::from_seed(7);
            let waits: Vec<_> = (0..1_000).map(|_| backoff.wait(attempt, &mut chance)).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "attempt {attempt}");
            assert!(waits.iter().any(|wait| *wait < bound / 10), "attempt {attempt}: no short wait");
            assert!(waits.iter().any(|wait| *wait > bound * 9 / 10), "attempt {attempt}: no long wait");
        }
    }
}
