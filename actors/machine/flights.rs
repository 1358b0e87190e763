//! Which batches are on their way, and what may be sent beside them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::made::Made;
use super::relations::Relations;
use crate::model::{Action, Operation, Outgoing, RecordId};

/// Batches that were sent and whose verdicts are not settled yet, by number.
#[derive(Debug, Clone, Default)]
pub struct Flights(BTreeMap<u64, Arc<Flight>>);

#[derive(Debug, Default)]
struct Flight {
    records: HashSet<RecordId>,
    /// With whether all that happens there is that rows are made.
    collections: BTreeMap<Arc<str>, bool>,
    /// The rows that are made.
    made: Made,
    /// Whether it may have been sent before: the server takes such a batch alone.
    is_again: bool,
}

impl Flights {
    /// A batch is sent; its number.
    pub fn launch(&mut self, batch: &[Outgoing]) -> u64 {
        let mut flight = Flight::default();
        for outgoing in batch {
            let only_makes = flight.collections.entry(outgoing.id.collection.clone()).or_insert(true);
            *only_makes &= outgoing.action == Action::Create;
            if outgoing.action == Action::Create {
                flight.made.add(&outgoing.id);
            }
            flight.is_again |= outgoing.may_have_been_sent;
            flight.records.insert(outgoing.id.clone());
        }
        let number = self.0.last_key_value().map_or(0, |(last, _)| last + 1);
        self.0.insert(number, Arc::new(flight));
        number
    }

    /// A batch's verdicts have come.
    pub fn land(&mut self, number: u64) {
        self.0.remove(&number);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether one of these records is on its way: what stands on it would be sent on an old base.
    pub fn touch(&self, window: &[Operation]) -> bool {
        window.iter().any(|operation| self.0.values().any(|flight| flight.records.contains(&operation.id)))
    }

    /// Whether these operations may overtake those on their way: nothing refers from one to the other, declared or not,
    /// and where both go to one collection, those ahead only make rows. What they change or delete could free a unique
    /// value for these.
    pub fn may_be_overtaken_by(&self, window: &[Operation], relations: &Relations) -> bool {
        let later: BTreeSet<&Arc<str>> = window.iter().map(|operation| &operation.id.collection).collect();
        let ahead = || self.0.values().flat_map(|flight| &flight.collections);
        later.into_iter().all(|collection| {
            ahead().all(|(other, only_makes)| {
                !relations.related(other, collection) && (other != collection || *only_makes)
            })
        }) && !self.0.values().any(|flight| flight.is_again)
            && !window.iter().any(|operation| self.names_what_is_made(operation))
    }

    fn names_what_is_made(&self, operation: &Operation) -> bool {
        let is_made = |text: Cow<'_, str>| self.0.values().any(|flight| flight.made.collection_of(&text).is_some());
        operation.patch.fields().strings().any(is_made)
    }
}

#[cfg(test)]
mod tests {
    use super::super::coalesce::tests::{operation, relations};
    use super::*;

    fn ahead(place: &str, action: Action) -> Flights {
        let Operation { sequence, id, action, patch, .. } = operation(1, place, action, "{}");
        let mut flights = Flights::default();
        flights.launch(&[Outgoing {
            covers: vec![sequence],
            transactions: vec![sequence],
            id,
            action,
            patch,
            base: None,
            base_version: None,
            attempts: 0,
            may_have_been_sent: false,
        }]);
        flights
    }

    fn may_overtake(place: &str, flights: &Flights) -> bool {
        flights.may_be_overtaken_by(&[operation(2, place, Action::Create, "{}")], &relations())
    }

    #[test]
    fn what_is_made_in_one_collection_may_be_on_its_way_together() {
        assert!(may_overtake("notes/b", &ahead("notes/a", Action::Create)));
        assert!(!may_overtake("notes/b", &ahead("notes/a", Action::Update)));
        assert!(!may_overtake("notes/b", &ahead("notes/a", Action::Delete)));
        assert!(may_overtake("notes/b", &ahead("tasks/a", Action::Delete)), "they have nothing to do with each other");
        assert!(may_overtake("notes/b", &Flights::default()));
    }

    #[test]
    fn h21_a_child_does_not_overtake_its_parent_nor_a_parent_its_child() {
        assert!(!may_overtake("steps/s", &ahead("projects/p", Action::Create)));
        assert!(!may_overtake("projects/p", &ahead("steps/s", Action::Create)));
    }

    #[test]
    fn what_names_a_row_that_is_being_made_stays_behind_it_whatever_is_declared() {
        let naming = [operation(2, "notes/b", Action::Create, r#"{"about":"p"}"#)];
        let flights = ahead("projects/p", Action::Create);
        assert!(!flights.may_be_overtaken_by(&naming, &relations()));
        assert!(ahead("projects/q", Action::Create).may_be_overtaken_by(&naming, &relations()));
    }

    #[test]
    fn a_record_that_is_on_its_way_is_touched_until_it_has_landed() {
        let mut flights = ahead("notes/a", Action::Create);
        let later = [operation(2, "notes/a", Action::Update, "{}")];
        assert!(flights.touch(&later) && !flights.touch(&[operation(3, "notes/b", Action::Update, "{}")]));
        assert_eq!(flights.launch(&[]), 1);
        flights.land(0);
        assert!(!flights.touch(&later));
        assert_eq!(flights.count(), 1);
    }
}
