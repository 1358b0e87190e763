//! Which backups are kept: the newest ones, and of each of the last hours, days and weeks the newest one.

use std::collections::BTreeSet;

use crate::backups::Keep;

const HOUR_MS: i64 = 60 * 60 * 1_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;

/// The places of those that are kept, given when each was taken (milliseconds since 1970), in any order. Hours, days and
/// weeks are those of UTC, and only such count in which a backup was taken: after a month away nothing is lost.
pub fn kept(taken_ms: &[i64], keep: Keep) -> BTreeSet<usize> {
    let mut newest_first: Vec<usize> = (0..taken_ms.len()).collect();
    newest_first.sort_by_key(|at| std::cmp::Reverse((taken_ms[*at], *at)));
    let mut kept: BTreeSet<usize> = newest_first.iter().copied().take(keep.last).collect();
    for (period_ms, count) in [(HOUR_MS, keep.hourly), (DAY_MS, keep.daily), (WEEK_MS, keep.weekly)] {
        let mut periods = BTreeSet::new();
        for at in &newest_first {
            let period = taken_ms[*at].div_euclid(period_ms);
            let is_wanted = periods.len() < count && periods.insert(period);
            kept.extend(is_wanted.then_some(*at));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keep: Keep, taken: &[i64], expected: &[usize]) {
        assert_eq!(kept(taken, keep).into_iter().collect::<Vec<_>>(), expected);
    }

    const NONE: Keep = Keep { last: 0, hourly: 0, daily: 0, weekly: 0 };

    #[test]
    fn the_newest_ones_stay_whatever_their_order_and_age() {
        check(Keep { last: 2, ..NONE }, &[5, 9, 1, 7], &[1, 3]);
        check(Keep { last: 9, ..NONE }, &[5, 9], &[0, 1]);
        check(NONE, &[5, 9], &[]);
    }

    #[test]
    fn of_each_hour_day_and_week_the_newest_stays() {
        let quarters: Vec<i64> = (0..4 * 24 * 21).map(|quarter| quarter * HOUR_MS / 4).collect();
        let newest = quarters.len() - 1;
        check(Keep { hourly: 3, ..NONE }, &quarters, &[newest - 8, newest - 4, newest]);
        check(Keep { daily: 2, ..NONE }, &quarters, &[newest - 96, newest]);
        let all = kept(&quarters, Keep { last: 2, hourly: 24, daily: 7, weekly: 4 });
        assert!(all.len() < 40 && all.contains(&newest) && all.contains(&(newest - 1)), "{all:?}");
    }

    #[test]
    fn time_without_backups_makes_nothing_too_old() {
        let taken = [0, 100 * DAY_MS, 100 * DAY_MS + 1, 200 * DAY_MS];
        check(Keep { daily: 3, ..NONE }, &taken, &[0, 2, 3]);
    }
}
