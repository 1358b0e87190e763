//! The statements that every save needs, prepared once a commit: looking one up by its text costs a tenth of
//! running it.

use rusqlite::{CachedStatement, Connection};

use super::faults::Failure;

/// Which one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hot {
    /// A record by its place.
    Find,
    /// A new record.
    Insert,
    /// A record's new state.
    Update,
    /// A new operation.
    Enqueue,
    /// The operations of a record.
    Operations,
    /// An operation that is through.
    Dequeue,
    /// A version that ends.
    KeepVersion,
}

const COUNT: usize = 7;

impl Hot {
    fn sql(self) -> &'static str {
        match self {
            Self::Find => {
                "SELECT id, document, server_document, version, on_server, confirmed, has_operations, origin, stamp,
                        round, revision
                 FROM tl_records WHERE collection = ?1 AND key = ?2"
            }
            Self::Insert => {
                "INSERT INTO tl_records (collection, key, document, server_document, version, on_server, confirmed,
                                         has_operations, origin, stamp, round, revision)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0)
                 ON CONFLICT (collection, key) DO NOTHING"
            }
            Self::Update => {
                "UPDATE tl_records SET document = ?2, server_document = ?3, version = ?4, on_server = ?5,
                                       confirmed = ?6, has_operations = ?7, origin = ?8, stamp = ?9, round = ?10,
                                       revision = ?11
                 WHERE id = ?1"
            }
            Self::Enqueue => {
                "INSERT INTO tl_operations (seq, transaction_id, record, collection, key, action, patch, stamp, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            }
            Self::Operations => {
                "SELECT seq, state, action, patch, transaction_id FROM tl_operations WHERE record = ?1 ORDER BY seq"
            }
            Self::Dequeue => "DELETE FROM tl_operations WHERE seq = ?1",
            Self::KeepVersion => {
                "INSERT INTO tl_history (collection, key, document, version, stamp, origin, round, ended, ended_by,
                                         ended_round)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            }
        }
    }
}

/// Those that were needed so far.
#[derive(Default)]
pub(super) struct Statements<'c>([Option<CachedStatement<'c>>; COUNT]);

impl<'c> Statements<'c> {
    /// The statement, prepared if it is not yet.
    pub(super) fn get(&mut self, connection: &'c Connection, hot: Hot) -> Result<&mut CachedStatement<'c>, Failure> {
        let slot = &mut self.0[hot as usize];
        match slot {
            Some(statement) => Ok(statement),
            None => Ok(slot.insert(connection.prepare_cached(hot.sql())?)),
        }
    }
}
