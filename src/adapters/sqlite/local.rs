//! What the app does: record, operation and history in one transaction.

use std::borrow::Cow;

use tidelock_actors::document::{Document, Fields};
use tidelock_actors::limits::{DOCUMENT_BYTES, KEY_BYTES, TRANSACTION_RECORDS};
use tidelock_actors::model::{Action, Change, Direction, RecordId, Stamp};
use tidelock_actors::writes::{LocalTransaction, Written};

use super::batch::Batch;
use super::collections::{Index, Place};
use super::faults::Failure;
use super::operations::{NewOperation, OperationState};
use super::park::waits_for;
use super::records::{Cause, Record, State};

impl Batch<'_> {
    /// Performs a local transaction.
    pub(super) fn local(&mut self, transaction: &LocalTransaction) -> Result<Written, Failure> {
        let size = transaction.changes.len();
        if size > TRANSACTION_RECORDS {
            return Err(Failure::invalid(format!(
                "a transaction of {size} changes is too large; make it at most {TRANSACTION_RECORDS}"
            )));
        }
        self.transaction = None;
        let mut changed = Vec::with_capacity(size);
        for (id, change) in &transaction.changes {
            if self.change(id, change, transaction.stamp)? {
                changed.push(id.clone());
            }
        }
        self.wait_whole()?;
        Ok(Written::Local { changed })
    }

    /// Where a record of the transaction waits, all of it does.
    pub(super) fn wait_whole(&mut self) -> Result<(), Failure> {
        let waits = self.collections.iter().any(|(at, _)| self.has_any_set_aside(at));
        if waits && let Some(transaction) = self.transaction {
            self.hold_back([transaction])?;
        }
        Ok(())
    }

    /// Performs one local change and tells whether anything changed.
    pub(super) fn change(&mut self, id: &RecordId, change: &Change, stamp: Stamp) -> Result<bool, Failure> {
        let place = self.local_place(id)?;
        self.tally.see(place.at, stamp);
        match change {
            Change::Save(document) => self.save(place, document, Cause::local(stamp)),
            Change::Delete => self.delete(place, Cause::local(stamp)),
        }
    }

    /// The place of a record that may be changed here.
    pub(super) fn local_place<'a>(&self, id: &'a RecordId) -> Result<Place<'a>, Failure> {
        let place = self.collections.place(id)?;
        self.check_writable(place.at, id)?;
        if id.key.is_empty() || id.key.len() > KEY_BYTES {
            let bytes = id.key.len();
            return Err(Failure::invalid(format!(
                "a key in {:?} has {bytes} bytes; a key has 1 to {KEY_BYTES}",
                &*id.collection
            )));
        }
        Ok(place)
    }

    /// What is only pulled, or not configured any more, is not changed here.
    pub(super) fn check_writable(&self, at: Index, what: impl std::fmt::Display) -> Result<(), Failure> {
        let name = self.collections.name(at);
        if !self.collections.get(at).is_configured {
            return Err(self.collections.unknown(name));
        }
        if !self.takes_local_changes(at) {
            return Err(Failure::invalid(format!(
                "{what} cannot be changed here: the collection {:?} is only pulled (direction = \"pull\")",
                &**name
            )));
        }
        Ok(())
    }

    /// Whether a collection is configured, and not only pulled.
    pub(super) fn takes_local_changes(&self, at: Index) -> bool {
        let collection = self.collections.get(at);
        collection.is_configured && collection.rules.direction != Direction::Pull
    }

    fn save(&mut self, place: Place<'_>, document: &Document, cause: Cause) -> Result<bool, Failure> {
        check_size(place.id, document)?;
        let fields = document.fields();
        let keyed = self.keyed(place, document, &fields)?;
        self.discover(place.at, &fields);
        if self.expects_new && self.create(place, &keyed, cause)? {
            return Ok(true);
        }
        let found = self.find(place)?;
        self.expects_new = found.is_none();
        match found {
            None => self.create(place, &keyed, cause),
            Some(record) => match &record.state.document {
                None => self.bring_back(place, &record, &keyed, cause),
                Some(current) => self.overlay(place, &record, current, document, fields, cause),
            },
        }
    }

    /// The document with its key in the key field.
    pub(super) fn keyed<'d>(
        &self,
        place: Place<'_>,
        document: &'d Document,
        fields: &Fields<'_>,
    ) -> Result<Cow<'d, Document>, Failure> {
        let (field, key) = (self.collections.get(place.at).rules.key.as_str(), &*place.id.key);
        match fields.get(field) {
            None => Ok(Cow::Owned(with_key(document, field, key, fields.is_empty()))),
            Some(text) if is_key(text, key) => Ok(Cow::Borrowed(document)),
            Some(text) => Err(Failure::invalid(format!(
                "the document of {} has {text} in its key field {field:?}; leave the field out or set it to {key:?}",
                place.id
            ))),
        }
    }

    /// Makes a record; `false` where there is one already.
    pub(super) fn create(&mut self, place: Place<'_>, document: &Document, cause: Cause) -> Result<bool, Failure> {
        let is_sent = self.is_sent(place);
        let here = State::here(document.clone());
        let Some(row) = self.insert(place, &here, is_sent, cause)? else { return Ok(false) };
        if is_sent {
            let (state, stamp) = (OperationState::Pending, cause.stamp);
            self.enqueue(NewOperation { place, row, action: Action::Create, patch: document, stamp, state })?;
        }
        Ok(true)
    }

    /// A record that was deleted here is made again before the deletion was sent.
    pub(super) fn bring_back(
        &mut self,
        place: Place<'_>,
        record: &Record,
        document: &Document,
        cause: Cause,
    ) -> Result<bool, Failure> {
        self.send(place, record, Some(document), Action::Create, document, cause)?;
        Ok(true)
    }

    /// Lays fields over a record; those that are not named stay.
    fn overlay(
        &mut self,
        place: Place<'_>,
        record: &Record,
        current: &Document,
        saved: &Document,
        fields: Fields<'_>,
        cause: Cause,
    ) -> Result<bool, Failure> {
        let under = current.fields();
        let is_whole = fields.name_all_of(&under);
        let changes = fields.changes_from(&under);
        if changes.is_empty() {
            return Ok(false);
        }
        let patch = Document::from_fields(changes.iter());
        let document = if is_whole { saved.clone() } else { Document::from_fields(under.overlaid(changes).iter()) };
        check_size(place.id, &document)?;
        let was_sent = record.state.base.is_some() || record.has_operations;
        let (action, asked) = if was_sent { (Action::Update, &patch) } else { (Action::Create, &document) };
        self.send(place, record, Some(&document), action, asked, cause)?;
        Ok(true)
    }

    /// Removes a record; `false` where there is none.
    pub(super) fn delete(&mut self, place: Place<'_>, cause: Cause) -> Result<bool, Failure> {
        let Some(record) = self.find(place)?.filter(|record| record.state.document.is_some()) else {
            return Ok(false);
        };
        if record.state.base.is_none() && !record.has_operations {
            self.replace(place, &record, &State::nowhere(), false, true, cause)?;
            return Ok(true);
        }
        self.send(place, &record, None, Action::Delete, &Document::empty(), cause)?;
        Ok(true)
    }

    /// Changes a record and queues the operation for it. Where nothing leaves the device the record alone
    /// changes and the server's part in it is forgotten, unless older operations still stand on it.
    pub(super) fn send(
        &mut self,
        place: Place<'_>,
        record: &Record,
        document: Option<&Document>,
        action: Action,
        patch: &Document,
        cause: Cause,
    ) -> Result<(), Failure> {
        let (stamp, document) = (cause.stamp, document.cloned());
        if !self.is_sent(place) && !record.has_operations {
            let after = State { document, ..State::nowhere() };
            return self.replace(place, record, &after, false, true, cause);
        }
        let newest = if self.has_any_set_aside(place.at) { self.newest(record)? } else { None };
        let state = match newest.map(|newest| newest.state) {
            None | Some(OperationState::Pending) => OperationState::Pending,
            Some(OperationState::Held) => OperationState::Held,
            // The edit is the mending: what was set aside is tried again before it, unless it waits for a decision.
            Some(OperationState::Parked) => match self.put_back_record(record.row)? {
                true => OperationState::Pending,
                false => OperationState::Parked,
            },
        };
        let State { base, version, confirmed, .. } = &record.state;
        let after = State { document, base: base.clone(), version: version.clone(), confirmed: *confirmed };
        self.replace(place, record, &after, true, true, cause)?;
        let sequence = self.enqueue(NewOperation { place, row: record.row, action, patch, stamp, state })?;
        if let (OperationState::Parked, Some(newest)) = (state, newest) {
            self.annotate(sequence, &waits_for(newest.sequence, place.id), false, Some(newest.sequence))?;
        }
        Ok(())
    }

    /// Whether what changes here is sent.
    pub(super) fn is_sent(&self, place: Place<'_>) -> bool {
        self.collections.get(place.at).rules.direction.pushes()
    }
}

/// A document that is too large is refused.
pub(super) fn check_size(id: &RecordId, document: &Document) -> Result<(), Failure> {
    let bytes = document.as_str().len();
    if bytes <= DOCUMENT_BYTES {
        return Ok(());
    }
    Err(Failure::invalid(format!("the document of {id} has {bytes} bytes; a document has at most {DOCUMENT_BYTES}")))
}

/// The document with the key field put before all others: no other field has to be read for it.
fn with_key(document: &Document, field: &str, key: &str, is_empty: bool) -> Document {
    let rest = document.as_str().trim_start_matches('{').trim_start();
    let (field, key) = (serde_json::Value::from(field), serde_json::Value::from(key));
    let comma = if is_empty { "" } else { "," };
    Document::trusted(format!("{{{field}:{key}{comma}{rest}"))
}

/// Whether a field's JSON text is the key: as a string, or as a number with just these digits.
fn is_key(text: &str, key: &str) -> bool {
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain == key,
        Some(_) => serde_json::from_str::<String>(text).is_ok_and(|value| value == key),
        None => text == key && !matches!(text, "null" | "true" | "false") && !text.starts_with(['{', '[']),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, said};
    use super::*;
    use tidelock_actors::ports::StoreError;
    use tidelock_actors::writes::Write;

    #[test]
    fn a_save_makes_a_record_and_its_operation_in_one_transaction() {
        let mut world = World::new();
        assert!(world.save("notes/a", r#"{"text":"one"}"#));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","text":"one"}"#);
        assert_eq!(world.outbox(), [r#"1 notes/a create {"id":"a","text":"one"}"#]);
        assert_eq!(world.counts("notes"), (1, 1, 0, 0, 0));
        assert_eq!(world.history("notes/a"), [""; 0], "the current version is the record itself");
        world.assert_healthy();
    }

    #[test]
    fn an_update_carries_only_the_fields_that_mean_something_else() {
        let mut world = World::new();
        world.save("notes/a", r#"{"text":"one","n":1.50,"kept":[1,2]}"#);
        assert!(world.save("notes/a", r#"{"id":"a","n":1.5,"text":"two"}"#));
        assert_eq!(world.outbox()[1], r#"2 notes/a update {"text":"two"}"#);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","kept":[1,2],"n":1.50,"text":"two"}"#);
        assert_eq!(world.history("notes/a"), [r#"{"id":"a","text":"one","n":1.50,"kept":[1,2]}"#]);
        world.assert_healthy();
    }

    #[test]
    fn a_save_that_changes_nothing_makes_no_operation_and_no_history() {
        let mut world = World::new();
        world.save("notes/a", r#"{"at":"2026-11-22T10:00:00Z","n":10}"#);
        assert!(!world.save("notes/a", r#"{"n":1e1,"at":"2026-11-22T10:00:00+00:00"}"#));
        assert_eq!((world.outbox().len(), world.history("notes/a").len()), (1, 0));
    }

    #[test]
    fn a_field_set_to_null_is_cleared_and_sent() {
        let mut world = World::new();
        world.save("notes/a", r#"{"text":"one"}"#);
        assert!(world.save("notes/a", r#"{"text":null}"#));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","text":null}"#);
        assert_eq!(world.outbox()[1], r#"2 notes/a update {"text":null}"#);
        world.assert_healthy();
    }

    #[test]
    fn a_deleted_record_is_gone_for_the_app_and_stays_in_the_history() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        assert!(world.delete("notes/a"));
        assert!(!world.delete("notes/a"), "deleting what is not there is no error");
        assert!(!world.delete("notes/never"));
        assert_eq!(world.get("notes/a"), None);
        assert_eq!(world.outbox()[1], "2 notes/a delete {}");
        assert_eq!(world.history("notes/a"), [r#"{"id":"a","n":1}"#]);
        assert_eq!(world.counts("notes"), (0, 2, 0, 0, 0));
        world.assert_healthy();
    }

    #[test]
    fn h17_a_record_made_again_after_its_deletion_is_a_create() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1,"old":true}"#);
        world.delete("notes/a");
        assert!(world.save("notes/a", r#"{"n":2}"#));
        assert_eq!(world.outbox()[2], r#"3 notes/a create {"id":"a","n":2}"#);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2}"#, "old fields do not come back");
        world.assert_healthy();
    }

    #[test]
    fn one_transaction_has_one_number_and_the_next_a_higher_one() {
        let mut world = World::new();
        let change = |place: &str| (id(place), Change::Save(document(r#"{"n":1}"#)));
        world.change(vec![change("projects/p"), change("tasks/t"), change("drafts/d")]).unwrap();
        world.change(vec![change("notes/n")]).unwrap();
        let transactions: Vec<_> = world.pending().iter().map(|one| (one.sequence, one.transaction)).collect();
        assert_eq!(transactions, [(1, 1), (2, 1), (3, 3)]);
    }

    #[test]
    fn what_stays_on_the_device_makes_no_operation() {
        let mut world = World::new();
        world.save("drafts/a", r#"{"n":1}"#);
        world.save("drafts/a", r#"{"n":2}"#);
        assert_eq!((world.outbox().len(), world.counts("drafts")), (0, (1, 0, 0, 0, 0)));
        assert!(world.delete("drafts/a"));
        assert_eq!(world.counts("drafts"), (0, 0, 0, 0, 0));
        assert_eq!(world.history("drafts/a").len(), 2);
        world.assert_healthy();
    }

    #[test]
    fn records_of_a_collection_that_becomes_shared_are_created_on_the_server_with_their_next_change() {
        let mut world = World::new();
        world.save("drafts/a", r#"{"n":1,"m":1}"#);
        let mut world = world.reopen_with(|options| {
            options.collections.iter_mut().for_each(|rules| rules.direction = Direction::Both);
        });
        world.save("drafts/a", r#"{"n":2}"#);
        assert_eq!(world.outbox(), [r#"1 drafts/a create {"id":"a","m":1,"n":2}"#]);
        world.assert_healthy();
    }

    #[test]
    fn an_error_says_what_is_wrong_where_and_what_to_do() {
        let mut world = World::new();
        assert_eq!(
            said(world.try_save("nots/a", "{}")),
            r#"there is no collection "nots"; the configuration has: projects, tasks, steps, notes, drafts, catalogue"#
        );
        assert_eq!(
            said(world.try_save("notes/a", r#"{"id":"b"}"#)),
            r#"the document of notes/a has "b" in its key field "id"; leave the field out or set it to "a""#
        );
        assert_eq!(
            said(world.try_save("catalogue/a", "{}")),
            r#"catalogue/a cannot be changed here: the collection "catalogue" is only pulled (direction = "pull")"#
        );
        assert_eq!(said(world.try_save("notes/", "{}")), r#"a key in "notes" has 0 bytes; a key has 1 to 512"#);
        let long = format!("notes/{}", "x".repeat(KEY_BYTES + 1));
        assert_eq!(said(world.try_save(&long, "{}")), r#"a key in "notes" has 513 bytes; a key has 1 to 512"#);
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(DOCUMENT_BYTES));
        assert_eq!(
            said(world.try_save("notes/a", &large)),
            "the document of notes/a has 8388619 bytes; a document has at most 8388608"
        );
        let many = vec![(id("notes/a"), Change::Delete); TRANSACTION_RECORDS + 1];
        assert_eq!(said(world.change(many)), "a transaction of 10001 changes is too large; make it at most 10000");
    }

    #[test]
    fn a_document_that_grows_beyond_the_limit_by_many_small_saves_is_refused() {
        let mut world = World::new();
        let half = "x".repeat(DOCUMENT_BYTES / 2);
        world.save("notes/a", &format!(r#"{{"a":"{half}"}}"#));
        assert!(matches!(world.try_save("notes/a", &format!(r#"{{"b":"{half}"}}"#)), Err(StoreError::Invalid(_))));
        assert_eq!(world.outbox().len(), 1);
    }

    #[test]
    fn a_key_may_be_a_number_in_the_document() {
        let mut world = World::new();
        assert!(world.save("notes/42", r#"{"id":42}"#));
        assert!(world.save("notes/quoted\"key", r#"{"id":"quoted\"key"}"#));
        assert!(world.save("notes/é", r#"{"id":"\u00e9"}"#));
        assert!(world.try_save("notes/null", r#"{"id":null}"#).is_err());
        assert!(world.try_save("notes/42", r#"{"id":43}"#).is_err());
        assert_eq!(world.get("notes/42").unwrap(), r#"{"id":42}"#);
    }

    #[test]
    fn an_error_in_one_write_takes_the_whole_group_back() {
        let mut world = World::new();
        let mut local = |place: &str| {
            let stamp = world.stamp();
            Write::Local(LocalTransaction { changes: vec![(id(place), Change::Save(document("{}")))], stamp })
        };
        let group = [local("notes/a"), local("nowhere/b")];
        assert!(world.group(&group).is_err());
        assert_eq!((world.get("notes/a"), world.counts("notes")), (None, (0, 0, 0, 0, 0)));
        world.group(&group[..1]).unwrap();
        assert_eq!(world.outbox(), [r#"1 notes/a create {"id":"a"}"#], "sequences that were not used are used");
        world.assert_healthy();
    }

    #[test]
    fn h41_a_document_comes_back_to_the_last_digit() {
        let mut world = World::new();
        let text = r#"{"big":9223372036854775807,"at":"2026-11-22T10:00:00.123456+00:00","money":12345678901234567890123456.0123456789,"face":"🙂","nested":{"a":[1.50,1e400,null]}}"#;
        world.save("notes/a", text);
        let with_key = text.replacen('{', r#"{"id":"a","#, 1);
        assert_eq!(world.get("notes/a").unwrap(), with_key);
        world.save("notes/a", r#"{"n":1}"#);
        let after = world.get("notes/a").unwrap();
        for exact in ["9223372036854775807", "12345678901234567890123456.0123456789", "1e400", "1.50", ".123456+00:00"]
        {
            assert!(after.contains(exact), "{exact} in {after}");
        }
        world.assert_healthy();
    }
}
