//! The log book on SQLite, a file of its own beside the store's: logging costs the store's writer nothing, outlives
//! damage of the store, and is in no backup.
//!
//! One thread has the file, and makes it when there is something to write. A file that somebody has locked is waited for; one
//! that is damaged is set aside; where none can be written the book goes on in memory, says so, and tries the file again now
//! and then.

mod book;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rusqlite::ErrorCode;
use tidelock_actors::limits::{LOG_BOOK_BUSY, LOG_BOOK_QUESTIONS, LOG_BOOK_RETRY};
use tidelock_actors::logger::OWN_TARGET;
use tidelock_actors::logs::{BookError, BookState, Drained, Kept, LogQuery, Settled};
use tidelock_actors::ports::LogBook;

use book::Book;

/// The file's name in the data folder.
pub const FILE: &str = "logs.db";
/// What is put behind the name of a damaged one.
const ASIDE: &str = "damaged";

type Question = Box<dyn FnOnce(&mut Keeper) + Send>;

/// The way to the thread.
#[derive(Debug, Clone)]
pub(crate) struct SqliteLogBook {
    questions: SyncSender<Question>,
}

/// How long it waits for a file.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For somebody who has it locked.
    busy: Duration,
    /// After a failure, until it is opened again.
    retry: Duration,
}

const PATIENCE: Patience = Patience { busy: LOG_BOOK_BUSY, retry: LOG_BOOK_RETRY };

/// What the thread has.
struct Keeper {
    path: PathBuf,
    patience: Patience,
    book: Option<Book>,
    /// Whether the book is in memory, for want of a file.
    is_in_memory: bool,
    /// When the file failed last.
    failed: Option<Instant>,
    trouble: Option<String>,
}

impl SqliteLogBook {
    /// A book in this folder. The file is not touched before the first question.
    pub fn start(folder: &Path) -> std::io::Result<Self> {
        Self::start_with(folder, PATIENCE)
    }

    fn start_with(folder: &Path, patience: Patience) -> std::io::Result<Self> {
        let path = folder.join(FILE);
        let keeper = Keeper { path, patience, book: None, is_in_memory: false, failed: None, trouble: None };
        let (questions, asked) = sync_channel(LOG_BOOK_QUESTIONS);
        std::thread::Builder::new().name("tidelock-logs".to_owned()).spawn(move || keep(keeper, &asked))?;
        Ok(Self { questions })
    }

    /// Asks at once; the future is only the answer.
    fn ask<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Keeper) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, BookError>> {
        let (give, answer) = oneshot::channel();
        let question: Question = Box::new(move |keeper| {
            let _ = give.send(keeper.answer(work));
        });
        let asked = self.questions.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => BookError("too many questions wait for it".to_owned()),
            TrySendError::Disconnected(_) => gone(),
        });
        async move {
            asked?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        }
        .boxed()
    }
}

fn keep(mut keeper: Keeper, questions: &Receiver<Question>) {
    while let Ok(question) = questions.recv() {
        question(&mut keeper);
    }
}

fn gone() -> BookError {
    BookError("its thread has ended".to_owned())
}

impl Keeper {
    /// Answers. A file that is locked answers another time; in the place of one that cannot be used there is another book.
    fn answer<T>(&mut self, work: impl Fn(&mut Self) -> rusqlite::Result<T>) -> Result<T, BookError> {
        self.return_to_the_file();
        let mut told = work(self);
        if let Err(error) = &told
            && !self.is_in_memory
            && !is_busy(error)
        {
            self.begin_anew(error);
            told = work(self);
        }
        told.map_err(|error| BookError(error.to_string()))
    }

    /// The book, if there is one; a new one if `is_needed`.
    fn book(&mut self, is_needed: bool) -> rusqlite::Result<Option<&mut Book>> {
        if self.book.is_none() && (is_needed || self.path.exists()) {
            self.book = Some(Book::open(&self.path, self.patience.busy)?);
        }
        Ok(self.book.as_mut())
    }

    /// Whether the file may be tried again after a failure.
    fn is_time(&self) -> bool {
        self.failed.is_none_or(|failed| failed.elapsed() >= self.patience.retry)
    }

    /// A damaged file goes aside; where that does not help the book goes on in memory.
    fn begin_anew(&mut self, error: &rusqlite::Error) {
        self.book = None;
        let set_aside = is_damage(error) && self.is_time() && self.set_aside().is_ok() && self.book(true).is_ok();
        self.failed = Some(Instant::now());
        match set_aside {
            true => self
                .say(format!("the log book was damaged ({error}); it was set aside as {FILE}.{ASIDE} and begun anew")),
            false => {
                (self.book, self.is_in_memory) = (Book::in_memory().ok(), true);
                self.say(format!("the log book cannot be written ({error}); logging goes on in memory until it can"));
            }
        }
    }

    /// What memory has goes into the file once that can be written again. Nothing of it may be on its way meanwhile: its
    /// numbers are others there.
    fn return_to_the_file(&mut self) {
        let is_leased = self.book.as_ref().is_some_and(Book::is_leased);
        if !self.is_in_memory || is_leased || !self.is_time() {
            return;
        }
        self.failed = Some(Instant::now());
        let opened = Book::open(&self.path, self.patience.busy).and_then(|mut file| {
            self.book.as_ref().map_or(Ok(()), |memory| file.take_over(memory))?;
            Ok(file)
        });
        match opened {
            Ok(file) => {
                (self.book, self.is_in_memory, self.trouble) = (Some(file), false, None);
                tracing::info!(target: OWN_TARGET, "the log book is written again");
            }
            Err(error) if is_damage(&error) => {
                // What has been set aside makes room for a new file, which is tried the next time.
                let _ = self.set_aside();
            }
            Err(_) => {}
        }
    }

    fn say(&mut self, trouble: String) {
        tracing::warn!(target: OWN_TARGET, trouble, "trouble with the log book");
        self.trouble = Some(trouble);
    }

    fn set_aside(&self) -> std::io::Result<()> {
        let beside = |end: &str| PathBuf::from(format!("{}{end}", self.path.display()));
        std::fs::rename(&self.path, beside(&format!(".{ASIDE}")))?;
        for end in ["-wal", "-shm"] {
            match std::fs::remove_file(beside(end)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn told(&self, state: BookState) -> BookState {
        BookState { trouble: self.trouble.clone(), ..state }
    }
}

/// Whether somebody else has the file locked.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the file is not what was written.
fn is_damage(error: &rusqlite::Error) -> bool {
    let is_foreign =
        matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..));
    // `Unknown` is SQL that does not fit: the tables are somebody else's.
    is_foreign
        || matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        )
}

impl LogBook for SqliteLogBook {
    fn append(&self, drained: Arc<Drained>, history: usize) -> BoxFuture<'static, Result<BookState, BookError>> {
        self.ask(move |keeper| {
            let is_something = !drained.entries.is_empty() || drained.shed > 0 || drained.folded != 0;
            let state = match keeper.book(is_something)? {
                Some(book) => book.append(&drained, history)?,
                None => BookState::default(),
            };
            Ok(keeper.told(state))
        })
    }

    fn newest(&self, query: LogQuery) -> BoxFuture<'static, Result<Vec<Kept>, BookError>> {
        self.ask(move |keeper| keeper.book(false)?.map_or(Ok(Vec::new()), |book| book.newest(&query)))
    }

    fn lease(&self, rows: usize, bytes: usize) -> BoxFuture<'static, Result<Vec<Kept>, BookError>> {
        self.ask(move |keeper| keeper.book(false)?.map_or(Ok(Vec::new()), |book| book.lease(rows, bytes)))
    }

    fn settle(&self, numbers: Vec<i64>, settled: Settled) -> BoxFuture<'static, Result<BookState, BookError>> {
        let last = numbers.last().copied().unwrap_or_default();
        self.ask(move |keeper| {
            let state = match keeper.book(false)? {
                Some(book) => book.settle(last, settled)?,
                None => BookState::default(),
            };
            Ok(keeper.told(state))
        })
    }
}

#[cfg(test)]
mod tests;
