//! Saves and reads on the device, against bare rusqlite that writes the same rows into the same tables.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};
use tidelock::{Config, Document, Tidelock};

use crate::figure::{Figure, Options, document, percentile, uuid};

const RECORDS: usize = 2_000;
/// Rows of a bulk save: enough that the log is moved several times meanwhile.
const BULK_ROWS: usize = 10_000;

pub fn figures(options: &Options, runtime: &tokio::runtime::Runtime) -> Vec<Figure> {
    let rounds = options.rounds();
    let (mut concurrent, mut single, mut bulk) = (Vec::new(), Vec::new(), Vec::new());
    let (mut save_p99, mut read_ratio) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let world = World::new("full");
        let floor = world.bare_single_saves("FULL", if options.quick { 300 } else { 1_000 });
        let (rate, p99) = runtime.block_on(concurrent_saves(&world.tidelock, if options.quick { 50 } else { 150 }));
        concurrent.push((rate, floor));
        save_p99.push(p99);
        read_ratio.push(runtime.block_on(reads_while_writing(&world.tidelock)));
        let floor = world.bare_bulk();
        bulk.push((runtime.block_on(bulk_save(&world.tidelock)), floor));
        let world = World::new("normal");
        let floor = world.bare_single_saves("NORMAL", 3_000);
        single.push((runtime.block_on(single_saves(&world.tidelock, 3_000)), floor));
    }
    vec![
        Figure::against_floor("durable_saves_64_tasks", "saves/s", 8.0, &concurrent),
        Figure::below("save_p99_64_tasks", "ms", 25.0, save_p99),
        Figure::below("read_p99_while_writing", "ms", 5.0, read_ratio),
        Figure::against_floor("saves_one_task_normal", "saves/s", 0.5, &single),
        Figure::against_floor("bulk_save", "rows/s", 0.6, &bulk),
    ]
}

/// A store with records that are already there, so that a save writes record, operation and history.
struct World {
    tidelock: Tidelock,
    bare: tempfile::TempDir,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(durability: &str) -> Self {
        let (directory, bare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tidelock = filled(directory.path(), durability);
        let same = filled(bare.path(), durability);
        futures::executor::block_on(same.shutdown());
        Self { tidelock, bare, _directory: directory }
    }

    /// Bare rusqlite on the same tables and indexes.
    fn bare_connection(&self, synchronous: &str) -> Connection {
        let connection = Connection::open(self.bare.path().join("tidelock.db")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", synchronous).unwrap();
        connection
    }

    fn bare_single_saves(&self, synchronous: &str, saves: usize) -> f64 {
        let mut connection = self.bare_connection(synchronous);
        let began = Instant::now();
        for number in 0..saves {
            let transaction = connection.transaction().unwrap();
            write_rows(&transaction, number % RECORDS, number);
            transaction.commit().unwrap();
        }
        saves as f64 / began.elapsed().as_secs_f64()
    }

    fn bare_bulk(&self) -> f64 {
        let mut connection = self.bare_connection("FULL");
        let began = Instant::now();
        for part in (0..BULK_ROWS).collect::<Vec<_>>().chunks(500) {
            let transaction = connection.transaction().unwrap();
            part.iter().for_each(|number| write_rows(&transaction, number % RECORDS, number + 7_000_000));
            transaction.commit().unwrap();
        }
        BULK_ROWS as f64 / began.elapsed().as_secs_f64()
    }
}

/// The three rows of one save: the record, the operation, the version that was replaced.
fn write_rows(connection: &Connection, record: usize, number: usize) {
    let (text, key) = (changed(number), uuid(record));
    let mut update = connection
        .prepare_cached("UPDATE tl_records SET document = ?2, stamp = ?3 WHERE collection = 'bench' AND key = ?1")
        .unwrap();
    update.execute(params![key, text.as_str(), number as i64]).unwrap();
    let mut operation = connection
        .prepare_cached(
            "INSERT INTO tl_operations (transaction_id, record, collection, key, action, patch, stamp, state)
             VALUES (?1, ?2, 'bench', ?3, 'update', ?4, ?1, 'pending')",
        )
        .unwrap();
    operation.execute(params![number as i64, record as i64 + 1, key, r#"{"n":1}"#]).unwrap();
    let mut history = connection
        .prepare_cached(
            "INSERT INTO tl_history (collection, key, document, version, stamp, origin, ended, ended_by)
             VALUES ('bench', ?1, ?2, NULL, ?3, 'local', ?3, 'local')",
        )
        .unwrap();
    history.execute(params![key, text.as_str(), number as i64]).unwrap();
}

/// A document that differs from the one before in one field.
fn changed(number: usize) -> Document {
    document(number + 1_000_000)
}

fn filled(directory: &Path, durability: &str) -> Tidelock {
    let text = format!(
        "[storage]\ndata_dir = \"{}\"\ndurability = \"{durability}\"\n[sync]\nauto = false\n[collections.bench]\ntable = \"bench\"",
        directory.display()
    );
    let tidelock = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
    let documents = (0..RECORDS).map(|number| (uuid(number), document(number))).collect();
    futures::executor::block_on(tidelock.bulk_save("bench", documents)).unwrap();
    tidelock
}

/// Rate, and the 99th percentile of one save in milliseconds.
async fn concurrent_saves(tidelock: &Tidelock, each: usize) -> (f64, f64) {
    let began = Instant::now();
    let savers = (0..64).map(|task| {
        let tidelock = tidelock.clone();
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(each);
            for turn in 0..each {
                let number = turn * 64 + task;
                let asked = Instant::now();
                tidelock.save("bench", &uuid(number % RECORDS), changed(number)).await.unwrap();
                times.push(asked.elapsed().as_secs_f64() * 1_000.0);
            }
            times
        })
    });
    let times = futures::future::join_all(savers.collect::<Vec<_>>()).await;
    let rate = (64 * each) as f64 / began.elapsed().as_secs_f64();
    (rate, percentile(&mut times.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>(), 0.99))
}

async fn single_saves(tidelock: &Tidelock, saves: usize) -> f64 {
    let began = Instant::now();
    for number in 0..saves {
        tidelock.save("bench", &uuid(number % RECORDS), changed(number)).await.unwrap();
    }
    saves as f64 / began.elapsed().as_secs_f64()
}

async fn bulk_save(tidelock: &Tidelock) -> f64 {
    let documents: Vec<_> =
        (0..BULK_ROWS).map(|number| (uuid(number % RECORDS), changed(number + 7_000_000))).collect();
    let began = Instant::now();
    for part in documents.chunks(500) {
        tidelock.bulk_save("bench", part.to_vec()).await.unwrap();
    }
    BULK_ROWS as f64 / began.elapsed().as_secs_f64()
}

/// The 99th percentile of a read by key, in milliseconds, while 64 tasks save.
async fn reads_while_writing(tidelock: &Tidelock) -> f64 {
    let writing = tokio::spawn({
        let tidelock = tidelock.clone();
        async move { concurrent_saves(&tidelock, 30).await }
    });
    let mut times = Vec::new();
    while !writing.is_finished() {
        let asked = Instant::now();
        tidelock.get("bench", &uuid(times.len() % RECORDS)).await.unwrap();
        times.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    percentile(&mut times, 0.99)
}
