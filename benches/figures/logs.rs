//! What logging costs those who save: the 99th percentile of a save with 10,000 warnings a second whose server is down,
//! over the same without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelock::{Config, Tidelock};
use tracing_subscriber::layer::SubscriberExt;

use crate::figure::{Figure, Options, document, median, percentile, uuid};

/// Warnings a second, and how many are said at once.
const WARNINGS: u64 = 10_000;
const AT_ONCE: u64 = 100;
/// Tasks that save, each after a pause.
const SAVERS: usize = 8;
/// How long one measurement lasts, in full and with `--quick`.
const SECONDS: [u64; 2] = [10, 4];
/// Pairs of measurements.
const PAIRS: usize = 5;

pub fn figures(options: &Options, runtime: &tokio::runtime::Runtime) -> Vec<Figure> {
    let time = Duration::from_secs(SECONDS[usize::from(options.quick)]);
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // In turn, which of them goes first.
        let (mut with, mut without) = (0.0, 0.0);
        for is_logging in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            let world = World::new();
            let (p99, rate) = world.saves(runtime, time, is_logging);
            match is_logging {
                true => {
                    with = p99;
                    rates.push(rate);
                }
                false => without = p99,
            }
        }
        ratios.push(with / without);
    }
    let said = median(rates);
    vec![
        Figure::below("save_p99_while_10000_warnings_a_second", "times", 1.2, ratios),
        Figure::against_floor("warnings_said_a_second", "/s", 0.95, &[(said, WARNINGS as f64)]),
    ]
}

struct World {
    tidelock: Tidelock,
    _directory: tempfile::TempDir,
}

impl World {
    /// A store whose server does not answer.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "[remote]\nurl = \"http://127.0.0.1:9\"\nanon_key = \"key\"\n[storage]\ndata_dir = \"{}\"\n[sync]\nauto = false\n\
             [collections.bench]\ntable = \"bench\"",
            directory.path().display()
        );
        let tidelock = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
        Self { tidelock, _directory: directory }
    }

    /// The 99th percentile of a save in milliseconds, and how many warnings were said a second.
    fn saves(&self, runtime: &tokio::runtime::Runtime, time: Duration, is_logging: bool) -> (f64, f64) {
        let (is_over, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let talking = is_logging.then(|| {
            let subscriber = tracing_subscriber::registry().with(self.tidelock.logger().tracing_layer());
            let (is_over, said) = (is_over.clone(), said.clone());
            std::thread::spawn(move || tracing::subscriber::with_default(subscriber, || talk(&is_over, &said)))
        });
        let began = Instant::now();
        let times = runtime.block_on(async {
            let savers: Vec<_> =
                (0..SAVERS).map(|saver| tokio::spawn(save(self.tidelock.clone(), saver, time))).collect();
            futures::future::join_all(savers).await
        });
        let rate = said.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        if let Some(talking) = talking {
            talking.join().unwrap();
        }
        (percentile(&mut times.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>(), 0.99), rate)
    }
}

/// Saves one record after the other, as an app does, and tells how long each took.
async fn save(tidelock: Tidelock, saver: usize, time: Duration) -> Vec<f64> {
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let number = times.len() * SAVERS + saver;
        let asked = Instant::now();
        tidelock.save("bench", &uuid(number % 2_000), document(number)).await.unwrap();
        times.push(asked.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times
}

/// Says so many different warnings a second.
fn talk(is_over: &AtomicBool, said: &AtomicU64) {
    let began = Instant::now();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        tracing::warn!(number, part = "export", "a page of the export was slow");
        said.store(number + 1, Ordering::Relaxed);
        if number % AT_ONCE == 0 {
            let due = began + Duration::from_secs_f64(number as f64 / WARNINGS as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}
