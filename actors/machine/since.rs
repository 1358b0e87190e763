//! What came since a group of operations began and keeps a later one from joining it. A window may hold thousands of
//! groups, so nothing here looks at each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::relations::Relations;
use crate::model::{Action, Operation, RecordId};

/// The groups of a window, as far as they matter; they are numbered by their first operations.
#[derive(Default)]
pub(super) struct Since<'a> {
    /// The newest group of each collection.
    newest_of: BTreeMap<&'a str, usize>,
    /// The newest group that deletes what may be referred to.
    newest_deletion: Option<usize>,
    /// The groups that make records, in order and with their collections, by the records' keys. Looked up only.
    made: HashMap<&'a str, Vec<(usize, &'a str)>>,
    /// The newest of them.
    newest_made: Option<usize>,
    /// Those that make what may be referred to.
    made_parents: BTreeSet<usize>,
    /// The length of the longest of their keys.
    longest: usize,
}

impl<'a> Since<'a> {
    /// A new group, and what it comes to.
    pub(super) fn open(&mut self, group: usize, id: &'a RecordId, net: Option<Action>, relations: &Relations) {
        self.newest_of.insert(&id.collection, group);
        if net == Some(Action::Create) {
            self.made.entry(&id.key).or_default().push((group, &id.collection));
            self.newest_made = Some(group);
            self.longest = self.longest.max(id.key.len());
            if relations.has_descendants(&id.collection) {
                self.made_parents.insert(group);
            }
        }
        self.change(group, id, net, relations);
    }

    /// A group comes to something else now. What cancels out now is a deletion when it is sent again.
    pub(super) fn change(&mut self, group: usize, id: &RecordId, net: Option<Action>, relations: &Relations) {
        if !matches!(net, Some(Action::Delete) | None) {
            return;
        }
        if relations.has_descendants(&id.collection) {
            self.newest_deletion = self.newest_deletion.max(Some(group));
        }
        self.made_parents.remove(&group);
        if let Some(made) = self.made.get_mut(&*id.key) {
            made.retain(|(other, _)| *other != group);
        }
    }

    /// Whether an operation has to stay behind one of those that came after the beginning of a group.
    pub(super) fn keeps_back(&self, operation: &Operation, group: usize, relations: &Relations) -> bool {
        let Operation { id, action, .. } = operation;
        match action {
            Action::Delete => {
                let is_related =
                    |(other, newest): (&&str, &usize)| *newest > group && relations.related(other, &id.collection);
                // Saves are not arranged across a deletion: a parent that is made behind it could not go first any more.
                let parts_parents = || self.made_parents.last() > Some(&group);
                relations.has_descendants(&id.collection) && (parts_parents() || self.newest_of.iter().any(is_related))
            }
            Action::Create | Action::Update => {
                self.newest_deletion > Some(group)
                    || self.newest_made > Some(group) && self.names(operation, group, relations)
            }
        }
    }

    /// Whether a save names a record that is made since, and that parents going first does not make before it.
    fn names(&self, save: &Operation, group: usize, relations: &Relations) -> bool {
        let is_made_since = |text: &str| {
            let made = self.made.get(text).into_iter().flatten().rev();
            made.take_while(|(other, _)| *other > group).any(|(_, other)| !relations.refers(&save.id.collection, other))
        };
        save.patch.fields().strings().any(|text| text.len() <= self.longest && is_made_since(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Chance;
    use super::super::coalesce::tests::{drawn, relations, rule};
    use super::super::coalesce::together;
    use super::*;
    use crate::model::Reference;

    /// The same, by looking at each group.
    fn is_kept_back(operation: &Operation, since: &[(&RecordId, Option<Action>)], relations: &Relations) -> bool {
        use Action::{Create, Delete, Update};
        let Operation { id, action, patch, .. } = operation;
        since.iter().any(|(other, net)| match (action, net.unwrap_or(Delete)) {
            (Delete, net) => {
                let is_made_parent = net == Create && relations.has_descendants(&other.collection);
                relations.has_descendants(&id.collection)
                    && (is_made_parent || relations.related(&other.collection, &id.collection))
            }
            (Create | Update, Update) => false,
            (Create | Update, Delete) => relations.has_descendants(&other.collection),
            (Create | Update, Create) => {
                let is_named = patch.fields().strings().any(|text| *text == *other.key);
                !relations.refers(&id.collection, &other.collection) && is_named
            }
        })
    }

    #[test]
    fn the_indexes_say_what_looking_at_every_group_says() {
        let inner = Reference { child: "tasks".into(), parent: "tasks".into() };
        let rules = [rule("projects", &[]), rule("tasks", &["projects"]), rule("steps", &["tasks"])];
        let relations = [relations(), Relations::of(&rules, &[inner]), Relations::default()];
        let mut answers = [0; 2];
        for seed in 0..2_000 {
            let (mut chance, relations) = (Chance::from_seed(seed), &relations[seed as usize % 3]);
            let operations: Vec<Operation> = (0..40).map(|sequence| drawn(&mut chance, sequence)).collect();
            let mut groups: Vec<(&RecordId, Option<Action>)> = Vec::new();
            let mut came = Since::default();
            for operation in &operations {
                let at = (chance.fraction() * groups.len() as f64) as usize;
                if at < groups.len() {
                    let expected = is_kept_back(operation, &groups[at + 1..], relations);
                    assert_eq!(came.keeps_back(operation, at, relations), expected, "seed {seed}: {operation:?}");
                    answers[usize::from(expected)] += 1;
                }
                match groups.iter().rposition(|(id, net)| **id == operation.id && net.is_some()) {
                    Some(group) if chance.fraction() < 0.6 => {
                        let net = together(groups[group].1, operation.action, chance.fraction() < 0.5);
                        groups[group].1 = net;
                        came.change(group, groups[group].0, net, relations);
                    }
                    _ => {
                        groups.push((&operation.id, Some(operation.action)));
                        came.open(groups.len() - 1, &operation.id, Some(operation.action), relations);
                    }
                }
            }
        }
        assert!(answers.iter().all(|count| *count > 5_000), "{answers:?}");
    }
}
