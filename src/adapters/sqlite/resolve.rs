//! Decisions on conflicts are carried out, and both sides are kept.

use rusqlite::{OptionalExtension, ToSql, params};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Change, Outcome, RecordId, RemoteState, Resolution, Version};
use tidelock_actors::writes::{Choice, Written};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::operations::{NewOperation, OperationState};
use super::records::{Cause, Newest, Origin, Record, State, document, same};

/// What carrying out a decision came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    /// Whether the record's document means something else now.
    pub(super) changed: bool,
    /// Whether a conflict was recorded.
    pub(super) is_conflict: bool,
}

/// A row of `tl_conflicts` as far as it is needed to go on from it.
struct Conflict {
    id: RecordId,
    state: String,
    local: Option<Document>,
    remote: Option<Document>,
    remote_version: Option<Version>,
    winner: Option<String>,
}

/// How a conflict ended.
struct Ending<'a> {
    winner: &'static str,
    result: Option<&'a Document>,
}

impl Batch<'_> {
    /// Carries out a decision on a record with operations.
    pub(super) fn resolve(
        &mut self,
        place: Place<'_>,
        record: &Record,
        newest: Newest,
        resolution: &Resolution,
        cause: Cause,
    ) -> Result<Settled, Failure> {
        let remote = &resolution.contested.remote;
        let strategy = resolution.strategy.as_str();
        match &resolution.outcome {
            Outcome::AlreadyThere => {
                let (after, changed) = self.yield_to(place, record, remote, cause)?;
                if self.counts(place.at).conflicts > 0 {
                    self.close_conflict(place, after.document.as_ref())?;
                }
                Ok(Settled { changed, is_conflict: false })
            }
            Outcome::TakeRemote => {
                let (after, changed) = self.yield_to(place, record, remote, cause)?;
                let ending = Ending { winner: "remote", result: after.document.as_ref() };
                self.record_conflict(place, record, remote, strategy, Some(ending), cause)?;
                Ok(Settled { changed, is_conflict: true })
            }
            Outcome::Keep(kept) => {
                let cause = Cause { origin: Origin::Resolution, ..cause };
                let (after, changed) = self.keep(place, record, newest, remote, kept.as_ref(), cause)?;
                let ours = same(after.document.as_ref(), record.state.document.as_ref());
                let winner = if ours { "local" } else { "merged" };
                let ending = Ending { winner, result: after.document.as_ref() };
                self.record_conflict(place, record, remote, strategy, Some(ending), cause)?;
                Ok(Settled { changed, is_conflict: true })
            }
            Outcome::Hold => {
                let operations = self.operations_of(record.row)?;
                for operation in operations.iter().filter(|one| one.state != OperationState::Held) {
                    self.shift(place.at, operation, OperationState::Held)?;
                }
                self.hold_back(operations.iter().map(|operation| operation.transaction))?;
                let is_new = self.record_conflict(place, record, remote, strategy, None, cause)?;
                Ok(Settled { changed: false, is_conflict: is_new })
            }
        }
    }

    /// The server's row is taken and the operations are given up.
    fn yield_to(
        &mut self,
        place: Place<'_>,
        record: &Record,
        remote: &RemoteState,
        cause: Cause,
    ) -> Result<(State, bool), Failure> {
        let after = match remote {
            RemoteState::Present { document, version } => {
                State::of_server(document.clone(), version.clone(), self.confirms(place.at))
            }
            RemoteState::Gone => State::nowhere(),
        };
        let changed = !same(after.document.as_ref(), record.state.document.as_ref());
        let operations = self.operations_of(record.row)?;
        let others = self.others_with(&operations, record.row)?;
        for operation in &operations {
            self.dequeue(place.at, operation)?;
        }
        self.replace(place, record, &after, false, changed, cause)?;
        self.let_go(others)?;
        for operation in &operations {
            self.release_dependants(operation.sequence)?;
        }
        Ok((after, changed))
    }

    /// A document stays over the server's row: one operation carries the difference, if there is one.
    pub(super) fn keep(
        &mut self,
        place: Place<'_>,
        record: &Record,
        newest: Newest,
        remote: &RemoteState,
        kept: Option<&Document>,
        cause: Cause,
    ) -> Result<(State, bool), Failure> {
        let (base, version) = remote.row();
        // A save cannot take fields away: what only the server has stays under the document that is kept.
        let (document, asked) = match (kept, base) {
            (Some(kept), Some(base)) => {
                let patch = kept.changes_from(base);
                let action = (!patch.is_empty()).then_some(Action::Update);
                (Some(base.overlaid(&patch)), action.map(|action| (action, patch)))
            }
            (Some(kept), None) => (Some(kept.clone()), Some((Action::Create, kept.clone()))),
            (None, Some(_)) => (None, Some((Action::Delete, Document::empty()))),
            (None, None) => (None, None),
        };
        let changed = !same(document.as_ref(), record.state.document.as_ref());
        let after = State { document, base: base.cloned(), version, confirmed: self.confirms(place.at) };
        let operations = self.operations_of(record.row)?;
        let others = self.others_with(&operations, record.row)?;
        for operation in &operations {
            self.dequeue(place.at, operation)?;
        }
        self.replace(place, record, &after, asked.is_some(), changed, cause)?;
        let replacement = match asked {
            Some((action, patch)) => {
                self.transaction = None;
                let first = operations.first().map_or(0, |operation| operation.sequence);
                let (before, behind) = others.split_at(others.partition_point(|other| other.sequence < first));
                // What was saved together goes together again.
                self.put_back(before, true)?;
                let (row, state, stamp) = (record.row, OperationState::Pending, newest.stamp);
                let sequence = self.enqueue(NewOperation { place, row, action, patch: &patch, stamp, state })?;
                self.put_back(behind, true)?;
                if others.iter().any(|other| other.state == OperationState::Held) {
                    self.hold_back(self.transaction)?;
                }
                Some(sequence)
            }
            None => {
                self.let_go(others)?;
                None
            }
        };
        for operation in &operations {
            match replacement {
                Some(sequence) => self.point_dependants(operation.sequence, Some(sequence))?,
                None => self.release_dependants(operation.sequence)?,
            }
        }
        Ok((after, changed))
    }

    /// Writes a conflict down, or brings the open one of this record up to date. Tells whether it is new.
    fn record_conflict(
        &mut self,
        place: Place<'_>,
        record: &Record,
        remote: &RemoteState,
        strategy: &str,
        ending: Option<Ending<'_>>,
        cause: Cause,
    ) -> Result<bool, Failure> {
        let (remote, remote_version) = remote.row();
        let state = if ending.is_some() { "resolved" } else { "open" };
        let resolved = ending.as_ref().map(|_| cause.stamp.0);
        let winner = ending.as_ref().map(|end| end.winner);
        let result = ending.and_then(|end| end.result);
        let (id, local) = (place.id, record.state.document.as_ref());
        let mut update = self.connection.prepare_cached(
            "UPDATE tl_conflicts SET local = ?3, remote = ?4, remote_version = ?5, result = ?6, winner = ?7,
             strategy = ?8, state = ?9, resolved = ?10 WHERE collection = ?1 AND key = ?2 AND state = 'open'",
        )?;
        let (local, remote, result) =
            (local.map(Document::as_str), remote.map(Document::as_str), result.map(Document::as_str));
        let told: &[&dyn ToSql] =
            params![id.collection, id.key, local, remote, remote_version, result, winner, strategy, state, resolved];
        if update.execute(told)? > 0 {
            self.tally.count_conflict(place.at, -i64::from(resolved.is_some()));
            return Ok(false);
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO tl_conflicts (collection, key, local, remote, remote_version, result, winner, strategy, state,
             resolved, base, round, detected) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        let base = record.state.base.as_ref().map(Document::as_str);
        let found: &[&dyn ToSql] = params![base, cause.round.unwrap_or_default(), cause.stamp.0];
        insert.execute(&*[told, found].concat())?;
        self.tally.count_conflict(place.at, i64::from(resolved.is_none()));
        Ok(true)
    }

    /// The open conflict of a record, if there is one, ends because the server has our side of it.
    pub(super) fn close_conflict(&mut self, place: Place<'_>, result: Option<&Document>) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached(
            "UPDATE tl_conflicts SET state = 'resolved', winner = 'local', result = ?3, resolved = ?4
             WHERE collection = ?1 AND key = ?2 AND state = 'open'",
        )?;
        let (id, result) = (place.id, result.map(Document::as_str));
        let closed = statement.execute(params![id.collection, id.key, result, self.now.0])?;
        self.tally.count_conflict(place.at, -(closed as i64));
        Ok(())
    }

    /// Whether the open conflict of a record already has this row of the server.
    pub(super) fn is_held_for(&self, place: Place<'_>, remote: &RemoteState) -> Result<bool, Failure> {
        let mut statement = self.connection.prepare_cached(
            "SELECT remote, remote_version FROM tl_conflicts WHERE collection = ?1 AND key = ?2 AND state = 'open'",
        )?;
        let read = |row: &rusqlite::Row<'_>| Ok((document(row, 0)?, row.get::<_, Option<Version>>(1)?));
        let held = statement.query_row(params![place.id.collection, place.id.key], read).optional()?;
        Ok(match (held, remote) {
            (Some((None, _)), RemoteState::Gone) => true,
            (Some((Some(old), old_version)), RemoteState::Present { document, version }) => {
                old_version == *version && (version.is_some() || old.means_the_same(document))
            }
            (Some(_) | None, _) => false,
        })
    }

    /// A held conflict is decided by hand.
    pub(super) fn decide(&mut self, conflict: i64, choice: &Choice) -> Result<Written, Failure> {
        let Conflict { id, state, remote, remote_version, .. } = self.conflict(conflict)?;
        if state != "open" {
            return Err(Failure::invalid(format!("conflict {conflict} on {id} is already {state}")));
        }
        // It may be a push that brought the server's side to light.
        self.by_key = true;
        let place = self.collections.place(&id)?;
        let gone = || Failure::not_found(format!("the record {id} of conflict {conflict} is gone"));
        let record = self.find(place)?.ok_or_else(gone)?;
        let newest = self.newest(&record)?.ok_or_else(gone)?;
        let outcome = match choice {
            Choice::Local => Outcome::Keep(record.state.document.as_ref().map(|local| self.unstamped(place, local))),
            Choice::Remote => Outcome::TakeRemote,
            Choice::Merged(merged) => {
                let merged = self.keyed(place, merged, &merged.fields())?.into_owned();
                Outcome::Keep(Some(self.unstamped(place, &merged)))
            }
        };
        let remote = match remote {
            Some(document) => RemoteState::Present { document, version: remote_version },
            None => RemoteState::Gone,
        };
        let contested = super::observe::contested(place, &record, newest, &remote);
        let resolution = Resolution { contested, outcome, strategy: "manual".to_owned() };
        let cause = Cause { origin: Origin::Resolution, stamp: self.now, round: None };
        let count = self.operations_of(record.row)?.len() as u64;
        let settled = self.resolve(place, &record, newest, &resolution, cause)?;
        Ok(Written::Moved { count, changed: if settled.changed { vec![id] } else { Vec::new() } })
    }

    /// A decision is taken back: the side that lost becomes a new local change.
    pub(super) fn undo(&mut self, conflict: i64) -> Result<Written, Failure> {
        let Conflict { id, state, local, remote, winner, .. } = self.conflict(conflict)?;
        match state.as_str() {
            "resolved" => {}
            "open" => {
                return Err(Failure::invalid(format!("conflict {conflict} on {id} is still open; decide it first")));
            }
            _ => return Err(Failure::invalid(format!("conflict {conflict} on {id} was already undone"))),
        }
        let loser = if winner.as_deref() == Some("remote") { local } else { remote };
        self.transaction = None;
        let place = self.collections.place(&id)?;
        let change = loser.map_or(Change::Delete, |loser| Change::Save(self.unstamped(place, &loser)));
        let changed = self.change(&id, &change, self.now)?;
        let mut statement = self.connection.prepare_cached("UPDATE tl_conflicts SET state = 'undone' WHERE id = ?1")?;
        statement.execute([conflict])?;
        Ok(Written::Local { changed: if changed { vec![id] } else { Vec::new() } })
    }

    /// The document without the server's stamp: an old one must not travel back.
    pub(super) fn unstamped(&self, place: Place<'_>, document: &Document) -> Document {
        document.without(&self.collections.get(place.at).version_field)
    }

    fn conflict(&self, conflict: i64) -> Result<Conflict, Failure> {
        let mut statement = self.connection.prepare_cached(
            "SELECT collection, key, state, local, remote, remote_version, winner FROM tl_conflicts WHERE id = ?1",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Conflict {
                id: RecordId::new(row.get::<_, std::sync::Arc<str>>(0)?, row.get::<_, std::sync::Arc<str>>(1)?),
                state: row.get(2)?,
                local: document(row, 3)?,
                remote: document(row, 4)?,
                remote_version: row.get(5)?,
                winner: row.get(6)?,
            })
        };
        let found = statement.query_row([conflict], read).optional()?;
        found.ok_or_else(|| Failure::not_found(format!("there is no conflict {conflict}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document as doc, gone, id, row, said};
    use super::super::{ConflictState, ConflictView};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::model::RemoteRow;
    use tidelock_actors::writes::Write;

    /// A note that is `n: 1` on the server, version v1, and `n: 2` here; the operation has sequence 1.
    fn edited() -> World {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","m":1,"n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        world
    }

    fn edited_there() -> RemoteRow {
        row("notes/a", r#"{"id":"a","m":3,"n":3}"#, "v2")
    }

    fn conflicts(world: &World) -> Vec<ConflictView> {
        block_on(world.reads.conflicts(true)).unwrap()
    }

    fn text(document: &Option<Document>) -> &str {
        document.as_ref().map_or("", Document::as_str)
    }

    #[test]
    fn what_is_already_there_settles_the_operations_without_a_conflict() {
        let mut world = edited();
        let seen = row("notes/a", r#"{"id":"a","m":3,"n":2}"#, "v2");
        assert_eq!(world.decide(seen, Outcome::AlreadyThere), (true, 0));
        assert_eq!((world.outbox().len(), conflicts(&world).len()), (0, 0));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":3,"n":2}"#);
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn a_deletion_that_is_already_there_removes_the_record() {
        let mut world = edited();
        world.delete("notes/a");
        assert_eq!(world.decide(gone("notes/a"), Outcome::AlreadyThere), (false, 0));
        assert_eq!((world.rows("tl_records"), world.counts("notes")), (0, (0, 0, 0, 0, 0)));
        world.assert_healthy();
    }

    #[test]
    fn h33_where_the_server_wins_the_local_document_is_kept_as_the_loser() {
        let mut world = edited();
        assert_eq!(world.decide(edited_there(), Outcome::TakeRemote), (true, 1));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":3,"n":3}"#);
        assert_eq!(world.history("notes/a")[0], r#"{"id":"a","m":1,"n":2}"#);
        let conflict = conflicts(&world).remove(0);
        assert_eq!(text(&conflict.base), r#"{"id":"a","m":1,"n":1}"#);
        assert_eq!(text(&conflict.local), r#"{"id":"a","m":1,"n":2}"#);
        assert_eq!(text(&conflict.remote), r#"{"id":"a","m":3,"n":3}"#);
        assert_eq!(text(&conflict.result), r#"{"id":"a","m":3,"n":3}"#);
        assert_eq!((conflict.strategy.as_str(), conflict.winner.as_deref()), ("newest-wins", Some("remote")));
        assert_eq!(conflict.state, ConflictState::Resolved);
        assert_eq!(conflict.cause.message, "changed on both sides (here: n; on the server: m, n)");
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn where_a_document_is_kept_one_operation_carries_the_difference_to_the_server() {
        let mut world = edited();
        world.save("notes/a", r#"{"n":5}"#);
        let kept = doc(r#"{"id":"a","m":3,"n":5}"#);
        assert_eq!(world.decide(edited_there(), Outcome::Keep(Some(kept))), (true, 1));
        assert_eq!(world.outbox(), [r#"3 notes/a update {"n":5}"#]);
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":3,"n":5}"#);
        let (base, version) = world.bases("notes/a");
        assert_eq!((base.as_deref(), version.as_deref()), (Some(r#"{"id":"a","m":3,"n":3}"#), Some("v2")));
        assert_eq!(conflicts(&world)[0].winner.as_deref(), Some("merged"));
        assert_eq!(world.counts("notes"), (1, 1, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn where_the_kept_document_is_the_servers_nothing_is_sent() {
        let mut world = edited();
        let kept = doc(r#"{"id":"a","m":3,"n":3}"#);
        assert_eq!(world.decide(edited_there(), Outcome::Keep(Some(kept))), (true, 1));
        assert_eq!((world.outbox().len(), world.counts("notes")), (0, (1, 0, 0, 0, 1)));
        world.assert_healthy();
    }

    #[test]
    fn an_edit_that_wins_over_a_deletion_makes_the_row_again() {
        let mut world = edited();
        let local = doc(r#"{"id":"a","m":1,"n":2}"#);
        assert_eq!(world.decide(gone("notes/a"), Outcome::Keep(Some(local))), (false, 1));
        assert_eq!(world.outbox(), [r#"2 notes/a create {"id":"a","m":1,"n":2}"#]);
        assert_eq!(world.counts("notes"), (1, 1, 0, 0, 0));
        assert_eq!(conflicts(&world)[0].cause.message, "changed here, and deleted on the server");
        world.assert_healthy();
    }

    #[test]
    fn a_deletion_that_wins_over_an_edit_is_one_delete() {
        let mut world = edited();
        world.delete("notes/a");
        assert_eq!(world.decide(edited_there(), Outcome::Keep(None)), (false, 1));
        assert_eq!(world.outbox(), ["3 notes/a delete {}"]);
        assert_eq!(world.counts("notes"), (0, 1, 0, 0, 1));
        assert_eq!(conflicts(&world)[0].cause.message, "deleted here, and changed on the server");
        world.assert_healthy();
    }

    #[test]
    fn a_held_record_waits_keeps_its_edits_and_hears_of_newer_rows() {
        let mut world = edited();
        assert_eq!(world.decide(edited_there(), Outcome::Hold), (false, 1));
        assert_eq!(world.counts("notes"), (1, 0, 0, 1, 1));
        world.save("notes/a", r#"{"n":4}"#);
        assert_eq!(
            world.outbox(),
            [r#"1 notes/a update {"n":2} held"#, r#"2 notes/a update {"n":4} held"#],
            "local edits go on"
        );
        assert_eq!(world.pending().len(), 0);
        assert_eq!(world.take(vec![edited_there()]), 0, "the same row again is no news");
        let newer = row("notes/a", r#"{"id":"a","m":9,"n":9}"#, "v3");
        assert_eq!(world.decide(newer, Outcome::Hold), (false, 0));
        let conflict = conflicts(&world).remove(0);
        assert_eq!((text(&conflict.remote), conflict.state), (r#"{"id":"a","m":9,"n":9}"#, ConflictState::Open));
        assert_eq!(text(&conflict.local), r#"{"id":"a","m":1,"n":4}"#);
        assert_eq!(world.bases("notes/a").1.unwrap(), "v1");
        world.assert_healthy();
    }

    #[test]
    fn a_held_conflict_is_decided_by_hand() {
        for (choice, document, outbox, winner) in [
            (Choice::Remote, r#"{"id":"a","m":3,"n":3}"#, &[][..], "remote"),
            (Choice::Local, r#"{"id":"a","m":1,"n":2}"#, &[r#"2 notes/a update {"m":1,"n":2}"#][..], "local"),
            (
                Choice::Merged(doc(r#"{"n":7}"#)),
                r#"{"id":"a","m":3,"n":7}"#,
                &[r#"2 notes/a update {"n":7}"#][..],
                "merged",
            ),
        ] {
            let mut world = edited();
            world.decide(edited_there(), Outcome::Hold);
            let written = world.commit(Write::Decide { conflict: 1, choice }).unwrap();
            let changed = if winner == "local" { vec![] } else { vec![id("notes/a")] };
            assert_eq!(written, Written::Moved { count: 1, changed });
            assert_eq!(
                (world.get("notes/a").unwrap().as_str(), world.outbox()),
                (document, outbox.iter().map(|line| (*line).to_owned()).collect())
            );
            let conflict = conflicts(&world).remove(0);
            assert_eq!((conflict.winner.as_deref(), conflict.strategy.as_str()), (Some(winner), "manual"));
            assert_eq!((conflict.state, text(&conflict.result)), (ConflictState::Resolved, document));
            assert_eq!((world.counts("notes").3, world.bases("notes/a").1.as_deref()), (0, Some("v2")));
            let again = world.commit(Write::Decide { conflict: 1, choice: Choice::Remote });
            assert_eq!(said(again), "conflict 1 on notes/a is already resolved");
            world.assert_healthy();
        }
    }

    #[test]
    fn the_servers_old_stamp_does_not_travel_back_with_a_decision() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1,"updated_at":"v1"}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        world.decide(row("notes/a", r#"{"id":"a","n":3,"updated_at":"v2"}"#, "v2"), Outcome::Hold);
        world.commit(Write::Decide { conflict: 1, choice: Choice::Local }).unwrap();
        assert_eq!(world.outbox(), [r#"2 notes/a update {"n":2}"#]);
        world.commit(Write::Undo { conflict: 1 }).unwrap();
        assert_eq!(world.outbox()[1], r#"3 notes/a update {"n":3}"#);
        world.assert_healthy();
    }

    #[test]
    fn h33_undoing_a_decision_lays_the_loser_back_as_a_new_change() {
        let mut world = edited();
        world.decide(edited_there(), Outcome::TakeRemote);
        assert_eq!(world.commit(Write::Undo { conflict: 1 }).unwrap(), Written::Local { changed: vec![id("notes/a")] });
        assert_eq!(world.outbox(), [r#"2 notes/a update {"m":1,"n":2}"#]);
        assert_eq!(conflicts(&world)[0].state, ConflictState::Undone);
        assert_eq!(said(world.commit(Write::Undo { conflict: 1 })), "conflict 1 on notes/a was already undone");
        assert_eq!(said(world.commit(Write::Undo { conflict: 9 })), "there is no conflict 9");
        world.assert_healthy();
    }

    #[test]
    fn undoing_goes_both_ways_and_over_deletions() {
        let mut world = edited();
        let local = doc(r#"{"id":"a","m":3,"n":2}"#);
        world.decide(edited_there(), Outcome::Keep(Some(local)));
        world.commit(Write::Undo { conflict: 1 }).unwrap();
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","m":3,"n":3}"#);
        world.assert_healthy();

        let mut world = edited();
        world.decide(gone("notes/a"), Outcome::TakeRemote);
        assert_eq!(world.get("notes/a"), None);
        world.commit(Write::Undo { conflict: 1 }).unwrap();
        assert_eq!(world.outbox(), [r#"2 notes/a create {"id":"a","m":1,"n":2}"#]);
        world.assert_healthy();

        let mut world = edited();
        world.decide(gone("notes/a"), Outcome::Keep(Some(doc(r#"{"id":"a","n":2}"#))));
        world.commit(Write::Undo { conflict: 1 }).unwrap();
        assert_eq!(world.get("notes/a"), None, "the row was gone: so it is again");
        world.assert_healthy();
    }

    #[test]
    fn an_open_conflict_cannot_be_undone() {
        let mut world = edited();
        world.decide(edited_there(), Outcome::Hold);
        let error = said(world.commit(Write::Undo { conflict: 1 }));
        assert_eq!(error, "conflict 1 on notes/a is still open; decide it first");
    }

    #[test]
    fn a_conflict_that_was_held_can_be_decided_by_a_changed_strategy() {
        let mut world = edited();
        world.decide(edited_there(), Outcome::Hold);
        let newer = row("notes/a", r#"{"id":"a","m":9,"n":9}"#, "v3");
        assert_eq!(world.decide(newer, Outcome::TakeRemote), (true, 1));
        let all = conflicts(&world);
        assert_eq!((all.len(), all[0].state), (1, ConflictState::Resolved));
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn what_waited_for_a_parked_create_goes_once_a_decision_replaced_it() {
        let mut world = World::new();
        world.save("projects/p", r#"{"n":1}"#);
        world.save("tasks/t", r#"{"project":"p"}"#);
        world.park("projects/p", &[1]);
        let seen = row("projects/p", r#"{"id":"p","n":2}"#, "v1");
        world.decide(seen, Outcome::Keep(Some(doc(r#"{"id":"p","n":1}"#))));
        assert_eq!(
            world.outbox(),
            [r#"2 tasks/t create {"id":"t","project":"p"} parked behind 3"#, r#"3 projects/p update {"n":1}"#]
        );
        world.applied("projects/p", &[3], "v2");
        assert_eq!(world.outbox(), [r#"4 tasks/t create {"id":"t","project":"p"}"#]);
        world.assert_healthy();
    }
}
