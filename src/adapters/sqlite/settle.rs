//! The server's verdicts become part of the store.

use std::collections::BTreeSet;

use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, Sequence, Version};
use tidelock_actors::writes::{Fate, Sent, Settlement, Written};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::operations::{OperationState, Queued, laid_over};
use super::records::{Cause, Origin, State, same};

/// What the server answered to an operation that took effect.
struct Answer<'a> {
    sent: &'a Sent,
    version: Option<&'a Version>,
    document: Option<&'a Document>,
}

impl Batch<'_> {
    /// Records verdicts.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Result<Written, Failure> {
        let (mut parked, mut changed, mut creates) = (0, Vec::new(), Vec::new());
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
                Fate::Parked(fault) => parked += self.park(place, &settlement.covers, fault, &mut creates)?,
                Fate::Dependent(fault, on) => {
                    parked += self.park_behind(place, &settlement.covers, fault, *on, &mut creates)?;
                }
                Fate::Charged(fault) => self.charge(place, &settlement.covers, fault)?,
            }
        }
        parked += self.park_children(creates)?;
        Ok(Written::Settled { parked, changed })
    }

    /// Exactly the covered operations are settled; the document is the server's under what remains (H50).
    fn apply(&mut self, place: Place<'_>, covers: &[Sequence], answer: &Answer<'_>) -> Result<bool, Failure> {
        let Some(record) = self.find(place)? else { return self.apply_to_unknown(place, answer) };
        let covers: BTreeSet<Sequence> = covers.iter().copied().collect();
        let (covered, remaining): (Vec<_>, Vec<_>) =
            self.operations_of(record.row)?.into_iter().partition(|operation| covers.contains(&operation.sequence));
        let under = applied(&record.state, &covered, answer);
        let over = remaining.iter().map(|operation| (operation.action, &operation.patch));
        let after = State { document: laid_over(under.base.as_ref(), over), ..under };
        let changed = !same(after.document.as_ref(), record.state.document.as_ref());
        for operation in &covered {
            self.dequeue(place.at, operation)?;
        }
        let cause = self.server_cause();
        self.replace(place, &record, &after, !remaining.is_empty(), changed, cause)?;
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
