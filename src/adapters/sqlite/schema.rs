//! The tables and how older files become today's: forwards only, one `.sql` file a step.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::faults::Failure;
use super::open::OpenError;

const STEPS: &[M<'_>] =
    &[M::up(include_str!("migrations/001_start.sql")), M::up(include_str!("migrations/002_history.sql"))];

/// The schema that this build writes.
pub(super) const KNOWN: usize = STEPS.len();

/// Whether a store was written by an earlier build: its tables are changed when it is opened.
pub(crate) fn is_of_earlier_build(database: &Path) -> bool {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let version =
        connection.and_then(|file| file.pragma_query_value(None, "user_version", |row| row.get::<_, usize>(0)));
    version.is_ok_and(|version| (1..KNOWN).contains(&version))
}

/// Brings the file to today's schema. A file from a later build is left alone.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(Failure::from)?;
    if found > KNOWN as i64 {
        return Err(OpenError::Newer { found, known: KNOWN as i64 });
    }
    Migrations::from_slice(STEPS).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => OpenError::from(Failure::from(err)),
        other => OpenError::Migration(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_build_todays_schema_from_an_empty_file_and_may_be_run_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let tables: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE 'tl\\_%' ESCAPE '\\'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 8);
    }

    #[test]
    fn what_an_earlier_build_forgot_of_the_history_counts_as_unknown() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::from_slice(&STEPS[..1]).to_latest(&mut connection).unwrap();
        connection.execute("INSERT INTO tl_counters (collection, stamp) VALUES ('notes', 77)", []).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(super::super::history::known_since(&connection).unwrap().0, 77);
    }

    #[test]
    fn a_file_from_a_later_build_is_refused_and_left_as_it_is() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the store was written by a newer tidelock (schema 99, this one knows up to 2); update tidelock"
        );
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 99);
    }
}
