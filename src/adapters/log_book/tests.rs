//! The ring, the bound, and books that cannot be used.

use futures::executor::block_on;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tidelock_actors::limits::{LOG_BATCH_BYTES, LOG_PENDING_ROWS};
use tidelock_actors::logs::{ApiCall, Entry, Severity};

use super::*;

struct World {
    folder: tempfile::TempDir,
    book: SqliteLogBook,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = SqliteLogBook::start(folder.path()).unwrap();
        Self { folder, book }
    }

    fn reopened(self) -> Self {
        let book = SqliteLogBook::start(self.folder.path()).unwrap();
        Self { book, ..self }
    }

    fn append(&self, entries: Vec<Entry>) -> BookState {
        self.try_append(entries).unwrap()
    }

    fn try_append(&self, entries: Vec<Entry>) -> Result<BookState, BookError> {
        block_on(self.book.append(Drained { entries, ..Drained::default() }.into(), 500))
    }

    fn messages(&self, query: LogQuery) -> Vec<String> {
        let kept = block_on(self.book.newest(query)).unwrap();
        assert!(kept.is_sorted_by_key(|kept| kept.number));
        kept.into_iter().map(|kept| kept.entry.message).collect()
    }

    fn lease(&self, rows: usize) -> (Vec<i64>, Vec<String>) {
        let leased = block_on(self.book.lease(rows, LOG_BATCH_BYTES)).unwrap();
        leased.into_iter().map(|kept| (kept.number, kept.entry.message)).unzip()
    }

    fn settle(&self, numbers: Vec<i64>, settled: Settled) -> BookState {
        block_on(self.book.settle(numbers, settled)).unwrap()
    }
}

fn entry(number: usize, level: Severity) -> Entry {
    let at = Timestamp::from_millisecond(number as i64).unwrap();
    Entry {
        id: number.to_string(),
        at,
        last_at: at,
        level,
        target: "test".to_owned(),
        message: number.to_string(),
        fields: Map::new(),
        spans: Vec::new(),
        count: 1,
        call: None,
        ships: level <= Severity::Warn,
    }
}

fn entries(numbers: std::ops::Range<usize>, level: Severity) -> Vec<Entry> {
    numbers.map(|number| entry(number, level)).collect()
}

const SHIPPED: Settled = Settled::Shipped { now_ms: 77 };

#[test]
fn the_last_500_stay_readable_and_what_is_to_be_shipped_stays_as_well() {
    let world = World::new();
    world.append(entries(0..3, Severity::Warn));
    world.append(entries(3..2_000, Severity::Info));
    let all = world.messages(LogQuery::default());
    assert_eq!((all.len(), all[0].as_str(), all[499].as_str()), (500, "1500", "1999"));
    let (numbers, messages) = world.lease(10);
    assert_eq!(messages, ["0", "1", "2"]);
    let state = world.settle(numbers, SHIPPED);
    assert_eq!((state.pending, state.shipped_ms), (0, Some(77)));
    let world = world.reopened();
    assert_eq!(world.messages(LogQuery::default()).len(), 500);
}

#[test]
fn a_query_names_level_time_place_and_number() {
    let world = World::new();
    world.append(entries(0..10, Severity::Info));
    world.append(entries(10..20, Severity::Warn));
    world.append(entries(20..30, Severity::Error));
    let at_least = |level| LogQuery { level: Some(level), ..LogQuery::default() };
    assert_eq!(world.messages(at_least(Severity::Warn)).len(), 20);
    assert_eq!(world.messages(at_least(Severity::Error))[0], "20");
    let since = Timestamp::from_millisecond(25).unwrap();
    assert_eq!(world.messages(LogQuery { since: Some(since), ..LogQuery::default() }).len(), 5);
    assert_eq!(world.messages(LogQuery { limit: Some(2), ..LogQuery::default() }), ["28", "29"]);
    assert_eq!(world.messages(LogQuery { after: Some(28), ..LogQuery::default() }), ["28", "29"]);
}

#[test]
fn h48_the_oldest_beyond_the_bound_are_shed_and_counted_and_calls_last() {
    let world = World::new();
    let call = ApiCall { provider: "p".into(), action: "a".into(), credits: 1.0, metadata: Value::Null };
    let calls = entries(0..10, Severity::Info).into_iter().map(|entry| Entry {
        call: Some(call.clone()),
        ships: true,
        ..entry
    });
    world.append(calls.collect());
    let mut warnings = entries(10..LOG_PENDING_ROWS, Severity::Warn);
    warnings[0].count = 5;
    let drained = Drained { entries: warnings, shed: 3, folded: 4, is_counting: false };
    let state = block_on(world.book.append(drained.into(), 500)).unwrap();
    assert_eq!((state.pending, state.shed, state.folded), (LOG_PENDING_ROWS as u64, 3, 4));
    let more = 100;
    let state = world.append(entries(LOG_PENDING_ROWS..LOG_PENDING_ROWS + more, Severity::Warn));
    // The first warning was said five times: four of them were folded, and all five are shed now.
    assert_eq!((state.pending, state.shed, state.folded), (LOG_PENDING_ROWS as u64, 3 + 4 + more as u64, 0));
    let (_, messages) = world.lease(11);
    assert_eq!(messages[9..], ["9".to_owned(), (10 + more).to_string()], "calls stay");
    let state = world.reopened().append(Vec::new());
    assert_eq!((state.pending, state.shed), (LOG_PENDING_ROWS as u64, 107), "counts outlive a restart");
}

#[test]
fn what_is_on_its_way_is_not_shed() {
    let world = World::new();
    world.append(entries(0..10, Severity::Warn));
    let (numbers, _) = world.lease(10);
    let state = world.append(entries(10..LOG_PENDING_ROWS + 10, Severity::Warn));
    assert_eq!(state.shed, 10);
    let state = world.settle(numbers, SHIPPED);
    assert_eq!((state.pending, state.shed), (LOG_PENDING_ROWS as u64 - 10, 10));
    // What was not sent after all is the oldest again.
    let (numbers, _) = world.lease(10);
    world.settle(numbers, Settled::Kept);
    let state = world.append(entries(0..20, Severity::Warn));
    assert_eq!((state.pending, state.shed), (LOG_PENDING_ROWS as u64, 20));
}

#[test]
fn what_the_server_refuses_is_counted_and_stays_readable() {
    let world = World::new();
    world.append(entries(0..3, Severity::Warn));
    let (numbers, _) = world.lease(1);
    let state = world.settle(numbers, Settled::Refused);
    assert_eq!((state.pending, state.refused), (2, 1));
    assert_eq!(world.messages(LogQuery::default()).len(), 3);
}

#[test]
fn a_batch_is_bounded_in_bytes_and_never_empty() {
    let world = World::new();
    let large = |number| Entry { message: "x".repeat(LOG_BATCH_BYTES), ..entry(number, Severity::Warn) };
    world.append(vec![large(0), large(1)]);
    assert_eq!(world.lease(10).0.len(), 1);
}

#[test]
fn without_an_entry_no_file_is_made() {
    let world = World::new();
    assert_eq!(world.append(Vec::new()), BookState::default());
    assert!(world.messages(LogQuery::default()).is_empty() && !world.folder.path().join(FILE).exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_book() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.append(entries(0..3, Severity::Warn));
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn a_damaged_book_is_set_aside_and_logging_goes_on() {
    let World { folder, book } = World::new();
    drop(book);
    std::fs::write(folder.path().join(FILE), "this is no database, however long it may be".repeat(100)).unwrap();
    let world = World { book: SqliteLogBook::start(folder.path()).unwrap(), folder };
    let state = world.append(entries(0..3, Severity::Warn));
    assert_eq!(state.pending, 3);
    assert!(state.trouble.is_some_and(|trouble| trouble.contains("set aside as logs.db.damaged")));
    assert!(world.folder.path().join("logs.db.damaged").exists());
    let world = world.reopened();
    let state = world.append(Vec::new());
    assert_eq!((state.pending, state.trouble), (3, None), "the new one is a file");
}

/// A world in which a folder stands where the file would be.
fn without_a_file(patience: Patience) -> World {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FILE)).unwrap();
    World { book: SqliteLogBook::start_with(folder.path(), patience).unwrap(), folder }
}

#[test]
fn a_book_that_cannot_be_written_goes_on_in_memory_and_says_so() {
    let world = without_a_file(PATIENCE);
    let state = world.append(entries(0..3, Severity::Warn));
    assert_eq!(state.pending, 3);
    assert!(state.trouble.is_some_and(|trouble| trouble.contains("in memory")));
    assert_eq!(world.messages(LogQuery::default()).len(), 3);
    let (numbers, _) = world.lease(10);
    assert_eq!(world.settle(numbers, SHIPPED).pending, 0);
}

#[test]
fn what_memory_held_is_written_once_there_can_be_a_file_and_not_while_it_is_on_its_way() {
    let world = without_a_file(Patience { retry: Duration::ZERO, ..PATIENCE });
    let drained = Drained { entries: entries(0..3, Severity::Warn), shed: 5, folded: 2, is_counting: false };
    let state = block_on(world.book.append(drained.into(), 500)).unwrap();
    assert!(state.trouble.is_some());
    let (numbers, _) = world.lease(1);
    std::fs::remove_dir(world.folder.path().join(FILE)).unwrap();
    let state = world.append(entries(3..4, Severity::Warn));
    assert!(state.trouble.is_some() && !world.folder.path().join(FILE).exists(), "one is on its way: {state:?}");
    assert_eq!(world.settle(numbers, SHIPPED).pending, 3);
    let state = world.append(entries(4..5, Severity::Warn));
    let expected = BookState { pending: 4, shed: 5, folded: 2, refused: 0, shipped_ms: Some(77), trouble: None };
    assert_eq!(state, expected);
    let world = world.reopened();
    assert_eq!(world.messages(LogQuery::default()), ["0", "1", "2", "3", "4"]);
    assert_eq!(world.lease(10).1, ["1", "2", "3", "4"]);
}

#[test]
fn a_file_that_failed_is_left_alone_for_a_minute() {
    let world = without_a_file(PATIENCE);
    world.append(entries(0..3, Severity::Warn));
    std::fs::remove_dir(world.folder.path().join(FILE)).unwrap();
    assert!(world.append(entries(3..4, Severity::Warn)).trouble.is_some());
    assert!(!world.folder.path().join(FILE).exists());
}

#[test]
fn a_file_that_somebody_has_locked_is_tried_again_and_nothing_goes_to_memory() {
    let World { folder, .. } = World::new();
    let patience = Patience { busy: Duration::from_millis(10), ..PATIENCE };
    let world = World { book: SqliteLogBook::start_with(folder.path(), patience).unwrap(), folder };
    world.append(entries(0..1, Severity::Warn));
    let other = rusqlite::Connection::open(world.folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = world.try_append(entries(1..2, Severity::Warn)).unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    assert_eq!(world.messages(LogQuery::default()), ["0"], "it can still be read");
    other.execute_batch("COMMIT").unwrap();
    let state = world.append(entries(1..2, Severity::Warn));
    assert_eq!((state.pending, state.trouble), (2, None));
    assert_eq!(world.reopened().messages(LogQuery::default()), ["0", "1"]);
}
