//! The queue's decisions: which operations may be sent next, and what a verdict means for them.
//!
//! A lease lasts for a round: within one, the window moves forward only. A round that dies takes its leases along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::arrange::arrange;
use super::coalesce::{Coalesced, Relations, coalesce};
use crate::limits::BATCH_BYTES;
use crate::model::{
    Action, CollectionRules, Fault, FaultKind, Operation, Outgoing, RecordId, RemoteRow, Sequence, Verdict,
};
use crate::writes::{Fate, Sent, Settlement};

/// How far this round has read, and what it leaves alone. All of it may be forgotten at any time:
/// sending an operation twice has no second effect.
#[derive(Debug)]
pub struct Outbox {
    relations: Relations,
    max_retries: u32,
    deferred: BTreeSet<RecordId>,
    paused: BTreeMap<Arc<str>, Fault>,
    read_to: Sequence,
}

/// What a verdict comes to.
#[derive(Debug)]
pub enum Reading {
    /// Recorded so.
    Settle(Settlement),
    /// The server's row has to be resolved first.
    Conflict(RemoteRow),
    /// Waits for a parent; the store knows whether one is parked.
    Ordering(Outgoing, Fault),
    /// Left as it is until another round.
    Later(Fault),
}

impl Outbox {
    /// Nothing is out.
    pub fn new(rules: &[CollectionRules], max_retries: u32) -> Self {
        Self {
            relations: Relations::of(rules),
            max_retries,
            deferred: BTreeSet::new(),
            paused: BTreeMap::new(),
            read_to: 0,
        }
    }

    /// A new round: every earlier lease has ended, everything may be tried again.
    pub fn begin_round(&mut self) {
        self.deferred.clear();
        self.paused.clear();
        self.read_to = 0;
    }

    /// Takes over changed settings.
    pub fn configure(&mut self, max_retries: u32) {
        self.max_retries = max_retries;
    }

    /// Where the next window of the outbox begins.
    pub fn read_to(&self) -> Sequence {
        self.read_to
    }

    /// Leases what may be sent of a window of whole transactions; the window is then behind us, so that
    /// nothing is leased twice within a round.
    pub fn lease(&mut self, window: Vec<Operation>) -> Vec<Coalesced> {
        self.read_to = window.last().map_or(self.read_to, |last| last.sequence);
        let free = window.into_iter().filter(|operation| self.may_go(operation)).collect();
        arrange(coalesce(free, &self.relations), &self.relations)
    }

    fn may_go(&self, operation: &Operation) -> bool {
        !self.paused.contains_key(&operation.id.collection) && !self.deferred.contains(&operation.id)
    }

    /// Reads the verdict on a leased operation.
    pub fn read(&mut self, outgoing: Outgoing, verdict: Verdict) -> Reading {
        match verdict {
            Verdict::Applied { version, document } => {
                Reading::Settle(settlement(outgoing, Fate::Applied { version, document }))
            }
            Verdict::Conflict(state) => Reading::Conflict(RemoteRow { id: outgoing.id, state }),
            Verdict::Failed(fault) => self.read_fault(outgoing, fault),
        }
    }

    fn read_fault(&mut self, outgoing: Outgoing, fault: Fault) -> Reading {
        match fault.kind {
            FaultKind::Transient | FaultKind::Unauthorized => {
                self.deferred.insert(outgoing.id);
                Reading::Later(fault)
            }
            FaultKind::Schema => {
                self.paused.insert(outgoing.id.collection, fault.clone());
                Reading::Later(fault)
            }
            FaultKind::Ordering => {
                self.deferred.insert(outgoing.id.clone());
                Reading::Ordering(outgoing, fault)
            }
            FaultKind::Refused => Reading::Settle(settlement(outgoing, Fate::Parked(fault))),
            FaultKind::Doubtful => Reading::Settle(self.charge(outgoing, fault)),
        }
    }

    /// One attempt less; the last one parks.
    pub fn charge(&mut self, outgoing: Outgoing, fault: Fault) -> Settlement {
        let is_last = outgoing.attempts + 1 >= self.max_retries;
        self.deferred.insert(outgoing.id.clone());
        settlement(outgoing, if is_last { Fate::Parked(fault) } else { Fate::Charged(fault) })
    }

    /// The collections whose records this one's may refer to.
    pub fn parents(&self, collection: &str) -> Vec<Arc<str>> {
        self.relations.ancestors(collection).cloned().collect()
    }

    /// Whether operations on one of the two collections can make way for the other's.
    pub fn related(&self, a: &str, b: &str) -> bool {
        self.relations.related(a, b)
    }

    /// The collections that do not fit the server's schema, with the fault, as of this round.
    pub fn paused(&self) -> &BTreeMap<Arc<str>, Fault> {
        &self.paused
    }
}

/// What stands for a parked or applied operation.
pub fn settlement(outgoing: Outgoing, fate: Fate) -> Settlement {
    let sent = Sent { action: outgoing.action, patch: outgoing.patch };
    Settlement { covers: outgoing.covers, id: outgoing.id, sent, fate }
}

/// Operations that cancelled each other out are settled without being sent.
pub fn cancelled(coalesced: Coalesced) -> Settlement {
    Settlement {
        covers: coalesced.covers,
        id: coalesced.id,
        sent: Sent { action: Action::Delete, patch: coalesced.patch },
        fate: Fate::Applied { version: None, document: None },
    }
}

/// How many operations from the front make a batch: whole transactions (H19), at least one of them, up to
/// `limit` operations and `BATCH_BYTES`. `None` where the window ends inside the first transaction.
pub fn whole_transactions(window: &[Operation], limit: usize, window_is_all: bool) -> Option<usize> {
    let mut cut = None;
    let mut bytes = 0;
    for (count, operation) in window.iter().enumerate() {
        let begins_another = count > 0 && window[count - 1].transaction != operation.transaction;
        if begins_another && (count <= limit && bytes <= BATCH_BYTES || cut.is_none()) {
            cut = Some(count);
        }
        if begins_another && (count >= limit || bytes >= BATCH_BYTES) {
            return cut;
        }
        bytes += operation.patch.as_str().len();
    }
    let all_fits = window_is_all && (cut.is_none() || window.len() <= limit && bytes <= BATCH_BYTES);
    if all_fits { Some(window.len()) } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;

    fn operation(sequence: Sequence, transaction: i64) -> Operation {
        Operation {
            sequence,
            transaction,
            id: RecordId::new("notes", format!("{sequence}")),
            action: Action::Create,
            patch: Document::empty(),
            stamp: Default::default(),
            attempts: 0,
        }
    }

    fn check(transactions: &[i64], limit: usize, window_is_all: bool, expected: Option<usize>) {
        let window: Vec<_> = transactions.iter().zip(1..).map(|(one, sequence)| operation(sequence, *one)).collect();
        assert_eq!(whole_transactions(&window, limit, window_is_all), expected, "{transactions:?} limit {limit}");
    }

    #[test]
    fn h19_a_batch_is_cut_only_between_transactions() {
        check(&[], 3, true, Some(0));
        check(&[1, 2, 3], 3, true, Some(3));
        check(&[1, 2, 3, 4], 3, true, Some(3));
        check(&[1, 1, 2, 2, 3], 3, true, Some(2));
        check(&[1, 1, 1, 1, 2], 3, true, Some(4));
        check(&[1, 1, 1, 1], 3, true, Some(4));
        check(&[1, 1, 1, 1], 3, false, None);
        check(&[1, 2, 2], 3, false, Some(1));
    }

    #[test]
    fn h20_no_window_size_stops_the_queue() {
        for length in 0..9 {
            let window: Vec<_> = (1..=length).map(|sequence| operation(sequence, sequence)).collect();
            let cut = whole_transactions(&window, 4, true).unwrap();
            assert_eq!(cut, window.len().min(4), "of {length}");
        }
    }

    fn outgoing(attempts: u32) -> Outgoing {
        Outgoing {
            covers: vec![1, 2],
            id: RecordId::new("notes", "a"),
            action: Action::Update,
            patch: Document::empty(),
            base: None,
            base_version: None,
            attempts,
        }
    }

    #[test]
    fn being_offline_uses_up_no_attempt_and_a_doubtful_refusal_does() {
        let mut outbox = Outbox::new(&[], 3);
        let fails = |outbox: &mut Outbox, kind, attempts| match outbox
            .read(outgoing(attempts), Verdict::Failed(Fault::new(kind, "x")))
        {
            Reading::Settle(Settlement { fate: Fate::Parked(_), .. }) => "parked",
            Reading::Settle(Settlement { fate: Fate::Charged(_), .. }) => "charged",
            Reading::Settle(_) => "settled",
            Reading::Conflict(_) => "conflict",
            Reading::Ordering(..) => "ordering",
            Reading::Later(_) => "later",
        };
        assert_eq!(fails(&mut outbox, FaultKind::Transient, 99), "later");
        assert_eq!(fails(&mut outbox, FaultKind::Doubtful, 1), "charged");
        assert_eq!(fails(&mut outbox, FaultKind::Doubtful, 2), "parked");
        assert_eq!(fails(&mut outbox, FaultKind::Refused, 0), "parked");
        assert_eq!(fails(&mut outbox, FaultKind::Schema, 99), "later");
        assert_eq!(fails(&mut outbox, FaultKind::Ordering, 0), "ordering");
    }

    #[test]
    fn what_was_put_off_waits_for_the_next_round_and_others_go_on() {
        let mut outbox = Outbox::new(&[], 3);
        let window = || vec![operation(1, 1), operation(2, 2)];
        assert_eq!(outbox.lease(window()).len(), 2);
        let mut first = outgoing(0);
        (first.id, first.covers) = (RecordId::new("notes", "1"), vec![1]);
        let later = outbox.read(first, Verdict::Failed(Fault::new(FaultKind::Transient, "x")));
        assert!(matches!(later, Reading::Later(_)));
        assert_eq!(outbox.lease(window()).iter().map(|one| one.covers[0]).collect::<Vec<_>>(), [2]);
        outbox.begin_round();
        assert_eq!(outbox.lease(window()).len(), 2);
    }
}
