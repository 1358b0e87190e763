//! H45 through the whole handle: a store that is damaged in the middle, at its head, in its indexes.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use futures::executor::block_on;
use tidelock_actors::document::Document;

use super::{Config, Tidelock};
use crate::adapters::sqlite::QueueFilter;

fn config(folder: &Path) -> Config {
    let text = format!(
        "[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n[backup]\nenabled = false\n[collections.notes]\n\
         table = \"notes\"\n[collections.drafts]\ndirection = \"local\"",
        folder.display()
    );
    Config::from_toml(&text).unwrap()
}

fn save(tidelock: &Tidelock, collection: &str, keys: std::ops::Range<u64>) {
    let document = |key: u64| Document::parse(&format!(r#"{{"text":"{}{key}"}}"#, "x".repeat(300))).unwrap();
    let documents = keys.map(|key| (key.to_string(), document(key))).collect();
    block_on(tidelock.bulk_save(collection, documents)).unwrap();
}

fn records(tidelock: &Tidelock) -> [u64; 2] {
    ["drafts", "notes"].map(|name| tidelock.status().collections[name].records)
}

/// A store with 50 notes in a backup and 50 since, and as many drafts.
fn filled(folder: &Path) -> Tidelock {
    let tidelock = Tidelock::open(config(folder)).unwrap();
    for collection in ["notes", "drafts"] {
        save(&tidelock, collection, 0..50);
    }
    block_on(tidelock.backup()).unwrap();
    for collection in ["notes", "drafts"] {
        save(&tidelock, collection, 50..100);
    }
    tidelock
}

/// Closes the store with everything in its one file.
fn close(tidelock: Tidelock, folder: &Path) {
    block_on(tidelock.shutdown());
    drop(tidelock);
    let database = rusqlite::Connection::open(folder.join("tidelock.db")).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

fn overwrite(folder: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).open(folder.join("tidelock.db")).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn h45_a_store_whose_head_is_gone_is_replaced_by_the_newest_good_backup_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    close(filled(folder.path()), folder.path());
    overwrite(folder.path(), 0, &[0x55; 200]);
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    assert_eq!(records(&tidelock), [50, 50], "what was made since cannot be read without the head");
    assert!(block_on(tidelock.verify_integrity()).unwrap().healthy);
    let repair = tidelock.last_repair().unwrap();
    assert!(repair.cause.contains("not a database"), "{}", repair.cause);
    assert!(repair.backup.is_some() && repair.kept_aside.join("tidelock.db").exists());
    save(&tidelock, "notes", 200..210);
    close(tidelock, folder.path());
    let again = Tidelock::open(config(folder.path())).unwrap();
    assert_eq!((records(&again), again.last_repair().map(|last| last.at)), ([50, 60], Some(repair.at)), "once");
}

#[test]
fn h45_what_can_still_be_read_of_a_damaged_store_is_laid_over_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let tidelock = filled(folder.path());
    let client = block_on(tidelock.inner.reads.identity()).unwrap().client_id;
    close(tidelock, folder.path());
    // A page of an index: seen by whoever looks at all pages, and in nobody's way before.
    let database = rusqlite::Connection::open(folder.path().join("tidelock.db")).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'tl_records_place'";
    let page: u64 = database.query_row(root, [], |row| row.get(0)).unwrap();
    drop(database);
    overwrite(folder.path(), (page - 1) * 4096, &[0x55; 4096]);

    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    let found = block_on(tidelock.verify_integrity());
    assert!(!found.is_ok_and(|verified| verified.healthy), "the damage is seen");
    close(tidelock, folder.path());
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    assert_eq!(records(&tidelock), [100, 100]);
    assert_eq!(tidelock.status().pending, 100);
    let repair = tidelock.last_repair().unwrap();
    assert_eq!((repair.salvaged, repair.unplaced), (100, 0));
    let verified = block_on(tidelock.verify_integrity()).unwrap();
    assert!(verified.healthy, "{:?}", verified.issues);
    assert_ne!(block_on(tidelock.inner.reads.identity()).unwrap().client_id, client, "it is another store now");
    let queued = block_on(tidelock.queue(QueueFilter::default())).unwrap();
    assert_eq!(queued.len(), 100);
}

#[test]
fn h45_without_a_backup_what_can_be_read_is_all_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let tidelock = filled(folder.path());
    close(tidelock, folder.path());
    std::fs::remove_dir_all(folder.path().join("backups")).unwrap();
    std::fs::write(folder.path().join("suspect"), "").unwrap();
    let database = rusqlite::Connection::open(folder.path().join("tidelock.db")).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'tl_history'";
    let page: u64 = database.query_row(root, [], |row| row.get(0)).unwrap();
    drop(database);
    overwrite(folder.path(), (page - 1) * 4096, &[0x55; 4096]);
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    assert_eq!(records(&tidelock), [100, 100]);
    assert_eq!(tidelock.last_repair().unwrap().backup, None);
}

#[test]
fn h45_where_repair_is_not_wanted_a_damaged_store_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    close(filled(folder.path()), folder.path());
    overwrite(folder.path(), 0, &[0x55; 200]);
    let mut config = config(folder.path());
    config.storage.self_repair = false;
    let error = Tidelock::open(config).err().unwrap();
    assert_eq!(error.to_string(), "the store is damaged (file is not a database)");
    assert!(!folder.path().join("damaged").exists());
}

#[test]
fn h45_a_suspected_store_that_is_sound_is_opened_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    close(filled(folder.path()), folder.path());
    std::fs::write(folder.path().join("suspect"), "").unwrap();
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    assert_eq!((records(&tidelock), tidelock.last_repair()), ([100, 100], None));
    assert!(!folder.path().join("suspect").exists());
}

#[test]
fn h45_counts_that_are_wrong_are_mended_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let tidelock = filled(folder.path());
    let database = rusqlite::Connection::open(folder.path().join("tidelock.db")).unwrap();
    database.execute("UPDATE tl_counters SET records = 7, pending = 8", []).unwrap();
    drop(database);
    assert!(!block_on(tidelock.verify_integrity()).unwrap().healthy);
    assert!(!folder.path().join("suspect").exists(), "what is at odds is no reason to replace the file");
    tidelock.suspect();
    close(tidelock, folder.path());
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    assert_eq!((records(&tidelock), tidelock.status().pending, tidelock.last_repair()), ([100, 100], 100, None));
    assert!(block_on(tidelock.verify_integrity()).unwrap().healthy);
}

/// A repair that was stopped after so many of its steps.
fn stopped_after(folder: &Path, steps: usize) {
    let aside = folder.join("damaged/stopped");
    std::fs::create_dir_all(&aside).unwrap();
    let begun =
        format!(r#"{{"at":"2026-11-22T10:00:00Z","cause":"on purpose","aside":{:?}}}"#, aside.display().to_string());
    std::fs::write(folder.join("repairing.json"), begun).unwrap();
    for name in ["log", "tidelock.db-shm", "tidelock.db-wal", "tidelock.db"].iter().take(steps) {
        std::fs::rename(folder.join(name), aside.join(name)).unwrap();
    }
}

#[test]
fn h45_h47_a_repair_that_was_killed_in_the_middle_is_gone_on_with() {
    for steps in 0..=4 {
        let folder = tempfile::tempdir().unwrap();
        let tidelock = filled(folder.path());
        block_on(tidelock.shutdown());
        drop(tidelock);
        stopped_after(folder.path(), steps);
        let tidelock = Tidelock::open(config(folder.path())).unwrap();
        assert_eq!(records(&tidelock), [100, 100], "stopped after {steps} steps");
        let repair = tidelock.last_repair().unwrap();
        assert!(repair.backup.is_some() && repair.salvaged == 100, "{repair:?}");
        assert!(block_on(tidelock.verify_integrity()).unwrap().healthy);
        assert!(!folder.path().join("repairing.json").exists());
    }
}

#[test]
fn h45_what_is_kept_aside_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    close(filled(folder.path()), folder.path());
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    save(&tidelock, "notes", 300..303);
    block_on(tidelock.shutdown());
    drop(tidelock);
    let size = folder.path().join("tidelock.db").metadata().unwrap().len();
    for page in 20..size / 4096 - 1 {
        overwrite(folder.path(), page * 4096, &[0x55; 4096]);
    }
    std::fs::write(folder.path().join("suspect"), "").unwrap();
    let read = |folder: &Path| ["tidelock.db", "tidelock.db-wal"].map(|name| std::fs::read(folder.join(name)).unwrap());
    let before = read(folder.path());
    let tidelock = Tidelock::open(config(folder.path())).unwrap();
    let repair = tidelock.last_repair().unwrap();
    assert!(read(&repair.kept_aside) == before);
}
