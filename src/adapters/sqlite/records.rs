//! Rows of `tl_records`: found, made, replaced and removed, with their counts and history always kept along.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, params};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Sequence, Stamp, Version};

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::history::Superseded;
use super::operations::OperationState;
use super::statements::Hot;

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// What the app sees; `None` while a deletion made here is still to be sent.
    pub(super) document: Option<Document>,
    /// What the server is believed to have.
    pub(super) base: Option<Document>,
    /// The version of that.
    pub(super) version: Option<Version>,
    /// Whether the server said so itself; else it is what must have come of an applied operation.
    pub(super) confirmed: bool,
}

impl State {
    /// A document that the server knows nothing of.
    pub(super) fn here(document: Document) -> Self {
        Self { document: Some(document), base: None, version: None, confirmed: true }
    }

    /// No record at all.
    pub(super) fn nowhere() -> Self {
        Self { document: None, base: None, version: None, confirmed: true }
    }

    /// The server's row with nothing of ours over it.
    pub(super) fn of_server(document: Document, version: Option<Version>, confirmed: bool) -> Self {
        Self { document: Some(document.clone()), base: Some(document), version, confirmed }
    }
}

/// Who made a document what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The app.
    Local,
    /// The server.
    Server,
    /// A decision on a conflict.
    Resolution,
    /// Operations that were given up.
    Discard,
    /// Somebody who brought back what was there before.
    Restored,
}

impl ToSql for Origin {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let name = match self {
            Self::Local => "local",
            Self::Server => "server",
            Self::Resolution => "resolution",
            Self::Discard => "discard",
            Self::Restored => "restored",
        };
        Ok(name.into())
    }
}

impl FromSql for Origin {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "local" => Ok(Self::Local),
            "server" => Ok(Self::Server),
            "resolution" => Ok(Self::Resolution),
            "discard" => Ok(Self::Discard),
            "restored" => Ok(Self::Restored),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// Who changes a record, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause {
    /// Who.
    pub(super) origin: Origin,
    /// When.
    pub(super) stamp: Stamp,
    /// In which round, if in one.
    pub(super) round: Option<i64>,
}

impl Cause {
    /// The app.
    pub(super) fn local(stamp: Stamp) -> Self {
        Self { origin: Origin::Local, stamp, round: None }
    }

    /// Bringing back what was there before. It has a number as rounds have, so that it can be taken back as they can.
    pub(super) fn restored(stamp: Stamp, number: i64) -> Self {
        Self { origin: Origin::Restored, stamp, round: Some(number) }
    }
}

/// A record as it stands in the file.
#[derive(Debug)]
pub(super) struct Record {
    /// Its row.
    pub(super) row: i64,
    /// What it is.
    pub(super) state: State,
    /// Whether operations stand on it.
    pub(super) has_operations: bool,
    /// Who made it so.
    pub(super) origin: Origin,
    /// When.
    pub(super) stamp: i64,
    /// In which round.
    pub(super) round: Option<i64>,
    /// How often its document was replaced.
    pub(super) revision: i64,
}

/// The newest operation of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    /// Its place in the outbox.
    pub(super) sequence: Sequence,
    /// Whether it waits, is set aside or held.
    pub(super) state: OperationState,
    /// When it was made.
    pub(super) stamp: Stamp,
}

/// A text column that holds a document.
pub(super) fn document(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Document>> {
    Ok(row.get::<_, Option<String>>(column)?.map(Document::trusted))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    let (seen, on_server) = (document(row, 1)?, row.get(4)?);
    let base = if on_server { document(row, 2)?.or_else(|| seen.clone()) } else { None };
    Ok(Record {
        row: row.get(0)?,
        state: State { document: seen, base, version: row.get(3)?, confirmed: row.get(5)? },
        has_operations: row.get(6)?,
        origin: row.get(7)?,
        stamp: row.get(8)?,
        round: row.get(9)?,
        revision: row.get(10)?,
    })
}

/// Whether two documents, either of which may be absent, mean the same.
pub(super) fn same(a: Option<&Document>, b: Option<&Document>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.means_the_same(b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Stored only where it differs from the document or may come to.
fn server_document(state: &State, has_operations: bool) -> Option<&str> {
    state.base.as_ref().filter(|_| has_operations).map(Document::as_str)
}

impl Batch<'_> {
    /// The record, if there is one.
    pub(super) fn find(&mut self, place: Place<'_>) -> Result<Option<Record>, Failure> {
        let statement = self.statements.get(self.connection, Hot::Find)?;
        Ok(statement.query_row(params![place.id.collection, place.id.key], read).optional()?)
    }

    /// The newest operation on a record. Operations that are parked or held are always the last ones of their
    /// record, so this one's state tells whether there are any.
    pub(super) fn newest(&self, record: &Record) -> Result<Option<Newest>, Failure> {
        if !record.has_operations {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, state, stamp FROM tl_operations WHERE record = ?1 ORDER BY seq DESC LIMIT 1",
        )?;
        let read = |row: &Row<'_>| Ok(Newest { sequence: row.get(0)?, state: row.get(1)?, stamp: Stamp(row.get(2)?) });
        Ok(statement.query_row([record.row], read).optional()?)
    }

    /// Makes a record and tells its row; `None` where there is one already, which stays as it is.
    pub(super) fn insert(
        &mut self,
        place: Place<'_>,
        state: &State,
        has_operations: bool,
        cause: Cause,
    ) -> Result<Option<i64>, Failure> {
        let statement = self.statements.get(self.connection, Hot::Insert)?;
        let inserted = statement.execute(params![
            place.id.collection,
            place.id.key,
            state.document.as_ref().map(Document::as_str),
            server_document(state, has_operations),
            state.version,
            state.base.is_some(),
            state.confirmed,
            has_operations,
            cause.origin,
            cause.stamp.0,
            cause.round,
        ])?;
        if inserted == 0 {
            return Ok(None);
        }
        self.count(place, &State::nowhere(), state);
        self.tally.see(place.at, cause.stamp);
        Ok(Some(self.connection.last_insert_rowid()))
    }

    /// Makes the record what `after` says; a record of which nothing is left is removed. `replaced` tells
    /// whether it is another version now: then the old one goes to the history.
    pub(super) fn replace(
        &mut self,
        place: Place<'_>,
        before: &Record,
        after: &State,
        has_operations: bool,
        replaced: bool,
        cause: Cause,
    ) -> Result<(), Failure> {
        self.count(place, &before.state, after);
        self.tally.see(place.at, cause.stamp);
        if replaced {
            self.supersede(place, before, cause)?;
        }
        if after.document.is_none() && !has_operations {
            self.connection.prepare_cached("DELETE FROM tl_records WHERE id = ?1")?.execute([before.row])?;
            return self.forget_old_versions(place);
        }
        let (origin, stamp, round) = match replaced {
            true => (cause.origin, cause.stamp.0, cause.round),
            false => (before.origin, before.stamp, before.round),
        };
        let statement = self.statements.get(self.connection, Hot::Update)?;
        statement.execute(params![
            before.row,
            after.document.as_ref().map(Document::as_str),
            server_document(after, has_operations),
            after.version,
            after.base.is_some(),
            after.confirmed,
            has_operations,
            origin,
            stamp,
            round,
            before.revision + i64::from(replaced),
        ])?;
        Ok(())
    }

    fn count(&mut self, place: Place<'_>, before: &State, after: &State) {
        let step = |before: bool, after: bool| i64::from(after) - i64::from(before);
        self.tally.count_record(place.at, step(before.document.is_some(), after.document.is_some()));
        self.tally.count_on_server(place.at, step(before.base.is_some(), after.base.is_some()));
    }

    /// Keeps the version that ends now.
    fn supersede(&mut self, place: Place<'_>, before: &Record, cause: Cause) -> Result<(), Failure> {
        match &before.state.document {
            Some(document) => self.keep_version(place, &Superseded { before, document, cause }),
            None => Ok(()),
        }
    }
}
