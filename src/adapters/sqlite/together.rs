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
