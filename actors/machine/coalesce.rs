//! Coalescing: several pending operations of one record become one, where no dependency is crossed.
//!
//! create+update = create, update+update = update, update+delete = delete, create+delete = nothing (H17).
//! A record that is deleted and made again is sent as both, so that no old column survives.
//! The merged operation stands at the place of the first one. It moves later fields forward, so it is
//! merged only where nothing between the two belongs to a related collection: else a foreign key could
//! be sent before its parent, or a parent deleted before its children (H22).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::document::Document;
use crate::model::{Action, CollectionRules, Operation, RecordId, Sequence};

/// Which collections refer to which, directly or through others.
#[derive(Debug, Clone, Default)]
pub struct Relations {
    ancestors: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Relations {
    /// Reads `after` of each collection.
    pub fn of(rules: &[CollectionRules]) -> Self {
        let parents: BTreeMap<_, _> = rules.iter().map(|rule| (rule.name.clone(), &rule.after)).collect();
        let mut ancestors = BTreeMap::new();
        for rule in rules {
            let mut found = BTreeSet::new();
            let mut open: Vec<Arc<str>> = rule.after.clone();
            while let Some(next) = open.pop() {
                if found.insert(next.clone()) {
                    open.extend(parents.get(&next).into_iter().flat_map(|after| after.iter().cloned()));
                }
            }
            ancestors.insert(rule.name.clone(), found);
        }
        Self { ancestors }
    }

    /// Whether one of the two refers to the other.
    pub fn related(&self, a: &str, b: &str) -> bool {
        let refers = |from: &str, to: &str| self.ancestors.get(from).is_some_and(|set| set.contains(to));
        refers(a, b) || refers(b, a)
    }

    /// Whether any collection refers to this one.
    pub fn has_descendants(&self, collection: &str) -> bool {
        self.ancestors.values().any(|ancestors| ancestors.contains(collection))
    }

    /// The collections that this one refers to.
    pub fn ancestors(&self, collection: &str) -> impl Iterator<Item = &Arc<str>> {
        self.ancestors.get(collection).into_iter().flatten()
    }
}

/// What several operations of one record come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coalesced {
    /// The operations, in order.
    pub covers: Vec<Sequence>,
    /// The record.
    pub id: RecordId,
    /// What to ask of the server; `None` where they cancel out.
    pub action: Option<Action>,
    /// The fields to set.
    pub patch: Document,
    /// The most attempts among them.
    pub attempts: u32,
}

/// How many operations from the front leave one operation a record when they are coalesced. Only such a stretch
/// comes to the same again after some of its operations have been settled and are gone.
pub fn unmixed(operations: &[Operation], relations: &Relations) -> usize {
    let mut last_of: BTreeMap<&RecordId, usize> = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        if let Some(earlier) = last_of.insert(&operation.id, at) {
            let crossed = |other: &Operation| relations.related(&other.id.collection, &operation.id.collection);
            let made_again = operations[earlier].action == Action::Delete && operation.action != Action::Delete;
            if made_again || operations[earlier..at].iter().any(crossed) {
                return at;
            }
        }
    }
    operations.len()
}

/// Coalesces a stretch of the outbox; the result keeps the order of first operations. Where the stretch may have
/// been sent before, a create and its deletion do not cancel each other out: the server may have the row.
pub fn coalesce(operations: Vec<Operation>, relations: &Relations, may_have_been_sent: bool) -> Vec<Coalesced> {
    let mut merged: Vec<Coalesced> = Vec::with_capacity(operations.len());
    let mut newest_of: BTreeMap<RecordId, usize> = BTreeMap::new();
    for operation in operations {
        let earlier = newest_of.get(&operation.id).copied();
        match earlier.filter(|at| may_absorb(&merged[*at..], &operation, relations)) {
            Some(at) => absorb(&mut merged[at], operation, may_have_been_sent),
            None => {
                newest_of.insert(operation.id.clone(), merged.len());
                merged.push(Coalesced {
                    covers: vec![operation.sequence],
                    id: operation.id,
                    action: Some(operation.action),
                    patch: operation.patch,
                    attempts: operation.attempts,
                });
            }
        }
    }
    merged
}

/// `since[0]` is the earlier operation of the same record.
fn may_absorb(since: &[Coalesced], operation: &Operation, relations: &Relations) -> bool {
    let made_again = since[0].action == Some(Action::Delete) && operation.action != Action::Delete;
    let crossed = |other: &Coalesced| relations.related(&other.id.collection, &operation.id.collection);
    !made_again && !since[1..].iter().any(crossed)
}

fn absorb(into: &mut Coalesced, later: Operation, may_have_been_sent: bool) {
    use Action::{Create, Delete, Update};
    into.covers.push(later.sequence);
    into.attempts = into.attempts.max(later.attempts);
    let laid_over = into.patch.overlaid(&later.patch);
    (into.action, into.patch) = match (into.action, later.action) {
        (Some(Create), Delete) if may_have_been_sent => (Some(Delete), Document::empty()),
        (Some(Create) | None, Delete) => (None, Document::empty()),
        (Some(Update | Delete), Delete) => (Some(Delete), Document::empty()),
        (Some(Create) | None, Create | Update) => (Some(Create), laid_over),
        (Some(Update | Delete), Create | Update) => (Some(Update), laid_over),
    };
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn operation(sequence: Sequence, place: &str, action: Action, patch: &str) -> Operation {
        let (collection, key) = place.split_once('/').unwrap();
        Operation {
            sequence,
            transaction: sequence,
            id: RecordId::new(collection, key),
            action,
            patch: Document::parse(patch).unwrap(),
            stamp: Default::default(),
            attempts: 0,
        }
    }

    pub(in crate::machine) fn relations() -> Relations {
        let rule = |name: &str, after: &[&str]| CollectionRules {
            name: name.into(),
            table: name.into(),
            key: "id".into(),
            version: "updated_at".into(),
            direction: Default::default(),
            strategy: Default::default(),
            fields: Default::default(),
            columns: vec![],
            filter: None,
            after: after.iter().map(|name| (*name).into()).collect(),
        };
        Relations::of(&[
            rule("projects", &[]),
            rule("tasks", &["projects"]),
            rule("steps", &["tasks"]),
            rule("notes", &[]),
        ])
    }

    /// Each line of `expected`: covered sequences, place, action, patch.
    fn check(operations: &[(&str, Action, &str)], expected: &[&str]) {
        let operations = operations
            .iter()
            .zip(1..)
            .map(|((place, action, patch), sequence)| operation(sequence, place, *action, patch))
            .collect();
        let lines: Vec<String> = coalesce(operations, &relations(), false)
            .iter()
            .map(|one| {
                let action = one.action.map_or("nothing".into(), |action| format!("{action:?}").to_lowercase());
                format!("{:?} {} {action} {}", one.covers, one.id, one.patch)
            })
            .collect();
        assert_eq!(lines, expected);
    }

    use Action::{Create, Delete, Update};

    #[test]
    fn h17_a_record_made_and_deleted_before_the_first_sync_is_never_sent() {
        check(
            &[("notes/a", Create, r#"{"x":1}"#), ("notes/a", Update, r#"{"x":2}"#), ("notes/a", Delete, "{}")],
            &["[1, 2, 3] notes/a nothing {}"],
        );
    }

    #[test]
    fn h17_what_may_have_been_sent_is_deleted_on_the_server_too() {
        let made = operation(1, "notes/a", Create, r#"{"x":1}"#);
        let gone = operation(2, "notes/a", Delete, "{}");
        let again = coalesce(vec![made, gone], &relations(), true);
        assert_eq!((again[0].action, again[0].covers.len()), (Some(Delete), 2));
    }

    #[test]
    fn a_stretch_ends_before_a_record_would_be_sent_twice() {
        let create = |sequence, place| operation(sequence, place, Create, "{}");
        let delete = |sequence, place| operation(sequence, place, Delete, "{}");
        let count = |operations: &[Operation]| unmixed(operations, &relations());
        assert_eq!(count(&[create(1, "tasks/t"), create(2, "notes/n"), delete(3, "tasks/t")]), 3);
        assert_eq!(count(&[create(1, "tasks/t"), create(2, "projects/p"), delete(3, "tasks/t")]), 2);
        assert_eq!(count(&[delete(1, "notes/n"), create(2, "notes/n")]), 1);
    }

    #[test]
    fn updates_of_one_record_become_one() {
        check(
            &[
                ("notes/a", Create, r#"{"x":1}"#),
                ("notes/b", Update, r#"{"x":1}"#),
                ("notes/a", Update, r#"{"y":2}"#),
                ("notes/b", Delete, "{}"),
            ],
            &[r#"[1, 3] notes/a create {"x":1,"y":2}"#, "[2, 4] notes/b delete {}"],
        );
    }

    #[test]
    fn a_record_deleted_and_made_again_is_sent_as_both() {
        check(
            &[("notes/a", Delete, "{}"), ("notes/a", Create, r#"{"x":1}"#), ("notes/a", Update, r#"{"x":2}"#)],
            &["[1] notes/a delete {}", r#"[2, 3] notes/a create {"x":2}"#],
        );
    }

    #[test]
    fn h22_a_foreign_key_is_not_moved_before_its_parent() {
        check(
            &[
                ("tasks/t", Create, r#"{"n":1}"#),
                ("projects/p", Create, "{}"),
                ("tasks/t", Update, r#"{"project":"p"}"#),
                ("tasks/t", Update, r#"{"n":2}"#),
            ],
            &[
                r#"[1] tasks/t create {"n":1}"#,
                "[2] projects/p create {}",
                r#"[3, 4] tasks/t update {"n":2,"project":"p"}"#,
            ],
        );
    }

    #[test]
    fn h22_a_parent_is_not_deleted_before_its_grandchild_moved_away() {
        check(
            &[
                ("projects/p", Update, r#"{"n":1}"#),
                ("steps/s", Update, r#"{"task":"u"}"#),
                ("projects/p", Delete, "{}"),
            ],
            &[r#"[1] projects/p update {"n":1}"#, r#"[2] steps/s update {"task":"u"}"#, "[3] projects/p delete {}"],
        );
    }
}
