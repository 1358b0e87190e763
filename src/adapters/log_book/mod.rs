//! The log book on SQLite, a file of its own beside the store's: logging costs the store's writer nothing, outlives
//! damage of the store, and is in no backup.
//!
//! One thread has the file, and makes it when there is something to write. A file that is damaged is set aside; where none
//! can be written the book goes on in memory, and says so.

mod book;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rusqlite::ErrorCode;
use tidelock_actors::limits::LOG_BOOK_QUESTIONS;
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

/// What the thread has.
struct Keeper {
    path: PathBuf,
    book: Option<Book>,
    trouble: Option<String>,
}

impl SqliteLogBook {
    /// A book in this folder. The file is not touched before the first question.
    pub fn start(folder: &Path) -> std::io::Result<Self> {
        let keeper = Keeper { path: folder.join(FILE), book: None, trouble: None };
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
    /// Answers, from a book begun anew where the one at hand cannot be used.
    fn answer<T>(&mut self, work: impl Fn(&mut Self) -> rusqlite::Result<T>) -> Result<T, BookError> {
        let mut told = work(self);
        if let Err(error) = &told {
            self.begin_anew(error);
            told = work(self);
        }
        told.map_err(|error| BookError(error.to_string()))
    }

    /// The book, if there is one; a new one if `is_needed`.
    fn book(&mut self, is_needed: bool) -> rusqlite::Result<Option<&mut Book>> {
        if self.book.is_none() && (is_needed || self.path.exists()) {
            self.book = Some(Book::open(&self.path)?);
        }
        Ok(self.book.as_mut())
    }

    /// A damaged file goes aside; where that does not help the book goes on in memory.
    fn begin_anew(&mut self, error: &rusqlite::Error) {
        self.book = None;
        let is_first = self.trouble.is_none();
        let set_aside = is_first && is_damage(error) && self.set_aside().is_ok() && self.book(true).is_ok();
        self.trouble = Some(match set_aside {
            true => format!("the log book was damaged ({error}); it was set aside as {FILE}.{ASIDE} and begun anew"),
            false => {
                self.book = Book::in_memory().ok();
                format!("the log book cannot be written ({error}); logging goes on in memory until the next start")
            }
        });
        if is_first {
            tracing::warn!(target: OWN_TARGET, trouble = self.trouble, "trouble with the log book");
        }
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
    fn append(&self, drained: Drained, history: usize) -> BoxFuture<'static, Result<BookState, BookError>> {
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
