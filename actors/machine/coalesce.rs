//! Coalescing: several pending operations of one record become one, where no dependency is crossed.
//!
//! create+update = create, update+update = update, update+delete = delete, create+delete = nothing (H17).
//! A record that is deleted and made again is sent as both, so that no old column survives.
//! The merged operation stands at the place of the first one, so it moves what came later forward. Saves may pass
//! each other, since a batch is arranged parents first; nothing that may be referred to is deleted before what came
//! earlier in a related collection, and no save passes such a deletion: else a foreign key could be sent before its
//! parent, or a parent deleted before its children (H22).

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

    /// Whether an operation of `other` keeps a later one of `collection` from being moved before it.
    fn keeps_back(&self, other: &str, other_is_deletion: bool, collection: &str, is_deletion: bool) -> bool {
        match is_deletion {
            true => self.has_descendants(collection) && self.related(other, collection),
            false => other_is_deletion && self.has_descendants(other),
        }
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
    let mut first_of: BTreeMap<&RecordId, usize> = BTreeMap::new();
    let mut deleted: BTreeSet<&RecordId> = BTreeSet::new();
    for (at, operation) in operations.iter().enumerate() {
        let first = *first_of.entry(&operation.id).or_insert(at);
        let is_deletion = operation.action == Action::Delete;
        let keeps_back = |other: &Operation| {
            let collection = &operation.id.collection;
            relations.keeps_back(&other.id.collection, other.action == Action::Delete, collection, is_deletion)
        };
        let others = operations[first..at].iter().filter(|other| other.id != operation.id);
        if !is_deletion && deleted.contains(&operation.id) || others.into_iter().any(keeps_back) {
            return at;
        }
        if is_deletion {
            deleted.insert(&operation.id);
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
    let is_deletion = operation.action == Action::Delete;
    let made_again = since[0].action == Some(Action::Delete) && !is_deletion;
    let keeps_back = |other: &Coalesced| {
        let other_is_deletion = matches!(other.action, Some(Action::Delete) | None);
        relations.keeps_back(&other.id.collection, other_is_deletion, &operation.id.collection, is_deletion)
    };
    !made_again && !since[1..].iter().any(keeps_back)
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
    use super::super::Chance;
    use super::super::arrange::arrange;
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

    /// The batch that comes of it. Each line of `expected`: covered sequences, place, action, patch.
    fn check(operations: &[(&str, Action, &str)], expected: &[&str]) {
        let operations = operations
            .iter()
            .zip(1..)
            .map(|((place, action, patch), sequence)| operation(sequence, place, *action, patch))
            .collect();
        let lines: Vec<String> = arrange(coalesce(operations, &relations(), false), &relations())
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
        let update = |sequence, place| operation(sequence, place, Update, "{}");
        assert_eq!(count(&[create(1, "tasks/t"), create(2, "projects/p"), update(3, "tasks/t")]), 3);
        assert_eq!(count(&[update(1, "tasks/t"), delete(2, "projects/p"), update(3, "tasks/t")]), 2);
        assert_eq!(
            count(&[update(1, "projects/p"), update(2, "tasks/t"), update(3, "projects/p"), delete(4, "projects/p")]),
            3
        );
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
            &["[2, 4] notes/b delete {}", r#"[1, 3] notes/a create {"x":1,"y":2}"#],
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
    fn h22_a_foreign_key_that_moves_forward_still_comes_after_its_parent() {
        check(
            &[
                ("tasks/t", Create, r#"{"n":1}"#),
                ("projects/p", Create, "{}"),
                ("tasks/t", Update, r#"{"project":"p"}"#),
                ("tasks/t", Update, r#"{"n":2}"#),
            ],
            &["[2] projects/p create {}", r#"[1, 3, 4] tasks/t create {"n":2,"project":"p"}"#],
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

    /// What an app may do with records that refer to each other, against a server that refuses what breaks a
    /// reference: whatever was coalesced and arranged is taken, and comes to the same.
    #[test]
    fn h22_every_batch_is_taken_by_a_server_that_guards_references_and_comes_to_the_same() {
        for seed in 0..400 {
            let mut chance = Chance::from_seed(seed);
            let (mut app, mut server) = (Rows::default(), Rows::default());
            let mut outbox = Vec::new();
            for sequence in 1..60 {
                let drawn = drawn(&mut chance, sequence);
                if app.take(&drawn.id, drawn.action, &drawn.patch) {
                    outbox.push(drawn);
                }
            }
            while !outbox.is_empty() {
                let rest = outbox.split_off(unmixed(&outbox, &relations()));
                for one in arrange(coalesce(outbox, &relations(), false), &relations()) {
                    let is_taken = one.action.is_none_or(|action| server.take(&one.id, action, &one.patch));
                    assert!(is_taken, "seed {seed}: {one:?}");
                }
                outbox = rest;
            }
            assert_eq!(server, app, "seed {seed}");
        }
    }

    /// Each record with the one that it refers to.
    #[derive(Debug, Default, PartialEq)]
    struct Rows(BTreeMap<RecordId, Option<RecordId>>);

    impl Rows {
        fn take(&mut self, id: &RecordId, action: Action, patch: &Document) -> bool {
            let parent = patch.string("parent").map(|parent| place(&parent));
            let is_there = self.0.contains_key(id);
            let refers_well = parent.as_ref().is_none_or(|parent| self.0.contains_key(parent));
            let is_taken = match action {
                Create => !is_there && refers_well,
                Update => is_there && refers_well,
                Delete => is_there && !self.0.values().flatten().any(|parent| parent == id),
            };
            match action {
                _ if !is_taken => {}
                Delete => drop(self.0.remove(id)),
                Create | Update => {
                    let refers_to = parent.or_else(|| self.0.get(id).cloned().flatten());
                    self.0.insert(id.clone(), refers_to);
                }
            }
            is_taken
        }
    }

    fn drawn(chance: &mut Chance, sequence: Sequence) -> Operation {
        let mut below = |limit: usize| (chance.fraction() * limit as f64) as usize;
        let level = below(3);
        let at = format!("{}/{}", ["projects", "tasks", "steps"][level], below(3));
        let patch = match level {
            1 | 2 if below(2) == 0 => format!(r#"{{"parent":"{}/{}"}}"#, ["projects", "tasks"][level - 1], below(3)),
            _ => "{}".to_owned(),
        };
        operation(sequence, &at, [Create, Update, Delete][below(3)], &patch)
    }

    fn place(text: &str) -> RecordId {
        let (collection, key) = text.split_once('/').unwrap();
        RecordId::new(collection, key)
    }
}
