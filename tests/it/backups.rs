//! Backups of a store that is written all the while, and what becomes of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tidelock::{BackupView, Config, Document, Point, Tidelock};

use crate::support::Dice;

/// Records in one transaction of the writer.
const TOGETHER: u64 = 10;
/// Writes a second, all together.
const WRITES: u64 = 2_000;

fn config(folder: &Path) -> Config {
    let text = format!(
        "[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n[backup]\nenabled = false\nkeep_last = 1000\n\
         [collections.notes]\ntable = \"notes\"",
        folder.display()
    );
    Config::from_toml(&text).unwrap()
}

/// Transactions of ten records, one after another: whatever is restored must be a beginning of them.
async fn write_on(tidelock: Tidelock, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 * TOGETHER / WRITES));
    for number in 1.. {
        pace.tick().await;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let text = format!(r#"{{"transaction":{number},"text":"{}"}}"#, "x".repeat(200));
        let document = Document::parse(&text).unwrap();
        // A few records over and over, and new ones.
        let key = |one: u64| if one < 3 { format!("again-{one}") } else { format!("{number}-{one}") };
        let documents = (0..TOGETHER).map(|one| (key(one), document.clone())).collect();
        tidelock.bulk_save("notes", documents).await.unwrap();
        acknowledged.store(number, Ordering::Release);
    }
}

/// The last transaction in a restored store, which has all of each before it and nothing else.
fn last_transaction(database: &Path) -> u64 {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0)).unwrap().unwrap_or(0);
    let last = number("select max(cast(json_extract(document, '$.transaction') as integer)) from tl_records");
    let again = number(
        "select min(cast(json_extract(document, '$.transaction') as integer)) from tl_records where key like 'again-%'",
    );
    assert_eq!(again, last, "part of the last transaction is missing");
    assert_eq!(number("select count(*) from tl_records"), 3.min(last * 3) + last * (TOGETHER - 3));
    assert_eq!(number("select count(*) from tl_operations"), last * TOGETHER);
    last
}

/// `TIDELOCK_BACKUP_SECONDS` makes it longer: `cargo xtask backups`.
#[tokio::test(flavor = "multi_thread")]
async fn every_backup_under_load_is_the_store_at_a_moment_between_its_beginning_and_its_end() {
    let seconds = std::env::var("TIDELOCK_BACKUP_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let (mut dice, _) = Dice::new("backups under load");
    let folder = tempfile::tempdir().unwrap();
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn(write_on(tidelock.clone(), acknowledged.clone(), stop.clone()));

    let mut taken: Vec<(BackupView, u64, u64)> = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_secs(1);
        let before = acknowledged.load(Ordering::Acquire);
        let backup = tidelock.backup().await.unwrap();
        // One more may be in the store, its acknowledgement still on the way.
        taken.push((backup, before, acknowledged.load(Ordering::Acquire) + 1));
        tokio::time::sleep_until(next.into()).await;
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    println!("{} transactions, {} backups", acknowledged.load(Ordering::Acquire), taken.len());

    let tried = taken.len().min(40);
    for _ in 0..tried {
        let (backup, before, after) = &taken[dice.below(taken.len() as u64) as usize];
        let trial = tidelock.backups().verify(Some(backup.id.clone())).await.unwrap();
        assert!(trial.healthy, "{:?}", trial.issues);
        let to = tempfile::tempdir().unwrap();
        let point = Point { backup: Some(backup.id.clone()), at: None };
        tidelock.backups().restore_to(point, to.path().to_owned()).await.unwrap();
        let last = last_transaction(&to.path().join("tidelock.db"));
        assert!((*before..=*after).contains(&last), "{}: {last} is not within {before} to {after}", backup.id);
    }
    tidelock.shutdown().await;
}
