//! Rows that were seen on the server: those of a pull and those that came with a conflict go one way.

use std::collections::HashMap;

use rusqlite::params;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Contested, RecordId, RemoteRow, RemoteState, Resolution};
use tidelock_actors::writes::{Observation, Written};

use super::batch::Batch;
use super::collections::{Index, Place};
use super::faults::Failure;
use super::operations::{OperationState, laid_over};
use super::records::{Cause, Newest, Origin, Record, State, same};

/// What the rows of an observation have come to.
#[derive(Debug, Default)]
struct Harvest {
    changed: Vec<RecordId>,
    conflicts: u64,
    contested: Vec<Contested>,
}

impl Batch<'_> {
    /// Takes all rows and checkpoints, or none and tells which records need a decision first.
    pub(super) fn observe(&mut self, observation: &Observation) -> Result<Written, Failure> {
        if !self.may_contest(observation)? {
            let harvest = self.take_rows(observation, &observation.rows.iter().collect::<Vec<_>>())?;
            return Ok(Written::Observed { changed: harvest.changed, conflicts: harvest.conflicts });
        }
        let rows = newest_of_each(&observation.rows);
        self.tentatively(|batch| {
            let harvest = batch.take_rows(observation, &rows)?;
            Ok(match harvest.contested.is_empty() {
                true => (Written::Observed { changed: harvest.changed, conflicts: harvest.conflicts }, true),
                false => (Written::Contested(harvest.contested), false),
            })
        })
    }

    /// Whether any of the collections has operations at all.
    fn may_contest(&self, observation: &Observation) -> Result<bool, Failure> {
        let mut last: Option<(&str, bool)> = None;
        for row in &observation.rows {
            let name = &*row.id.collection;
            if last.is_some_and(|(seen, _)| seen == name) {
                continue;
            }
            let contests = self.has_any_operation(self.collections.find(name)?);
            last = Some((name, contests));
            if contests {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_rows(&mut self, observation: &Observation, rows: &[&RemoteRow]) -> Result<Harvest, Failure> {
        self.by_key = observation.by_key;
        let decided: HashMap<&RecordId, &Resolution> =
            observation.resolutions.iter().map(|resolution| (&resolution.contested.id, resolution)).collect();
        let cause = Cause { origin: Origin::Server, stamp: observation.stamp, round: Some(observation.round) };
        let mut harvest = Harvest::default();
        let mut looked_into: Option<Index> = None;
        for row in rows {
            let place = self.collections.place(&row.id)?;
            if let RemoteState::Present { document, .. } = &row.state
                && looked_into != Some(place.at)
            {
                // Rows of a table have the same columns: one a page is enough to find new fields.
                self.discover(place.at, &document.fields());
                looked_into = Some(place.at);
            }
            self.take_row(place, &row.state, observation, decided.get(&row.id).copied(), cause, &mut harvest)?;
        }
        for (name, value) in &observation.checkpoints {
            let mut statement = self.connection.prepare_cached(
                "INSERT INTO tl_checkpoints (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
            )?;
            statement.execute(params![name, value])?;
        }
        self.tally.stamp = self.tally.stamp.max(observation.stamp);
        Ok(harvest)
    }

    fn take_row(
        &mut self,
        place: Place<'_>,
        remote: &RemoteState,
        observation: &Observation,
        resolution: Option<&Resolution>,
        cause: Cause,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        if self.expects_new && self.take_new(place, remote, cause, harvest)? {
            return Ok(());
        }
        let found = self.find(place)?;
        self.expects_new = found.is_none();
        let Some(record) = found else {
            self.take_new(place, remote, cause, harvest)?;
            return Ok(());
        };
        if is_known(&record, remote, observation.distrusts_versions) {
            return Ok(());
        }
        let Some(newest) = self.newest(&record)? else {
            if self.take_clean(place, &record, remote, cause)? {
                harvest.changed.push(place.id.clone());
            }
            return Ok(());
        };
        if self.is_ours(place, &record, remote) {
            return self.rebase(place, &record, remote, cause, harvest);
        }
        if newest.state == OperationState::Held && self.is_held_for(place, remote)? {
            return Ok(());
        }
        if let (RemoteState::Gone, Some(fault)) = (remote, &observation.withdrawn)
            && newest.state != OperationState::Held
        {
            if self.withdraw(place, &record, newest, fault, cause)? {
                harvest.changed.push(place.id.clone());
            }
            return Ok(());
        }
        match resolution.filter(|resolution| holds(resolution, newest, remote)) {
            Some(resolution) => {
                let settled = self.resolve(place, &record, newest, resolution, cause)?;
                harvest.conflicts += u64::from(settled.is_conflict);
                if settled.changed {
                    harvest.changed.push(place.id.clone());
                }
            }
            None => harvest.contested.push(contested(place, &record, newest, remote)),
        }
        Ok(())
    }

    /// A row that was never seen; `false` where there is a record already.
    fn take_new(
        &mut self,
        place: Place<'_>,
        remote: &RemoteState,
        cause: Cause,
        harvest: &mut Harvest,
    ) -> Result<bool, Failure> {
        let RemoteState::Present { document, version } = remote else { return Ok(false) };
        let state = State::of_server(document.clone(), version.clone(), self.confirms(place.at));
        let is_new = self.insert(place, &state, false, cause)?.is_some();
        if is_new {
            harvest.changed.push(place.id.clone());
        }
        Ok(is_new)
    }

    /// Nothing of ours stands on the record: the row is what it becomes.
    fn take_clean(
        &mut self,
        place: Place<'_>,
        record: &Record,
        remote: &RemoteState,
        cause: Cause,
    ) -> Result<bool, Failure> {
        let after = match remote {
            RemoteState::Present { document, version } => {
                State::of_server(document.clone(), version.clone(), self.confirms(place.at))
            }
            RemoteState::Gone => State::nowhere(),
        };
        let changed = !same(record.state.document.as_ref(), after.document.as_ref());
        self.replace(place, record, &after, false, changed, cause)?;
        Ok(changed)
    }

    /// Whether nobody else changed the row: only its stamp is new, or it is what became of our own applied
    /// operation, of which only the verdict was known: the version that it named, or all that was sent.
    fn is_ours(&self, place: Place<'_>, record: &Record, remote: &RemoteState) -> bool {
        let (RemoteState::Present { document, version }, Some(base)) = (remote, &record.state.base) else {
            return false;
        };
        let stamped = &self.collections.get(place.at).version_field;
        let is_within =
            |a: &Document, b: &Document| a.fields().changes_from(&b.fields()).names().all(|name| *name == **stamped);
        let has_all_that_was_sent = is_within(base, document);
        match record.state.confirmed {
            true => has_all_that_was_sent && is_within(document, base),
            false => has_all_that_was_sent || version.is_some() && *version == record.state.version,
        }
    }

    /// The server's own version of what we sent goes under the operations that are still to be sent.
    fn rebase(
        &mut self,
        place: Place<'_>,
        record: &Record,
        remote: &RemoteState,
        cause: Cause,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        let RemoteState::Present { document, version } = remote else { return Ok(()) };
        let operations = self.operations_of(record.row)?;
        let over = operations.iter().map(|operation| (operation.action, &operation.patch));
        let after = State {
            document: laid_over(Some(document), over),
            base: Some(document.clone()),
            version: version.clone(),
            confirmed: self.confirms(place.at),
        };
        let changed = !same(record.state.document.as_ref(), after.document.as_ref());
        self.replace(place, record, &after, true, changed, cause)?;
        if changed {
            harvest.changed.push(place.id.clone());
        }
        Ok(())
    }
}

/// Whether the server's row is what we believe it to be: by its version, unless that is distrusted.
fn is_known(record: &Record, remote: &RemoteState, distrusts_versions: bool) -> bool {
    let State { base, version, confirmed, .. } = &record.state;
    match (remote, base) {
        (RemoteState::Gone, base) => base.is_none(),
        (RemoteState::Present { .. }, None) => false,
        (RemoteState::Present { document, version: newer }, Some(base)) => {
            if distrusts_versions {
                return *confirmed && newer == version && document == base;
            }
            let same_version = newer.is_some() && newer == version;
            *confirmed && (same_version || newer == version && document.means_the_same(base))
        }
    }
}

/// Whether the decision was made from what is there now.
fn holds(resolution: &Resolution, newest: Newest, remote: &RemoteState) -> bool {
    resolution.contested.newest == newest.sequence && resolution.contested.remote == *remote
}

pub(super) fn contested(place: Place<'_>, record: &Record, newest: Newest, remote: &RemoteState) -> Contested {
    Contested {
        id: place.id.clone(),
        local: record.state.document.clone(),
        base: record.state.base.clone(),
        base_version: record.state.version.clone(),
        stamp: newest.stamp,
        newest: newest.sequence,
        remote: remote.clone(),
    }
}

/// Of a record that was seen several times, the last sight counts: a decision on each in turn would never end.
fn newest_of_each(rows: &[RemoteRow]) -> Vec<&RemoteRow> {
    let last: HashMap<&RecordId, usize> = rows.iter().enumerate().map(|(at, row)| (&row.id, at)).collect();
    rows.iter().enumerate().filter(|(at, row)| last[&row.id] == *at).map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, gone, id, row, said};
    use super::*;
    use tidelock_actors::model::Outcome;
    use tidelock_actors::writes::Write;

    #[test]
    fn a_row_without_operations_of_ours_becomes_the_record() {
        let mut world = World::new();
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]), 1);
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]), 0, "the same again");
        assert_eq!(world.take(vec![row("notes/a", r#"{"n":2,"id":"a"}"#, "v2")]), 1);
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":2.0}"#, "v3")]), 0, "only the version is new");
        assert_eq!(world.bases("notes/a").1.unwrap(), "v3");
        assert_eq!(world.history("notes/a"), [r#"{"id":"a","n":1}"#]);
        assert_eq!(world.counts("notes"), (1, 0, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn without_versions_rows_are_compared_by_what_they_mean() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "")]);
        assert_eq!(world.take(vec![row("notes/a", r#"{"n":1.0,"id":"a"}"#, "")]), 0);
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":2}"#, "")]), 1);
        world.assert_healthy();
    }

    #[test]
    fn a_row_that_is_gone_removes_the_record_and_keeps_its_version() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a"}"#, "v1")]);
        assert_eq!(world.take(vec![gone("notes/a"), gone("notes/never")]), 1);
        assert_eq!((world.get("notes/a"), world.counts("notes")), (None, (0, 0, 0, 0, 0)));
        assert_eq!(world.history("notes/a"), [r#"{"id":"a"}"#]);
        assert_eq!(world.rows("tl_records"), 0);
        world.assert_healthy();
    }

    #[test]
    fn a_record_made_here_is_not_removed_because_the_server_has_no_such_row() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        world.save("drafts/d", "{}");
        assert_eq!(world.take(vec![gone("notes/a"), gone("drafts/d")]), 0);
        assert!(world.get("notes/a").is_some() && world.get("drafts/d").is_some());
    }

    #[test]
    fn h24_a_row_under_pending_operations_is_contested_and_nothing_at_all_is_written() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        let mut observation =
            world.observation(vec![row("notes/b", "{}", "v9"), row("notes/a", r#"{"id":"a","n":3}"#, "v2")]);
        observation.checkpoints.insert("pull".to_owned(), "9".to_owned());
        let Written::Contested(contested) = world.commit(Write::Observe(observation)).unwrap() else { panic!() };
        assert_eq!(contested.len(), 1);
        let Contested { id: of, local, base, base_version, newest, remote, .. } = &contested[0];
        assert_eq!((of, *newest), (&id("notes/a"), 1));
        assert_eq!(local.as_ref().unwrap().as_str(), r#"{"id":"a","n":2}"#);
        assert_eq!(base.as_ref().unwrap().as_str(), r#"{"id":"a","n":1}"#);
        assert_eq!(base_version.as_deref(), Some("v1"));
        assert_eq!(*remote, row("notes/a", r#"{"id":"a","n":3}"#, "v2").state);
        assert_eq!((world.get("notes/b"), world.checkpoints().len()), (None, 0));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2}"#, "the screen does not flicker back");
        assert_eq!(world.counts("notes"), (1, 1, 0, 0, 1));
        world.assert_healthy();
    }

    #[test]
    fn a_row_that_is_the_base_of_our_operations_is_no_conflict() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        assert_eq!(world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]), 0);
        let touched = row("notes/a", r#"{"id":"a","n":1,"updated_at":"later"}"#, "v2");
        assert_eq!(world.take(vec![touched]), 1, "a new stamp alone is no change of somebody's");
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":2,"updated_at":"later"}"#);
        assert_eq!(world.bases("notes/a").1.unwrap(), "v2");
        world.assert_healthy();
    }

    #[test]
    fn a_decision_holds_only_while_nothing_newer_was_done_here() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        let seen = row("notes/a", r#"{"id":"a","n":3}"#, "v2");
        let contested = world.contest(vec![seen.clone()]).remove(0);
        world.save("notes/a", r#"{"n":4}"#);
        let resolution = Resolution { contested, outcome: Outcome::TakeRemote, strategy: "remote-wins".to_owned() };
        let observation = Observation { resolutions: vec![resolution], ..world.observation(vec![seen]) };
        let Written::Contested(anew) = world.commit(Write::Observe(observation)).unwrap() else { panic!() };
        assert_eq!((anew[0].newest, world.get("notes/a").unwrap().as_str()), (2, r#"{"id":"a","n":4}"#));
    }

    #[test]
    fn of_a_record_seen_twice_the_last_sight_counts() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        let rows = || vec![row("notes/a", r#"{"id":"a","n":3}"#, "v2"), row("notes/a", r#"{"id":"a","n":4}"#, "v3")];
        let contested = world.contest(rows()).remove(0);
        let resolution = Resolution { contested, outcome: Outcome::TakeRemote, strategy: "remote-wins".to_owned() };
        let observation = Observation { resolutions: vec![resolution], ..world.observation(rows()) };
        assert!(matches!(world.commit(Write::Observe(observation)).unwrap(), Written::Observed { conflicts: 1, .. }));
        assert_eq!(world.get("notes/a").unwrap(), r#"{"id":"a","n":4}"#);
        world.assert_healthy();
    }

    #[test]
    fn h06_the_checkpoint_stays_where_it_was_when_a_row_cannot_be_taken() {
        let mut world = World::new();
        let mut seen = |rows, at: &str| {
            let mut observation = world.observation(rows);
            observation.checkpoints.insert("pull".to_owned(), at.to_owned());
            (world.commit(Write::Observe(observation)), world.checkpoints().remove("pull"))
        };
        let (written, at) = seen(vec![row("notes/a", "{}", "v1")], "1");
        assert!((written.is_ok(), at.as_deref()) == (true, Some("1")));
        let (written, at) = seen(vec![row("notes/b", "{}", "v1"), row("nowhere/c", "{}", "v1")], "2");
        assert!(said(written).starts_with("there is no collection \"nowhere\""));
        assert_eq!(at.as_deref(), Some("1"));
        assert_eq!(world.get("notes/b"), None);
        world.assert_healthy();
    }

    #[test]
    fn a_checkpoint_moves_with_an_empty_page_too() {
        let mut world = World::new();
        let mut observation = world.observation(vec![]);
        observation.checkpoints.insert("pull".to_owned(), "5:5:".to_owned());
        world.commit(Write::Observe(observation)).unwrap();
        let world = world.reopen();
        assert_eq!(world.checkpoints()["pull"], "5:5:");
    }
}
