//! Which collections refer to which: as the configuration declares and as the server's foreign keys say (H21).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{CollectionRules, Reference};

/// The references between collections, direct and through others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    ancestors: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Collections some of whose records refer to others of the same collection.
    inner: BTreeSet<Arc<str>>,
}

impl Relations {
    /// Reads `after` of each collection, then what the server says. Of references that go round in a circle the one
    /// that would close it orders nothing.
    pub fn of(rules: &[CollectionRules], discovered: &[Reference]) -> Self {
        let mut relations = Self::default();
        let declared = rules.iter().flat_map(|rule| rule.after.iter().map(|parent| (&rule.name, parent)));
        for (child, parent) in declared.chain(discovered.iter().map(|reference| (&reference.child, &reference.parent)))
        {
            relations.add(child, parent);
        }
        relations
    }

    fn add(&mut self, child: &Arc<str>, parent: &Arc<str>) {
        if child == parent {
            self.inner.insert(child.clone());
            return;
        }
        if self.refers(parent, child) {
            return;
        }
        let mut gained: BTreeSet<Arc<str>> = self.ancestors(parent).cloned().collect();
        gained.insert(parent.clone());
        self.ancestors.entry(child.clone()).or_default().extend(gained.iter().cloned());
        for ancestors in self.ancestors.values_mut().filter(|ancestors| ancestors.contains(child)) {
            ancestors.extend(gained.iter().cloned());
        }
    }

    /// Whether one of the two refers to the other.
    pub fn related(&self, a: &str, b: &str) -> bool {
        self.refers(a, b) || self.refers(b, a) || a == b && self.inner.contains(a)
    }

    /// Whether records of one collection may refer to those of another.
    pub fn refers(&self, from: &str, to: &str) -> bool {
        self.ancestors.get(from).is_some_and(|ancestors| ancestors.contains(to))
    }

    /// Whether anything refers to this collection.
    pub fn has_descendants(&self, collection: &str) -> bool {
        self.inner.contains(collection) || self.ancestors.values().any(|ancestors| ancestors.contains(collection))
    }

    /// The other collections that this one refers to.
    pub fn ancestors(&self, collection: &str) -> impl Iterator<Item = &Arc<str>> {
        self.ancestors.get(collection).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::super::coalesce::tests::rule;
    use super::*;

    fn discovered(references: &[(&str, &str)]) -> Relations {
        let reference = |(child, parent): &(&str, &str)| Reference { child: (*child).into(), parent: (*parent).into() };
        Relations::of(&[rule("tasks", &["projects"])], &references.iter().map(reference).collect::<Vec<_>>())
    }

    #[test]
    fn h21_what_the_server_says_counts_like_what_is_declared() {
        let relations = discovered(&[("steps", "tasks"), ("projects", "teams")]);
        assert!(relations.refers("steps", "projects") && relations.refers("steps", "teams"));
        assert!(relations.related("teams", "tasks") && !relations.refers("teams", "tasks"));
        assert!(relations.has_descendants("teams") && !relations.has_descendants("steps"));
    }

    #[test]
    fn a_circle_is_cut_where_it_would_close_and_a_collection_may_refer_to_itself() {
        let relations = discovered(&[("projects", "tasks"), ("tasks", "tasks")]);
        assert!(relations.refers("tasks", "projects") && !relations.refers("projects", "tasks"));
        assert!(relations.related("tasks", "tasks") && !relations.refers("tasks", "tasks"));
        assert!(relations.has_descendants("tasks") && !relations.related("projects", "projects"));
    }
}
