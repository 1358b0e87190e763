//! What was saved together stays together where the server keeps transactions: it is set aside whole, and what comes
//! back comes back whole. In the plain mode every operation stands for itself.
//!
//! Transactions stand in the outbox one after another: all operations of one, and nothing else, lie between its number
//! and the next one's.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Row, params};
use tidelock_actors::model::{Fault, FaultKind, RecordId, Sequence};
use tidelock_actors::queue::KEEPS_TRANSACTIONS;

use super::batch::Batch;
use super::faults::Failure;
use super::operations::{OperationState, Queued, Returning};
use super::park::{Aside, Follower};

/// The operation for which the others of its transaction wait.
#[derive(Debug)]
pub(super) struct Leader {
    /// That operation.
    pub(super) sequence: Sequence,
    /// Its record.
    pub(super) id: RecordId,
    /// Set aside with its cause, or held by a conflict.
    pub(super) state: OperationState,
}

/// How far to look for what belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only among what is set aside.
    SetAside,
    /// Also what is to be sent, and what comes after it on the same records.
    All,
    /// What is made in the same transactions, and what comes after that on the same records.
    Later,
}

const COLUMNS: &str = "seq, transaction_id, collection, record, state";

impl Batch<'_> {
    /// Whether the server, as it was last met, applies a transaction whole or not at all.
    pub(super) fn keeps_transactions(&self) -> Result<bool, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM tl_checkpoints WHERE name = ?1")?;
        let value: Option<String> = statement.query_row([KEEPS_TRANSACTIONS], |row| row.get(0)).optional()?;
        Ok(value.is_some_and(|value| value == "yes"))
    }

    /// These with all that has to go with them, in order: their transactions, and what stands on the same records.
    pub(super) fn together_with(&self, seeds: Vec<Returning>, reach: Reach) -> Result<Vec<Returning>, Failure> {
        let mut together: BTreeMap<Sequence, Returning> = BTreeMap::new();
        let mut transactions = BTreeSet::new();
        let is_whole = self.keeps_transactions()?;
        let mut open = seeds;
        while let Some(one) = open.pop() {
            if together.insert(one.sequence, one).is_some() || !is_whole {
                continue;
            }
            if transactions.insert(one.transaction) {
                let members = self.members_of(one.transaction)?;
                open.extend(members.into_iter().filter(|member| is_within(reach, member)));
            }
            open.extend(self.beside(&one, reach)?);
        }
        Ok(together.into_values().collect())
    }

    /// What may go back into the queue of these and of what belongs to them: not what waits for an open conflict.
    pub(super) fn returnable(&self, seeds: Vec<Returning>) -> Result<Vec<Returning>, Failure> {
        let mut all = self.together_with(seeds, Reach::SetAside)?;
        let held: Vec<Returning> = all.iter().filter(|one| is_held(one)).copied().collect();
        if !held.is_empty() {
            let waiting = self.together_with(held, Reach::SetAside)?;
            all.retain(|one| waiting.iter().all(|other| other.sequence != one.sequence));
        }
        Ok(all)
    }

    /// What goes with the operations of one record, on other records.
    pub(super) fn others_with(&self, operations: &[Queued], record: i64) -> Result<Vec<Returning>, Failure> {
        if !self.keeps_transactions()? {
            return Ok(Vec::new());
        }
        let mut seeds = Vec::new();
        for operation in operations {
            seeds.extend(self.members_of(operation.transaction)?);
        }
        let mut together = self.together_with(seeds, Reach::All)?;
        together.retain(|other| other.record != record);
        Ok(together)
    }

    /// What waited with operations that are no more goes back into the queue, unless it waits for another conflict.
    pub(super) fn let_go(&mut self, others: Vec<Returning>) -> Result<(), Failure> {
        let waiting: Vec<_> = others.into_iter().filter(|other| other.state == OperationState::Parked).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let returning = self.returnable(waiting)?;
        self.put_back(&returning, false)
    }

    /// Where a part of a transaction waits, the rest of it waits as well.
    pub(super) fn hold_back(&mut self, transactions: impl IntoIterator<Item = i64>) -> Result<u64, Failure> {
        if !self.keeps_transactions()? {
            return Ok(0);
        }
        let mut aside = Aside::default();
        for transaction in transactions {
            let waits = |member: &&Returning| member.state != OperationState::Pending;
            let members = self.members_of(transaction)?;
            let leader = members.iter().find(|member| is_held(member)).or_else(|| members.iter().find(waits));
            if let Some(Returning { sequence, state, .. }) = leader.copied() {
                let id = self.record_of(sequence)?;
                aside.transactions.insert(transaction, Leader { sequence, id, state });
            }
        }
        self.park_followers(aside)
    }

    /// What is still to be sent of transactions of which a part was set aside.
    pub(super) fn rest_of(&self, transactions: &BTreeMap<i64, Leader>) -> Result<Vec<Follower>, Failure> {
        let mut rest = Vec::new();
        if transactions.is_empty() || !self.keeps_transactions()? {
            return Ok(rest);
        }
        for (transaction, leader) in transactions {
            for member in self.members_of(*transaction)? {
                if member.state == OperationState::Pending {
                    let (id, cause) = (self.record_of(member.sequence)?, saved_together(leader));
                    rest.push(Follower { sequence: member.sequence, id, behind: leader.sequence, cause });
                }
            }
        }
        Ok(rest)
    }

    /// All operations of a transaction that are left.
    pub(super) fn members_of(&self, transaction: i64) -> Result<Vec<Returning>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM tl_operations WHERE seq >= ?1 ORDER BY seq");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([transaction])?;
        let mut members = Vec::new();
        while let Some(row) = rows.next()? {
            let member = self.returning(row)?;
            if member.transaction != transaction {
                break;
            }
            members.push(member);
        }
        Ok(members)
    }

    /// What stands on the same record.
    fn beside(&self, one: &Returning, reach: Reach) -> Result<Vec<Returning>, Failure> {
        let which = match reach {
            Reach::SetAside => "seq <> ?2 AND state <> 'pending'",
            Reach::All => "seq <> ?2 AND (state <> 'pending' OR seq > ?2)",
            Reach::Later => "seq > ?2",
        };
        let sql = format!("SELECT {COLUMNS} FROM tl_operations WHERE record = ?1 AND {which}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![one.record, one.sequence])?;
        let mut beside = Vec::new();
        while let Some(row) = rows.next()? {
            beside.push(self.returning(row)?);
        }
        Ok(beside)
    }

    /// Reads an operation's place and state.
    pub(super) fn returning(&self, row: &Row<'_>) -> Result<Returning, Failure> {
        Ok(Returning {
            sequence: row.get(0)?,
            transaction: row.get(1)?,
            at: self.collections.find(row.get_ref(2)?.as_str().unwrap_or_default())?,
            record: row.get(3)?,
            state: row.get(4)?,
        })
    }

    /// An operation's place and state.
    pub(super) fn standing(&self, sequence: Sequence) -> Result<Returning, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM tl_operations WHERE seq = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([sequence])?;
        match rows.next()? {
            Some(row) => self.returning(row),
            None => Err(Failure::not_found(format!("there is no operation {sequence} in the queue"))),
        }
    }

    /// The record of an operation that is there.
    pub(super) fn record_of(&self, sequence: Sequence) -> Result<RecordId, Failure> {
        let mut statement =
            self.connection.prepare_cached("SELECT collection, key FROM tl_operations WHERE seq = ?1")?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (collection, key): (String, String) = statement.query_row([sequence], read)?;
        Ok(RecordId::new(collection, key))
    }
}

pub(super) fn is_held(one: &Returning) -> bool {
    one.state == OperationState::Held
}

fn is_within(reach: Reach, member: &Returning) -> bool {
    match reach {
        Reach::SetAside => member.state != OperationState::Pending,
        Reach::All | Reach::Later => true,
    }
}

fn saved_together(leader: &Leader) -> Fault {
    let Leader { sequence, id, state } = leader;
    let why = match state {
        OperationState::Held => "the conflict on which waits for a decision",
        OperationState::Parked | OperationState::Pending => "which is set aside",
    };
    Fault::new(FaultKind::Ordering, format!("was saved together with operation {sequence} on {id}, {why}"))
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, refusal, row, said};
    use tidelock_actors::model::{Change, Outcome};
    use tidelock_actors::writes::{Choice, Fate, Write, Written};

    /// A server that keeps transactions.
    fn world() -> World {
        let mut world = World::new();
        world.keep_transactions();
        world
    }

    fn together(world: &mut World, saves: &[(&str, &str)]) {
        let saves = saves.iter().map(|(place, text)| (id(place), Change::Save(document(text)))).collect();
        world.change(saves).unwrap();
    }

    /// Sequence, transaction and place of what is to be sent.
    fn to_send(world: &World) -> Vec<String> {
        world.pending().iter().map(|one| format!("{} of {} {}", one.sequence, one.transaction, one.id)).collect()
    }

    fn moved(written: Written) -> u64 {
        match written {
            Written::Moved { count, .. } => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p4_what_is_parked_takes_its_transaction_along_and_that_what_comes_after_it() {
        let mut world = world();
        together(&mut world, &[("notes/a", "{}"), ("projects/p", "{}"), ("notes/b", "{}")]);
        together(&mut world, &[("tasks/t", r#"{"project":"p"}"#), ("notes/c", "{}")]);
        together(&mut world, &[("notes/b", r#"{"n":2}"#), ("notes/d", "{}")]);
        together(&mut world, &[("notes/e", "{}"), ("notes/f", "{}")]);
        assert_eq!(world.park("notes/a", &[1]), 7);
        assert_eq!(to_send(&world), ["8 of 8 notes/e", "9 of 8 notes/f"]);
        let cause = world.operations()[2].cause.clone().unwrap();
        assert_eq!(cause.message, "was saved together with operation 1 on notes/a, which is set aside");
        assert_eq!(world.operations()[2].depends_on, Some(1));
        world.assert_healthy();

        // One of them brings all of its transaction back, and what stands on the same records; the child waits on.
        let moved = world.commit(Write::Redrive(vec![2])).unwrap();
        assert_eq!(moved, Written::Moved { count: 5, changed: vec![] });
        assert_eq!(
            to_send(&world)[2..],
            ["10 of 10 notes/a", "11 of 10 projects/p", "12 of 10 notes/b", "13 of 13 notes/b", "14 of 13 notes/d"]
        );
        world.applied("projects/p", &[11], "v1");
        assert_eq!(to_send(&world)[6..], ["15 of 15 tasks/t", "16 of 15 notes/c"], "the child's transaction is whole");
        world.assert_healthy();
    }

    #[test]
    fn p4_a_child_of_a_parked_record_is_parked_with_its_transaction() {
        let mut world = world();
        world.save("projects/p", "{}");
        together(&mut world, &[("notes/a", "{}"), ("notes/b", "{}")]);
        world.park("projects/p", &[1]);
        let parked = world.settle("notes/b", &[3], Fate::Dependent(refusal("23503"), 1));
        assert_eq!(parked, Written::Settled { parked: 2, changed: vec![] });
        assert_eq!(to_send(&world), [""; 0]);
        world.assert_healthy();
    }

    #[test]
    fn p4_an_edit_of_one_parked_record_puts_all_into_its_own_transaction() {
        let mut world = world();
        together(&mut world, &[("notes/a", "{}"), ("notes/b", "{}")]);
        world.park("notes/a", &[1]);
        together(&mut world, &[("notes/b", r#"{"n":2}"#), ("notes/c", "{}")]);
        assert_eq!(to_send(&world), ["3 of 3 notes/a", "4 of 3 notes/b", "5 of 3 notes/b", "6 of 3 notes/c"]);
        world.assert_healthy();
    }

    #[test]
    fn p4_giving_one_up_gives_up_its_transaction_and_what_stands_on_that_but_nothing_before_it() {
        let mut world = world();
        together(&mut world, &[("notes/a", "{}"), ("notes/b", "{}")]);
        together(&mut world, &[("notes/b", r#"{"n":2}"#), ("notes/c", "{}")]);
        world.park("notes/a", &[1]);
        assert_eq!(moved(world.commit(Write::DiscardAlone(vec![4])).unwrap()), 1);
        assert_eq!(world.operations().len(), 3);
        assert_eq!(moved(world.commit(Write::Discard(vec![3])).unwrap()), 1, "what is left of it");
        together(&mut world, &[("notes/b", r#"{"n":3}"#), ("notes/d", "{}")]);
        assert_eq!(world.operations().len(), 4);
        let first = world.operations()[0].id;
        assert_eq!(moved(world.commit(Write::Discard(vec![first])).unwrap()), 4);
        assert_eq!((world.get("notes/a"), world.get("notes/d")), (None, None));
        world.assert_healthy();
    }

    /// Two notes that the server has, both changed here together; the server has changed `a` as well.
    fn contested(world: &mut World) {
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b","n":1}"#, "v1")]);
        together(world, &[("notes/b", r#"{"n":2}"#), ("notes/a", r#"{"n":2}"#), ("notes/c", "{}")]);
    }

    #[test]
    fn p4_with_one_held_the_others_wait_and_go_with_it_when_it_is_decided() {
        for (choice, expected) in [
            (
                Choice::Local,
                &["6 of 6 notes/b", "7 of 6 notes/a", "8 of 6 notes/c", "9 of 6 notes/c", "10 of 6 notes/d"][..],
            ),
            (Choice::Remote, &["6 of 6 notes/b", "7 of 6 notes/c", "8 of 8 notes/c", "9 of 8 notes/d"]),
        ] {
            let mut world = world();
            contested(&mut world);
            world.decide(row("notes/a", r#"{"id":"a","n":7}"#, "v2"), Outcome::Hold);
            assert_eq!(to_send(&world), [""; 0]);
            assert_eq!((world.counts("notes").2, world.counts("notes").3), (2, 1));
            together(&mut world, &[("notes/c", r#"{"n":2}"#), ("notes/d", "{}")]);
            assert_eq!(to_send(&world), [""; 0], "an edit is no decision");
            for write in [Write::Redrive(vec![1]), Write::Discard(vec![1])] {
                let refused = said(world.commit(write));
                assert!(refused.contains("decide the conflict"), "{refused}");
            }
            assert_eq!(moved(world.commit(Write::Redrive(vec![])).unwrap()), 0);
            world.assert_healthy();
            world.commit(Write::Decide { conflict: 1, choice }).unwrap();
            assert_eq!(to_send(&world), expected);
            world.assert_healthy();
        }
    }

    #[test]
    fn p4_two_conflicts_of_one_transaction_are_both_waited_for() {
        let mut world = world();
        contested(&mut world);
        world.decide(row("notes/a", r#"{"id":"a","n":7}"#, "v2"), Outcome::Hold);
        world.decide(row("notes/b", r#"{"id":"b","n":7}"#, "v2"), Outcome::Hold);
        world.commit(Write::Decide { conflict: 1, choice: Choice::Local }).unwrap();
        assert_eq!(to_send(&world), [""; 0]);
        world.assert_healthy();
        world.commit(Write::Decide { conflict: 2, choice: Choice::Local }).unwrap();
        let transactions: Vec<i64> = world.pending().iter().map(|one| one.transaction).collect();
        assert_eq!(transactions.len(), 3);
        assert!(transactions.iter().all(|transaction| *transaction == transactions[0]), "{transactions:?}");
        world.assert_healthy();
    }

    #[test]
    fn p4_what_is_kept_goes_with_its_transaction_and_what_is_not_leaves_it() {
        let mut world = world();
        contested(&mut world);
        world.decide(row("notes/a", r#"{"id":"a","n":7}"#, "v2"), Outcome::Keep(Some(document(r#"{"id":"a","n":2}"#))));
        assert_eq!(to_send(&world), ["4 of 4 notes/b", "5 of 4 notes/a", "6 of 4 notes/c"]);
        world.decide(row("notes/b", r#"{"id":"b","n":7}"#, "v2"), Outcome::TakeRemote);
        assert_eq!(to_send(&world), ["5 of 4 notes/a", "6 of 4 notes/c"]);
        world.assert_healthy();
    }
}
