//! The collections of a store: those that the configuration declares, and those that only the file knows.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidelock_actors::model::{CollectionRules, Direction, RecordId, Strategy};

use super::faults::Failure;

/// A collection's place in [`Collections`].
pub(super) type Index = usize;

/// A record's collection and name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The collection.
    pub(super) at: Index,
    /// The record.
    pub(super) id: &'a RecordId,
}

/// One collection.
#[derive(Debug)]
pub(super) struct Collection {
    /// What the configuration says.
    pub(super) rules: CollectionRules,
    /// Whether the configuration still names it. What is left of others is settled, never added to.
    pub(super) is_configured: bool,
    /// The collections whose records may refer to this one's.
    pub(super) children: Vec<Index>,
    /// The version column by its local name.
    pub(super) version_field: String,
    /// The fields seen so far: the columns of its view.
    pub(super) fields: BTreeSet<String>,
}

/// All collections, found by name.
#[derive(Debug)]
pub(super) struct Collections {
    all: Vec<Collection>,
    by_name: HashMap<Arc<str>, Index>,
}

impl Collections {
    /// Those of the configuration and, after them, those that only the file knows.
    pub(super) fn new(configured: Vec<CollectionRules>, in_file: Vec<Arc<str>>) -> Self {
        let mut collections = Self { all: Vec::new(), by_name: HashMap::new() };
        for rules in configured {
            collections.add(rules, true);
        }
        for name in in_file {
            if !collections.by_name.contains_key(&name) {
                collections.add(left_over(name), false);
            }
        }
        for child in 0..collections.all.len() {
            for parent in collections.all[child].rules.after.clone() {
                if let Some(parent) = collections.by_name.get(&parent).copied() {
                    collections.all[parent].children.push(child);
                }
            }
        }
        collections
    }

    fn add(&mut self, rules: CollectionRules, is_configured: bool) {
        let version_field = rules.field(&rules.version).to_owned();
        self.by_name.insert(rules.name.clone(), self.all.len());
        self.all.push(Collection {
            rules,
            is_configured,
            children: Vec::new(),
            version_field,
            fields: BTreeSet::new(),
        });
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Each with its place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Index, &Collection)> {
        self.all.iter().enumerate()
    }

    /// The collection at that place.
    pub(super) fn get(&self, at: Index) -> &Collection {
        &self.all[at]
    }

    /// The collection at that place, to be changed.
    pub(super) fn get_mut(&mut self, at: Index) -> &mut Collection {
        &mut self.all[at]
    }

    /// How many collections each one has above it, one upon the other: parents have fewer than their children.
    pub(super) fn generations(&self) -> Vec<usize> {
        let mut generations = vec![0; self.all.len()];
        // As many passes as there can be generations; where references go round in a circle the order is any.
        for _ in 0..self.all.len() {
            for (parent, collection) in self.iter() {
                for child in collection.children.iter().copied().filter(|child| *child != parent) {
                    generations[child] = generations[child].max(generations[parent] + 1);
                }
            }
        }
        generations
    }

    /// Its name.
    pub(super) fn name(&self, at: Index) -> &Arc<str> {
        &self.all[at].rules.name
    }

    /// Finds a collection by name, left over or not.
    pub(super) fn find(&self, name: &str) -> Result<Index, Failure> {
        self.by_name.get(name).copied().ok_or_else(|| self.unknown(name))
    }

    /// Finds the collection of a record.
    pub(super) fn place<'a>(&self, id: &'a RecordId) -> Result<Place<'a>, Failure> {
        Ok(Place { at: self.find(&id.collection)?, id })
    }

    /// An error that names what there is.
    pub(super) fn unknown(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.configured().map(|rules| &*rules.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Failure::invalid(format!("there is no collection {name:?}; the configuration has: {known}"))
    }

    /// The rules of the collections that the configuration names.
    pub(super) fn configured(&self) -> impl Iterator<Item = &CollectionRules> {
        self.all.iter().filter(|collection| collection.is_configured).map(|collection| &collection.rules)
    }
}

fn left_over(name: Arc<str>) -> CollectionRules {
    CollectionRules {
        table: name.to_string(),
        name,
        key: "id".to_owned(),
        version: String::new(),
        direction: Direction::Both,
        strategy: Strategy::default(),
        fields: Default::default(),
        columns: Vec::new(),
        filter: None,
        after: Vec::new(),
        soft_delete: None,
    }
}
