//! The server's verdicts become part of the store.

use std::collections::BTreeSet;

use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, Sequence, Version};
use tidelock_actors::writes::{Fate, Sent, Settlement, Written};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::operations::{OperationState, Queued, laid_over};
use super::park::Aside;
use super::records::{Cause, Origin, State, same};

/// What the server answered to an operation that took effect.
struct Answer<'a> {
    sent: &'a Sent,
    version: Option<&'a Version>,
    document: Option<&'a Document>,
}

impl Answer<'_> {
    /// Whether the server took everything as it was sent. What it made of other columns completes the version that was
    /// saved here; it is no other one.
    fn completes(&self) -> bool {
        self.document.is_some_and(|document| self.sent.patch.is_within(document))
    }
}

impl Batch<'_> {
    /// Records verdicts.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Result<Written, Failure> {
        let (mut parked, mut changed, mut aside) = (0, Vec::new(), Aside::default());
        for settlement in settlements {
            let place = self.collections.place(&settlement.id)?;
            match &settlement.fate {
                Fate::Applied { version, document } => {
                    let answer =
                        Answer { sent: &settlement.sent, version: version.as_ref(), document: document.as_ref() };
                    if self.apply(place, &settlement.covers, &answer)? {
                        changed.push(settlement.id.clone());
                    }
                }
                Fate::Parked(fault) => parked += self.park(place, &settlement.covers, fault, &mut aside)?,
                Fate::Dependent(fault, on) => {
                    parked += self.park_behind(place, &settlement.covers, fault, *on, &mut aside)?;
                }
                Fate::Charged(fault) => self.charge(place, &settlement.covers, fault)?,
            }
        }
        parked += self.park_followers(aside)?;
        Ok(Written::Settled { parked, changed })
    }

    /// Exactly the covered operations are settled; the document is the server's under what remains (H50).
    fn apply(&mut self, place: Place<'_>, covers: &[Sequence], answer: &Answer<'_>) -> Result<bool, Failure> {
        let Some(record) = self.find(place)? else { return self.apply_to_unknown(place, answer) };
        let covers: BTreeSet<Sequence> = covers.iter().copied().collect();
        let (covered, remaining): (Vec<_>, Vec<_>) =
            self.operations_of(record.row)?.into_iter().partition(|operation| covers.contains(&operation.sequence));
        let after = match (covered.as_slice(), remaining.as_slice()) {
            ([only], []) => applied_alone(&record.state, only, answer),
            _ => None,
        };
        let after = after.unwrap_or_else(|| {
            let under = applied(&record.state, &covered, answer);
            let over = remaining.iter().map(|operation| (operation.action, &operation.patch));
            State { document: laid_over(under.base.as_ref(), over), ..under }
        });
        let changed = !same(after.document.as_ref(), record.state.document.as_ref());
        for operation in &covered {
            self.dequeue(place.at, operation)?;
        }
        let cause = self.server_cause();
        let replaced = changed && !answer.completes();
        self.replace(place, &record, &after, !remaining.is_empty(), replaced, cause)?;
        self.close_conflict_without_operations(place, &after, &remaining)?;
        for operation in &covered {
            self.release_dependants(operation.sequence)?;
        }
        Ok(changed)
    }

    /// The record was given up here while its operation was on the way, yet the server took it.
    fn apply_to_unknown(&mut self, place: Place<'_>, answer: &Answer<'_>) -> Result<bool, Failure> {
        if answer.sent.action == Action::Delete {
            return Ok(false);
        }
        let after = applied(&State::nowhere(), &[], answer);
        let state = State { document: after.base.clone(), ..after };
        let cause = self.server_cause();
        self.insert(place, &state, false, cause)?;
        Ok(true)
    }

    fn charge(&mut self, place: Place<'_>, covers: &[Sequence], fault: &Fault) -> Result<(), Failure> {
        let Some(record) = self.find(place)? else { return Ok(()) };
        for operation in self.operations_of(record.row)? {
            if covers.contains(&operation.sequence) && operation.state == OperationState::Pending {
                self.annotate(operation.sequence, fault, true, None)?;
            }
        }
        Ok(())
    }

    /// An open conflict whose operations the server took after all is no conflict any more.
    fn close_conflict_without_operations(
        &mut self,
        place: Place<'_>,
        after: &State,
        remaining: &[Queued],
    ) -> Result<(), Failure> {
        if !remaining.is_empty() || self.counts(place.at).conflicts == 0 {
            return Ok(());
        }
        self.close_conflict(place, after.document.as_ref())
    }

    /// The server did it just now.
    pub(super) fn server_cause(&self) -> Cause {
        Cause { origin: Origin::Server, stamp: self.now, round: None }
    }
}

/// The only operation of a record was sent as it is and nothing more was heard of it: what the server has now
/// is the document as it stands, which need not be put together anew.
fn applied_alone(before: &State, only: &Queued, answer: &Answer<'_>) -> Option<State> {
    let is_as_sent = only.action == answer.sent.action && only.patch == answer.sent.patch;
    let document = before.document.as_ref().filter(|_| is_as_sent && answer.document.is_none())?;
    Some(State::of_server(document.clone(), answer.version.cloned(), false))
}

/// What the server has after it applied what was sent; the document is left for the caller to lay over.
fn applied(before: &State, covered: &[Queued], answer: &Answer<'_>) -> State {
    let Answer { sent, version, document } = answer;
    let cancelled_out = sent.action == Action::Delete
        && version.is_none()
        && covered.first().is_some_and(|operation| operation.action == Action::Create);
    if cancelled_out {
        // Made and deleted here, never sent: the server knows nothing of it (H17).
        return before.clone();
    }
    let base = match (document, sent.action) {
        (_, Action::Delete) => None,
        (Some(document), _) => Some((*document).clone()),
        (None, Action::Create) => Some(sent.patch.clone()),
        (None, Action::Update) => laid_over(before.base.as_ref(), [(Action::Update, &sent.patch)]),
    };
    let version = version.cloned().filter(|_| base.is_some());
    State { document: None, confirmed: document.is_some() || base.is_none(), base, version }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, refusal, row};
    use super::*;
    use tidelock_actors::model::Outcome;
    use tidelock_actors::writes::Write;

    #[test]
    fn an_applied_create_settles_its_operation_and_the_server_has_the_record() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        assert_eq!(world.applied("notes/a", &[1], "v1"), Written::Settled { parked: 0, changed: vec![] });
        assert_eq!(world.outbox(), [""; 0]);
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        assert_eq!(world.bases("notes/a"), (Some(r#"{"id":"a","n":1}"#.to_owned()), Some("v1".to_owned())));
        world.assert_healthy();
    }

    #[test]
    fn h50_an_edit_made_while_the_first_version_was_in_flight_stays_to_be_sent() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1,"m":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        world.applied("notes/a", &[1], "v1");
        assert_eq!(world.outbox(), [r#"2 notes/a update {"n":2}"#]);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":1,"n":2}"#);
        assert_eq!(world.bases("notes/a").0.unwrap(), r#"{"id":"a","m":1,"n":1}"#);
        world.assert_healthy();
    }

    #[test]
    fn what_the_servers_triggers_changed_arrives_under_later_edits() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        let fate =
            Fate::Applied { version: Some("v1".into()), document: Some(document(r#"{"id":"a","n":1,"slug":"one"}"#)) };
        assert_eq!(world.settle("notes/a", &[1], fate), Written::Settled { parked: 0, changed: vec![id("notes/a")] });
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2,"slug":"one"}"#);
        world.assert_healthy();
    }

    #[test]
    fn what_the_server_adds_to_a_saved_version_completes_it_and_what_it_alters_replaces_it() {
        for (row, versions) in [(r#"{"id":"a","n":1,"slug":"one"}"#, 0), (r#"{"id":"a","n":7}"#, 1)] {
            let mut world = World::new();
            world.save("notes/a", r#"{"n":1}"#);
            let fate = Fate::Applied { version: Some("v1".into()), document: Some(document(row)) };
            assert_eq!(
                world.settle("notes/a", &[1], fate),
                Written::Settled { parked: 0, changed: vec![id("notes/a")] }
            );
            assert_eq!(world.get("notes/a").unwrap(), row);
            assert_eq!(world.rows("tl_history"), versions, "{row}");
            world.assert_healthy();
        }
    }

    #[test]
    fn h17_a_deletion_that_was_applied_leaves_nothing() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.applied("notes/a", &[1], "v1");
        world.delete("notes/a");
        assert_eq!(world.counts("notes"), (0, 1, 0, 0, 1));
        world.applied("notes/a", &[2], "");
        assert_eq!((world.get("notes/a"), world.counts("notes")), (None, (0, 0, 0, 0, 0)));
        assert_eq!(world.rows("tl_records"), 0);
        world.assert_healthy();
    }

    #[test]
    fn h17_a_record_made_and_deleted_before_it_was_sent_leaves_nothing() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.delete("notes/a");
        world.applied("notes/a", &[1, 2], "");
        assert_eq!((world.rows("tl_records"), world.counts("notes")), (0, (0, 0, 0, 0, 0)));
        world.assert_healthy();
    }

    #[test]
    fn h17_what_cancels_out_after_an_unsent_deletion_does_not_settle_that_deletion() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.applied("notes/a", &[1], "v1");
        world.delete("notes/a");
        world.save("notes/a", r#"{"n":2}"#);
        world.delete("notes/a");
        world.applied("notes/a", &[3, 4], "");
        assert_eq!(world.outbox(), ["2 notes/a delete {}"]);
        assert_eq!(world.counts("notes"), (0, 1, 0, 0, 1));
        assert_eq!(world.bases("notes/a").1.unwrap(), "v1");
        world.assert_healthy();
    }

    #[test]
    fn a_create_that_was_applied_after_the_record_was_deleted_here_keeps_the_deletion() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.delete("notes/a");
        world.applied("notes/a", &[1], "v1");
        assert_eq!(world.outbox(), ["2 notes/a delete {}"]);
        assert_eq!((world.get("notes/a"), world.counts("notes")), (None, (0, 1, 0, 0, 1)));
        world.assert_healthy();
    }

    #[test]
    fn an_operation_that_was_given_up_while_it_was_applied_is_known_all_the_same() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.park("notes/a", &[1]);
        world.commit(Write::Discard(vec![1])).unwrap();
        assert_eq!(world.rows("tl_records"), 0);
        let settlement = Settlement {
            covers: vec![1],
            id: id("notes/a"),
            sent: Sent { action: Action::Create, patch: document(r#"{"id":"a","n":1}"#) },
            fate: Fate::Applied { version: Some("v1".into()), document: None },
        };
        world.commit(Write::Settle(vec![settlement])).unwrap();
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn a_verdict_without_a_document_is_confirmed_by_the_next_row_even_of_the_same_version() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.applied("notes/a", &[1], "v1");
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":1,"slug":"one"}"#, "v1")]), 1);
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":1,"slug":"other"}"#, "v1")]), 0, "confirmed");
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1,"slug":"one"}"#);
        world.assert_healthy();
    }

    #[test]
    fn the_row_that_became_of_our_own_create_is_no_conflict_with_our_next_edit() {
        for version in ["v1", ""] {
            let mut world = World::new();
            world.save("notes/a", r#"{"n":1}"#);
            world.save("notes/a", r#"{"n":2}"#);
            world.applied("notes/a", &[1], version);
            let seen = row("notes/a", r#"{"id":"a","n":1,"slug":"one","updated_at":"now"}"#, "v1");
            assert_eq!(world.take(vec![seen]), 1);
            assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2,"slug":"one","updated_at":"now"}"#);
            assert_eq!(world.outbox(), [r#"2 notes/a update {"n":2}"#]);
            world.assert_healthy();
        }
    }

    #[test]
    fn a_charged_operation_stays_to_be_sent_with_its_attempts_and_cause() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.settle("notes/a", &[1], Fate::Charged(refusal("57014")));
        world.settle("notes/a", &[1], Fate::Charged(refusal("57014")));
        let operation = world.operations().remove(0);
        assert_eq!((operation.attempts, operation.state), (2, OperationState::Pending));
        assert_eq!(operation.cause.unwrap().code.as_deref(), Some("57014"));
        assert_eq!(world.pending()[0].attempts, 2);
        assert_eq!(world.counts("notes"), (1, 1, 0, 0, 0));
    }

    #[test]
    fn a_held_operation_that_was_applied_after_all_ends_its_conflict() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        world.decide(row("notes/a", r#"{"id":"a","n":3}"#, "v2"), Outcome::Hold);
        assert_eq!(world.counts("notes"), (1, 0, 0, 1, 1));
        world.applied("notes/a", &[1], "v3");
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }
}
