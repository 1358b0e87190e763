//! What a record was at another time, as far as its versions tell. What they do not tell is said to be unknown, never
//! guessed.

use rusqlite::params;
use tidelock_actors::model::{RecordId, Stamp};

use super::batch::Batch;
use super::faults::Failure;
use super::history;
use super::records::Record;

/// What a record was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// What it is now.
    AsNow,
    /// This version.
    Version(i64),
    /// It was not there.
    Nothing,
    /// That is no longer kept.
    Unknown,
}

/// What a round did to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    /// What it found.
    pub(super) before: Then,
    /// What it left.
    pub(super) after: Then,
}

/// A version that was replaced.
#[derive(Debug, Clone, Copy)]
struct Kept {
    id: i64,
    since: i64,
    until: i64,
    round: Option<i64>,
    ended_round: Option<i64>,
    follows_forgotten: bool,
}

/// The versions of a record.
#[derive(Debug)]
pub(super) struct Past {
    /// The present one: since when, and the round that made it.
    present: Option<(i64, Option<i64>)>,
    /// Those that were replaced, the oldest first.
    kept: Vec<Kept>,
    /// What was replaced before this stamp may be forgotten.
    known_since: i64,
}

impl Past {
    /// What the record was at the end of that moment.
    pub(super) fn at(&self, time: i64) -> Then {
        if self.present.is_some_and(|(since, _)| since <= time) {
            return Then::AsNow;
        }
        if let Some(alive) = self.kept.iter().rfind(|one| one.since <= time && time < one.until) {
            return Then::Version(alive.id);
        }
        // Versions are forgotten from the oldest on, so between two that are kept there was none.
        let is_before_all = self.kept.iter().all(|one| time < one.since);
        let is_cut = is_before_all && self.kept.first().is_some_and(|oldest| oldest.follows_forgotten);
        if time < self.known_since || is_cut { Then::Unknown } else { Then::Nothing }
    }

    /// What a round did to the record, if it did anything.
    pub(super) fn effect_of(&self, round: i64) -> Option<Effect> {
        let by = Some(round);
        let touched = |one: &&Kept| one.round == by || one.ended_round == by;
        let made_present = self.present.filter(|(_, made_by)| *made_by == by);
        let first = self.kept.iter().find(touched);
        let before = match (first, made_present) {
            (Some(first), _) if first.round == by => self.at(first.since - 1),
            (Some(first), _) => Then::Version(first.id),
            (None, Some((since, _))) => self.at(since - 1),
            (None, None) => return None,
        };
        let after = match (made_present, self.kept.iter().rfind(touched)) {
            (Some(_), _) => Then::AsNow,
            (None, Some(last)) if last.ended_round == by => Then::Nothing,
            (None, Some(last)) => Then::Version(last.id),
            (None, None) => return None,
        };
        Some(Effect { before, after })
    }
}

impl Batch<'_> {
    /// The versions of a record.
    pub(super) fn past_of(&self, id: &RecordId, record: Option<&Record>) -> Result<Past, Failure> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, stamp, ended, round, ended_round, follows_forgotten FROM tl_history
             WHERE collection = ?1 AND key = ?2 ORDER BY id",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Kept {
                id: row.get(0)?,
                since: row.get(1)?,
                until: row.get(2)?,
                round: row.get(3)?,
                ended_round: row.get(4)?,
                follows_forgotten: row.get(5)?,
            })
        };
        let kept = statement.query_map(params![id.collection, id.key], read)?.collect::<Result<_, _>>()?;
        let present = record.map(|record| (record.stamp, record.round));
        let Stamp(known_since) = history::known_since(self.connection)?;
        Ok(Past { present, kept, known_since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: i64, since: i64, until: i64, round: Option<i64>, ended_round: Option<i64>) -> Kept {
        Kept { id, since, until, round, ended_round, follows_forgotten: false }
    }

    #[test]
    fn a_record_was_what_its_versions_say_and_nothing_before_them_and_between() {
        let versions = vec![kept(1, 10, 20, None, None), kept(2, 20, 30, None, None), kept(3, 40, 50, None, None)];
        let mut past = Past { present: Some((50, None)), kept: versions, known_since: 0 };
        let at = |past: &Past, times: &[i64]| times.iter().map(|time| past.at(*time)).collect::<Vec<_>>();
        let versions = [Then::Nothing, Then::Version(1), Then::Version(1), Then::Version(2)];
        assert_eq!(at(&past, &[9, 10, 19, 20]), versions);
        assert_eq!(at(&past, &[30, 39, 40, 49]), [Then::Nothing, Then::Nothing, Then::Version(3), Then::Version(3)]);
        assert_eq!(at(&past, &[50, 99]), [Then::AsNow; 2]);
        past.kept[0].follows_forgotten = true;
        assert_eq!(at(&past, &[9, 35]), [Then::Unknown, Then::Nothing]);
        past.known_since = 36;
        assert_eq!(at(&past, &[9, 15, 35, 36]), [Then::Unknown, Then::Version(1), Then::Unknown, Then::Nothing]);
    }

    #[test]
    fn a_round_found_what_it_replaced_first_and_left_what_it_made_last() {
        let check = |present: Option<(i64, Option<i64>)>, kept: Vec<Kept>, before: Then, after: Then| {
            let past = Past { present, kept, known_since: 0 };
            assert_eq!(past.effect_of(7), Some(Effect { before, after }), "{past:?}");
            assert_eq!(past.effect_of(8), None);
        };
        use Then::{AsNow, Nothing, Version};
        let by = Some(7);
        check(Some((10, by)), vec![], Nothing, AsNow);
        check(Some((20, by)), vec![kept(1, 10, 20, None, by)], Version(1), AsNow);
        check(Some((30, by)), vec![kept(1, 10, 20, None, by), kept(2, 20, 30, by, by)], Version(1), AsNow);
        check(Some((30, by)), vec![kept(2, 20, 30, by, by)], Nothing, AsNow);
        check(None, vec![kept(1, 10, 20, None, by)], Version(1), Nothing);
        check(Some((30, None)), vec![kept(1, 10, 20, None, by), kept(2, 20, 30, by, None)], Version(1), Version(2));
        check(Some((40, by)), vec![kept(1, 10, 20, None, None)], Nothing, AsNow);
        // Out of order: a local version that is younger than the round's stamp is what the round found all the same.
        check(Some((15, by)), vec![kept(1, 10, 20, None, None), kept(2, 20, 15, None, by)], Version(2), AsNow);
    }
}
