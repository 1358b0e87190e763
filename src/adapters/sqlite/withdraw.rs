//! Records whose rows the server does not have any more, or does not show, while something of theirs is still to be sent.

use tidelock_actors::model::{Fault, RemoteState};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::park::Aside;
use super::records::{Cause, Newest, Origin, Record};

impl Batch<'_> {
    /// The record as it is here becomes one operation that is set aside with the cause: it can be sent again, which makes
    /// the row anew, or given up. Tells whether the document means something else now.
    pub(super) fn withdraw(
        &mut self,
        place: Place<'_>,
        record: &Record,
        newest: Newest,
        fault: &Fault,
        cause: Cause,
    ) -> Result<bool, Failure> {
        let cause = Cause { origin: Origin::Resolution, ..cause };
        let kept = record.state.document.as_ref().map(|document| self.unstamped(place, document));
        let (_, changed) = self.keep(place, record, newest, &RemoteState::Gone, kept.as_ref(), cause)?;
        let Some(left) = self.find(place)? else { return Ok(changed) };
        if let Some(operation) = self.newest(&left)? {
            let mut aside = Aside::default();
            self.park(place, &[operation.sequence], fault, &mut aside)?;
            self.park_followers(aside)?;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, gone, row};
    use super::*;
    use tidelock_actors::model::FaultKind;
    use tidelock_actors::writes::{Observation, Write, Written};

    fn withdrawn(world: &mut World, id: &str) -> Written {
        let fault = Fault::new(FaultKind::Refused, "no such row");
        let observation = Observation { withdrawn: Some(fault), ..world.observation(vec![gone(id)]) };
        world.commit(Write::Observe(observation)).unwrap()
    }

    #[test]
    fn h29_what_waits_on_a_row_that_is_not_shown_any_more_is_parked_whole_and_can_be_sent_again() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1,"m":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        withdrawn(&mut world, "notes/a");
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":1,"n":2}"#);
        assert_eq!(world.counts("notes"), (1, 0, 1, 0, 0), "parked, and not on the server");
        world.assert_healthy();
        assert_eq!(withdrawn(&mut world, "notes/a"), Written::Observed { changed: vec![], conflicts: 0 });
        assert_eq!(world.commit(Write::Redrive(vec![])), Ok(Written::Moved { count: 1, changed: vec![] }));
        assert_eq!(world.outbox(), [r#"3 notes/a create {"id":"a","m":1,"n":2}"#]);
        world.assert_healthy();
    }

    #[test]
    fn a_deletion_that_waits_on_it_has_nothing_left_to_do() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a"}"#, "v1")]);
        world.delete("notes/a");
        withdrawn(&mut world, "notes/a");
        assert_eq!((world.counts("notes"), world.rows("tl_records")), ((0, 0, 0, 0, 0), 0));
        world.assert_healthy();
    }
}
