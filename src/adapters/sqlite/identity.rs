//! Who a store is: its client id and epoch.

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::faults::Failure;

/// Who a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// This store among all of its user's: a UUID.
    pub client_id: String,
    /// Which incarnation of it this is: a UUID.
    pub epoch: String,
    /// Whose it is, once somebody has signed in.
    pub user: Option<String>,
}

/// Names a new store.
pub(super) fn prepare(connection: &Connection) -> Result<(), Failure> {
    for name in ["client_id", "epoch"] {
        let value = Uuid::new_v4().to_string();
        connection.execute("INSERT OR IGNORE INTO tl_meta (name, value) VALUES (?1, ?2)", [name, &value])?;
    }
    Ok(())
}

/// Reads who it is.
pub(super) fn read(connection: &Connection) -> Result<Identity, Failure> {
    let mut statement = connection.prepare_cached("SELECT value FROM tl_meta WHERE name = ?1")?;
    let mut value = |name: &str| statement.query_row([name], |row| row.get::<_, String>(0)).optional();
    Ok(Identity {
        client_id: value("client_id")?.unwrap_or_default(),
        epoch: value("epoch")?.unwrap_or_default(),
        user: value("user")?,
    })
}
