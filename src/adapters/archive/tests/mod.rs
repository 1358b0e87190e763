//! Backups of a real store, in folders that go with the test.

#[cfg(feature = "encryption")]
mod encryption;
mod mishaps;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::executor::block_on;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tidelock_actors::machine::Chance;
use tidelock_actors::model::Counts;

use super::*;
use crate::adapters::sqlite;
use crate::{Backups, Config, Document, Tidelock};

const KEEP: Keep = Keep { last: 100, hourly: 0, daily: 0, weekly: 0 };

/// A running store that is backed up only when asked to.
struct World {
    tidelock: Tidelock,
    folder: TempDir,
}

fn config(folder: &Path) -> Config {
    let text = format!(
        "[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n[backup]\nenabled = false\n[collections.notes]\ntable = \"notes\"",
        folder.display()
    );
    Config::from_toml(&text).unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { tidelock: Tidelock::open(config(folder.path())).unwrap(), folder }
    }

    fn reopen(self) -> Self {
        block_on(self.tidelock.shutdown());
        let Self { tidelock, folder } = self;
        drop(tidelock);
        Self { tidelock: Tidelock::open(config(folder.path())).unwrap(), folder }
    }

    fn save(&self, keys: std::ops::Range<u64>, text: &str) {
        let document = |key: u64| Document::parse(&format!(r#"{{"text":"{text}{key}"}}"#)).unwrap();
        let documents = keys.map(|key| (key.to_string(), document(key))).collect();
        block_on(self.tidelock.bulk_save("notes", documents)).unwrap();
    }

    fn backup(&self) -> BackupView {
        block_on(self.tidelock.backup()).unwrap()
    }

    fn backups(&self) -> Vec<BackupView> {
        block_on(self.tidelock.backups().list()).unwrap()
    }

    fn now(&self) -> BTreeMap<String, String> {
        records(&sqlite::database(self.folder.path()))
    }

    fn restored(&self, point: Point) -> Result<BTreeMap<String, String>, crate::Error> {
        let to = tempfile::tempdir().unwrap();
        block_on(self.tidelock.backups().restore_to(point, to.path().to_owned()))?;
        Ok(records(&sqlite::database(to.path())))
    }

    fn named(&self, id: &str) -> Result<BTreeMap<String, String>, crate::Error> {
        self.restored(Point { backup: Some(id.to_owned()), at: None })
    }
}

fn records(database: &Path) -> BTreeMap<String, String> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = connection.prepare("SELECT key, document FROM tl_records WHERE document IS NOT NULL").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn each_backup_gives_back_the_store_as_it_was_and_only_the_first_is_full() {
    let mut world = World::new();
    let mut then = Vec::new();
    for part in 0..5 {
        world.save(part * 100..part * 100 + 150, "part");
        then.push((world.backup(), world.now()));
        if part == 2 {
            world = world.reopen();
        }
    }
    let kinds: Vec<Kind> = then.iter().map(|(backup, _)| backup.kind).collect();
    assert_eq!(kinds, [Kind::Full, Kind::Log, Kind::Log, Kind::Log, Kind::Log], "a chain goes on after a restart");
    for (backup, then) in &then {
        assert!(world.named(&backup.id).unwrap() == *then, "{} is another state", backup.id);
        let trial = block_on(world.tidelock.backups().verify(Some(backup.id.clone()))).unwrap();
        assert!(trial.healthy, "{:?}", trial.issues);
    }
    assert!(world.backups().iter().all(|view| view.verified));
    let info = block_on(world.tidelock.backups().info()).unwrap();
    assert_eq!((info.exists, info.id.as_ref(), info.count), (true, Some(&then[4].0.id), 5));
}

#[test]
fn any_moment_between_two_backups_can_be_had() {
    let world = World::new();
    world.save(0..1, "first");
    world.backup();
    let mut moments = Vec::new();
    for part in 0..6 {
        world.save(part..part + 3, &format!("part {part} "));
        moments.push((Timestamp::now(), world.now()));
        // A moment is told in milliseconds.
        std::thread::sleep(Duration::from_millis(3));
        if part == 3 {
            world.backup();
        }
    }
    world.backup();
    for (at, then) in &moments {
        assert!(world.restored(Point { backup: None, at: Some(*at) }).unwrap() == *then, "{at} is another state");
    }
    let early = world.restored(Point { backup: None, at: Some(Timestamp::UNIX_EPOCH) }).unwrap_err();
    assert!(early.to_string().starts_with("no backup reaches back to 1970-01-01T00:00:00Z; the oldest one is of"));
}

#[test]
fn h31_a_restored_store_goes_by_a_name_of_its_own() {
    let world = World::new();
    world.save(0..10, "one");
    let view = world.backup();
    let to = tempfile::tempdir().unwrap();
    let point = Point { backup: Some(view.id), at: None };
    block_on(world.tidelock.backups().restore_to(point.clone(), to.path().to_owned())).unwrap();
    let restored = Tidelock::open(config(to.path())).unwrap();
    assert!(block_on(restored.verify_integrity()).unwrap().healthy);
    assert_eq!(restored.status().pending, 10);
    let second = block_on(restored.backup()).unwrap();
    assert_ne!(second.client_id, view.client_id);
    let refused = block_on(world.tidelock.backups().restore_to(point, to.path().to_owned())).unwrap_err();
    assert!(refused.to_string().starts_with("there is a store in"), "{refused}");
}

#[test]
fn an_exported_file_needs_no_other_and_is_restored_elsewhere() {
    let world = World::new();
    world.save(0..10, "one");
    world.backup();
    world.save(5..15, "two");
    world.backup();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("carried.tidelock");
    block_on(world.tidelock.backups().export(Point::default(), file.clone())).unwrap();
    let again = block_on(world.tidelock.backups().export(Point::default(), file.clone())).unwrap_err();
    assert!(again.to_string().ends_with("exists already; name another file"), "{again}");
    let other = Backups::of(&config(elsewhere.path())).unwrap();
    let to = elsewhere.path().join("store");
    let point = Point { backup: Some(file.display().to_string()), at: None };
    let restored = block_on(other.restore_to(point, to.clone())).unwrap();
    assert_eq!((restored.records, restored.pending), (15, 20));
    assert!(records(&sqlite::database(&to)) == world.now());
}

#[test]
fn a_periodic_backup_is_taken_only_when_something_has_changed() {
    let world = World::new();
    let archive = &world.tidelock.backups().archive();
    world.save(0..3, "one");
    assert!(block_on(archive.take(Reason::Periodic)).unwrap().is_some());
    assert!(block_on(archive.take(Reason::Periodic)).unwrap().is_none());
    world.save(0..1, "two");
    assert!(block_on(archive.take(Reason::Periodic)).unwrap().is_some());
    assert_eq!(world.backups().len(), 2);
}

#[test]
fn old_chains_go_whole_and_what_is_kept_can_be_restored() {
    let world = World::new();
    let archive = world.tidelock.backups().archive();
    let keep = Keep { last: 3, ..KEEP };
    for part in 0..9 {
        let full_interval = if part % 3 == 0 { Duration::ZERO } else { Duration::from_secs(3_600) };
        archive.configure(ArchiveOptions { keep, full_interval, ..archive.options() });
        world.save(part..part + 2, "part");
        world.backup();
    }
    let kept = world.backups();
    assert!((3..=7).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().all(|view| world.named(&view.id).is_ok()));
    assert!(world.named(&kept[0].id).unwrap() == world.now());
}

#[test]
fn h44_without_room_a_backup_is_refused_and_the_store_goes_on() {
    let world = World::new();
    let archive = world.tidelock.backups().archive();
    let mut options = archive.options();
    // Nothing has a folder in there.
    options.directory = PathBuf::from("/proc/tidelock-backups");
    archive.configure(options);
    world.save(0..3, "one");
    assert!(block_on(world.tidelock.backup()).is_err());
    world.save(3..6, "two");
    assert_eq!(world.now().len(), 6);
}

#[test]
fn a_backup_that_would_pass_the_quota_prunes_and_then_is_refused_while_the_store_goes_on() {
    let world = World::new();
    // What does not become much smaller in a backup.
    let mut dice = Chance::from_seed(7);
    let mut save = |keys: std::ops::Range<u64>| {
        for key in keys {
            let text: String = (0..20_000).map(|_| char::from(b'a' + (dice.fraction() * 26.0) as u8)).collect();
            let document = Document::parse(&format!(r#"{{"text":"{text}"}}"#)).unwrap();
            block_on(world.tidelock.save("notes", &key.to_string(), document)).unwrap();
        }
    };
    let allow = |quota: u64, keep_last: usize| {
        let mut config = config(world.folder.path());
        config.storage.quota = Some(crate::config::Size(quota));
        (config.backup.incremental, config.backup.keep_last) = (false, keep_last);
        (config.backup.keep_hourly, config.backup.keep_daily, config.backup.keep_weekly) = (0, 0, 0);
        block_on(world.tidelock.reconfigure(config)).unwrap();
    };
    let taken = || world.tidelock.status().storage.bytes;
    allow(100_000_000, 10);
    save(0..20);
    let before = taken();
    let sizes: u64 = (0..3).map(|_| world.backup().bytes).sum();
    assert_eq!(taken(), before + sizes, "backups are counted");

    allow(taken() + 1_000, 1);
    let newest = world.backup();
    assert_eq!(world.backups().iter().map(|view| &view.id).collect::<Vec<_>>(), [&newest.id], "the others went");
    allow(taken() + 1_000, 1);
    let refused = block_on(world.tidelock.backup()).unwrap_err();
    assert_eq!((refused.code(), refused.exit_code()), ("quota_exceeded", 1), "{refused}");
    assert!(refused.to_string().contains("storage.quota allows; compact"), "{refused}");
    assert_eq!(world.backups().len(), 1, "the one that has to be kept stays");

    allow(100_000_000, 1);
    save(20..25);
    let last = world.backup();
    assert!(world.named(&last.id).unwrap() == world.now());
}

#[test]
fn after_compacting_the_next_backup_is_a_full_one_and_can_be_restored() {
    let world = World::new();
    world.save(0..500, "text that takes its room");
    world.backup();
    world.save(500..600, "more");
    for key in 0..400 {
        assert!(block_on(world.tidelock.delete("notes", &key.to_string())).unwrap());
    }
    let before = world.now();
    block_on(world.tidelock.compact()).unwrap();
    assert!(world.now() == before, "nothing has changed");
    assert!(block_on(world.tidelock.verify_integrity()).unwrap().healthy);
    let full = world.backup();
    assert_eq!(full.kind, Kind::Full);
    assert!(world.named(&full.id).unwrap() == before);
    world.save(600..610, "after");
    let next = world.backup();
    assert_eq!(next.kind, Kind::Log, "from there on the log is kept again");
    assert!(world.named(&next.id).unwrap() == world.now());
    let old = world.backups().pop().unwrap();
    assert_eq!(world.named(&old.id).unwrap().len(), 500, "the chain before it is as good as it was");
}

#[test]
fn a_manifest_tells_what_is_in_it() {
    let world = World::new();
    world.save(0..7, "one");
    let view = world.backup();
    let manifest = container::open(&view.path).unwrap().manifest;
    let counts: Counts = manifest.counts.iter().map(|(name, counts)| (name.as_str().into(), *counts)).collect();
    assert_eq!(counts["notes"].records, 7);
    assert_eq!((manifest.format, manifest.after, manifest.base), (1, None, view.id));
    assert!(manifest.plain_bytes > 4096 && manifest.log.is_some());
}

#[test]
fn a_store_of_an_earlier_build_is_backed_up_before_its_tables_are_changed() {
    let folder = tempfile::tempdir().unwrap();
    let old = Connection::open(sqlite::database(folder.path())).unwrap();
    old.execute_batch(include_str!("../../sqlite/migrations/001_start.sql")).unwrap();
    old.execute_batch(
        "INSERT INTO tl_records (collection, key, on_server, confirmed, has_operations, stamp, origin, revision, document)
         VALUES ('notes', 'a', 1, 1, 0, 5, 'local', 0, '{\"id\":\"a\"}');
         INSERT INTO tl_counters (collection, records, on_server, stamp) VALUES ('notes', 1, 1, 5);
         PRAGMA user_version = 1; PRAGMA journal_mode = WAL;",
    )
    .unwrap();
    drop(old);
    let mut config = config(folder.path());
    config.backup.enabled = true;
    let tidelock = Tidelock::open(config).unwrap();
    let backups = block_on(tidelock.backups().list()).unwrap();
    assert_eq!((backups.len(), backups[0].reason, backups[0].records), (1, Reason::Migration, 1));
    assert_eq!(container::open(&backups[0].path).unwrap().manifest.schema, 1);
    let to = tempfile::tempdir().unwrap();
    block_on(tidelock.backups().restore_to(Point::default(), to.path().to_owned())).unwrap();
    let restored = Tidelock::open(self::config(to.path())).unwrap();
    assert!(block_on(restored.get("notes", "a")).unwrap().is_some());
    let verified = block_on(restored.verify_integrity()).unwrap();
    assert!(verified.healthy, "{:?}", verified.issues);
}
