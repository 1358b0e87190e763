//! Who a store is: its client id and epoch. A store that was copied or restored is another one (H31): the server would
//! take its operations for those of the first, which have the same numbers.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use tidelock_actors::queue::BOUNDARIES;
use uuid::Uuid;

use super::faults::Failure;

/// Operations of a window that may have been sent before; transactions are not cut.
const WINDOW: usize = 500;
/// Where a machine says which one it is.
const MACHINE: &str = "/etc/machine-id";

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

/// Names a new store, and names one anew that is not where it was: whoever copied it may use the other one, too.
pub(super) fn prepare(connection: &Connection, database: &Path) -> Result<(), Failure> {
    for name in ["client_id", "epoch"] {
        let value = Uuid::new_v4().to_string();
        connection.execute("INSERT OR IGNORE INTO tl_meta (name, value) VALUES (?1, ?2)", [name, &value])?;
    }
    let (home, known) = (home(database), value(connection, HOME)?);
    if known.as_ref() == Some(&home) {
        return Ok(());
    }
    if known.is_some() {
        tracing::warn!("the store was copied or moved from elsewhere; it goes on under a name of its own");
        renew(connection)?;
    }
    set(connection, HOME, &home)
}

/// What tells a file from its copies: the machine, and the file's number there. A file that is moved within a disk keeps
/// it, a copy never has it.
fn home(database: &Path) -> String {
    format!("{} {}", machine(), number(database))
}

/// Which machine this is, as far as it says.
pub(crate) fn machine() -> String {
    std::fs::read_to_string(MACHINE).unwrap_or_default().trim().to_owned()
}

#[cfg(unix)]
fn number(database: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    database.metadata().map(|file| file.ino().to_string()).unwrap_or_default()
}

#[cfg(not(unix))]
fn number(database: &Path) -> String {
    database.canonicalize().unwrap_or_default().display().to_string()
}

/// Gives a store another name. Under the old one its operations may have been sent: so they are compared with what the
/// server has before they count as new.
pub(super) fn renew(connection: &Connection) -> Result<(), Failure> {
    for name in ["client_id", "epoch"] {
        set(connection, name, &Uuid::new_v4().to_string())?;
    }
    connection.execute("DELETE FROM tl_checkpoints WHERE name = ?1", [BOUNDARIES])?;
    let boundaries = boundaries(connection)?;
    if !boundaries.is_empty() {
        connection.execute("INSERT INTO tl_checkpoints (name, value) VALUES (?1, ?2)", [BOUNDARIES, &boundaries])?;
    }
    Ok(())
}

/// The last operations of windows that hold all that is to be sent.
fn boundaries(connection: &Connection) -> Result<String, Failure> {
    let mut statement = connection.prepare(
        "SELECT max(seq), count(*) FROM tl_operations WHERE state = 'pending' GROUP BY transaction_id ORDER BY 1",
    )?;
    let transactions = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut boundaries, mut size): (Vec<i64>, usize) = (Vec::new(), 0);
    for transaction in transactions {
        let (last, operations): (i64, usize) = transaction?;
        if size == 0 || size + operations > WINDOW {
            boundaries.push(last);
            size = 0;
        }
        size += operations;
        if let Some(boundary) = boundaries.last_mut() {
            *boundary = last;
        }
    }
    Ok(boundaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// The row of `tl_meta` that says which file this was when it was last opened.
const HOME: &str = "home";

/// A copy that is to be opened as a store: it does not know any more which file it was, nor who.
pub(super) fn uproot(connection: &Connection) -> Result<(), Failure> {
    connection.execute("DELETE FROM tl_meta WHERE name = ?1", [HOME])?;
    renew(connection)
}

fn value(connection: &Connection, name: &str) -> Result<Option<String>, Failure> {
    let mut statement = connection.prepare_cached("SELECT value FROM tl_meta WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn set(connection: &Connection, name: &str, value: &str) -> Result<(), Failure> {
    connection.execute("INSERT OR REPLACE INTO tl_meta (name, value) VALUES (?1, ?2)", [name, value])?;
    Ok(())
}

/// Reads who it is.
pub(super) fn read(connection: &Connection) -> Result<Identity, Failure> {
    Ok(Identity {
        client_id: value(connection, "client_id")?.unwrap_or_default(),
        epoch: value(connection, "epoch")?.unwrap_or_default(),
        user: value(connection, "user")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, options};
    use super::super::{SqliteReads, open};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::ports::Reader;

    fn named(reads: &SqliteReads) -> (String, String) {
        let identity = block_on(reads.identity()).unwrap();
        (identity.client_id, identity.epoch)
    }

    #[test]
    fn h31_a_copied_store_goes_on_under_a_name_of_its_own_and_a_moved_one_keeps_its() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let first = named(&world.reads);
        let elsewhere = tempfile::tempdir_in(world.directory.path().parent().unwrap()).unwrap();
        let World { store, reads, directory, .. } = world;
        drop((store, reads));
        for file in ["tidelock.db", "tidelock.db-wal"] {
            let _ = std::fs::copy(directory.path().join(file), elsewhere.path().join(file));
        }
        let (copied, copied_reads) = open(options(elsewhere.path())).unwrap();
        let second = named(&copied_reads);
        assert!(second.0 != first.0 && second.1 != first.1);
        let checkpoints = block_on(copied_reads.checkpoints()).unwrap();
        assert_eq!(
            checkpoints.get(BOUNDARIES).map(String::as_str),
            Some("1"),
            "it may have been sent by the other one"
        );
        drop((copied, copied_reads));
        let (_again, reads) = open(options(elsewhere.path())).unwrap();
        assert_eq!(named(&reads), second, "once is enough");
        drop(reads);

        let moved = elsewhere.path().join("moved");
        std::fs::rename(directory.path(), &moved).unwrap();
        let (_store, reads) = open(options(&moved)).unwrap();
        assert_eq!(named(&reads), first);
    }

    #[test]
    fn what_may_have_been_sent_is_windows_of_whole_transactions() {
        let mut world = World::new();
        for transaction in 0..4 {
            let save = |n: usize| {
                let place = super::super::world::id(&format!("notes/{transaction}-{n}"));
                (place, tidelock_actors::model::Change::Save(super::super::world::document("{}")))
            };
            world.change((0..300).map(save).collect()).unwrap();
        }
        let connection = Connection::open(super::super::writer::file(world.directory.path())).unwrap();
        assert_eq!(boundaries(&connection).unwrap(), "300,600,900,1200");
        connection.execute("UPDATE tl_operations SET transaction_id = 1 WHERE transaction_id <= 601", []).unwrap();
        assert_eq!(boundaries(&connection).unwrap(), "900,1200");
        connection.execute("UPDATE tl_operations SET transaction_id = seq", []).unwrap();
        assert_eq!(boundaries(&connection).unwrap(), "500,1000,1200");
    }
}
