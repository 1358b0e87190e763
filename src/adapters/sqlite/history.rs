//! Versions that were replaced, kept up to a number a record and up to an age.

use rusqlite::{Connection, params};
use tidelock_actors::document::Document;
use tidelock_actors::model::Stamp;

use super::batch::Batch;
use super::collections::Place;
use super::faults::Failure;
use super::records::{Cause, Record};

/// Rows removed in one go, so that no commit waits long.
const CHUNK: usize = 2_000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// Versions a record.
    pub(super) versions: u32,
    /// Milliseconds.
    pub(super) age_ms: i64,
}

/// A version that ends.
#[derive(Debug)]
pub(super) struct Superseded<'a> {
    /// The record until now.
    pub(super) before: &'a Record,
    /// Its document.
    pub(super) document: &'a Document,
    /// Who ends it.
    pub(super) cause: Cause,
}

impl Retention {
    /// Counting a record's versions costs a look at all of them, so it is done every few revisions only.
    fn is_due(self, revision: i64) -> bool {
        let pause = i64::from(self.versions / 4).clamp(1, 16);
        revision >= i64::from(self.versions) && revision % pause == 0
    }
}

impl Batch<'_> {
    /// Keeps a version that ends.
    pub(super) fn keep_version(&mut self, place: Place<'_>, superseded: &Superseded<'_>) -> Result<(), Failure> {
        if self.retention.versions == 0 {
            return Ok(());
        }
        let Superseded { before, document, cause } = superseded;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO tl_history (collection, key, document, version, stamp, origin, round, ended, ended_by, ended_round)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        statement.execute(params![
            place.id.collection,
            place.id.key,
            document.as_str(),
            before.state.version,
            before.stamp,
            before.origin,
            before.round,
            cause.stamp.0,
            cause.origin.name(),
            cause.round,
        ])?;
        if self.retention.is_due(before.revision) { self.forget_old_versions(place) } else { Ok(()) }
    }

    /// Forgets what is beyond the number of versions that a record may have.
    pub(super) fn forget_old_versions(&mut self, place: Place<'_>) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM tl_history WHERE id IN
             (SELECT id FROM tl_history WHERE collection = ?1 AND key = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
        )?;
        statement.execute(params![place.id.collection, place.id.key, self.retention.versions])?;
        Ok(())
    }
}

/// Forgets versions and settled conflicts that are older than the age allows, some of them at a time.
pub(super) fn prune(connection: &Connection, retention: Retention, now: Stamp) -> Result<(), Failure> {
    let oldest = Stamp((now.millis() - retention.age_ms) << 16);
    let mut versions = connection.prepare_cached(
        "DELETE FROM tl_history WHERE id IN (SELECT id FROM tl_history ORDER BY id LIMIT ?2) AND ended < ?1",
    )?;
    versions.execute(params![oldest.0, CHUNK])?;
    let mut conflicts = connection.prepare_cached(
        "DELETE FROM tl_conflicts WHERE id IN (SELECT id FROM tl_conflicts WHERE state <> 'open' ORDER BY id LIMIT ?2)
         AND resolved < ?1",
    )?;
    conflicts.execute(params![oldest.0, CHUNK])?;
    Ok(())
}
