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
            let counts = self.counts(self.collections.find(name)?);
            let contests = counts.pending + counts.parked + counts.conflicts > 0;
            last = Some((name, contests));
            if contests {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_rows(&mut self, observation: &Observation, rows: &[&RemoteRow]) -> Result<Harvest, Failure> {
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
            self.take_row(place, &row.state, decided.get(&row.id).copied(), cause, &mut harvest)?;
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
        resolution: Option<&Resolution>,
        cause: Cause,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        let Some(record) = self.find(place)? else {
            if let RemoteState::Present { document, version } = remote {
                self.insert(place, &State::of_server(document.clone(), version.clone()), false, cause)?;
                harvest.changed.push(place.id.clone());
            }
            return Ok(());
        };
        if is_known(&record, remote) {
            return Ok(());
        }
        let Some(newest) = record.newest else {
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
        match resolution.filter(|resolution| holds(resolution, newest, remote)) {
            Some(resolution) => {
                let settled = self.resolve(place, &record, resolution, cause)?;
                harvest.conflicts += u64::from(settled.is_conflict);
                if settled.changed {
                    harvest.changed.push(place.id.clone());
                }
            }
            None => harvest.contested.push(contested(place, &record, newest, remote)),
        }
        Ok(())
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
            RemoteState::Present { document, version } => State::of_server(document.clone(), version.clone()),
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
        let is_within = |a: &Document, b: &Document| a.changes_from(b).fields().keys().all(|name| **name == **stamped);
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
            confirmed: true,
        };
        let changed = !same(record.state.document.as_ref(), after.document.as_ref());
        self.replace(place, record, &after, true, changed, cause)?;
        if changed {
            harvest.changed.push(place.id.clone());
        }
        Ok(())
    }
}

/// Whether the server's row is what we believe it to be.
fn is_known(record: &Record, remote: &RemoteState) -> bool {
    let State { base, version, confirmed, .. } = &record.state;
    match (remote, base) {
        (RemoteState::Gone, base) => base.is_none(),
        (RemoteState::Present { .. }, None) => false,
        (RemoteState::Present { document, version: newer }, Some(base)) => {
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
