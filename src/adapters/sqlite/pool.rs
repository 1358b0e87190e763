//! Threads that read: each has its connections, takes the next question and answers it. Any executor can
//! wait for an answer, a read that panics takes only itself along, and the threads end with the last handle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, ready};
use rusqlite::Connection;
use tidelock_actors::limits::READS_WAITING;
use tidelock_actors::ports::StoreError;

use super::faults::Failure;
use crate::locks::locked;

/// An answer to come.
pub type Answer<T> = BoxFuture<'static, Result<T, StoreError>>;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The threads, as long as somebody may ask.
#[derive(Clone)]
pub(super) struct Pool {
    questions: SyncSender<Question>,
}

impl Pool {
    /// Starts a thread for each connection.
    pub(super) fn start(connections: Vec<Connection>) -> std::io::Result<Self> {
        let (questions, asked) = sync_channel(READS_WAITING);
        let asked = Arc::new(Mutex::new(asked));
        for (number, connection) in connections.into_iter().enumerate() {
            let asked = asked.clone();
            let thread = std::thread::Builder::new().name(format!("tidelock-read-{number}"));
            thread.spawn(move || serve(&connection, &asked))?;
        }
        Ok(Self { questions })
    }

    /// Asks; the answer comes from one of the threads.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        let (give, answer) = oneshot::channel();
        let question = move |connection: &Connection| {
            // Nobody waits any more: no error.
            let _ = give.send(read(connection).map_err(StoreError::from));
        };
        match self.questions.try_send(Box::new(question)) {
            Ok(()) => answer
                .map(|answer| answer.unwrap_or_else(|_| Err(StoreError::Failed("the read panicked".to_owned()))))
                .boxed(),
            Err(TrySendError::Full(_)) => refuse(format!("{READS_WAITING} reads are waiting already")),
            Err(TrySendError::Disconnected(_)) => refuse("no thread is left to read".to_owned()),
        }
    }
}

fn refuse<T: Send + 'static>(reason: String) -> Answer<T> {
    ready(Err(StoreError::Failed(reason))).boxed()
}

fn serve(connection: &Connection, asked: &Mutex<Receiver<Question>>) {
    loop {
        let next = locked(asked).recv();
        let Ok(question) = next else { return };
        if catch_unwind(AssertUnwindSafe(|| question(connection))).is_err() {
            tracing::error!("a read of the local store panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::cell::RefCell;
    use std::time::{Duration, Instant};

    fn pool(threads: usize) -> Pool {
        Pool::start((0..threads).map(|_| Connection::open_in_memory().unwrap()).collect()).unwrap()
    }

    #[test]
    fn a_read_that_panics_takes_only_itself_along() {
        let pool = pool(1);
        let panicked: Answer<()> = pool.ask(|_| panic!("on purpose"));
        assert_eq!(block_on(panicked), Err(StoreError::Failed("the read panicked".to_owned())));
        let answer = pool.ask(|connection| Ok(connection.query_row("SELECT 7", [], |row| row.get::<_, i64>(0))?));
        assert_eq!(block_on(answer), Ok(7));
    }

    #[test]
    fn the_threads_end_with_the_last_handle() {
        thread_local!(static HELD: RefCell<Option<Arc<()>>> = const { RefCell::new(None) });
        let held = Arc::new(());
        let alive = Arc::downgrade(&held);
        let pool = pool(1);
        let other = pool.clone();
        let hold = pool.ask(move |_| {
            HELD.with(|place| place.replace(Some(held)));
            Ok(())
        });
        block_on(hold).unwrap();
        drop(pool);
        block_on(other.ask(|_| Ok(()))).unwrap();
        drop(other);
        let deadline = Instant::now() + Duration::from_secs(10);
        while alive.upgrade().is_some() {
            assert!(Instant::now() < deadline, "the thread still lives");
            std::thread::yield_now();
        }
    }
}
