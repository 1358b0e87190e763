//! Coalescing: several pending operations of one record become one, where no dependency is crossed.
//!
//! create+update = create, update+update = update, update+delete = delete, create+delete = nothing (H17).
//! A record that is deleted and made again is sent as both, so that no old column survives; made and deleted before
//! that, it is sent once.
//! The merged operation stands at the place of the first one, so it moves what came later forward. Saves may pass
//! each other, since a batch is arranged parents first, but none passes the making of a record that it names and that
//! is not arranged before it. Nothing that may be referred to is deleted before what came earlier in a related
//! collection or made what may be referred to, and no save passes such a deletion: else a foreign key could be sent before its parent, or a parent
//! deleted before its children (H22).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::made::Made;
use super::relations::Relations;
use super::since::Since;
use crate::document::Document;
use crate::model::{Action, Operation, RecordId, Sequence};

/// What several operations of one record come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coalesced {
    /// The operations, in order.
    pub covers: Vec<Sequence>,
    /// The local transactions that made them, in order.
    pub transactions: Vec<i64>,
    /// The record.
    pub id: RecordId,
    /// What to ask of the server; `None` where they cancel out.
    pub action: Option<Action>,
    /// The fields to set.
    pub patch: Document,
    /// The most attempts among them.
    pub attempts: u32,
}

/// How many operations from the front leave one operation a record when they are coalesced, and are arranged without
/// a seam. Only such a stretch comes to the same again after some of its operations have been settled and are gone.
pub fn unmixed(operations: &[Operation], relations: &Relations) -> usize {
    let groups = groups(operations, relations, false);
    let (mut opened, mut seen, mut made) = (0, HashSet::new(), Made::default());
    for (at, (Operation { id, action, patch, .. }, group)) in operations.iter().zip(groups).enumerate() {
        let opens = group == opened;
        opened += usize::from(opens);
        if opens && !seen.insert(id) || made.would_follow(id, patch, relations) {
            return at;
        }
        if *action == Action::Create {
            made.add(id);
        }
    }
    operations.len()
}

/// Coalesces a stretch of the outbox; the result keeps the order of first operations. Where the stretch may have
/// been sent before, a create and its deletion do not cancel each other out: the server may have the row.
pub fn coalesce(operations: Vec<Operation>, relations: &Relations, may_have_been_sent: bool) -> Vec<Coalesced> {
    let groups = groups(&operations, relations, may_have_been_sent);
    let mut merged: Vec<Coalesced> = Vec::with_capacity(operations.len());
    for (operation, group) in operations.into_iter().zip(groups) {
        match merged.get_mut(group) {
            Some(earlier) => absorb(earlier, operation, may_have_been_sent),
            None => merged.push(Coalesced {
                covers: vec![operation.sequence],
                transactions: vec![operation.transaction],
                id: operation.id,
                action: Some(operation.action),
                patch: operation.patch,
                attempts: operation.attempts,
            }),
        }
    }
    merged
}

/// Operations that become one.
struct Group {
    /// The first of them.
    since: Sequence,
    /// What they come to.
    net: Option<Action>,
}

/// For each operation the number of the group that it goes into; groups are numbered by their first operations.
fn groups(operations: &[Operation], relations: &Relations, may_have_been_sent: bool) -> Vec<usize> {
    let has_deletions = operations.iter().any(|operation| operation.action == Action::Delete);
    let mut groups: Vec<Group> = Vec::new();
    let mut came = Since::default();
    // Looked up only: their order is no matter.
    let mut newest_of: HashMap<&RecordId, usize> = HashMap::new();
    // The last operation that sets a text, which may be the key of a record.
    let mut named_at: HashMap<Cow<'_, str>, Sequence> = HashMap::new();
    let mut numbers = Vec::with_capacity(operations.len());
    for operation in operations {
        let Operation { sequence, id, action, patch, .. } = operation;
        let may_join = |at: &usize| {
            let is_made_again = matches!(groups[*at].net, Some(Action::Delete) | None) && *action != Action::Delete;
            let is_named_since =
                *action == Action::Delete && named_at.get(&*id.key).is_some_and(|named| *named > groups[*at].since);
            !is_made_again && !is_named_since && !came.keeps_back(operation, *at, relations)
        };
        let group = newest_of.get(id).copied().filter(may_join).unwrap_or(groups.len());
        match groups.get_mut(group) {
            Some(earlier) => {
                earlier.net = together(earlier.net, *action, may_have_been_sent);
                came.change(group, id, earlier.net, relations);
            }
            None => {
                groups.push(Group { since: *sequence, net: Some(*action) });
                came.open(group, id, Some(*action), relations);
            }
        }
        newest_of.insert(id, group);
        if has_deletions {
            named_at.extend(patch.fields().strings().map(|text| (text, *sequence)));
        }
        numbers.push(group);
    }
    numbers
}

/// What two operations of a record, one after the other, ask of the server.
pub(super) fn together(earlier: Option<Action>, later: Action, may_have_been_sent: bool) -> Option<Action> {
    use Action::{Create, Delete, Update};
    match (earlier, later) {
        (Some(Create), Delete) if may_have_been_sent => Some(Delete),
        (Some(Create) | None, Delete) => None,
        (Some(Update | Delete), Delete) => Some(Delete),
        (None, Create | Update) => Some(later),
        (Some(earlier), Create | Update) => Some(earlier),
    }
}

fn absorb(into: &mut Coalesced, later: Operation, may_have_been_sent: bool) {
    into.covers.push(later.sequence);
    if into.transactions.last() != Some(&later.transaction) {
        into.transactions.push(later.transaction);
    }
    into.attempts = into.attempts.max(later.attempts);
    into.action = together(into.action, later.action, may_have_been_sent);
    into.patch = match into.action {
        Some(Action::Create | Action::Update) => into.patch.overlaid(&later.patch),
        Some(Action::Delete) | None => Document::empty(),
    };
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::super::Chance;
    use super::super::arrange::arrange;
    use super::*;
    use crate::model::CollectionRules;

    pub(in crate::machine) fn operation(sequence: Sequence, place: &str, action: Action, patch: &str) -> Operation {
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

    pub(in crate::machine) fn rule(name: &str, after: &[&str]) -> CollectionRules {
        CollectionRules {
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
            soft_delete: None,
        }
    }

    pub(in crate::machine) fn relations() -> Relations {
        let rules =
            [rule("projects", &[]), rule("tasks", &["projects"]), rule("steps", &["tasks"]), rule("notes", &[])];
        Relations::of(&rules, &[])
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
        // The last one met what the first thousand do not.
        for seed in (0..1_000).chain([37_273]) {
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
                assert_comes_to_the_same_again(&outbox, &mut chance);
                for one in arrange(coalesce(outbox, &relations(), false), &relations()) {
                    let is_taken = one.action.is_none_or(|action| server.take(&one.id, action, &one.patch));
                    assert!(is_taken, "seed {seed}: {one:?}");
                }
                outbox = rest;
            }
            assert_eq!(server, app, "seed {seed}");
        }
    }

    /// Some answers were lost: what is left is sent again in the same groups.
    fn assert_comes_to_the_same_again(window: &[Operation], chance: &mut Chance) {
        let covers = |batch: Vec<Coalesced>| batch.into_iter().map(|one| one.covers).collect::<Vec<_>>();
        let mut groups = covers(coalesce(window.to_vec(), &relations(), false));
        groups.retain(|_| chance.fraction() < 0.5);
        let is_left = |operation: &&Operation| groups.iter().any(|group| group.contains(&operation.sequence));
        let left = window.iter().filter(is_left).cloned().collect();
        assert_eq!(covers(coalesce(left, &relations(), true)), groups);
    }

    /// Each record with the one that it refers to. A declared reference keeps its parent; any other is cleared with it.
    #[derive(Debug, Default, PartialEq)]
    struct Rows(BTreeMap<RecordId, Option<RecordId>>);

    impl Rows {
        fn take(&mut self, id: &RecordId, action: Action, patch: &Document) -> bool {
            let parent = patch.string("parent").map(|parent| place(&parent));
            let is_there = self.0.contains_key(id);
            let refers_well = parent.as_ref().is_none_or(|parent| parent == id || self.0.contains_key(parent));
            let holds = |child: &RecordId, parent: &Option<RecordId>| {
                parent.as_ref() == Some(id) && relations().refers(&child.collection, &id.collection)
            };
            let is_held = self.0.iter().any(|(child, parent)| holds(child, parent));
            let is_taken = match action {
                Create => !is_there && refers_well,
                Update => is_there && refers_well,
                Delete => is_there && !is_held,
            };
            match action {
                _ if !is_taken => {}
                Delete => {
                    self.0.remove(id);
                    self.0.values_mut().filter(|parent| parent.as_ref() == Some(id)).for_each(|parent| *parent = None);
                }
                Create | Update => {
                    let refers_to = parent.or_else(|| self.0.get(id).cloned().flatten());
                    self.0.insert(id.clone(), refers_to);
                }
            }
            is_taken
        }
    }

    pub(in crate::machine) fn drawn(chance: &mut Chance, sequence: Sequence) -> Operation {
        let mut below = |limit: usize| (chance.fraction() * limit as f64) as usize;
        let collections = ["projects", "tasks", "steps"];
        let (level, key) = (below(3), below(3));
        // Upwards mostly; and what `after` does not tell of: downwards, and within one collection. Only what has
        // descendants is taken for something that may be referred to, so nothing refers to steps.
        let parent = match below(4) {
            0 => None,
            1 => Some(below(2)),
            _ => level.checked_sub(1),
        };
        let patch = parent.map_or("{}".to_owned(), |of| format!(r#"{{"parent":"{}-{}"}}"#, collections[of], below(3)));
        let at = format!("{}/{}-{key}", collections[level], collections[level]);
        operation(sequence, &at, [Create, Update, Delete][below(3)], &patch)
    }

    fn place(key: &str) -> RecordId {
        let (collection, _) = key.split_once('-').unwrap();
        RecordId::new(collection, key)
    }
}
