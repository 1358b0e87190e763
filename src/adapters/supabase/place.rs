//! How far a pull has come in one collection: the text of its checkpoint.
//!
//! A walk reads a table in the order of (version, key), page after page. The next walk begins where the server's clock
//! stood as this one began, less an overlap for transactions that commit late; never at a device's clock, and never at
//! the last row seen, behind which a slow transaction may still commit.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The form of this text; another one is read as no checkpoint.
const FORM: u32 = 1;
/// Marks kept within one overlap, for versions that are no times.
const MARKS_IN_ONE_OVERLAP: i64 = 4;

/// A collection's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    form: u32,
    /// What is read: table, columns and filter. If it changes, everything is read anew.
    scope: String,
    /// The version from which the next walk reads; none reads all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    bound: Option<String>,
    /// The walk that has not come to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    walk: Option<Walk>,
    /// The round in which this collection has nothing more to give.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    round: Option<i64>,
    /// Where earlier walks ended: the server's clock in seconds, and the last version. Only for versions that count.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    marks: Vec<(i64, String)>,
}

/// A walk under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Walk {
    /// The server's clock as it began, in seconds.
    began: Option<i64>,
    /// The last row's version, where the table has one, and its key.
    version: Option<String>,
    key: String,
}

/// The server's clock around one request, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// No later than when the server took it up.
    pub began: Option<i64>,
    /// When the server answered.
    pub ended: Option<i64>,
}

impl Place {
    /// Reads a checkpoint's text; what cannot be read or is of another scope is a beginning.
    pub fn read(text: Option<&String>, scope: &str) -> Self {
        text.and_then(|text| serde_json::from_str::<Self>(text).ok())
            .filter(|place| place.form == FORM && place.scope == scope)
            .unwrap_or_else(|| Self {
                form: FORM,
                scope: scope.to_owned(),
                bound: None,
                walk: None,
                round: None,
                marks: Vec::new(),
            })
    }

    /// The checkpoint's text.
    pub fn text(&self) -> String {
        // Strings and numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether nothing is left to read in this round.
    pub fn is_done_in(&self, round: i64) -> bool {
        self.round == Some(round)
    }

    /// The version from which this walk reads; none reads all.
    pub fn bound(&self) -> Option<&str> {
        self.bound.as_deref()
    }

    /// The last row read in the walk under way: its version, where there is one, and its key.
    pub fn last(&self) -> Option<(Option<&str>, &str)> {
        self.walk.as_ref().map(|walk| (walk.version.as_deref(), walk.key.as_str()))
    }

    /// A page was read that ends with this row.
    pub fn advance(&mut self, version: Option<&str>, key: &str, times: Times) {
        let began = self.walk.take().map_or(times.began, |walk| walk.began);
        self.walk = Some(Walk { began, version: version.map(str::to_owned), key: key.to_owned() });
    }

    /// The collection is left for this round, the walk goes on in the next one.
    pub fn leave(&mut self, round: i64) {
        self.round = Some(round);
    }

    /// An empty page ended the walk.
    pub fn finish(&mut self, round: i64, times: Times, overlap: Duration) {
        self.round = Some(round);
        let walk = self.walk.take();
        let overlap = i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX / 2);
        // Without the server's clock the old bound stays: rows are read again rather than missed.
        let Some(began) = walk.as_ref().map_or(times.began, |walk| walk.began) else { return };
        let settled = began.saturating_sub(overlap);
        let newest = walk.and_then(|walk| walk.version).or_else(|| self.bound.clone());
        match newest {
            Some(version) if is_a_time(&version) => {
                self.bound = Timestamp::from_second(settled).ok().map(|time| time.to_string());
            }
            Some(version) => self.mark(version, times.ended, settled, overlap),
            None => {}
        }
    }

    /// Versions that count cannot be moved back by a time. What was the last one when a walk ended at `t` bounds every
    /// row stamped before `t`, and all of those are committed once the overlap has passed.
    fn mark(&mut self, version: String, ended: Option<i64>, settled: i64, overlap: i64) {
        let spacing = overlap / MARKS_IN_ONE_OVERLAP;
        if let Some(ended) = ended
            && self.marks.last().is_none_or(|(last, _)| ended >= last.saturating_add(spacing))
        {
            self.marks.push((ended, version));
        }
        if let Some(at) = self.marks.iter().rposition(|(time, _)| *time <= settled) {
            self.marks.drain(..at);
            self.bound = self.marks.first().map(|(_, version)| version.clone());
        }
    }
}

/// A timestamp, with or without a zone, as against a number that counts.
fn is_a_time(version: &str) -> bool {
    let bytes = version.as_bytes();
    bytes.len() >= 19 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T'
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAP: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Times {
        Times { began: Some(second - 1), ended: Some(second) }
    }

    fn beginning() -> Place {
        Place::read(None, "t")
    }

    #[test]
    fn a_walk_goes_on_after_its_last_row_and_the_next_begins_an_overlap_before_it() {
        let mut place = beginning();
        assert_eq!((place.bound(), place.last()), (None, None));
        place.advance(Some("2026-11-22T10:00:00.5+00:00"), "k", at(1_000));
        let again = Place::read(Some(&place.text()), "t");
        assert_eq!(again, place);
        assert_eq!(again.last(), Some((Some("2026-11-22T10:00:00.5+00:00"), "k")));
        assert!(!again.is_done_in(7));
        place.advance(Some("2026-11-22T10:00:01+00:00"), "l", at(1_010));
        place.finish(7, at(1_020), OVERLAP);
        assert_eq!(place.bound(), Some("1970-01-01T00:15:39Z"), "999 s less 60 s");
        assert!(place.is_done_in(7) && !place.is_done_in(8));
        assert_eq!(place.last(), None);
    }

    #[test]
    fn an_idle_walk_moves_the_bound_too() {
        let mut place = beginning();
        place.advance(Some("2026-11-22T10:00:00Z"), "k", at(1_000));
        place.finish(1, at(1_001), OVERLAP);
        place.finish(2, at(2_000), OVERLAP);
        assert_eq!(place.bound(), Some("1970-01-01T00:32:19Z"));
    }

    #[test]
    fn without_the_servers_clock_the_bound_stays() {
        let mut place = beginning();
        place.finish(1, Times { began: None, ended: None }, OVERLAP);
        assert_eq!(place.bound(), None);
        assert!(place.is_done_in(1));
    }

    #[test]
    fn an_empty_table_is_read_whole_again() {
        let mut place = beginning();
        place.finish(1, at(1_000), OVERLAP);
        assert_eq!(place.bound(), None);
    }

    #[test]
    fn versions_that_count_are_bounded_by_what_was_last_an_overlap_ago() {
        let mut place = beginning();
        for (round, second, version) in [(1, 1_000, "10"), (2, 1_030, "20"), (3, 1_062, "30"), (4, 1_092, "40")] {
            place.advance(Some(version), "k", at(second));
            place.finish(round, at(second), OVERLAP);
        }
        assert_eq!(place.bound(), Some("20"), "what was seen by 1,030 s is settled at 1,091 s");
        for second in 2_000..2_300 {
            place.advance(Some("50"), "k", at(second));
            place.finish(second, at(second), OVERLAP);
        }
        assert!(place.marks.len() <= 6, "{:?}", place.marks);
        assert_eq!(place.bound(), Some("50"));
    }

    #[test]
    fn a_broken_foreign_or_rescoped_text_is_a_beginning() {
        let mut place = beginning();
        place.advance(None, "k", at(1));
        let text = place.text();
        for (text, scope) in [("", "t"), ("12", "t"), ("{}", "t"), (text.as_str(), "t?done=is.true")] {
            assert_eq!(Place::read(Some(&text.to_owned()), scope).last(), None, "{text}");
        }
        assert_eq!(Place::read(Some(&text.replace("\"form\":1", "\"form\":2")), "t").last(), None);
    }

    #[test]
    fn a_collection_that_is_left_goes_on_where_it_was() {
        let mut place = beginning();
        place.advance(Some("5"), "k", at(1));
        place.leave(3);
        assert!(place.is_done_in(3));
        assert_eq!(Place::read(Some(&place.text()), "t").last(), Some((Some("5"), "k")));
    }
}
