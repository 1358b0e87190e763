//! The queue's decisions: which operations may be sent next, and what a verdict means for them.
//!
//! A lease lasts for a round: within one, the window moves forward only. A round that dies takes its leases along,
//! but not the memory of what was leased together: an answer may have been lost, so the same operations are
//! coalesced the same way again, and nothing newer is merged into them or cancels them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::Chance;
use super::arrange::arrange;
use super::backoff::Backoff;
use super::coalesce::{Coalesced, coalesce, unmixed};
use super::flights::Flights;
use super::relations::Relations;
use crate::limits::BATCH_BYTES;
use crate::model::{
    Action, CollectionRules, Counts, Fault, FaultKind, Operation, Outgoing, RecordId, RemoteRow, Sequence, Verdict,
};
use crate::ports::Nature;
use crate::writes::{Fate, Sent, Settlement};

/// The SQLSTATE of a statement that was stopped because it took too long.
const TOO_LONG: &str = "57014";

/// How far this round has read, and what it leaves alone. All of it may be forgotten at any time:
/// sending an operation twice has no second effect.
#[derive(Debug)]
pub struct Outbox {
    rules: Arc<[CollectionRules]>,
    relations: Relations,
    patience: Patience,
    chance: Chance,
    deferred: BTreeSet<RecordId>,
    /// Operations of this round that wait for others, by collection.
    waiting: BTreeMap<Arc<str>, u64>,
    /// Records whose last refusal was so recent that trying again has no point yet.
    resting: BTreeMap<RecordId, Instant>,
    /// Verdicts that something took effect, so far.
    applied: u64,
    /// Records whose statement took too long, and how much had taken effect by then.
    slow: BTreeMap<RecordId, u64>,
    paused: BTreeMap<Arc<str>, Fault>,
    read_to: Sequence,
    /// Whether a transaction waits whole where one of its operations has to.
    keeps_transactions: bool,
    /// Where earlier batches ended, rising; what stands before the last one may have been sent.
    boundaries: Vec<Sequence>,
}

/// How often a doubtful refusal is tried again, and how soon.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tries after the first one.
    pub max_retries: u32,
    /// The wait before each.
    pub backoff: Backoff,
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
    pub fn new(rules: &[CollectionRules], patience: Patience, seed: u64) -> Self {
        Self {
            relations: Relations::of(rules, &[]),
            rules: rules.into(),
            patience,
            chance: Chance::from_seed(seed),
            deferred: BTreeSet::new(),
            waiting: BTreeMap::new(),
            resting: BTreeMap::new(),
            applied: 0,
            slow: BTreeMap::new(),
            paused: BTreeMap::new(),
            read_to: 0,
            keeps_transactions: false,
            boundaries: Vec::new(),
        }
    }

    /// Goes on with the boundaries that were written down.
    pub fn resume(&mut self, boundaries: &str) {
        self.boundaries = boundaries.split(',').filter_map(|boundary| boundary.parse().ok()).collect();
    }

    /// The boundaries to write down.
    pub fn boundaries(&self) -> String {
        self.boundaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The end of the earlier batch that the next window falls into.
    pub fn next_boundary(&self) -> Option<Sequence> {
        self.boundaries.iter().copied().find(|boundary| *boundary > self.read_to)
    }

    /// Cuts a new window, between transactions, before it would send a record twice; whether it was cut.
    pub fn cut(&self, window: &mut Vec<Operation>) -> bool {
        let mut at = unmixed(window, &self.relations);
        while at > 0 && at < window.len() && window[at - 1].transaction == window[at].transaction {
            at -= 1;
        }
        let is_cut = at > 0 && at < window.len();
        if is_cut {
            window.truncate(at);
        }
        is_cut
    }

    /// The earlier batch up to here has been read.
    pub fn pass(&mut self, boundary: Sequence) {
        self.read_to = self.read_to.max(boundary);
    }

    /// Forgets a batch of which nothing is left.
    pub fn forget(&mut self, boundary: Sequence) {
        self.boundaries.retain(|other| *other != boundary);
        self.pass(boundary);
    }

    /// Draws a new boundary after this window; whether it has to be written down before anything is sent.
    pub fn draw_boundary(&mut self, window: &[Operation]) -> bool {
        let Some(last) = window.last().filter(|last| self.boundaries.last().is_none_or(|old| *old < last.sequence))
        else {
            return false;
        };
        self.boundaries.push(last.sequence);
        true
    }

    /// A new round: every earlier lease has ended, everything but what rests may be tried again.
    pub fn begin_round(&mut self, now: Instant) {
        self.resting.retain(|_, until| *until > now);
        self.waiting.clear();
        self.deferred.clear();
        self.paused.clear();
        self.read_to = 0;
    }

    /// Whether a transaction waits whole where one of its operations has to.
    pub fn keeps_transactions(&self) -> bool {
        self.keeps_transactions
    }

    /// What is known before the server is met again.
    pub fn keep_transactions(&mut self, keeps: bool) {
        self.keeps_transactions = keeps;
    }

    /// How the server takes operations.
    pub fn suit(&mut self, nature: &Nature) {
        self.keep_transactions(nature.keeps_transactions);
        self.relations = Relations::of(&self.rules, &nature.references);
    }

    /// Whether these may overtake what is on its way.
    pub fn may_overtake(&self, window: &[Operation], flights: &Flights) -> bool {
        flights.may_be_overtaken_by(window, &self.relations)
    }

    /// Takes over changed settings.
    pub fn configure(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Where the next window of the outbox begins.
    pub fn read_to(&self) -> Sequence {
        self.read_to
    }

    /// Leases what may be sent of a window of whole transactions; the window is then behind us, so that
    /// nothing is leased twice within a round.
    pub fn lease(&mut self, window: Vec<Operation>, may_have_been_sent: bool) -> Vec<Coalesced> {
        self.read_to = window.last().map_or(self.read_to, |last| last.sequence);
        if self.keeps_transactions {
            self.hold_transactions(&window);
        }
        let free = window.into_iter().filter(|operation| self.may_go(operation)).collect();
        arrange(coalesce(free, &self.relations, may_have_been_sent), &self.relations)
    }

    /// Where one operation has to wait, the others of its transaction wait with it, and all that is made on the same
    /// records: what came before on one of them may have been sent as one with it.
    fn hold_transactions(&mut self, window: &[Operation]) {
        let mut held = usize::MAX;
        while held != self.deferred.len() {
            held = self.deferred.len();
            for transaction in window.chunk_by(|a, b| a.transaction == b.transaction) {
                if !transaction.iter().all(|operation| self.may_go(operation)) {
                    self.deferred.extend(transaction.iter().map(|operation| operation.id.clone()));
                }
            }
        }
    }

    fn may_go(&self, operation: &Operation) -> bool {
        let Operation { id, .. } = operation;
        !self.paused.contains_key(&id.collection) && !self.deferred.contains(id) && !self.resting.contains_key(id)
    }

    /// Reads the verdict on a leased operation.
    pub fn read(&mut self, outgoing: Outgoing, verdict: Verdict, now: Instant) -> Reading {
        match verdict {
            Verdict::Applied { version, document } => {
                self.applied += 1;
                self.slow.remove(&outgoing.id);
                Reading::Settle(settlement(outgoing, Fate::Applied { version, document }))
            }
            Verdict::Conflict(state) => Reading::Conflict(RemoteRow { id: outgoing.id, state }),
            Verdict::Failed(fault) => self.read_fault(outgoing, fault, now),
        }
    }

    fn read_fault(&mut self, outgoing: Outgoing, fault: Fault, now: Instant) -> Reading {
        let fault = if self.keeps_transactions { told_of_joining(fault, &outgoing) } else { fault };
        match fault.kind {
            FaultKind::Transient if self.is_to_blame(&outgoing.id, &fault) => {
                Reading::Settle(self.charge(outgoing, fault, now))
            }
            FaultKind::Transient | FaultKind::Unauthorized | FaultKind::Replaced | FaultKind::Behind => {
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
            FaultKind::Doubtful => Reading::Settle(self.charge(outgoing, fault, now)),
        }
    }

    /// Whether a transaction takes too long again, with others having gone through since: then it is not the server's
    /// state that makes it slow.
    fn is_to_blame(&mut self, id: &RecordId, fault: &Fault) -> bool {
        if !self.keeps_transactions || fault.code.as_deref() != Some(TOO_LONG) {
            return false;
        }
        self.slow.insert(id.clone(), self.applied).is_some_and(|then| self.applied > then)
    }

    /// One attempt less; the last one parks. The next one waits.
    pub fn charge(&mut self, outgoing: Outgoing, fault: Fault, now: Instant) -> Settlement {
        if outgoing.attempts >= self.patience.max_retries {
            self.slow.remove(&outgoing.id);
            return settlement(outgoing, Fate::Parked(fault));
        }
        let wait = self.patience.backoff.wait(outgoing.attempts + 1, &mut self.chance);
        self.resting.insert(outgoing.id.clone(), now + wait);
        settlement(outgoing, Fate::Charged(fault))
    }

    /// Whether another operation may still make way for this one, so that waiting is not its fault. Those of the
    /// same batch had their chance, and those that wait themselves do not count: two that wait for each other
    /// would wait for ever.
    pub fn may_make_way(&mut self, collection: &Arc<str>, pending: &Counts, batch: &BTreeMap<Arc<str>, u64>) -> bool {
        let others = pending.iter().filter(|(other, _)| self.relations.related(other, collection));
        let hope = others.into_iter().any(|(other, counts)| {
            let spent = self.waiting.get(other).into_iter().chain(batch.get(other)).sum::<u64>();
            counts.pending > spent
        });
        *self.waiting.entry(collection.clone()).or_default() += 1;
        hope
    }

    /// The collections whose records this one's may refer to.
    pub fn parents(&self, collection: &str) -> Vec<Arc<str>> {
        self.relations.ancestors(collection).cloned().collect()
    }

    /// The collections that do not fit the server's schema, with the fault, as of this round.
    pub fn paused(&self) -> &BTreeMap<Arc<str>, Fault> {
        &self.paused
    }
}

/// A refusal of what was put together of several transactions may be due to any of them.
fn told_of_joining(mut fault: Fault, outgoing: &Outgoing) -> Fault {
    let count = outgoing.transactions.len();
    if count > 1 && !fault.concerns_everything() {
        let words = format!("{count} local transactions changed this record and were sent as one");
        fault.details = Some(fault.details.map_or(words.clone(), |details| format!("{details}; {words}")));
    }
    fault
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
    use super::super::coalesce::tests::rule;
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

    fn outbox() -> Outbox {
        let second = std::time::Duration::from_secs(1);
        Outbox::new(&[], Patience { max_retries: 3, backoff: Backoff { base: second, cap: second } }, 1)
    }

    fn outgoing(attempts: u32) -> Outgoing {
        Outgoing {
            covers: vec![1, 2],
            transactions: vec![1, 2],
            id: RecordId::new("notes", "a"),
            action: Action::Update,
            patch: Document::empty(),
            base: None,
            base_version: None,
            attempts,
            may_have_been_sent: false,
        }
    }

    #[test]
    fn being_offline_uses_up_no_attempt_and_a_doubtful_refusal_does() {
        let mut outbox = outbox();
        let fails = |outbox: &mut Outbox, kind, attempts| match outbox.read(
            outgoing(attempts),
            Verdict::Failed(Fault::new(kind, "x")),
            Instant::now(),
        ) {
            Reading::Settle(Settlement { fate: Fate::Parked(_), .. }) => "parked",
            Reading::Settle(Settlement { fate: Fate::Charged(_), .. }) => "charged",
            Reading::Settle(_) => "settled",
            Reading::Conflict(_) => "conflict",
            Reading::Ordering(..) => "ordering",
            Reading::Later(_) => "later",
        };
        assert_eq!(fails(&mut outbox, FaultKind::Transient, 99), "later");
        assert_eq!(fails(&mut outbox, FaultKind::Doubtful, 2), "charged");
        assert_eq!(fails(&mut outbox, FaultKind::Doubtful, 3), "parked", "after three retries");
        assert_eq!(fails(&mut outbox, FaultKind::Refused, 0), "parked");
        assert_eq!(fails(&mut outbox, FaultKind::Schema, 99), "later");
        assert_eq!(fails(&mut outbox, FaultKind::Ordering, 0), "ordering");
    }

    #[test]
    fn h54_what_was_leased_together_is_leased_together_again_and_nothing_newer_joins_it() {
        let mut outbox = outbox();
        assert_eq!(outbox.next_boundary(), None);
        assert!(outbox.draw_boundary(&[operation(1, 1), operation(2, 2)]));
        assert!(outbox.draw_boundary(&[operation(5, 5)]));
        assert!(!outbox.draw_boundary(&[operation(2, 2)]), "an older window draws no new one");
        let mut again = Outbox::new(&[], outbox.patience, 1);
        again.resume(&outbox.boundaries());
        assert_eq!(again.next_boundary(), Some(2));
        again.lease(vec![operation(1, 1), operation(2, 2)], false);
        assert_eq!(again.next_boundary(), Some(5));
        again.forget(5);
        assert_eq!((again.next_boundary(), again.boundaries().as_str()), (None, "2"));
        again.begin_round(Instant::now());
        assert_eq!(again.next_boundary(), Some(2));
    }

    #[test]
    fn what_was_put_off_waits_for_the_next_round_and_others_go_on() {
        let mut outbox = outbox();
        let window = || vec![operation(1, 1), operation(2, 2)];
        assert_eq!(outbox.lease(window(), false).len(), 2);
        let mut first = outgoing(0);
        (first.id, first.covers) = (RecordId::new("notes", "1"), vec![1]);
        let later = outbox.read(first, Verdict::Failed(Fault::new(FaultKind::Transient, "x")), Instant::now());
        assert!(matches!(later, Reading::Later(_)));
        assert_eq!(outbox.lease(window(), false).iter().map(|one| one.covers[0]).collect::<Vec<_>>(), [2]);
        outbox.begin_round(Instant::now());
        assert_eq!(outbox.lease(window(), false).len(), 2);
    }

    #[test]
    fn h19_where_one_operation_waits_its_transaction_waits_and_what_stands_on_it() {
        let mut outbox = outbox();
        outbox.suit(&Nature { keeps_transactions: true, ..Nature::PLAIN });
        let of = |sequence, transaction, key: &str| Operation {
            transaction,
            id: RecordId::new("notes", key),
            ..operation(sequence, sequence)
        };
        let window = || vec![of(1, 1, "a"), of(2, 1, "b"), of(3, 3, "b"), of(4, 3, "c"), of(5, 5, "d")];
        let mut first = outgoing(0);
        (first.id, first.covers) = (RecordId::new("notes", "a"), vec![1]);
        outbox.read(first, Verdict::Failed(Fault::new(FaultKind::Transient, "x")), Instant::now());
        assert_eq!(outbox.lease(window(), false).iter().map(|one| one.covers[0]).collect::<Vec<_>>(), [5]);
        outbox.begin_round(Instant::now());
        assert_eq!(outbox.lease(window(), false).len(), 4, "b is sent once");
        outbox.begin_round(Instant::now());
        let mut last = outgoing(0);
        (last.id, last.covers) = (RecordId::new("notes", "c"), vec![4]);
        outbox.read(last, Verdict::Failed(Fault::new(FaultKind::Transient, "x")), Instant::now());
        let sent = outbox.lease(window(), false);
        assert_eq!(sent.iter().map(|one| one.covers[0]).collect::<Vec<_>>(), [5], "a was saved together with b");
    }

    #[test]
    fn a_transaction_that_takes_too_long_is_charged_only_where_others_go_through_meanwhile() {
        let mut outbox = outbox();
        outbox.keep_transactions(true);
        let times_out = |outbox: &mut Outbox, attempts| {
            let code = Some("57014".to_owned());
            let fault = Fault { code, ..Fault::new(FaultKind::Transient, "canceling statement") };
            match outbox.read(outgoing(attempts), Verdict::Failed(fault), Instant::now()) {
                Reading::Settle(Settlement { fate, .. }) => format!("{fate:?}").chars().take(6).collect(),
                other => format!("{other:?}").chars().take(5).collect::<String>(),
            }
        };
        let another_goes = |outbox: &mut Outbox| {
            let another = Outgoing { id: RecordId::new("notes", "b"), ..outgoing(0) };
            outbox.read(another, Verdict::Applied { version: None, document: None }, Instant::now());
        };
        another_goes(&mut outbox);
        assert_eq!(times_out(&mut outbox, 0), "Later", "it may be the server");
        assert_eq!(times_out(&mut outbox, 0), "Later", "nothing went through since");
        another_goes(&mut outbox);
        assert_eq!(times_out(&mut outbox, 0), "Charge");
        another_goes(&mut outbox);
        assert_eq!(times_out(&mut outbox, 3), "Parked");
        outbox.keep_transactions(false);
        another_goes(&mut outbox);
        assert_eq!(times_out(&mut outbox, 3), "Later", "the plain mode has no such groups");
    }

    #[test]
    fn a_refusal_of_what_several_transactions_made_says_so() {
        let mut outbox = outbox();
        let mut details = |keeps| {
            outbox.keep_transactions(keeps);
            let fault = Fault { details: Some("of n".into()), ..Fault::new(FaultKind::Refused, "x") };
            match outbox.read(outgoing(0), Verdict::Failed(fault), Instant::now()) {
                Reading::Settle(Settlement { fate: Fate::Parked(fault), .. }) => fault.details.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(details(false), "of n");
        assert_eq!(details(true), "of n; 2 local transactions changed this record and were sent as one");
    }

    #[test]
    fn a_charged_operation_rests_before_it_is_tried_again() {
        let (mut outbox, now) = (outbox(), Instant::now());
        let mut first = outgoing(0);
        (first.id, first.covers) = (RecordId::new("notes", "1"), vec![1]);
        outbox.read(first, Verdict::Failed(Fault::new(FaultKind::Doubtful, "x")), now);
        outbox.begin_round(now);
        assert!(outbox.lease(vec![operation(1, 1)], false).is_empty());
        outbox.begin_round(now + std::time::Duration::from_secs(1));
        assert_eq!(outbox.lease(vec![operation(1, 1)], false).len(), 1);
    }

    #[test]
    fn two_that_wait_for_each_other_do_not_wait_for_ever() {
        let patience = outbox().patience;
        let mut outbox = Outbox::new(&[rule("projects", &[]), rule("tasks", &["projects"])], patience, 1);
        let one = || crate::model::CollectionCounts { pending: 1, ..Default::default() };
        let pending: Counts = [("projects".into(), one()), ("tasks".into(), one())].into();
        let none = BTreeMap::new();
        assert!(outbox.may_make_way(&"projects".into(), &pending, &none), "the task may still go");
        assert!(!outbox.may_make_way(&"tasks".into(), &pending, &none), "nothing else moves");
        outbox.begin_round(Instant::now());
        let batch = [("projects".into(), 1)].into();
        assert!(!outbox.may_make_way(&"tasks".into(), &pending, &batch), "a parent of this batch had its chance");
    }
}
