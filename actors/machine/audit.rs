//! What an audit asks and concludes. A digest that differs is a suspicion; only a row that still means something else
//! after another pull is a difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::{Document, same_value};
use crate::limits::{AUDIT_BUCKETS, BUCKET_ROWS};
use crate::model::{Findings, RemoteState};
use crate::ports::{Digests, Standing};

/// What somebody wants audited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Whether differences are put right.
    pub repair: bool,
    /// The collections; none named means all that are fetched.
    pub collections: Vec<Arc<str>>,
}

impl Scope {
    /// The periodic audit: of everything, and it repairs.
    pub fn everything() -> Self {
        Self { repair: true, collections: Vec::new() }
    }

    /// What does for both.
    pub fn and(mut self, other: Self) -> Self {
        self.repair |= other.repair;
        if self.collections.is_empty() || other.collections.is_empty() {
            self.collections.clear();
        } else {
            self.collections.extend(other.collections);
        }
        self
    }

    /// Whether a collection is in it.
    pub fn names(&self, collection: &str) -> bool {
        self.collections.is_empty() || self.collections.iter().any(|name| **name == *collection)
    }
}

/// Into how many buckets so many records go: a power of two.
pub fn buckets(records: u64) -> usize {
    let wanted = usize::try_from(records / BUCKET_ROWS as u64).unwrap_or(AUDIT_BUCKETS);
    wanted.clamp(1, AUDIT_BUCKETS).next_power_of_two()
}

/// The buckets whose digests differ.
pub fn differing(here: &[u64], there: &[u64]) -> Vec<usize> {
    (0..here.len().max(there.len())).filter(|at| here.get(*at) != there.get(*at)).collect()
}

/// The keys that only one side has, or that have another digest there.
pub fn suspects(here: Digests, there: Digests) -> Vec<Arc<str>> {
    let mut digests: BTreeMap<Arc<str>, u64> = here.into_iter().collect();
    let mut suspects = Vec::new();
    for (key, digest) in there {
        if digests.remove(&key) != Some(digest) {
            suspects.push(key);
        }
    }
    suspects.extend(digests.into_keys());
    suspects
}

/// What comparing one row came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Both sides have the same, to the letter.
    Equal,
    /// Both sides mean the same, and the store writes it otherwise.
    Respelled,
    /// The server has a row that the store lacks.
    Missing,
    /// The store has a row that the server lacks.
    Extra,
    /// Both have it, and it means something else.
    Different,
}

impl Finding {
    /// Whether the two sides differ.
    pub fn is_difference(self) -> bool {
        match self {
            Self::Missing | Self::Extra | Self::Different => true,
            Self::Equal | Self::Respelled => false,
        }
    }

    /// Counts it.
    pub fn count(self, findings: &mut Findings) {
        match self {
            Self::Missing => findings.missing += 1,
            Self::Extra => findings.extra += 1,
            Self::Different => findings.different += 1,
            Self::Equal | Self::Respelled => {}
        }
    }
}

/// Compares what the store believes the server to have with what it has.
pub fn compare(here: &Standing, there: &RemoteState) -> Finding {
    match (&here.document, there) {
        (None, RemoteState::Gone) => Finding::Equal,
        (None, RemoteState::Present { .. }) => Finding::Missing,
        (Some(_), RemoteState::Gone) => Finding::Extra,
        (Some(ours), RemoteState::Present { document, version }) => match is_same_row(ours, document) {
            true if ours == document && here.version == *version && here.confirmed => Finding::Equal,
            true => Finding::Respelled,
            false => Finding::Different,
        },
    }
}

/// Whether the server has had the same row both times: it was not just being changed.
pub fn is_settled(before: &RemoteState, now: &RemoteState) -> bool {
    match (before, now) {
        (RemoteState::Gone, RemoteState::Gone) => true,
        (RemoteState::Present { document: a, .. }, RemoteState::Present { document: b, .. }) => is_same_row(a, b),
        (RemoteState::Gone, RemoteState::Present { .. }) | (RemoteState::Present { .. }, RemoteState::Gone) => false,
    }
}

/// A column that a row does not have is null in it.
fn is_same_row(a: &Document, b: &Document) -> bool {
    let (a, b) = (a.fields(), b.fields());
    let has_all = |a: &crate::document::Fields<'_>, b: &crate::document::Fields<'_>| {
        a.iter().all(|(name, value)| same_value(value, b.get(name).unwrap_or("null")))
    };
    has_all(&a, &b) && has_all(&b, &a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, u64)]) -> Digests {
        pairs.iter().map(|(key, digest)| (Arc::from(*key), *digest)).collect()
    }

    fn document(text: &str) -> Option<Document> {
        (!text.is_empty()).then(|| Document::parse(text).unwrap())
    }

    fn row(text: &str) -> RemoteState {
        match document(text) {
            Some(document) => RemoteState::Present { document, version: Some("v1".into()) },
            None => RemoteState::Gone,
        }
    }

    #[test]
    fn buckets_grow_with_the_table_up_to_a_bound() {
        for (records, expected) in [(0, 1), (255, 1), (256, 1), (1_000, 4), (100_000, 512), (1_000_000, 4_096)] {
            assert_eq!(buckets(records), expected, "{records}");
        }
        assert_eq!(buckets(u64::MAX), AUDIT_BUCKETS);
    }

    #[test]
    fn only_what_differs_is_looked_into() {
        assert_eq!(differing(&[1, 2, 3, 0], &[1, 9, 3, 4]), [1, 3]);
        assert_eq!(differing(&[1], &[]), [0], "a server that answers less has answered otherwise");
        let suspected =
            suspects(keys(&[("a", 1), ("b", 2), ("only here", 3)]), keys(&[("a", 1), ("only there", 7), ("b", 9)]));
        assert_eq!(suspected, ["only there", "b", "only here"].map(Arc::from));
    }

    #[test]
    fn rows_are_compared_by_what_they_mean() {
        use Finding::{Different, Equal, Extra, Missing, Respelled};
        for (here, there, expected) in [
            ("", "", Equal),
            ("", r#"{"id":"a"}"#, Missing),
            (r#"{"id":"a"}"#, "", Extra),
            (r#"{"id":"a","n":1.5}"#, r#"{"id":"a","n":1.5}"#, Equal),
            (r#"{"id":"a","n":1.5}"#, r#"{"id":"a","n":1.50}"#, Respelled),
            (r#"{"id":"a"}"#, r#"{"id":"a","n":null}"#, Respelled),
            (r#"{"id":"a"}"#, r#"{"id":"a","n":0}"#, Different),
        ] {
            let standing = Standing { document: document(here), version: Some("v1".into()), confirmed: true };
            assert_eq!(compare(&standing, &row(there)), expected, "{here} {there}");
        }
        let old = Standing { document: document("{}"), version: Some("v0".into()), ..Standing::default() };
        assert_eq!(compare(&old, &row("{}")), Respelled, "only the stamp is another");
    }

    #[test]
    fn a_row_that_is_being_changed_is_not_yet_a_difference() {
        assert!(is_settled(&row(""), &row("")) && is_settled(&row(r#"{"n":1}"#), &row(r#"{"n":1.0}"#)));
        assert!(!is_settled(&row(""), &row("{}")) && !is_settled(&row(r#"{"n":1}"#), &row(r#"{"n":2}"#)));
    }

    #[test]
    fn whoever_asks_gets_at_least_what_was_asked_for() {
        let scope =
            |repair, names: &[&str]| Scope { repair, collections: names.iter().map(|name| Arc::from(*name)).collect() };
        assert_eq!(scope(false, &["a"]).and(scope(true, &["b"])), scope(true, &["a", "b"]));
        assert_eq!(scope(false, &["a"]).and(scope(false, &[])), scope(false, &[]));
        assert!(scope(false, &[]).names("any") && scope(false, &["a"]).names("a") && !scope(false, &["a"]).names("b"));
    }
}
