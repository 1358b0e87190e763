//! When a group of writes is complete, and how long to stay awake for the next.
//!
//! Savers that were answered together come back together, so a group waits for as many writes as the one before
//! it had, for a fraction of what their commit took: fewer flushes for the same writes. And where one write follows
//! the other at once, falling asleep and being woken costs more than the commit, so the writer stays awake for a
//! moment. (The first is PostgreSQL's `commit_delay`, measured instead of configured; the second is how adaptive
//! mutexes spin.)

use std::time::{Duration, Instant};

/// A write that comes so soon after a commit has followed it at once.
const AT_ONCE: Duration = Duration::from_micros(300);
/// A group waits for more for this part of what the commit before it took,
const PATIENCE_DIVISOR: u32 = 4;
/// and no longer than this.
const PATIENCE: Duration = Duration::from_millis(2);

/// How writes came and went of late.
#[derive(Debug, Default)]
pub struct Cadence {
    /// Writes of the last commit.
    size: usize,
    /// What it took.
    took: Duration,
    /// When it ended.
    ended: Option<Instant>,
    /// When the first write of the group at hand was seen.
    began: Option<Instant>,
    /// Whether the last group followed the one before at once.
    is_brisk: bool,
}

/// What the writer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Commits the group at hand.
    Commit,
    /// Looks again at once.
    Look,
    /// Sleeps until a write wakes it.
    Sleep,
}

impl Cadence {
    /// With so many writes at hand.
    pub fn next(&mut self, writes: usize, now: Instant) -> Step {
        if writes == 0 {
            let is_near = self.pause_before(now).is_some_and(|pause| pause < AT_ONCE);
            return if self.is_brisk && is_near { Step::Look } else { Step::Sleep };
        }
        let began = *self.began.get_or_insert(now);
        let patience = (self.took / PATIENCE_DIVISOR).min(PATIENCE);
        let come_back = writes < self.size && self.pause_before(began).is_some_and(|pause| pause < self.took);
        if come_back && now.duration_since(began) < patience { Step::Look } else { Step::Commit }
    }

    /// So many writes were committed just now, in so much time.
    pub fn committed(&mut self, writes: usize, took: Duration, now: Instant) {
        self.is_brisk = self.began.and_then(|began| self.pause_before(began)).is_some_and(|pause| pause < AT_ONCE);
        (self.size, self.took, self.ended, self.began) = (writes, took, Some(now), None);
    }

    fn pause_before(&self, moment: Instant) -> Option<Duration> {
        self.ended.map(|ended| moment.duration_since(ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(4);

    fn after(start: Instant, micros: u64) -> Instant {
        start + Duration::from_micros(micros)
    }

    #[test]
    fn a_single_write_is_committed_at_once_and_the_writer_sleeps_then() {
        let (mut cadence, start) = (Cadence::default(), Instant::now());
        assert_eq!(cadence.next(0, start), Step::Sleep);
        assert_eq!(cadence.next(1, start), Step::Commit);
        cadence.committed(1, COMMIT, after(start, 4_000));
        assert_eq!(cadence.next(0, after(start, 4_000)), Step::Sleep);
        assert_eq!(cadence.next(1, after(start, 90_000)), Step::Commit);
    }

    #[test]
    fn a_group_waits_for_as_many_as_the_one_before_but_not_for_long() {
        let (mut cadence, start) = (Cadence::default(), Instant::now());
        cadence.committed(64, COMMIT, start);
        assert_eq!(cadence.next(3, after(start, 50)), Step::Look);
        assert_eq!(cadence.next(64, after(start, 300)), Step::Commit);
        assert_eq!(cadence.next(63, after(start, 1_049)), Step::Look);
        assert_eq!(cadence.next(63, after(start, 1_050)), Step::Commit);
        cadence.committed(64, 1_000 * COMMIT, start);
        assert_eq!(cadence.next(3, after(start, 50)), Step::Look);
        assert_eq!(cadence.next(3, after(start, 2_050)), Step::Commit, "a commit that took seconds is no measure");
        cadence.committed(64, COMMIT, start);
        assert_eq!(cadence.next(1, after(start, 60_000)), Step::Commit, "nobody comes back after so long");
    }

    #[test]
    fn after_writes_that_followed_each_other_at_once_the_writer_stays_awake_for_a_moment() {
        let (mut cadence, start) = (Cadence::default(), Instant::now());
        cadence.committed(1, COMMIT, start);
        assert_eq!(cadence.next(1, after(start, 200)), Step::Commit);
        cadence.committed(1, COMMIT, after(start, 5_000));
        assert_eq!(cadence.next(0, after(start, 5_299)), Step::Look);
        assert_eq!(cadence.next(0, after(start, 5_300)), Step::Sleep);
        assert_eq!(cadence.next(1, after(start, 9_000)), Step::Commit);
        cadence.committed(1, COMMIT, after(start, 13_000));
        assert_eq!(cadence.next(0, after(start, 13_000)), Step::Sleep, "it came late");
    }
}
