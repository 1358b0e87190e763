//! Operations that are set aside with what depends on them, put back, or given up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::params;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, FaultKind, RecordId, Sequence};
use tidelock_actors::writes::Written;

use super::batch::Batch;
use super::collections::{Index, Place};
use super::faults::Failure;
use super::operations::{OperationState, Queued, Returning, laid_over};
use super::records::{Cause, Origin, State, same};
use super::together::{Leader, Reach};

/// A create that was set aside: what refers to its record cannot go either.
#[derive(Debug)]
pub(super) struct ParkedCreate {
    at: Index,
    key: Arc<str>,
    sequence: Sequence,
}

/// What was set aside, as far as others have to follow it.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Creates: what refers to their records cannot go.
    creates: Vec<ParkedCreate>,
    /// Transactions that cannot go whole any more.
    pub(super) transactions: BTreeMap<i64, Leader>,
}

/// A pending operation that cannot go because of another.
#[derive(Debug)]
pub(super) struct Follower {
    /// Its place in the outbox.
    pub(super) sequence: Sequence,
    /// Its record.
    pub(super) id: RecordId,
    /// The other one.
    pub(super) behind: Sequence,
    /// Why.
    pub(super) cause: Fault,
}

impl Batch<'_> {
    /// Sets the covered operations aside, and the later ones of the record behind them.
    pub(super) fn park(
        &mut self,
        place: Place<'_>,
        covers: &[Sequence],
        fault: &Fault,
        aside: &mut Aside,
    ) -> Result<u64, Failure> {
        self.set_aside(place, covers, fault, true, None, aside)
    }

    /// Sets the covered operations aside until that one is through. Where it is through by now they stay.
    pub(super) fn park_behind(
        &mut self,
        place: Place<'_>,
        covers: &[Sequence],
        fault: &Fault,
        on: Sequence,
        aside: &mut Aside,
    ) -> Result<u64, Failure> {
        if !self.has_operation(on)? {
            return Ok(0);
        }
        self.set_aside(place, covers, fault, false, Some(on), aside)
    }

    fn set_aside(
        &mut self,
        place: Place<'_>,
        covers: &[Sequence],
        fault: &Fault,
        charged: bool,
        depends_on: Option<Sequence>,
        aside: &mut Aside,
    ) -> Result<u64, Failure> {
        let Some(record) = self.find(place)? else { return Ok(0) };
        let covers: BTreeSet<Sequence> = covers.iter().copied().collect();
        let operations = self.operations_of(record.row)?;
        let of_covers = |operation: &&Queued| covers.contains(&operation.sequence);
        let covered: Vec<&Queued> = operations.iter().filter(of_covers).filter(|one| is_pending(one)).collect();
        let Some(last) = covered.last().map(|operation| operation.sequence) else { return Ok(0) };
        for operation in &covered {
            self.annotate(operation.sequence, fault, charged, depends_on)?;
        }
        let later = operations.iter().filter(|one| one.sequence > last && is_pending(one));
        let waits = waits_for(last, place.id);
        for operation in later.clone() {
            self.annotate(operation.sequence, &waits, false, Some(last))?;
        }
        let mut parked = 0;
        for operation in covered.into_iter().chain(later) {
            self.shift(place.at, operation, OperationState::Parked)?;
            parked += 1;
            let (at, key, sequence) = (place.at, place.id.key.clone(), operation.sequence);
            let leader = || Leader { sequence, id: place.id.clone(), state: OperationState::Parked };
            aside.transactions.entry(operation.transaction).or_insert_with(leader);
            if operation.action == Action::Create {
                aside.creates.push(ParkedCreate { at, key, sequence });
            }
        }
        Ok(parked)
    }

    /// Sets aside what refers to records that cannot be created, and the rest of each transaction, and in turn what
    /// follows from that (H15).
    pub(super) fn park_followers(&mut self, mut aside: Aside) -> Result<u64, Failure> {
        let mut parked = 0;
        while !aside.transactions.is_empty() {
            let mut followers = self.children_of(&aside.creates)?;
            followers.extend(self.rest_of(&aside.transactions)?);
            aside = Aside::default();
            for Follower { sequence, id, behind, cause } in followers {
                let place = self.collections.place(&id)?;
                parked += self.park_behind(place, &[sequence], &cause, behind, &mut aside)?;
            }
        }
        Ok(parked)
    }

    fn children_of(&self, creates: &[ParkedCreate]) -> Result<Vec<Follower>, Failure> {
        let mut parents: HashMap<(Index, &str), &ParkedCreate> = HashMap::new();
        for create in creates {
            for child in &self.collections.get(create.at).children {
                parents.insert((*child, &create.key), create);
            }
        }
        let collections: BTreeSet<Index> = parents.keys().map(|(child, _)| *child).collect();
        let mut children = Vec::new();
        if collections.iter().all(|at| self.counts(*at).pending == 0) {
            return Ok(children);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, collection, key, patch FROM tl_operations INDEXED BY tl_operations_pending
             WHERE state = 'pending' ORDER BY seq",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let at = self.collections.find(row.get_ref(1)?.as_str().unwrap_or_default())?;
            if !collections.contains(&at) {
                continue;
            }
            let patch = Document::trusted(row.get(3)?);
            // A number may be anything: whether it is a key is seen when the server misses the parent.
            let parent = patch.fields().strings().find_map(|text| parents.get(&(at, &*text)).copied());
            if let Some(parent) = parent {
                let parent_id = RecordId::new(self.collections.name(parent.at).clone(), parent.key.clone());
                let id = RecordId::new(row.get::<_, Arc<str>>(1)?, row.get::<_, Arc<str>>(2)?);
                let (behind, cause) = (parent.sequence, waits_for(parent.sequence, &parent_id));
                children.push(Follower { sequence: row.get(0)?, id, behind, cause });
            }
        }
        Ok(children)
    }

    /// Puts parked operations back, each with all that is parked on its record, and with its whole transaction: their
    /// order is kept. What waits for a conflict's decision stays.
    pub(super) fn redrive(&mut self, sequences: &[Sequence]) -> Result<Written, Failure> {
        let (mut records, mut waiting) = (BTreeSet::new(), None);
        for sequence in sequences {
            let Returning { record, state, .. } = self.standing(*sequence)?;
            match state {
                OperationState::Pending => {}
                OperationState::Parked => {
                    records.insert(record);
                    waiting = Some(*sequence);
                }
                OperationState::Held => return Err(held_back(*sequence)),
            }
        }
        let returning = match sequences.is_empty() {
            true => self.parked_operations(None)?,
            false => self.parked_operations_of(records)?,
        };
        let returning = self.returnable(returning)?;
        if let (true, Some(sequence)) = (returning.is_empty(), waiting) {
            return Err(held_back(sequence));
        }
        self.put_back(&returning, false)?;
        Ok(Written::Moved { count: returning.len() as u64, changed: Vec::new() })
    }

    /// Puts what is parked on one record, and what belongs to it, into the local transaction at work; whether it could.
    pub(super) fn put_back_record(&mut self, row: i64) -> Result<bool, Failure> {
        let returning = self.parked_operations(Some(row))?;
        let returning = self.returnable(returning)?;
        self.put_back(&returning, true)?;
        Ok(!returning.is_empty())
    }

    /// What waited for an operation that is through may go.
    pub(super) fn release_dependants(&mut self, sequence: Sequence) -> Result<(), Failure> {
        if !self.collections.iter().any(|(at, _)| self.has_any_set_aside(at)) {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached("SELECT record FROM tl_operations WHERE depends_on = ?1")?;
        let records = statement.query_map([sequence], |row| row.get(0))?.collect::<Result<BTreeSet<i64>, _>>()?;
        if records.is_empty() {
            return Ok(());
        }
        let returning = self.parked_operations_of(records)?;
        let returning = self.returnable(returning)?;
        self.put_back(&returning, false)?;
        self.point_dependants(sequence, None)
    }

    fn parked_operations_of(&self, records: BTreeSet<i64>) -> Result<Vec<Returning>, Failure> {
        let mut returning = Vec::new();
        for record in records {
            returning.extend(self.parked_operations(Some(record))?);
        }
        returning.sort_by_key(|operation| operation.sequence);
        Ok(returning)
    }

    fn parked_operations(&self, record: Option<i64>) -> Result<Vec<Returning>, Failure> {
        let sql = match record {
            Some(_) => {
                "SELECT seq, transaction_id, collection, record, state FROM tl_operations
                 WHERE record = ?1 AND state = 'parked' ORDER BY seq"
            }
            None => {
                "SELECT seq, transaction_id, collection, record, state FROM tl_operations INDEXED BY tl_operations_set_aside
                 WHERE state <> 'pending' AND state = 'parked' AND ?1 IS NULL ORDER BY seq"
            }
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([record])?;
        let mut returning = Vec::new();
        while let Some(row) = rows.next()? {
            returning.push(self.returning(row)?);
        }
        Ok(returning)
    }

    /// Gives operations up, each with its whole transaction and all later ones of its record. None named means all that
    /// are parked; one that is still to be sent goes only by name, as where its collection is paused for a field that
    /// the server lacks.
    pub(super) fn discard(&mut self, sequences: &[Sequence]) -> Result<Written, Failure> {
        let mut given_up = BTreeSet::new();
        for sequence in sequences {
            let together = self.together_with(vec![self.standing(*sequence)?], Reach::Later)?;
            if together.iter().any(|one| one.state == OperationState::Held) {
                return Err(held_back(*sequence));
            }
            given_up.extend(together.into_iter().map(|one| one.sequence));
        }
        self.discard_alone(&Vec::from_iter(given_up))
    }

    /// Gives operations up without the rest of their transactions, each with all later ones of its record.
    pub(super) fn discard_alone(&mut self, sequences: &[Sequence]) -> Result<Written, Failure> {
        let mut first_of: BTreeMap<i64, Sequence> = BTreeMap::new();
        let all: Vec<Sequence> = match sequences {
            [] => self.parked_operations(None)?.into_iter().map(|operation| operation.sequence).collect(),
            named => named.to_vec(),
        };
        for sequence in all {
            let Returning { record, state, .. } = self.standing(sequence)?;
            match state {
                OperationState::Parked | OperationState::Pending => {
                    let first = first_of.entry(record).or_insert(sequence);
                    *first = sequence.min(*first);
                }
                OperationState::Held => return Err(held_back(sequence)),
            }
        }
        let (mut count, mut changed) = (0, Vec::new());
        for (row, first) in first_of {
            count += self.give_up(row, first, &mut changed)?;
        }
        Ok(Written::Moved { count, changed })
    }

    fn give_up(&mut self, row: i64, first: Sequence, changed: &mut Vec<RecordId>) -> Result<u64, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT collection, key FROM tl_records WHERE id = ?1")?;
        let name = |row: &rusqlite::Row<'_>| Ok(RecordId::new(row.get::<_, Arc<str>>(0)?, row.get::<_, Arc<str>>(1)?));
        let id = statement.query_row(params![row], name)?;
        let place = self.collections.place(&id)?;
        let Some(record) = self.find(place)? else { return Ok(0) };
        let (given_up, left): (Vec<_>, Vec<_>) =
            self.operations_of(row)?.into_iter().partition(|operation| operation.sequence >= first);
        for operation in &given_up {
            self.dequeue(place.at, operation)?;
            self.point_dependants(operation.sequence, None)?;
        }
        let over = left.iter().map(|operation| (operation.action, &operation.patch));
        let document = laid_over(record.state.base.as_ref(), over);
        let differs = !same(document.as_ref(), record.state.document.as_ref());
        let after = State { document, ..record.state.clone() };
        let cause = Cause { origin: Origin::Discard, stamp: self.now, round: None };
        self.replace(place, &record, &after, !left.is_empty(), differs, cause)?;
        if differs {
            changed.push(id.clone());
        }
        Ok(given_up.len() as u64)
    }
}

fn is_pending(operation: &Queued) -> bool {
    operation.state == OperationState::Pending
}

fn held_back(sequence: Sequence) -> Failure {
    Failure::invalid(format!(
        "operation {sequence} is held by an open conflict of its record, or of one that was saved together with it; \
         decide the conflict"
    ))
}

/// Why an operation waits for another one that is set aside.
pub(super) fn waits_for(sequence: Sequence, id: &RecordId) -> Fault {
    Fault::new(FaultKind::Ordering, format!("waits for operation {sequence} on {id}, which is set aside"))
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, refusal, said};
    use super::*;
    use tidelock_actors::model::Change;
    use tidelock_actors::ports::Reader;
    use tidelock_actors::writes::{Fate, Write};

    /// A project with a task with a step, and a note that has nothing to do with them; sequences 1 to 4.
    fn family() -> World {
        let mut world = World::new();
        world.save("projects/p", r#"{"n":1}"#);
        world.save("tasks/t", r#"{"project":"p"}"#);
        world.save("steps/s", r#"{"task":"t"}"#);
        world.save("notes/n", r#"{"n":1}"#);
        world
    }

    #[test]
    fn h15_a_refused_create_is_parked_with_all_that_depends_on_it_and_the_rest_flows() {
        let mut world = family();
        world.save("projects/p", r#"{"n":2}"#);
        assert_eq!(world.park("projects/p", &[1]), 4);
        assert_eq!(
            world.outbox(),
            [
                r#"1 projects/p create {"id":"p","n":1} parked"#,
                r#"2 tasks/t create {"id":"t","project":"p"} parked behind 1"#,
                r#"3 steps/s create {"id":"s","task":"t"} parked behind 2"#,
                r#"4 notes/n create {"id":"n","n":1}"#,
                r#"5 projects/p update {"n":2} parked behind 1"#,
            ]
        );
        let causes: Vec<_> = world.operations().into_iter().filter_map(|one| one.cause).collect();
        assert_eq!(causes[0], refusal("23514"));
        assert_eq!(causes[1].message, "waits for operation 1 on projects/p, which is set aside");
        assert_eq!(world.operations()[0].attempts, 1, "the refusal counts");
        assert_eq!(world.operations()[1].attempts, 0, "waiting does not");
        assert_eq!((world.counts("projects"), world.counts("tasks")), ((1, 0, 2, 0, 0), (1, 0, 1, 0, 0)));
        assert_eq!(world.get("projects/p").unwrap(), r#"{"id":"p","n":2}"#, "H16: the user's data stays");
        world.assert_healthy();
    }

    #[test]
    fn a_parked_update_takes_only_later_changes_of_its_own_record_along() {
        let mut world = family();
        world.applied("projects/p", &[1], "v1");
        world.save("projects/p", r#"{"n":2}"#);
        world.save("projects/p", r#"{"n":3}"#);
        assert_eq!(world.park("projects/p", &[5]), 2);
        assert_eq!(world.counts("tasks").1, 1);
        world.assert_healthy();
    }

    #[test]
    fn what_depended_on_an_operation_goes_once_that_is_through() {
        let mut world = family();
        world.park("projects/p", &[1]);
        let moved = world.commit(Write::Redrive(vec![1])).unwrap();
        assert_eq!(moved, Written::Moved { count: 1, changed: vec![] });
        assert_eq!(
            world.outbox(),
            [
                r#"2 tasks/t create {"id":"t","project":"p"} parked behind 5"#,
                r#"3 steps/s create {"id":"s","task":"t"} parked behind 2"#,
                r#"4 notes/n create {"id":"n","n":1}"#,
                r#"5 projects/p create {"id":"p","n":1}"#,
            ]
        );
        world.applied("projects/p", &[5], "v1");
        assert_eq!(
            world.outbox(),
            [
                r#"3 steps/s create {"id":"s","task":"t"} parked behind 6"#,
                r#"4 notes/n create {"id":"n","n":1}"#,
                r#"6 tasks/t create {"id":"t","project":"p"}"#,
            ]
        );
        world.applied("tasks/t", &[6], "v1");
        assert_eq!(world.outbox()[1], r#"7 steps/s create {"id":"s","task":"t"}"#);
        world.assert_healthy();
    }

    #[test]
    fn an_operation_whose_parent_is_parked_is_parked_behind_it_unless_that_went_through_meanwhile() {
        let mut world = family();
        let find = |world: &World| {
            let keys = vec!["x".to_owned(), "p".to_owned()];
            futures::executor::block_on(world.reads.parked_parent(vec!["notes".into(), "projects".into()], keys))
                .unwrap()
        };
        assert_eq!(find(&world), None);
        world.save("projects/q", "{}");
        world.park("projects/p", &[1]);
        assert_eq!(find(&world), Some(1));
        let waits = || Fate::Dependent(refusal("23503"), 1);
        assert_eq!(world.settle("notes/n", &[4], waits()), Written::Settled { parked: 1, changed: vec![] });
        assert_eq!(world.outbox()[3], r#"4 notes/n create {"id":"n","n":1} parked behind 1"#);
        let through = || Fate::Dependent(refusal("23503"), 99);
        assert_eq!(world.settle("projects/q", &[5], through()), Written::Settled { parked: 0, changed: vec![] });
        world.assert_healthy();
    }

    #[test]
    fn an_edit_of_a_parked_record_is_the_mending() {
        let mut world = family();
        world.save("projects/p", r#"{"n":2}"#);
        world.park("projects/p", &[1]);
        world
            .change(vec![
                (id("notes/m"), Change::Save(document("{}"))),
                (id("projects/p"), Change::Save(document(r#"{"n":3}"#))),
            ])
            .unwrap();
        let of_project: Vec<_> = world.outbox().into_iter().filter(|line| line.contains("projects/p")).collect();
        assert_eq!(
            of_project,
            [
                r#"7 projects/p create {"id":"p","n":1}"#,
                r#"8 projects/p update {"n":2}"#,
                r#"9 projects/p update {"n":3}"#
            ]
        );
        let transactions: Vec<_> = world.pending().iter().map(|one| (one.sequence, one.transaction)).collect();
        assert_eq!(transactions, [(4, 4), (6, 6), (7, 6), (8, 6), (9, 6)]);
        assert!(world.pending().iter().all(|one| one.attempts == 0));
        assert_eq!(world.counts("projects"), (1, 3, 0, 0, 0));
        world.assert_healthy();
    }

    #[test]
    fn redriving_all_keeps_the_order_and_the_transactions() {
        let mut world = World::new();
        world
            .change(vec![(id("notes/a"), Change::Save(document("{}"))), (id("notes/b"), Change::Save(document("{}")))])
            .unwrap();
        world.save("notes/c", "{}");
        for (place, sequence) in [("notes/c", 3), ("notes/b", 2), ("notes/a", 1)] {
            world.park(place, &[sequence]);
        }
        assert_eq!(world.commit(Write::Redrive(vec![])).unwrap(), Written::Moved { count: 3, changed: vec![] });
        let pending: Vec<_> =
            world.pending().iter().map(|one| format!("{} {} {}", one.sequence, one.transaction, one.id)).collect();
        assert_eq!(pending, ["4 4 notes/a", "5 4 notes/b", "6 6 notes/c"]);
        world.assert_healthy();
    }

    #[test]
    fn redriving_one_operation_takes_all_that_is_parked_on_its_record_along() {
        let mut world = World::new();
        for n in 1..=3 {
            world.save("notes/a", &format!(r#"{{"n":{n}}}"#));
        }
        world.park("notes/a", &[1]);
        assert_eq!(world.commit(Write::Redrive(vec![2])).unwrap(), Written::Moved { count: 3, changed: vec![] });
        assert_eq!(world.outbox().len(), 3);
        assert!(world.outbox()[0].starts_with("4 notes/a create"));
        assert_eq!(world.commit(Write::Redrive(vec![4])).unwrap(), Written::Moved { count: 0, changed: vec![] });
        world.assert_healthy();
    }

    #[test]
    fn giving_a_create_up_removes_the_record_and_keeps_the_version_and_what_waited_for_it() {
        let mut world = family();
        world.park("projects/p", &[1]);
        let given_up = world.commit(Write::Discard(vec![1])).unwrap();
        assert_eq!(given_up, Written::Moved { count: 1, changed: vec![id("projects/p")] });
        assert_eq!(world.get("projects/p"), None);
        assert_eq!(world.history("projects/p"), [r#"{"id":"p","n":1}"#]);
        assert_eq!(world.outbox()[0], r#"2 tasks/t create {"id":"t","project":"p"} parked"#);
        world.assert_healthy();
    }

    #[test]
    fn giving_an_update_up_gives_later_ones_up_too_and_shows_the_servers_document() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.applied("notes/a", &[1], "v1");
        for n in 2..=4 {
            world.save("notes/a", &format!(r#"{{"n":{n},"m":{n}}}"#));
        }
        world.park("notes/a", &[3]);
        assert_eq!(world.counts("notes"), (1, 1, 2, 0, 1));
        world.commit(Write::Discard(vec![4, 3])).unwrap();
        assert_eq!(world.outbox(), [r#"2 notes/a update {"m":2,"n":2}"#]);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":2,"n":2}"#);
        assert_eq!(world.history("notes/a")[0], r#"{"id":"a","m":4,"n":4}"#);
        world.assert_healthy();
    }

    #[test]
    fn giving_a_deletion_up_brings_the_record_back() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.applied("notes/a", &[1], "v1");
        world.delete("notes/a");
        world.park("notes/a", &[2]);
        world.commit(Write::Discard(vec![])).unwrap();
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1}"#);
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn what_is_still_to_be_sent_is_given_up_only_by_name() {
        let mut world = family();
        assert_eq!(said(world.commit(Write::Discard(vec![9]))), "there is no operation 9 in the queue");
        assert_eq!(said(world.commit(Write::Redrive(vec![9]))), "there is no operation 9 in the queue");
        assert_eq!(world.commit(Write::Discard(vec![])).unwrap(), Written::Moved { count: 0, changed: vec![] });
        let given_up = world.commit(Write::Discard(vec![4])).unwrap();
        assert_eq!(given_up, Written::Moved { count: 1, changed: vec![id("notes/n")] });
        assert_eq!((world.outbox().len(), world.get("notes/n")), (3, None));
        world.assert_healthy();
    }

    #[test]
    fn sequences_are_never_used_again() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        world.save("notes/b", "{}");
        world.applied("notes/b", &[2], "v1");
        world.applied("notes/a", &[1], "v1");
        let mut world = world.reopen();
        world.save("notes/c", "{}");
        assert_eq!(world.outbox(), [r#"3 notes/c create {"id":"c"}"#]);
    }
}
