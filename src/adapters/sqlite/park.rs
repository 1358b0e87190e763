//! Operations that are set aside with what depends on them, put back, or given up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, FaultKind, RecordId, Sequence};
use tidelock_actors::writes::Written;

use super::batch::Batch;
use super::collections::{Index, Place};
use super::faults::Failure;
use super::operations::{OperationState, Queued, Returning, laid_over};
use super::records::{Cause, Origin, State, same};

/// A create that was set aside: what refers to its record cannot go either.
#[derive(Debug)]
pub(super) struct ParkedCreate {
    at: Index,
    key: Arc<str>,
    sequence: Sequence,
}

/// A pending operation that refers to a record whose create was set aside.
struct Child {
    sequence: Sequence,
    id: RecordId,
    parent: Sequence,
    parent_id: RecordId,
}

impl Batch<'_> {
    /// Sets the covered operations aside, and the later ones of the record behind them.
    pub(super) fn park(
        &mut self,
        place: Place<'_>,
        covers: &[Sequence],
        fault: &Fault,
        creates: &mut Vec<ParkedCreate>,
    ) -> Result<u64, Failure> {
        self.set_aside(place, covers, fault, true, None, creates)
    }

    /// Sets the covered operations aside until that one is through. Where it is through by now they stay.
    pub(super) fn park_behind(
        &mut self,
        place: Place<'_>,
        covers: &[Sequence],
        fault: &Fault,
        on: Sequence,
        creates: &mut Vec<ParkedCreate>,
    ) -> Result<u64, Failure> {
        if !self.has_operation(on)? {
            return Ok(0);
        }
        self.set_aside(place, covers, fault, false, Some(on), creates)
    }

    fn set_aside(
        &mut self,
        place: Place<'_>,
        covers: &[Sequence],
        fault: &Fault,
        charged: bool,
        depends_on: Option<Sequence>,
        creates: &mut Vec<ParkedCreate>,
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
            if operation.action == Action::Create {
                let (at, key, sequence) = (place.at, place.id.key.clone(), operation.sequence);
                creates.push(ParkedCreate { at, key, sequence });
            }
        }
        Ok(parked)
    }

    /// Sets aside what refers to records that cannot be created, and in turn what refers to those (H15).
    pub(super) fn park_children(&mut self, mut creates: Vec<ParkedCreate>) -> Result<u64, Failure> {
        let mut parked = 0;
        while !creates.is_empty() {
            let children = self.children_of(&creates)?;
            creates.clear();
            for child in children {
                let place = self.collections.place(&child.id)?;
                let fault = waits_for(child.parent, &child.parent_id);
                parked += self.park_behind(place, &[child.sequence], &fault, child.parent, &mut creates)?;
            }
        }
        Ok(parked)
    }

    fn children_of(&self, creates: &[ParkedCreate]) -> Result<Vec<Child>, Failure> {
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
            let refers = |raw: &&serde_json::value::RawValue| {
                let value = serde_json::from_str::<std::borrow::Cow<'_, str>>(raw.get()).ok()?;
                parents.get(&(at, &*value)).copied()
            };
            let parent = patch.fields().values().find_map(refers);
            if let Some(parent) = parent {
                let parent_id = RecordId::new(self.collections.name(parent.at).clone(), parent.key.clone());
                let id = RecordId::new(row.get::<_, Arc<str>>(1)?, row.get::<_, Arc<str>>(2)?);
                children.push(Child { sequence: row.get(0)?, id, parent: parent.sequence, parent_id });
            }
        }
        Ok(children)
    }

    /// Puts parked operations back, each with all that is parked on its record: their order is kept.
    pub(super) fn redrive(&mut self, sequences: &[Sequence]) -> Result<Written, Failure> {
        let mut records = BTreeSet::new();
        for sequence in sequences {
            match self.standing(*sequence)? {
                (_, OperationState::Pending) => {}
                (record, OperationState::Parked) => drop(records.insert(record)),
                (_, OperationState::Held) => return Err(is_held(*sequence)),
            }
        }
        let returning = match sequences.is_empty() {
            true => self.parked_operations(None)?,
            false => self.parked_operations_of(records)?,
        };
        self.put_back(&returning, false)?;
        Ok(Written::Moved { count: returning.len() as u64, changed: Vec::new() })
    }

    /// Puts back what is parked on one record.
    pub(super) fn put_back_record(&mut self, row: i64, into_the_one_at_work: bool) -> Result<(), Failure> {
        let returning = self.parked_operations(Some(row))?;
        self.put_back(&returning, into_the_one_at_work)
    }

    /// What waited for an operation that is through may go.
    pub(super) fn release_dependants(&mut self, sequence: Sequence) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached("SELECT record FROM tl_operations WHERE depends_on = ?1")?;
        let records = statement.query_map([sequence], |row| row.get(0))?.collect::<Result<BTreeSet<i64>, _>>()?;
        if records.is_empty() {
            return Ok(());
        }
        let returning = self.parked_operations_of(records)?;
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
                "SELECT seq, transaction_id, collection FROM tl_operations
                 WHERE record = ?1 AND state = 'parked' ORDER BY seq"
            }
            None => {
                "SELECT seq, transaction_id, collection FROM tl_operations INDEXED BY tl_operations_set_aside
                 WHERE state <> 'pending' AND state = 'parked' AND ?1 IS NULL ORDER BY seq"
            }
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([record])?;
        let mut returning = Vec::new();
        while let Some(row) = rows.next()? {
            let at = self.collections.find(row.get_ref(2)?.as_str().unwrap_or_default())?;
            returning.push(Returning { sequence: row.get(0)?, transaction: row.get(1)?, at });
        }
        Ok(returning)
    }

    /// An operation's record and state.
    fn standing(&self, sequence: Sequence) -> Result<(i64, OperationState), Failure> {
        let mut statement = self.connection.prepare_cached("SELECT record, state FROM tl_operations WHERE seq = ?1")?;
        let found = statement.query_row([sequence], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        found.ok_or_else(|| Failure::not_found(format!("there is no operation {sequence} in the queue")))
    }

    /// Gives parked operations up, each with all later ones of its record. None named means all.
    pub(super) fn discard(&mut self, sequences: &[Sequence]) -> Result<Written, Failure> {
        let mut first_of: BTreeMap<i64, Sequence> = BTreeMap::new();
        let all: Vec<Sequence> = match sequences {
            [] => self.parked_operations(None)?.into_iter().map(|operation| operation.sequence).collect(),
            named => named.to_vec(),
        };
        for sequence in all {
            match self.standing(sequence)? {
                (record, OperationState::Parked) => {
                    let first = first_of.entry(record).or_insert(sequence);
                    *first = sequence.min(*first);
                }
                (_, OperationState::Held) => return Err(is_held(sequence)),
                (_, OperationState::Pending) => {
                    return Err(Failure::invalid(format!(
                        "operation {sequence} is pending; only a parked one can be given up"
                    )));
                }
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

fn is_held(sequence: Sequence) -> Failure {
    Failure::invalid(format!("operation {sequence} is held by an open conflict of its record; decide the conflict"))
}

fn waits_for(sequence: Sequence, id: &RecordId) -> Fault {
    Fault::new(FaultKind::Ordering, format!("waits for operation {sequence} on {id}, which is set aside"))
}
