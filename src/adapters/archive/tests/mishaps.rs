//! Bytes that are not as they were written, crashes in the middle, clocks that were wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::executor::block_on;
use jiff::Timestamp;
use tidelock_actors::backups::Keep;
use tidelock_actors::machine::Chance;
use tidelock_actors::ports::Archive;

use super::super::{ArchiveOptions, BackupView, Keys, Kind, Manifest, Point, container};
use super::{World, config};
use crate::adapters::sqlite;
use crate::{Backups, Tidelock};

#[test]
fn h34_any_byte_that_is_not_as_it_was_written_is_found_and_restored_from_never() {
    let world = World::new();
    world.save(0..200, "one");
    world.backup();
    world.save(50..300, "two");
    world.backup();
    let files: Vec<PathBuf> = world.backups().into_iter().map(|view| view.path).collect();
    let newest = world.backups().remove(0).id;
    let mut chance = Chance::from_seed(11);
    let mut below = |bound: usize| (chance.fraction() * bound as f64) as usize;
    for round in 0..1_000 {
        let file = &files[round % files.len()];
        let sound = std::fs::read(file).unwrap();
        let mut bytes = sound.clone();
        let at = below(bytes.len());
        match round % 5 {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_slice(&[7; 40][..1 + below(39)]),
            3 => bytes.rotate_left(at.max(1)),
            _ => drop(bytes.drain(at..(at + 1 + below(100)).min(bytes.len()))),
        }
        std::fs::write(file, &bytes).unwrap();
        let trial = block_on(world.tidelock.backups().verify(Some(newest.clone())));
        assert!(!trial.is_ok_and(|trial| trial.healthy), "round {round}: damage at {at} was not seen");
        let restored = world.named(&newest).unwrap_err();
        assert!(matches!(restored.code(), "damaged_backup" | "not_found"), "round {round}: {restored}");
        std::fs::write(file, &sound).unwrap();
    }
    assert!(block_on(world.tidelock.backups().verify(Some(newest))).unwrap().healthy, "as it was written it is sound");
}

#[test]
fn h34_a_backup_of_nothing_but_a_header_is_none() {
    let world = World::new();
    world.save(0..10, "one");
    let view = world.backup();
    std::fs::write(&view.path, b"SQLite format 3\0").unwrap();
    let info = block_on(world.tidelock.backups().info()).unwrap();
    assert_eq!((info.exists, info.damaged), (false, vec![view.path.clone()]));
    let trial = block_on(world.tidelock.backups().verify(Some(view.id))).unwrap();
    assert!(!trial.healthy && trial.issues[0].contains("is too short to be a backup"), "{:?}", trial.issues);
    world.save(20..30, "two");
    assert_eq!(world.backup().kind, Kind::Full, "what cannot be read is not continued");
}

#[test]
fn a_backup_is_opened_again_when_its_file_is_another_and_not_before() {
    let world = World::new();
    world.save(0..3, "one");
    let path = world.backup().path;
    let changed_at = |hours: u64| {
        let at = std::time::SystemTime::now() - Duration::from_secs(hours * 60 * 60);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        at
    };
    let at = changed_at(2);
    assert_eq!(world.backups().len(), 1);
    std::fs::write(&path, vec![7; std::fs::metadata(&path).unwrap().len() as usize]).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    assert_eq!(world.backups().len(), 1, "it looks as it did, and was not opened");
    changed_at(1);
    assert_eq!(world.backups().len(), 0, "it is another file");
}

#[test]
fn what_was_begun_and_not_finished_is_swept_away() {
    let world = World::new();
    world.save(0..3, "one");
    let first = world.backup();
    let unfinished = |name: &str| first.path.with_file_name(format!("{}{name}.db", container::UNFINISHED));
    let (left, at_work) = (unfinished("old"), unfinished("young"));
    std::fs::write(&at_work, "half").unwrap();
    std::fs::write(&left, "half").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    std::fs::File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
    world.save(3..4, "two");
    world.backup();
    assert!(!left.exists() && at_work.exists());
    assert_eq!(world.backups().len(), 2);
}

#[test]
fn what_a_crash_leaves_between_a_backup_and_its_sweeping_is_in_no_backup_twice() {
    let world = World::new();
    world.save(0..3, "one");
    world.backup();
    world.save(3..6, "two");
    let spool = world.folder.path().join("log");
    let before: Vec<_> = std::fs::read_dir(&spool).unwrap().map(|part| part.unwrap().path()).collect();
    // The log is copied when a backup asks for it, so its part is looked at after that and put back.
    let kept: Vec<_> = before.iter().map(|part| (part.clone(), std::fs::read(part).unwrap())).collect();
    world.backup();
    for (part, bytes) in &kept {
        std::fs::write(part, bytes).unwrap();
    }
    world.save(6..9, "three");
    let last = world.backup();
    assert_eq!(last.kind, Kind::Log);
    assert!(world.named(&last.id).unwrap() == world.now());
}

#[test]
fn h47_a_torn_section_of_the_spool_does_not_spoil_the_next_backup() {
    let world = World::new();
    world.save(0..3, "one");
    world.backup();
    world.save(3..6, "two");
    // The keeper has copied it.
    let cut = world.folder.path().join("log");
    block_on(world.tidelock.shutdown());
    let World { tidelock, folder } = world;
    drop(tidelock);
    // Killed in the middle of a section: its header, and half of its body.
    let last = std::fs::read_dir(&cut).unwrap().map(|part| part.unwrap().path()).max().unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&last).unwrap();
    use std::io::Write;
    file.write_all(&[1; 16]).unwrap();
    file.write_all(&100_000u64.to_le_bytes()).unwrap();
    file.write_all(&[2; 5_000]).unwrap();
    drop(file);
    let world = World { tidelock: Tidelock::open(config(folder.path())).unwrap(), folder };
    world.save(6..9, "three");
    let next = world.backup();
    assert_eq!(next.kind, Kind::Log);
    let after = block_on(world.tidelock.backups().verify(Some(next.id.clone()))).unwrap();
    assert!(after.healthy, "{:?}", after.issues);
    assert!(world.named(&next.id).unwrap() == world.now());
}

/// Nothing is encrypted.
fn keys() -> Keys {
    Keys::new("", None, Path::new(""))
}

/// A backup's file again, as one that says it was taken at another time.
fn redated(view: &BackupView, by_seconds: i64) {
    let mut backup = container::open(&view.path).unwrap();
    let own = backup.manifest.clone();
    let timestamp = Timestamp::from_second(own.timestamp.as_second() + by_seconds).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut backup.payload(&keys()).unwrap(), &mut bytes).unwrap();
    std::fs::remove_file(&view.path).unwrap();
    let path = view.path.clone();
    container::write(
        &path,
        &keys(),
        |sink| {
            std::io::Write::write_all(sink, &bytes).unwrap();
            Ok(bytes.len() as u64)
        },
        |_| Manifest { timestamp, began: timestamp, ..own.clone() },
    )
    .unwrap();
}

#[test]
fn a_backup_from_a_clock_that_was_ahead_does_not_push_out_the_next_ones() {
    let world = World::new();
    let archive = world.tidelock.backups().archive();
    archive.configure(ArchiveOptions { keep: Keep { last: 1, hourly: 1, daily: 1, weekly: 1 }, ..archive.options() });
    world.save(0..3, "one");
    redated(&world.backup(), 400 * 86_400);
    world.save(3..6, "two");
    let next = block_on(world.tidelock.backup());
    assert!(next.is_ok(), "{next:?}");
    assert!(world.restored(Point::default()).unwrap() == world.now(), "the newest is the last one taken");
}

#[test]
fn h31_a_store_is_not_restored_beside_the_log_of_another() {
    let world = World::new();
    world.save(0..300, "one");
    let backup = world.backup();
    world.save(0..300, "two");
    block_on(world.tidelock.shutdown());
    let World { tidelock, folder } = world;
    drop(tidelock);
    let other = Backups::of(&config(folder.path())).unwrap();
    std::fs::remove_file(sqlite::database(folder.path())).unwrap();
    let point = Point { backup: Some(backup.id), at: None };
    let refused = block_on(other.restore_to(point, folder.path().to_owned())).unwrap_err();
    assert!(refused.to_string().contains("what is left of one"), "{refused}");
}

#[test]
fn h34_after_a_drill_that_failed_the_damaged_chain_is_not_continued() {
    let world = World::new();
    world.save(0..300, "one");
    let first = world.backup();
    world.save(0..3, "two");
    world.backup();
    let mut bytes = std::fs::read(&first.path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&first.path, &bytes).unwrap();
    let archive = world.tidelock.backups().archive();
    assert!(block_on(archive.drill()).is_err());
    world.save(3..6, "three");
    let next = world.backup();
    assert_eq!(next.kind, Kind::Full);
}

#[test]
fn a_base_that_cannot_be_read_for_a_moment_does_not_cost_its_chain() {
    let world = World::new();
    world.save(0..300, "one");
    let first = world.backup();
    world.save(0..3, "two");
    let second = world.backup();
    let away = first.path.with_extension("away");
    std::fs::rename(&first.path, &away).unwrap();
    world.save(3..6, "three");
    world.backup();
    std::fs::rename(&away, &first.path).unwrap();
    assert!(world.named(&second.id).is_ok());
}
