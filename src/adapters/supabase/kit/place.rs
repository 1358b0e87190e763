//! How far a pull through the server kit has come in one collection: the text of its checkpoint.
//!
//! A checkpoint is a snapshot: which of the server's transactions were visible. While pages of one answer are read, it
//! also holds where the next page begins and the snapshot that the first page was read in; that one becomes the
//! checkpoint when the last page is in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The form of this text; another one, such as the plain mode's, is read as no checkpoint.
const FORM: &str = "kit 1";

/// A collection's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    form: String,
    /// What is read: table, columns and filter. If it changes, everything is read anew (H07).
    scope: String,
    /// Which database the snapshot is of.
    #[serde(default)]
    epoch: String,
    /// How often the table had lost rows without a word, when it was last read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    resets: Option<i64>,
    /// The snapshot whose rows are all here; none means that the table is read from its beginning.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
    /// The pages under way: the snapshot of the first one, and where the next one begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pages: Option<Pages>,
    /// Whether rows may be here that the server does not have: keys have to be compared.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_doubtful: bool,
}

/// Pages under way, as the server told where they go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pages {
    pub until: String,
    pub after: Value,
}

impl Place {
    /// Reads a checkpoint's text. One of another scope is a beginning, and rows may be here that are not in it.
    pub fn read(text: Option<&String>, scope: &str) -> Self {
        let known = text.and_then(|text| serde_json::from_str::<Self>(text).ok()).filter(|place| place.form == FORM);
        match known {
            Some(place) if place.scope == scope => place,
            _ => Self { is_doubtful: text.is_some(), ..Self::beginning(scope, None) },
        }
    }

    fn beginning(scope: &str, resets: Option<i64>) -> Self {
        Self {
            form: FORM.to_owned(),
            scope: scope.to_owned(),
            epoch: String::new(),
            resets,
            since: None,
            pages: None,
            is_doubtful: false,
        }
    }

    /// The checkpoint's text.
    pub fn text(&self) -> String {
        // Strings and numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A page was read in the snapshot `now`; `more` tells where the next one begins. Whether the table has lost rows
    /// meanwhile without a word, so that it is read from its beginning.
    pub fn advance(&mut self, now: &str, is_whole: bool, resets: i64, more: Option<Pages>) -> bool {
        if self.resets.is_some_and(|known| known != resets) {
            *self = Self { epoch: std::mem::take(&mut self.epoch), ..Self::beginning(&self.scope, Some(resets)) };
            return true;
        }
        self.resets = Some(resets);
        // The table was attached anew: nobody has noted what it lost before.
        self.is_doubtful |= is_whole && self.since.is_some();
        match more {
            Some(more) => {
                self.since = self.since.take().filter(|_| !is_whole);
                self.pages = Some(more);
            }
            None => self.since = Some(self.pages.take().map_or_else(|| now.to_owned(), |pages| pages.until)),
        }
        false
    }

    /// A snapshot says nothing about another database.
    pub fn settle_in(&mut self, epoch: &str) -> bool {
        let is_elsewhere = !self.epoch.is_empty() && self.epoch != epoch;
        if is_elsewhere {
            *self = Self::beginning(&self.scope, None);
        }
        epoch.clone_into(&mut self.epoch);
        is_elsewhere
    }

    /// Every transaction before this one has been seen.
    pub fn seen_before(&self) -> Option<u64> {
        self.since.as_deref().and_then(all_visible_before)
    }

    /// Deletions before this transaction may have been forgotten: whoever has not seen all of it reads everything.
    pub fn forget_before(&mut self, purged_before: u64) -> bool {
        let is_behind = self.seen_before().is_some_and(|seen| seen <= purged_before);
        if is_behind {
            *self = Self { epoch: std::mem::take(&mut self.epoch), ..Self::beginning(&self.scope, self.resets) };
        }
        is_behind
    }
}

/// The first part of `xmin:xmax:open,open`: every transaction before it was over.
fn all_visible_before(snapshot: &str) -> Option<u64> {
    snapshot.split(':').next()?.parse().ok()
}

/// Whether a transaction was visible in a snapshot, once it had committed.
pub(super) fn is_visible(transaction: u64, snapshot: &str) -> bool {
    let mut parts = snapshot.split(':');
    let (_, next, open) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    next.and_then(|next| next.parse::<u64>().ok()).is_some_and(|next| transaction < next)
        && !open.split(',').any(|open| open.parse() == Ok(transaction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(until: &str) -> Option<Pages> {
        Some(Pages { until: until.into(), after: serde_json::json!({"row": ["7", "a"]}) })
    }

    #[test]
    fn the_snapshot_of_the_first_page_counts_once_the_last_one_is_in() {
        let mut place = Place::read(None, "t");
        assert!(!place.is_doubtful);
        assert!(!place.advance("10:10:", true, 0, pages("10:10:")));
        assert_eq!((place.since.as_deref(), place.pages.is_some()), (None, true));
        let mut place = Place::read(Some(&place.text()), "t");
        assert!(!place.advance("20:20:", true, 0, None));
        assert_eq!((place.since.as_deref(), place.pages.is_some()), (Some("10:10:"), false));
        assert!(!place.advance("30:30:", false, 0, None));
        assert_eq!(place.since.as_deref(), Some("30:30:"));
    }

    #[test]
    fn h07_another_scope_another_form_and_a_table_that_was_emptied_are_read_anew() {
        let mut place = Place::read(None, "t");
        place.advance("10:10:", true, 0, None);
        assert!(Place::read(Some(&place.text()), "t?a=eq.1").is_doubtful);
        assert!(Place::read(Some(&r#"{"form":1,"scope":"t"}"#.to_owned()), "t").is_doubtful);
        assert!(place.advance("20:20:", false, 1, None));
        assert_eq!(place.since, None);
        assert!(!place.advance("20:20:", true, 1, None));
        assert_eq!(place.since.as_deref(), Some("20:20:"));
        assert!(!place.is_doubtful);
        place.advance("30:30:", true, 1, None);
        assert!(place.is_doubtful, "it was attached anew");
    }

    #[test]
    fn h30_whoever_was_away_for_longer_than_deletions_are_kept_reads_everything() {
        let mut place = Place::read(None, "t");
        place.advance("10:14:11", true, 0, None);
        assert!(!place.forget_before(9) && place.since.is_some());
        assert!(place.forget_before(10) && place.since.is_none());
        assert!(!place.forget_before(99), "it is at the beginning already");
    }

    #[test]
    fn a_transaction_is_visible_when_it_was_over() {
        for (transaction, expected) in [(9, true), (10, false), (12, true), (13, false), (14, false)] {
            assert_eq!(is_visible(transaction, "10:14:10,13"), expected, "{transaction}");
        }
    }
}
