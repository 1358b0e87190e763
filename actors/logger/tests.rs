//! What the part itself promises, on stopped time and with ports that fail when they are told to.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde_json::Map;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::limits::{LOG_BATCH_ROWS, LOG_INTAKE_ROWS, LOG_LOCAL_ROWS};
use crate::logs::{Entry, LogQuery, Severity};
use crate::machine::backoff::Backoff;
use crate::machine::intensity::Allowance;
use crate::peer::Peer;
use crate::supervisor::{Care, Health, supervise};

#[derive(Default)]
struct Intake(Mutex<Drained>);

impl crate::ports::LogIntake for Intake {
    fn drain(&self, _: bool) -> Drained {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn is_urgent(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Book {
    refuses: AtomicBool,
    kept: Mutex<Vec<Kept>>,
    state: Mutex<BookState>,
}

impl Book {
    fn answer<T: Send + 'static>(&self, answer: impl FnOnce(&mut Vec<Kept>, &mut BookState) -> T) -> BookAnswer<T> {
        let answer = match self.refuses.load(Ordering::Relaxed) {
            true => Err(BookError("it is locked".to_owned())),
            false => Ok(answer(&mut self.kept.lock().unwrap(), &mut self.state.lock().unwrap())),
        };
        Box::pin(std::future::ready(answer))
    }
}

type BookAnswer<T> = BoxFuture<'static, Result<T, BookError>>;

impl LogBook for Book {
    fn append(&self, drained: Arc<Drained>, _: usize) -> BookAnswer<BookState> {
        self.answer(|kept, state| {
            for entry in drained.entries.iter().cloned() {
                state.pending += u64::from(entry.ships);
                kept.push(Kept { number: kept.len() as i64 + 1, pending: entry.ships, entry });
            }
            state.shed += drained.shed;
            state.clone()
        })
    }

    fn newest(&self, _: LogQuery) -> BookAnswer<Vec<Kept>> {
        self.answer(|kept, _| kept.clone())
    }

    fn lease(&self, rows: usize, _: usize) -> BookAnswer<Vec<Kept>> {
        self.answer(|kept, _| kept.iter().filter(|kept| kept.pending).take(rows).cloned().collect())
    }

    fn settle(&self, numbers: Vec<i64>, settled: Settled) -> BookAnswer<BookState> {
        self.answer(|kept, state| {
            if let Settled::Shipped { now_ms } = settled {
                state.shipped_ms = Some(now_ms);
                state.pending -= numbers.len() as u64;
                kept.iter_mut().filter(|kept| numbers.contains(&kept.number)).for_each(|kept| kept.pending = false);
            }
            state.clone()
        })
    }
}

enum Answer {
    Panic,
    Down,
}

/// It takes what comes, once it has given the answers that it was told to give.
#[derive(Default)]
struct Sink {
    answers: Mutex<VecDeque<Answer>>,
    batches: Mutex<Vec<Vec<String>>>,
}

impl LogSink for Sink {
    fn send(&self, _: TableName, entries: Vec<Entry>) -> BoxFuture<'static, Result<(), Fault>> {
        let answer = self.answers.lock().unwrap().pop_front();
        if answer.is_none() {
            self.batches.lock().unwrap().push(entries.into_iter().map(|entry| entry.message).collect());
        }
        Box::pin(async move {
            tracing::warn!(target: "carrier", "what a program that carries requests may say");
            match answer {
                Some(Answer::Panic) => panic!("the sink fell over"),
                Some(Answer::Down) => Err(Fault::new(FaultKind::Transient, "the server is down")),
                None => Ok(()),
            }
        })
    }
}

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        12
    }
}

struct World {
    intake: Arc<Intake>,
    book: Arc<Book>,
    sink: Arc<Sink>,
    logger: Peer<RemoteLogger>,
    status: watch::Receiver<LoggerStatus>,
}

impl World {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let (intake, book) = (Arc::<Intake>::default(), Arc::<Book>::default());
        let sink = Arc::new(Sink { answers: Mutex::new(answers.into_iter().collect()), ..Sink::default() });
        let ports = LogPorts { intake: intake.clone(), book: book.clone(), sink: sink.clone() };
        let backoff = Backoff { base: Duration::from_millis(10), cap: Duration::from_millis(50) };
        let settings = Settings { times: Times { ships: true, backoff }, table: "usage_logs".into(), history: 500 };
        let allowance = Allowance { restarts: 5, within: Duration::from_secs(60) };
        let care = Care { name: "logger", mailbox: ACTOR_MAILBOX, allowance, backoff, expendable: true, seed: 1 };
        let (tell, status) = watch::channel(LoggerStatus::default());
        let logger = supervise(care, |_| RemoteLogger::new(settings, ports, Arc::new(Noon), tell, 1));
        Self { intake, book, sink, logger, status }
    }

    /// These gather, and the logger hears of it.
    fn say(&self, numbers: std::ops::Range<usize>, ships: bool) {
        self.intake.0.lock().unwrap().entries.extend(numbers.map(|number| entry(number, ships)));
        self.logger.hint(Noticed);
    }

    async fn told(&mut self, is_so: impl FnMut(&LoggerStatus) -> bool) -> LoggerStatus {
        // On stopped time this is over at once where nothing more happens.
        let told = tokio::time::timeout(Duration::from_secs(60 * 60), self.status.wait_for(is_so)).await;
        told.expect("it comes to that").unwrap().clone()
    }

    async fn all_shipped(&mut self) -> LoggerStatus {
        self.told(|status| status.book.shipped_ms.is_some() && status.book.pending == 0).await
    }

    fn arrived(&self) -> Vec<String> {
        self.sink.batches.lock().unwrap().concat()
    }
}

fn entry(number: usize, ships: bool) -> Entry {
    let (at, level) = (Timestamp::UNIX_EPOCH, if ships { Severity::Warn } else { Severity::Info });
    let (id, message, target) = (number.to_string(), number.to_string(), String::new());
    let (fields, spans) = (Map::new(), Vec::new());
    Entry { id, at, last_at: at, level, target, message, fields, spans, count: 1, call: None, ships }
}

fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

fn on_fake_time(test: impl Future<Output = ()>) {
    System::new().block_on(async {
        tokio::time::pause();
        test.await;
    });
}

#[test]
fn what_gathers_is_shipped_in_batches_and_each_entry_once() {
    on_fake_time(async {
        let mut world = World::new([]);
        world.say(0..2 * LOG_BATCH_ROWS + 50, true);
        world.all_shipped().await;
        let sizes: Vec<_> = world.sink.batches.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [LOG_BATCH_ROWS, LOG_BATCH_ROWS, 50]);
        assert_eq!(world.arrived(), numbers(0..2 * LOG_BATCH_ROWS + 50));
    });
}

#[test]
fn a_panic_of_the_sink_is_survived_and_nothing_is_lost_or_sent_twice() {
    on_fake_time(async {
        let mut world = World::new([Answer::Panic]);
        world.say(0..3, true);
        world.all_shipped().await;
        assert_eq!(world.logger.health(), Health::Running { restarts: 1 });
        assert_eq!(world.arrived(), numbers(0..3));
        world.say(3..4, true);
        world.told(|status| status.book.pending == 1).await;
        world.all_shipped().await;
        assert_eq!(world.arrived(), numbers(0..4), "it goes on as before");
    });
}

#[test]
fn a_server_that_is_down_is_told_until_it_takes_a_batch() {
    on_fake_time(async {
        let mut world = World::new([Answer::Down, Answer::Down]);
        world.say(0..3, true);
        let status = world.told(|status| status.last_error.is_some()).await;
        assert!(status.last_error.is_some_and(|error| error.contains("the server is down")));
        assert_eq!(world.all_shipped().await.last_error, None);
        assert_eq!(world.arrived(), numbers(0..3));
    });
}

#[test]
fn h48_what_the_book_does_not_take_waits_and_the_oldest_that_would_have_been_sent_are_shed_and_counted() {
    on_fake_time(async {
        let mut world = World::new([]);
        world.book.refuses.store(true, Ordering::Relaxed);
        let (given, local) = (LOG_INTAKE_ROWS + 100, LOG_LOCAL_ROWS + 100);
        for from in (0..given).step_by(LOG_BATCH_ROWS) {
            world.say(from..given.min(from + LOG_BATCH_ROWS), true);
            world.logger.ask(WriteDown).await.unwrap();
        }
        world.say(given..given + local, false);
        world.logger.ask(WriteDown).await.unwrap();
        let status = world.status.borrow().clone();
        assert!(status.unwritten.is_some_and(|error| error.contains("it is locked")));
        assert_eq!((status.book.shed, status.last_error), (0, None));
        world.book.refuses.store(false, Ordering::Relaxed);
        // Nobody has to say anything for it.
        let status = world.told(|status| status.unwritten.is_none()).await;
        assert_eq!((status.book.pending, status.book.shed), (LOG_INTAKE_ROWS as u64, 100));
        world.all_shipped().await;
        assert_eq!(world.arrived(), numbers(100..given));
        assert_eq!(world.book.kept.lock().unwrap().len(), LOG_INTAKE_ROWS + LOG_LOCAL_ROWS);
    });
}

/// Hears everything, each with the targets of the spans it is said in.
#[derive(Clone, Default)]
struct Ear {
    spans: Arc<Mutex<Vec<&'static str>>>,
    within: Arc<Mutex<Vec<Id>>>,
    heard: Arc<Mutex<Vec<Vec<&'static str>>>>,
}

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut spans = self.spans.lock().unwrap();
        spans.push(attributes.metadata().target());
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let (spans, within) = (self.spans.lock().unwrap(), self.within.lock().unwrap());
        let around = within.iter().map(|id| spans[id.into_u64() as usize - 1]);
        self.heard.lock().unwrap().push([event.metadata().target()].into_iter().chain(around).collect());
    }

    fn enter(&self, id: &Id) {
        self.within.lock().unwrap().push(id.clone());
    }

    fn exit(&self, _: &Id) {
        self.within.lock().unwrap().pop();
    }
}

#[test]
fn h48_whatever_it_says_and_whatever_is_said_while_it_ships_is_marked_as_its_own() {
    let ear = Ear::default();
    let _hearing = tracing::subscriber::set_default(ear.clone());
    on_fake_time(async {
        let mut world = World::new([Answer::Down]);
        world.book.refuses.store(true, Ordering::Relaxed);
        world.say(0..3, true);
        world.told(|status| status.unwritten.is_some()).await;
        world.book.refuses.store(false, Ordering::Relaxed);
        world.told(|status| status.last_error.is_some()).await;
        world.all_shipped().await;
    });
    let heard = ear.heard.lock().unwrap();
    let of = |target: &str| heard.iter().filter(|said| said[0] == target).count();
    assert_eq!((of("carrier"), of(OWN_TARGET)), (2, 2), "{heard:?}");
    assert!(heard.iter().all(|said| said.contains(&OWN_TARGET)), "{heard:?}");
}
