//! Moves the log into the database beside the writer, so that no commit waits for it. The writer's own
//! checkpoint, at a much longer log, only has to move what came while this one was at work. Where the log is kept for
//! backups, it is copied first.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::keeper::{Cut, KeepError, Keeper};
use super::open::{BUSY_TIMEOUT, OpenError, reader};
use super::quota::Quota;
use super::spool::Spool;
use super::wal::LogPosition;

/// Rows that change between two runs.
const ROWS: u64 = 2_000;
/// Frames of a log that is kept, after which the writer stands still for a moment so that it can begin anew.
const LOG_FRAMES: u64 = 8_000;
/// How long the writer stands still at the most.
const STANDSTILL: Duration = Duration::from_secs(2);

/// What the thread is asked for.
enum Request {
    /// There is something to move.
    Move,
    /// The same, and the writer waits until it is done.
    CatchUp(SyncSender<()>),
    /// Keep the log from now on.
    Begin(SyncSender<Result<LogPosition, String>>),
    /// Give what was kept, if it was.
    Cut(SyncSender<Option<Cut>>),
    /// Keep it no more.
    End(SyncSender<()>),
}

/// The thread, as long as there is a writer.
pub(super) struct Checkpointer {
    requests: Option<Arc<SyncSender<Request>>>,
    thread: Option<JoinHandle<()>>,
    changes: u64,
    shared: Arc<Shared>,
}

/// What the writer and the thread tell each other.
#[derive(Default)]
struct Shared {
    /// Whether the log is kept.
    is_kept: AtomicBool,
    /// Whether it has grown so long that the writer should stand still.
    is_long: AtomicBool,
}

/// Speaks to the thread for those who make backups.
#[derive(Clone)]
pub(crate) struct Log {
    requests: Weak<SyncSender<Request>>,
}

impl Log {
    /// Keeps the log from its beginning on, and tells which one it is.
    pub(crate) fn begin(&self) -> Result<LogPosition, String> {
        self.ask(Request::Begin).unwrap_or_else(|| Err("the store is closed".to_owned()))
    }

    /// What was committed since the last cut; nothing where that is not known.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.ask(Request::Cut).flatten()
    }

    /// Keeps it no longer, so that it may begin anew whatever was copied of it.
    pub(crate) fn end(&self) {
        self.ask(Request::End);
    }

    fn ask<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Option<T> {
        let (give, answer) = sync_channel(1);
        self.requests.upgrade()?.send(request(give)).ok()?;
        answer.recv().ok()
    }
}

impl Checkpointer {
    /// Starts the thread on a connection of its own. What goes through the log is kept in `spool`, if that is there.
    pub(super) fn start(
        connection: Connection,
        database: PathBuf,
        spool: PathBuf,
        quota: Quota,
    ) -> Result<Self, OpenError> {
        let (requests, asked) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let mut mover =
            Mover { connection, database, spool, keeper: None, long: LOG_FRAMES, shared: shared.clone(), quota };
        mover.resume();
        mover.count();
        let thread = std::thread::Builder::new().name("tidelock-log".to_owned());
        let thread = thread.spawn(move || mover.work(&asked));
        let thread = thread.map_err(|source| OpenError::Files { path: PathBuf::from("tidelock-log"), source })?;
        Ok(Self { requests: Some(Arc::new(requests)), thread: Some(thread), changes: 0, shared })
    }

    /// Looks at how much was written in all since the writer was opened, and waits only where the log has grown long.
    pub(super) fn note(&mut self, changes: u64) {
        let Some(requests) = &self.requests else { return };
        if self.shared.is_long.swap(false, Ordering::Relaxed) {
            let (give, done) = sync_channel(1);
            if requests.send(Request::CatchUp(give)).is_ok() && done.recv_timeout(STANDSTILL).is_err() {
                tracing::debug!("the log could not begin anew in time; it goes on growing");
            }
        }
        if changes.wrapping_sub(self.changes) < ROWS {
            return;
        }
        self.changes = changes;
        // One hint is as good as two, and without the thread the writer moves the log itself.
        let _ = requests.try_send(Request::Move);
    }

    /// Whether the log is kept: then nobody else may begin it anew.
    pub(super) fn keeps_log(&self) -> bool {
        self.shared.is_kept.load(Ordering::Relaxed)
    }

    /// For those who make backups.
    pub(super) fn log(&self) -> Log {
        Log { requests: self.requests.as_ref().map(Arc::downgrade).unwrap_or_default() }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Mover {
    connection: Connection,
    database: PathBuf,
    spool: PathBuf,
    keeper: Option<Keeper>,
    /// Frames after which the writer is asked to stand still.
    long: u64,
    shared: Arc<Shared>,
    quota: Quota,
}

impl Mover {
    fn work(mut self, asked: &Receiver<Request>) {
        while let Ok(request) = asked.recv() {
            match request {
                Request::Move => self.move_log(),
                Request::CatchUp(done) => {
                    self.move_log();
                    let _ = done.send(());
                }
                Request::Begin(answer) => {
                    let begun = self.begin().inspect_err(|error| self.give_up(error));
                    let _ = answer.send(begun.map_err(|error| error.to_string()));
                }
                Request::Cut(answer) => {
                    let _ = answer.send(self.kept(Keeper::cut));
                }
                Request::End(done) => {
                    self.end();
                    let _ = done.send(());
                }
            }
            self.count();
        }
    }

    fn count(&self) {
        self.quota.count_kept_log(self.keeper.as_ref().map_or(0, Keeper::bytes));
    }

    fn move_log(&mut self) {
        self.kept(Keeper::advance);
        let moved = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        match moved {
            Ok((frames, moved)) if frames == moved => {
                // All of it is in the database: the new reader needs nothing of it, and it may begin anew.
                self.kept(Keeper::advance);
                self.long = LOG_FRAMES;
            }
            Ok((frames, _)) => {
                let frames = frames.unsigned_abs();
                let is_long = self.keeper.is_some() && frames > self.long;
                if is_long {
                    // Where something else holds the log, asking again at once would not help.
                    self.long = frames + LOG_FRAMES;
                }
                self.shared.is_long.store(is_long, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, "the log could not be moved into the database; the writer will try again");
            }
        }
    }

    /// Does something with the log that is kept. If that fails it is kept no more, and the next backup is a full one.
    fn kept<T>(&mut self, work: impl FnOnce(&mut Keeper, &Connection) -> Result<T, KeepError>) -> Option<T> {
        match work(self.keeper.as_mut()?, &self.connection) {
            Ok(done) => Some(done),
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    fn resume(&mut self) {
        if !self.spool.exists() {
            return;
        }
        let resumed = readers(&self.database)
            .and_then(|readers| Keeper::resume(&self.database, &self.spool, readers, &self.connection));
        match resumed {
            Ok(keeper) => self.keep(keeper),
            Err(error) => self.give_up(&error),
        }
    }

    fn begin(&mut self) -> Result<LogPosition, KeepError> {
        self.keeper = None;
        // A log has a beginning once something else than before was written into it.
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        let write = "INSERT OR REPLACE INTO tl_meta (name, value) VALUES ('log kept since', hex(randomblob(8)))";
        let written = self.connection.execute(write, []);
        self.connection.busy_handler(None)?;
        written?;
        let keeper = Keeper::begin(&self.database, &self.spool, readers(&self.database)?, &self.connection)?;
        let position = keeper.position().ok_or_else(|| KeepError::Interrupted("the log is empty".to_owned()))?;
        self.keep(keeper);
        Ok(LogPosition { offset: 0, ..position })
    }

    fn keep(&mut self, keeper: Keeper) {
        self.keeper = Some(keeper);
        self.shared.is_kept.store(true, Ordering::Relaxed);
    }

    fn give_up(&mut self, error: &KeepError) {
        tracing::info!(%error, "the log is not kept any more; the next backup is a full one");
        self.end();
    }

    fn end(&mut self) {
        self.keeper = None;
        self.shared.is_kept.store(false, Ordering::Relaxed);
        if let Err(error) = Spool::end(&self.spool) {
            tracing::warn!(%error, "what was copied from the log could not be removed");
        }
    }
}

fn readers(database: &Path) -> Result<[Connection; 2], KeepError> {
    let open = || reader(database).map_err(|error| KeepError::Interrupted(error.to_string()));
    Ok([open()?, open()?])
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
