//! Backups of a store of a gigabyte: a full one, one of what little has changed since, the way back, and what a saver
//! notices of them.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tidelock::{BackupView, Config, Document, Point, Tidelock};

use crate::figure::{Figure, Options, percentile, uuid};

/// The zstd level that backups are written with.
const LEVEL: i32 = 1;

pub async fn figures(options: &Options) -> Vec<Figure> {
    let records = if options.quick { 20_000 } else { 200_000 };
    let folder = tempfile::tempdir().unwrap();
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    for from in (0..records).step_by(1_000) {
        let documents = (from..from + 1_000).map(|number| (uuid(number), page(number, 0)));
        tidelock.bulk_save("archive", documents.collect()).await.unwrap();
    }
    let (mut full, mut small_ms, mut small_mb, mut restore) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds() {
        let (seconds, taken) = timed(async || tidelock.backup().await.unwrap()).await;
        let megabytes =
            Connection::open_with_flags(folder.path().join("tidelock.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let megabytes = database_megabytes(&megabytes.unwrap());
        full.push((megabytes / seconds, megabytes / floor_full(folder.path())));
        let documents = (0..100).map(|number| (uuid(number * records / 100), page(number, round))).collect();
        tidelock.bulk_save("archive", documents).await.unwrap();
        let (seconds, small) = timed(async || tidelock.backup().await.unwrap()).await;
        assert!(small.base == taken.id, "the second one continues the first");
        small_ms.push(seconds * 1_000.0);
        small_mb.push(small.bytes as f64 / 1e6);
        restore.push(restored(&tidelock, &taken, megabytes).await);
        // The next chain begins with a full one.
        taken_away(&taken);
    }
    let tails = tails(options, &tidelock).await;
    tidelock.shutdown().await;
    vec![
        Figure::against_floor("full_backup_of_1_gb", "MB/s", 1.0 / 1.3, &full),
        Figure::below("backup_of_100_changed_records", "ms", 1_000.0, small_ms),
        Figure::below("size_of_that_backup", "MB", 5.0, small_mb),
        Figure::against_floor("restore_of_1_gb", "MB/s", 1.0 / 1.3, &restore),
        Figure::against_floor("p99_of_saves_without_backups_against_with", "ms", 0.5, &tails),
    ]
}

fn config(folder: &Path) -> Config {
    let text = format!(
        "[sync]\nauto = false\n[storage]\ndurability = \"normal\"\ndata_dir = \"{}\"\n[backup]\nenabled = false\n\
         [collections.archive]\ntable = \"archive\"\ndirection = \"local\"",
        folder.display()
    );
    Config::from_toml(&text).unwrap()
}

/// About 5 kB that zstd makes a third or so of.
fn page(number: usize, edition: usize) -> Document {
    let mut state = (number * 31 + edition) as u64;
    let mut words = String::new();
    for _ in 0..600 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        words.push_str(&format!("{:07} ", state >> 44));
    }
    Document::parse(&format!(r#"{{"edition":{edition},"words":"{words}"}}"#)).unwrap()
}

async fn timed<T>(work: impl AsyncFnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let done = work().await;
    (began.elapsed().as_secs_f64(), done)
}

fn database_megabytes(connection: &Connection) -> f64 {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap() as f64;
    number("page_count") * number("page_size") / 1e6
}

fn taken_away(view: &BackupView) {
    std::fs::remove_file(&view.path).unwrap();
}

/// SQLite's own copy and a zstd pass over it, durable: seconds.
fn floor_full(store: &Path) -> f64 {
    let folder = tempfile::tempdir_in(store).unwrap();
    let (copy, packed) = (folder.path().join("copy.db"), folder.path().join("copy.zst"));
    let began = Instant::now();
    let connection = Connection::open_with_flags(store.join("tidelock.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let file = File::create(&packed).unwrap();
    zstd::stream::copy_encode(File::open(&copy).unwrap(), &file, LEVEL).unwrap();
    file.sync_all().unwrap();
    began.elapsed().as_secs_f64()
}

/// A store made of a backup, against decompressing the same bytes and copying them: megabytes a second.
async fn restored(tidelock: &Tidelock, taken: &BackupView, megabytes: f64) -> (f64, f64) {
    let folder = tempfile::tempdir_in(taken.path.parent().unwrap()).unwrap();
    let point = Point { backup: Some(taken.id.clone()), at: None };
    let to = folder.path().join("store");
    let (seconds, _) = timed(async || tidelock.backups().restore_to(point, to.clone()).await.unwrap()).await;
    let (packed, plain, copy) =
        (folder.path().join("packed.zst"), folder.path().join("plain.db"), folder.path().join("copy.db"));
    zstd::stream::copy_encode(File::open(to.join("tidelock.db")).unwrap(), File::create(&packed).unwrap(), LEVEL)
        .unwrap();
    let began = Instant::now();
    zstd::stream::copy_decode(File::open(&packed).unwrap(), File::create(&plain).unwrap()).unwrap();
    std::fs::copy(&plain, &copy).unwrap();
    File::open(&copy).unwrap().sync_all().unwrap();
    (megabytes / seconds, megabytes / began.elapsed().as_secs_f64())
}

/// The p99 of single saves, without backups and with one a second.
async fn tails(options: &Options, tidelock: &Tidelock) -> Vec<(f64, f64)> {
    let time = Duration::from_secs(if options.quick { 3 } else { 8 });
    // The first one is full: only those that continue it are taken again and again.
    tidelock.backup().await.unwrap();
    let mut tails = Vec::new();
    for _ in 0..3 {
        let quiet = tail(tidelock, time).await;
        let stop = AtomicBool::new(false);
        let backups = async {
            while !stop.load(Ordering::Relaxed) {
                let next = Instant::now() + Duration::from_secs(1);
                tidelock.backup().await.unwrap();
                tokio::time::sleep_until(next.into()).await;
            }
        };
        let busy = async {
            let busy = tail(tidelock, time).await;
            stop.store(true, Ordering::Relaxed);
            busy
        };
        let ((), busy) = tokio::join!(backups, busy);
        tails.push((quiet, busy));
    }
    tails
}

/// Two thousand saves a second from twenty tasks.
async fn tail(tidelock: &Tidelock, time: Duration) -> f64 {
    let savers = (0..20).map(|saver| {
        let tidelock = tidelock.clone();
        tokio::spawn(async move {
            let (end, mut took) = (Instant::now() + time, Vec::new());
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            for number in 0.. {
                pace.tick().await;
                if Instant::now() >= end {
                    return took;
                }
                let document = crate::figure::document(number);
                let began = Instant::now();
                tidelock.save("archive", &format!("{saver}-{}", number % 500), document).await.unwrap();
                took.push(began.elapsed().as_secs_f64() * 1_000.0);
            }
            took
        })
    });
    let mut all = Vec::new();
    for saver in savers.collect::<Vec<_>>() {
        all.extend(saver.await.unwrap());
    }
    percentile(&mut all, 0.99)
}
