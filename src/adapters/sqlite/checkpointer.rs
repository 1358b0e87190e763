//! Moves the log into the database beside the writer, so that no commit waits for it. The writer's own
//! checkpoint, at a much longer log, only has to move what came while this one was at work.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// Rows that change between two runs.
const ROWS: u64 = 2_000;

/// The thread, as long as there is a writer.
pub(super) struct Checkpointer {
    hint: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    changes: u64,
}

impl Checkpointer {
    /// Starts the thread on a connection of its own.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (hint, hinted) = sync_channel(1);
        let thread = std::thread::Builder::new().name("tidelock-log".to_owned());
        let thread = thread.spawn(move || work(&connection, &hinted))?;
        Ok(Self { hint: Some(hint), thread: Some(thread), changes: 0 })
    }

    /// Looks at how much was written in all since the writer was opened, and never waits.
    pub(super) fn note(&mut self, changes: u64) {
        if changes.wrapping_sub(self.changes) < ROWS {
            return;
        }
        self.changes = changes;
        if let Some(hint) = &self.hint {
            // One hint is as good as two, and without the thread the writer moves the log itself.
            let _ = hint.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.hint = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(connection: &Connection, hinted: &Receiver<()>) {
    while hinted.recv().is_ok() {
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the log could not be moved into the database; the writer will try again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id};
    use super::super::writer::file;
    use std::time::{Duration, Instant};
    use tidelock_actors::model::Change;

    #[test]
    fn what_was_committed_reaches_the_database_while_the_writer_goes_on() {
        let mut world = World::new();
        let pages = |world: &World| file(world.directory.path()).metadata().unwrap().len() / 4096;
        let before = pages(&world);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut part = 0;
        while pages(&world) < before + 100 {
            assert!(Instant::now() < deadline, "nothing was moved");
            part += 1;
            let change =
                |n: usize| (id(&format!("notes/{part}-{n}")), Change::Save(document(r#"{"text":"some text"}"#)));
            world.change((0..500).map(change).collect()).unwrap();
        }
        world.assert_healthy();
    }
}
