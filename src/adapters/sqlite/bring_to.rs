//! A record becomes exactly what it is wanted to be, by a new local change: how rolling back and restoring write.

use std::borrow::Cow;

use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, RecordId};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::local::check_size;
use super::records::{Cause, Record, same};

impl Batch<'_> {
    /// Brings a record to the wanted document, or deletes it where none is wanted, and tells whether anything changed.
    ///
    /// It is a local change like any other: what it replaces goes to the history, an operation carries it to the server
    /// where the collection pushes, an edit of a parked record is its mending, and a held record stays held. A record that
    /// is no more is made again. What is only pulled is refused, as every local write of it.
    ///
    /// The document becomes the wanted text byte for byte, but for two things, wherever the server has or will have a part
    /// in the record:
    /// - The server's stamp stays the one that lies under the change: an old one must not travel back.
    /// - An operation cannot take fields away. Those that the record has and the wanted document lacks are sent as null,
    ///   and stand as null at its end.
    ///
    /// What means the same is left as it is. Operations go into the local transaction at work: the caller begins it
    /// (`transaction = None`) and closes it with `wait_whole`.
    pub(super) fn bring_to(&mut self, id: &RecordId, wanted: Option<&Document>, cause: Cause) -> Result<bool, Failure> {
        let place = self.local_place(id)?;
        self.tally.see(place.at, cause.stamp);
        let Some(wanted) = wanted else { return self.delete(place, cause) };
        let fields = wanted.fields();
        let wanted = self.keyed(place, wanted, &fields)?;
        self.discover(place.at, &fields);
        let Some(record) = self.find(place)? else {
            let document = if self.is_sent(place) { self.stamped_as(place, &wanted, None) } else { wanted };
            check_size(id, &document)?;
            return self.create(place, &document, cause);
        };
        match &record.state.document {
            None => {
                let document = self.stamped_as(place, &wanted, record.state.base.as_ref());
                check_size(id, &document)?;
                self.bring_back(place, &record, &document, cause)
            }
            Some(current) => self.rewrite(place, &record, current, &wanted, cause),
        }
    }

    /// Whether two documents of a record mean the same, whenever the server stamped them.
    pub(super) fn same_unstamped(&self, place: Place<'_>, a: Option<&Document>, b: Option<&Document>) -> bool {
        same(a, b)
            || match (a, b) {
                (Some(a), Some(b)) => self.stamped_as(place, a, Some(b)).means_the_same(b),
                (Some(_), None) | (None, Some(_)) | (None, None) => false,
            }
    }

    fn rewrite(
        &mut self,
        place: Place<'_>,
        record: &Record,
        current: &Document,
        wanted: &Document,
        cause: Cause,
    ) -> Result<bool, Failure> {
        let (is_sent, has_part) = (self.is_sent(place), record.state.base.is_some());
        let document = match (is_sent || record.has_operations, has_part || record.has_operations) {
            // Nothing leaves the device: the server's part in the record ends here.
            (false, _) => Cow::Borrowed(wanted),
            (true, false) => self.stamped_as(place, wanted, Some(current)),
            (true, true) => Cow::Owned(with_nulls(&self.stamped_as(place, wanted, Some(current)), current)),
        };
        if document.means_the_same(current) {
            return Ok(false);
        }
        check_size(place.id, &document)?;
        let (action, patch) = match has_part || record.has_operations {
            true => (Action::Update, document.changes_from(current)),
            false => (Action::Create, document.clone().into_owned()),
        };
        self.send(place, record, Some(&document), action, &patch, cause)?;
        Ok(true)
    }

    /// The document with the server's stamp of another one, or without a stamp where that has none.
    fn stamped_as<'d>(&self, place: Place<'_>, document: &'d Document, other: Option<&Document>) -> Cow<'d, Document> {
        let field = self.collections.get(place.at).version_field.as_str();
        let (old, new) = (document.fields().get(field), other.and_then(|other| other.fields().get(field)));
        match (old, new) {
            (old, new) if old == new => Cow::Borrowed(document),
            (_, Some(new)) => Cow::Owned(document.with_field(field, new)),
            (_, None) => Cow::Owned(document.without(field)),
        }
    }
}

/// The document with all fields of another one: those that it lacks are null.
fn with_nulls(document: &Document, other: &Document) -> Document {
    let (fields, others) = (document.fields(), other.fields());
    let lacking = others.names().filter(|name| fields.get(name).is_none());
    lacking.fold(document.clone(), |document, name| document.with_field(name, "null"))
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, gone, id, row, said};
    use super::*;
    use tidelock_actors::model::{Direction, Outcome};
    use tidelock_actors::ports::{Store, StoreError};
    use tidelock_actors::writes::{Choice, Fate, Write};

    /// Brings records to these documents in one local transaction with the number 11; how many changed.
    fn try_bring(world: &mut World, wanted: &[(&str, Option<&str>)]) -> Result<usize, StoreError> {
        let now = world.stamp();
        let changed = world.store.work(now, |batch| {
            let mut changed = 0;
            for (place, text) in wanted {
                let text = text.map(document);
                changed += usize::from(batch.bring_to(&id(place), text.as_ref(), Cause::restored(now, 11))?);
            }
            batch.wait_whole()?;
            Ok(changed)
        });
        let changed = changed.map_err(StoreError::from)?;
        world.store.commit().map(|()| changed)
    }

    fn bring(world: &mut World, place: &str, wanted: Option<&str>) -> bool {
        try_bring(world, &[(place, wanted)]).unwrap() == 1
    }

    #[test]
    fn a_record_becomes_the_wanted_text_and_the_operation_carries_what_means_something_else() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a", "text":"one", "n":1.50}"#, "v1")]);
        world.take(vec![row("notes/a", r#"{"id":"a", "text":"two", "n":1.5}"#, "v2")]);
        assert!(bring(&mut world, "notes/a", Some(r#"{"id":"a", "text":"one", "n":1.50}"#)));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a", "text":"one", "n":1.50}"#);
        assert_eq!(world.outbox(), [r#"1 notes/a update {"text":"one"}"#]);
        assert_eq!(world.bases("notes/a").1.unwrap(), "v2", "made on what the server has now");
        assert_eq!(world.history("notes/a")[0], r#"{"id":"a", "text":"two", "n":1.5}"#);
        world.assert_healthy();
        assert!(!bring(&mut world, "notes/a", Some(r#"{"n":1.500,"text":"one"}"#)), "it means the same");
        world.applied("notes/a", &[1], "v3");
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a", "text":"one", "n":1.50}"#);
        world.assert_healthy();
    }

    #[test]
    fn there_and_back_again_is_equal_byte_for_byte_also_for_what_is_deleted_and_made_again() {
        let mut world = World::new();
        let (old, new) =
            (r#"{"id":"a","z":1,"b": [1, 2],"updated_at":"t1"}"#, r#"{"id":"a","z":2,"b": [1, 2],"updated_at":"t2"}"#);
        world.take(vec![row("tasks/a", old, "v1")]);
        world.take(vec![row("tasks/a", new, "v2"), row("tasks/b", r#"{"id":"b","z":1,"updated_at":"t2"}"#, "v2")]);
        assert_eq!(try_bring(&mut world, &[("tasks/a", Some(old)), ("tasks/b", None)]), Ok(2));
        assert_eq!(world.get("tasks/a").unwrap(), old.replace("t1", "t2"), "the server's stamp stays as it is");
        assert_eq!((world.get("tasks/b"), world.pending()[0].transaction), (None, world.pending()[1].transaction));
        world.assert_healthy();
        let before = r#"{"id":"b","z":1,"updated_at":"t2"}"#;
        assert_eq!(try_bring(&mut world, &[("tasks/a", Some(new)), ("tasks/b", Some(before))]), Ok(2));
        assert_eq!((world.get("tasks/a").unwrap(), world.get("tasks/b").unwrap()), (new.to_owned(), before.to_owned()));
        world.assert_healthy();
    }

    #[test]
    fn an_old_stamp_does_not_travel_with_a_record_that_is_made_again() {
        let mut world = World::new();
        world.take(vec![row("tasks/a", r#"{"id":"a","n":1,"updated_at":"t1"}"#, "v1")]);
        world.take(vec![gone("tasks/a")]);
        assert!(bring(&mut world, "tasks/a", Some(r#"{"id":"a","n":1,"updated_at":"t1"}"#)));
        assert_eq!(world.outbox(), [r#"1 tasks/a create {"id":"a","n":1}"#]);
        assert_eq!(world.counts("tasks"), (1, 1, 0, 0, 0));
        world.assert_healthy();
    }

    #[test]
    fn fields_that_are_to_vanish_are_sent_as_null_and_come_back() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1,"gone":2}"#, "v1")]);
        assert!(bring(&mut world, "notes/a", Some(r#"{"id":"a","n":1}"#)));
        assert_eq!(world.outbox(), [r#"1 notes/a update {"gone":null}"#]);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1,"gone":null}"#);
        world.assert_healthy();
        assert!(bring(&mut world, "notes/a", Some(r#"{"id":"a","n":1,"gone":2}"#)));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":1,"gone":2}"#);
        world.assert_healthy();
    }

    #[test]
    fn where_the_server_has_no_part_the_document_is_the_wanted_one_and_nothing_else() {
        let mut world = World::new();
        world.save("drafts/a", r#"{"n":1,"gone":2,"updated_at":"mine"}"#);
        assert!(bring(&mut world, "drafts/a", Some(r#"{ "id":"a", "updated_at":"old" }"#)));
        assert_eq!(world.get("drafts/a").unwrap(), r#"{ "id":"a", "updated_at":"old" }"#);
        assert!(bring(&mut world, "drafts/a", None) && !bring(&mut world, "drafts/a", None));
        assert!(bring(&mut world, "drafts/a", Some(r#"{"n":1}"#)));
        assert_eq!((world.get("drafts/a").unwrap(), world.outbox().len()), (r#"{"id":"a","n":1}"#.to_owned(), 0));
        let mut world = world.reopen_with(|options| {
            options.collections.iter_mut().for_each(|rules| rules.direction = Direction::Both);
        });
        assert!(bring(&mut world, "drafts/a", Some(r#"{"id":"a","m":1}"#)));
        assert_eq!(world.outbox(), [r#"1 drafts/a create {"id":"a","m":1}"#], "shared since, and never sent");
        world.assert_healthy();
    }

    #[test]
    fn a_version_that_was_brought_back_says_so() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        world.save("notes/a", r#"{"n":2}"#);
        bring(&mut world, "notes/a", Some(r#"{"id":"a","n":1}"#));
        world.save("notes/a", r#"{"n":3}"#);
        let versions = futures::executor::block_on(world.reads.history(id("notes/a"))).unwrap();
        assert_eq!((versions[0].origin.as_str(), versions[0].round), ("restored", Some(11)));
        assert_eq!((versions[1].replaced_by.as_str(), versions[1].replaced_in_round), ("restored", Some(11)));
        world.assert_healthy();
    }

    #[test]
    fn on_a_parked_record_it_is_the_mending_and_on_a_held_one_it_waits() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":-1}"#);
        world.park("notes/a", &[1]);
        world.save("notes/b", r#"{"n":2}"#);
        world.decide(row("notes/b", r#"{"id":"b","n":3}"#, "v2"), Outcome::Hold);
        let wanted = [("notes/a", Some(r#"{"id":"a","n":1}"#)), ("notes/b", Some(r#"{"id":"b","n":1}"#))];
        assert_eq!(try_bring(&mut world, &wanted), Ok(2));
        assert_eq!(world.counts("notes"), (2, 2, 0, 1, 2));
        assert!(world.outbox()[0].ends_with("held") && world.outbox()[3].ends_with("held"), "{:?}", world.outbox());
        world.assert_healthy();
        world.commit(Write::Decide { conflict: 1, choice: Choice::Local }).unwrap();
        assert_eq!(world.get("notes/b").unwrap(), r#"{"id":"b","n":1}"#);
        world.assert_healthy();
    }

    #[test]
    fn with_whole_transactions_all_of_it_waits_where_a_part_does() {
        let mut world = World::new();
        world.keep_transactions();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b","n":1}"#, "v1")]);
        world.save("notes/b", r#"{"n":2}"#);
        world.decide(row("notes/b", r#"{"id":"b","n":3}"#, "v2"), Outcome::Hold);
        assert_eq!(try_bring(&mut world, &[("notes/a", None), ("notes/b", None)]), Ok(2));
        assert_eq!(world.counts("notes"), (0, 0, 1, 1, 2));
        world.assert_healthy();
    }

    #[test]
    fn a_deletion_that_is_on_its_way_does_not_take_what_was_made_again_along() {
        let mut world = World::new();
        let text = r#"{"id":"a","n":1,"updated_at":"t1"}"#;
        world.take(vec![row("tasks/a", text, "v1")]);
        bring(&mut world, "tasks/a", None);
        bring(&mut world, "tasks/a", Some(text));
        world.settle("tasks/a", &[1], Fate::Applied { version: None, document: None });
        assert_eq!(world.get("tasks/a").unwrap(), text);
        assert_eq!(world.outbox(), [format!("2 tasks/a create {text}")], "the row that was deleted had this stamp");
        world.assert_healthy();
    }

    #[test]
    fn what_is_only_pulled_is_refused() {
        let mut world = World::new();
        world.take(vec![row("catalogue/a", r#"{"id":"a"}"#, "v1")]);
        assert_eq!(
            said(try_bring(&mut world, &[("catalogue/a", None)])),
            r#"catalogue/a cannot be changed here: the collection "catalogue" is only pulled (direction = "pull")"#
        );
        assert!(try_bring(&mut world, &[("notes/a", Some(r#"{"id":"b"}"#))]).is_err());
    }
}
