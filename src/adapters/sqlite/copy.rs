//! Copies of the database as a file: taken while it is written, looked at, and carried on to a later moment.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tidelock_actors::model::{Checkpoints, Counts, Sequence, Stamp};
use tidelock_actors::ports::StoreError;

use super::answers::Verified;
use super::counters;
use super::faults::Failure;
use super::identity::{self, Identity};
use super::open::reader;
use super::spool::Section;
use super::verify::{self, found_damaged};
use super::wal::{LogPosition, ends_of_commits, log_of};
use super::writer::file;
use crate::private::new_private_file;

/// What is in a copy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Contents {
    /// Whose it is.
    pub identity: Identity,
    /// The version of its tables.
    pub schema: i64,
    /// The newest change in it.
    pub stamp: Stamp,
    /// The newest operation that it ever had.
    pub sequence: Sequence,
    /// How far the server had been read.
    pub checkpoints: Checkpoints,
    /// What is in each collection.
    pub counts: Counts,
}

/// Copies the database as it is at one moment into a new file. Writers go on meanwhile.
pub(crate) fn copy(database: &Path, to: &Path) -> Result<Contents, StoreError> {
    let copied = || -> Result<Contents, Failure> {
        let source = reader(database).map_err(failure)?;
        let mut copy = scratch(to)?;
        Backup::new(&source, &mut copy)?.step(-1)?;
        // One file, without a log beside it.
        copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        contents(&copy)
    };
    copied().map_err(StoreError::from)
}

fn failure(error: super::OpenError) -> Failure {
    Failure::Store(StoreError::Failed(error.to_string()))
}

/// A connection to a file that nobody else uses and nobody needs after a crash.
fn scratch(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// What is in the database at hand.
pub(super) fn contents(connection: &Connection) -> Result<Contents, Failure> {
    let mut statement = connection.prepare("SELECT name, value FROM tl_checkpoints")?;
    let checkpoints = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(Contents {
        identity: identity::read(connection)?,
        schema: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
        stamp: newest_stamp(connection)?,
        sequence: connection.query_row("SELECT coalesce(max(sequence), 0) FROM tl_counters", [], |row| row.get(0))?,
        checkpoints,
        counts: counters::read_counts(connection)?,
    })
}

/// What is in the store just now.
pub(crate) fn contents_of(store: &Path) -> Result<Contents, StoreError> {
    let connection = reader(&file(store)).map_err(failure).map_err(StoreError::from)?;
    contents(&connection).map_err(StoreError::from)
}

fn newest_stamp(connection: &Connection) -> Result<Stamp, Failure> {
    let newest = connection.query_row("SELECT max(stamp) FROM tl_counters", [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(Stamp(newest.unwrap_or_default()))
}

/// Checks a copy as a store checks itself, but every page and index of it.
pub(crate) fn check(path: &Path) -> Result<Verified, StoreError> {
    let checked = || -> Result<Verified, Failure> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let said = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))?;
        if said != "ok" {
            return Ok(Verified { healthy: false, issues: vec![found_damaged(&said)] });
        }
        let names: Vec<_> = counters::read_counts(&connection)?.into_keys().collect();
        verify::verify(&connection, &names)
    };
    checked().map_err(StoreError::from)
}

/// Looks whether a copy is a sound database, without holding its indexes against its tables or reading documents.
pub(crate) fn check_pages(path: &Path) -> Result<(), StoreError> {
    let checked = || -> Result<(), Failure> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
        let damaged = || Failure::Store(StoreError::Damaged(found_damaged(&said)));
        (said == "ok").then_some(()).ok_or_else(damaged)
    };
    checked().map_err(StoreError::from)
}

/// Makes a copy a store of its own, to be opened under another name.
pub(crate) fn uproot(path: &Path) -> Result<(), StoreError> {
    let uprooted = || -> Result<(), Failure> {
        let mut connection = Connection::open(path)?;
        let transaction = connection.transaction()?;
        identity::uproot(&transaction)?;
        Ok(transaction.commit()?)
    };
    uprooted().map_err(StoreError::from)
}

/// Carries a copy on by what was kept of the log.
pub(crate) struct Replay {
    database: PathBuf,
    until: Option<Stamp>,
    /// Which log is being put together, and how far.
    at: Option<LogPosition>,
    log: Option<File>,
    is_over: bool,
}

impl Replay {
    /// Begins with a copy; what was changed after `until` is left out.
    pub(crate) fn new(database: &Path, until: Option<Stamp>) -> Result<Self, StoreError> {
        let prepared = || -> Result<(), Failure> {
            let connection = scratch(database)?;
            if until.is_some_and(|until| newest_stamp(&connection).is_ok_and(|stamp| stamp > until)) {
                let words = "the full backup is later than that moment already; name an earlier one";
                return Err(Failure::invalid(words));
            }
            Ok(connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?)
        };
        prepared().map_err(StoreError::from)?;
        remove_log(database).map_err(io)?;
        Ok(Self { database: database.to_owned(), until, at: None, log: None, is_over: false })
    }

    /// Takes the sections of one backup.
    pub(crate) fn take(&mut self, mut sections: impl Read) -> Result<(), StoreError> {
        while !self.is_over
            && let Some(section) = Section::read(&mut sections).map_err(io)?
        {
            self.join(&section)?;
            let mut body = (&mut sections).take(section.length);
            let copied = match &mut self.log {
                Some(log) => std::io::copy(&mut body, log),
                None => std::io::copy(&mut body, &mut std::io::sink()),
            };
            if copied.map_err(io)? != section.length {
                return Err(StoreError::Damaged("a section of the log is cut off".to_owned()));
            }
            self.at = Some(section.end());
        }
        Ok(())
    }

    /// A section goes on where the last one ended, or begins another log.
    fn join(&mut self, section: &Section) -> Result<(), StoreError> {
        if self.at == Some(section.from) || self.at.is_none() && section.length == 0 {
            return Ok(());
        }
        if section.from.offset > 0 {
            return Err(StoreError::Damaged("a section of the log is missing".to_owned()));
        }
        self.finish_log()?;
        if self.is_over {
            return Ok(());
        }
        self.log = Some(new_log(&self.database).map_err(io)?);
        Ok(())
    }

    /// Moves what was put together into the copy, as far as it is wanted.
    fn finish_log(&mut self) -> Result<(), StoreError> {
        let Some(log) = self.log.take() else { return Ok(()) };
        let moved = || -> Result<bool, Failure> {
            let ends = ends_of_commits(&log_of(&self.database)).map_err(|error| Failure::Store(io(error)))?;
            let length = log.metadata().map_err(|error| Failure::Store(io(error)))?.len();
            if ends.last() != Some(&length) {
                return Err(Failure::Store(StoreError::Damaged("the log holds more than was committed".to_owned())));
            }
            let is_over = self.cut_off(&log, &ends)?;
            move_log(&self.database)?;
            Ok(is_over)
        };
        self.is_over = moved().map_err(StoreError::from)?;
        remove_log(&self.database).map_err(io)
    }

    /// Leaves out the commits after the moment that is wanted; whether there were any.
    fn cut_off(&self, log: &File, ends: &[u64]) -> Result<bool, Failure> {
        let Some(until) = self.until else { return Ok(false) };
        if self.stamp()? <= until {
            return Ok(false);
        }
        // The stamps of commits rise, so the last one that is wanted can be looked for by halves.
        let (mut wanted, mut unwanted) = (0, ends.len());
        let whole = read_all(log)?;
        while wanted + 1 < unwanted {
            let middle = usize::midpoint(wanted, unwanted);
            self.put(&whole[..ends[middle - 1] as usize])?;
            if self.stamp()? <= until { wanted = middle } else { unwanted = middle }
        }
        let length = wanted.checked_sub(1).map_or(0, |last| ends[last] as usize);
        self.put(&whole[..length])?;
        Ok(true)
    }

    /// The log as it was, up to a commit.
    fn put(&self, bytes: &[u8]) -> Result<(), Failure> {
        let put = remove_log(&self.database).and_then(|()| {
            let mut log = new_log(&self.database)?;
            log.write_all(bytes)
        });
        put.map_err(|error| Failure::Store(io(error)))
    }

    /// The newest change, with the log as far as it lies there. A log that ends before the copy was taken makes no
    /// database of it; everything until then is wanted.
    fn stamp(&self) -> Result<Stamp, Failure> {
        match newest_stamp(&scratch(&self.database)?).map_err(StoreError::from) {
            Err(StoreError::Damaged(_)) => Ok(Stamp::default()),
            stamp => Ok(stamp?),
        }
    }

    /// The copy at the moment that is wanted, in one file, and what is in it.
    pub(crate) fn finish(mut self) -> Result<Contents, StoreError> {
        self.finish_log()?;
        let finished = || -> Result<Contents, Failure> {
            let connection = scratch(&self.database)?;
            connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
            contents(&connection)
        };
        finished().map_err(StoreError::from)
    }
}

fn new_log(database: &Path) -> std::io::Result<File> {
    new_private_file(&log_of(database))
}

fn read_all(mut log: &File) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    let read = log.seek(SeekFrom::Start(0)).and_then(|_| log.read_to_end(&mut whole));
    read.map_err(|error| Failure::Store(io(error)))?;
    Ok(whole)
}

fn move_log(database: &Path) -> Result<(), Failure> {
    let connection = scratch(database)?;
    let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
    match moved {
        false => Ok(()),
        true => Err(Failure::Store(StoreError::Failed("the log could not be moved into the copy".to_owned()))),
    }
}

fn remove_log(database: &Path) -> std::io::Result<()> {
    let mut index = database.as_os_str().to_owned();
    index.push("-shm");
    for path in [log_of(database), PathBuf::from(index)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn io(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id};
    use super::*;
    use rusqlite::types::Value;
    use tidelock_actors::machine::Chance;
    use tidelock_actors::model::Change;
    use tidelock_actors::ports::Store;

    /// All rows of all tables, as text.
    fn dump(connection: &Connection) -> String {
        let mut text = String::new();
        for table in ["records", "operations", "history", "conflicts", "checkpoints", "meta", "counters", "fields"] {
            let mut statement = connection.prepare(&format!("SELECT * FROM tl_{table} ORDER BY 1, 2")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
                text.push_str(&format!("{table} {values:?}\n"));
            }
        }
        text
    }

    fn dump_of(path: &Path) -> String {
        dump(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap())
    }

    /// A store whose log is kept, its first copy, and what was cut from the log since.
    struct Kept {
        world: World,
        base: PathBuf,
        cuts: Vec<Vec<u8>>,
    }

    impl Kept {
        fn new() -> Self {
            let mut world = World::new();
            world.save("notes/first", "{}");
            let base = world.directory.path().join("base.db");
            world.store.log().begin().unwrap();
            copy(&file(world.directory.path()), &base).unwrap();
            Self { world, base, cuts: Vec::new() }
        }

        fn now(&self) -> String {
            dump(&reader(&file(self.world.directory.path())).unwrap())
        }

        fn cut(&mut self) {
            let cut = self.world.store.log().cut().expect("the log is kept");
            let bytes = cut.parts.iter().flat_map(|part| std::fs::read(part).unwrap()).collect();
            cut.parts.iter().for_each(|part| std::fs::remove_file(part).unwrap());
            self.cuts.push(bytes);
        }

        fn replayed(&self, cuts: usize, until: Option<Stamp>) -> String {
            let to = self.world.directory.path().join("replayed.db");
            std::fs::copy(&self.base, &to).unwrap();
            let mut replay = Replay::new(&to, until).unwrap();
            self.cuts[..cuts].iter().for_each(|cut| replay.take(cut.as_slice()).unwrap());
            replay.finish().unwrap();
            let verified = check(&to).unwrap();
            assert!(verified.healthy, "{:?}", verified.issues);
            dump_of(&to)
        }

        fn write(&mut self, records: usize, chance: &mut Chance) {
            let text = "x".repeat((chance.fraction() * 1_500.0) as usize);
            let mut change = |_: usize| {
                let place = format!("notes/{}", (chance.fraction() * 2_000.0) as u64);
                let fields = format!(r#"{{"text":"{text}","n":{}}}"#, chance.fraction());
                (id(&place), Change::Save(document(&fields)))
            };
            let changes = (0..records).map(&mut change).collect();
            self.world.change(changes).unwrap();
        }
    }

    #[test]
    fn every_cut_of_the_log_carries_a_copy_on_to_the_state_at_that_moment() {
        for seed in 1..=2 {
            let (mut kept, mut chance) = (Kept::new(), Chance::from_seed(seed));
            let mut then = Vec::new();
            for _ in 0..30 {
                match (chance.fraction() * 10.0) as u32 {
                    0 => kept.world = kept.world.reopen(),
                    1 => kept.world.store.maintain().unwrap(),
                    2..=4 => {
                        kept.cut();
                        then.push(kept.now());
                    }
                    _ => (0..5).for_each(|_| kept.write(60, &mut chance)),
                }
            }
            for (cut, then) in then.iter().enumerate() {
                assert!(kept.replayed(cut + 1, None) == *then, "seed {seed}: cut {cut} is another state");
            }
        }
    }

    #[test]
    fn cuts_that_are_taken_while_the_writer_is_at_work_miss_nothing_and_end_at_commits() {
        let (mut kept, mut chance) = (Kept::new(), Chance::from_seed(13));
        let log = kept.world.store.log();
        let cutting = std::thread::spawn(move || {
            let bytes = |part: &PathBuf| std::fs::read(part).unwrap();
            let cut = |_| -> Vec<u8> {
                let cut = log.cut().expect("the log is kept");
                let read = cut.parts.iter().map(bytes).collect::<Vec<_>>().concat();
                cut.parts.iter().for_each(|part| std::fs::remove_file(part).unwrap());
                read
            };
            (0..60).map(cut).collect::<Vec<_>>()
        });
        while !cutting.is_finished() {
            let records = (chance.fraction() * 90.0) as usize;
            kept.write(1 + records, &mut chance);
        }
        kept.cuts = cutting.join().unwrap();
        (0..60).step_by(13).for_each(|cuts| drop(kept.replayed(cuts, None)));
        kept.cut();
        assert!(kept.replayed(61, None) == kept.now(), "something is missing");
    }

    #[test]
    fn h47_a_part_that_a_crash_has_cut_off_is_copied_again() {
        let (mut kept, mut chance) = (Kept::new(), Chance::from_seed(5));
        kept.write(50, &mut chance);
        kept.cut();
        for cut_off in [10, 24, 60, 5_000] {
            kept.write(50, &mut chance);
            // As after a crash in the middle of copying: the log has all of it, the last part not.
            let directory = kept.world.directory.path().join("log");
            let World { store, reads, directory: held, now_ms } = kept.world;
            drop((store, reads));
            let part = super::super::spool::parts(&directory).unwrap().pop().unwrap();
            let log = std::fs::read(log_of(&file(held.path()))).unwrap();
            let end = super::super::spool::end_of(&directory).unwrap().unwrap();
            let rest = &log[end.offset as usize..];
            let mut torn = end.salts.0.to_vec();
            torn.extend_from_slice(&end.offset.to_le_bytes());
            torn.extend_from_slice(&(rest.len() as u64).to_le_bytes());
            torn.extend_from_slice(rest);
            torn.truncate(cut_off);
            File::options().append(true).open(&part).unwrap().write_all(&torn).unwrap();
            let (store, reads) = super::super::open(super::super::world::options(held.path())).unwrap();
            kept.world = World { store, reads, directory: held, now_ms };
            kept.write(50, &mut chance);
            kept.cut();
            assert!(kept.replayed(kept.cuts.len(), None) == kept.now(), "cut off after {cut_off} bytes");
        }
    }

    #[test]
    fn a_copy_is_carried_on_to_any_moment_between() {
        let (mut kept, mut chance) = (Kept::new(), Chance::from_seed(7));
        let mut moments = Vec::new();
        for part in 0..24 {
            kept.write(if part % 10 == 0 { 700 } else { 20 }, &mut chance);
            moments.push((kept.world.store.newest_stamp(), kept.now()));
            if part % 10 == 9 {
                kept.cut();
            }
        }
        kept.cut();
        for (stamp, then) in moments.iter().step_by(5) {
            assert!(kept.replayed(kept.cuts.len(), Some(*stamp)) == *then, "{stamp:?} is another state");
        }
    }

    #[test]
    fn a_log_that_begins_anew_is_copied_before_and_does_not_grow_for_ever() {
        let (mut kept, mut chance) = (Kept::new(), Chance::from_seed(3));
        let log = log_of(&file(kept.world.directory.path()));
        let mut generations = std::collections::BTreeSet::new();
        for _ in 0..30 {
            kept.write(400, &mut chance);
            generations.insert(std::fs::read(&log).unwrap()[16..24].to_vec());
        }
        kept.cut();
        assert!(generations.len() > 1, "{} logs", generations.len());
        assert!(log.metadata().unwrap().len() < 200 * 1024 * 1024);
        assert!(kept.replayed(1, None) == kept.now());
    }

    #[test]
    fn a_log_that_somebody_else_has_begun_anew_is_not_taken_for_the_old_one() {
        let mut kept = Kept::new();
        kept.world.save("notes/a", "{}");
        kept.cut();
        let directory = kept.world.directory.path().to_owned();
        let World { store, reads, directory: held, now_ms: _ } = kept.world;
        drop((store, reads));
        let other = Connection::open(file(&directory)).unwrap();
        other.execute("UPDATE tl_meta SET value = 'x' WHERE name = 'user'", []).unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(other);
        let (store, _reads) = super::super::open(super::super::world::options(&directory)).unwrap();
        assert!(store.log().cut().is_none(), "what was written meanwhile would be missing");
        drop(held);
    }

    #[test]
    fn a_log_that_lost_something_in_its_middle_is_not_gone_on_with() {
        let mut kept = Kept::new();
        (0..3).for_each(|n| assert!(kept.world.save(&format!("notes/{n}"), "{}")));
        kept.cut();
        let directory = kept.world.directory.path().to_owned();
        let World { store, reads, directory: held, now_ms: _ } = kept.world;
        drop((store, reads));
        let log = log_of(&file(&directory));
        let mut bytes = std::fs::read(&log).unwrap();
        let ends = ends_of_commits(&log).unwrap();
        // Its last frame is as it was.
        bytes[ends[ends.len() - 2] as usize - 1] ^= 1;
        std::fs::write(&log, bytes).unwrap();
        let (store, _reads) = super::super::open(super::super::world::options(&directory)).unwrap();
        assert!(store.log().cut().is_none(), "the last commits are lost, and what follows has their place");
        drop(held);
    }

    #[test]
    fn fields_that_are_discovered_before_the_copy_hinder_no_moment_after_it() {
        for seed in 0..4 {
            let mut world = World::new();
            let base = world.directory.path().join("base.db");
            world.store.log().begin().unwrap();
            let mut chance = Chance::from_seed(seed);
            for part in 0..150 {
                let field = format!("field_with_a_rather_long_name_{part}");
                let collection = ["notes", "tasks", "steps", "drafts"][(chance.fraction() * 4.0) as usize];
                world.save(
                    &format!("{collection}/{part}"),
                    &format!(r#"{{"{field}":"{}"}}"#, "x".repeat((chance.fraction() * 3000.0) as usize)),
                );
            }
            copy(&file(world.directory.path()), &base).unwrap();
            let mut kept = Kept { world, base, cuts: Vec::new() };
            let mut moments = Vec::new();
            for part in 0..20 {
                kept.world.save(&format!("notes/after-{part}"), "{}");
                moments.push((kept.world.store.newest_stamp(), kept.now()));
            }
            kept.cut();
            for (stamp, then) in &moments {
                assert!(kept.replayed(1, Some(*stamp)) == *then, "seed {seed}: another state");
            }
        }
    }

    #[test]
    fn what_came_from_the_server_after_the_moment_is_not_in_it() {
        let mut kept = Kept::new();
        kept.world.save("notes/a", r#"{"n":1}"#);
        let (stamp, then) = (kept.world.store.newest_stamp(), kept.now());
        kept.world.wait(std::time::Duration::from_secs(300));
        kept.world.applied("notes/a", &[2], "v1");
        kept.cut();
        assert!(kept.replayed(1, Some(stamp)) == then, "another state");
    }

    #[test]
    fn scratch_logs_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let mut kept = Kept::new();
        kept.world.save("notes/a", "{}");
        kept.cut();
        let to = kept.world.directory.path().join("replayed.db");
        std::fs::copy(&kept.base, &to).unwrap();
        let mut replay = Replay::new(&to, None).unwrap();
        replay.take(kept.cuts[0].as_slice()).unwrap();
        assert_eq!(log_of(&to).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn reading_what_is_left_leaves_the_files_as_they_are() {
        let mut kept = Kept::new();
        kept.world.save("notes/a", "{}");
        let directory = kept.world.directory.path().to_owned();
        let World { store, reads, directory: held, now_ms: _ } = kept.world;
        drop((store, reads));
        let log = std::fs::read(log_of(&file(&directory))).unwrap();
        assert!(!log.is_empty());
        super::super::salvage(&file(&directory), 0, Stamp::default(), &[]);
        assert!(std::fs::read(log_of(&file(&directory))).is_ok_and(|now| now == log), "the log is gone");
        drop(held);
    }

    #[test]
    fn a_moment_before_the_copy_is_refused_and_not_mixed() {
        let mut kept = Kept::new();
        let early = kept.world.store.newest_stamp();
        kept.world.save("notes/a", "{}");
        let later = kept.world.directory.path().join("later.db");
        copy(&file(kept.world.directory.path()), &later).unwrap();
        let refused = Replay::new(&later, Some(early)).err().unwrap();
        assert!(refused.to_string().contains("later than that moment already"), "{refused}");
    }

    /// What a transaction leaves in the log that was written whole and failed then (its index could not be enlarged, it
    /// could not be made durable): frames and a commit that SQLite does not know, and will write over.
    #[test]
    fn a_commit_that_failed_after_it_was_written_leaves_no_hole() {
        let mut kept = Kept::new();
        kept.world.save("notes/a", "{}");
        kept.cut();
        let log = log_of(&file(kept.world.directory.path()));
        let before = std::fs::read(&log).unwrap();
        let end = *ends_of_commits(&log).unwrap().last().unwrap() as usize;
        // A transaction as it would be, on a copy of the files.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = elsewhere.path().join("tidelock.db");
        std::fs::copy(file(kept.world.directory.path()), &other).unwrap();
        std::fs::copy(&log, log_of(&other)).unwrap();
        let connection = Connection::open(&other).unwrap();
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        connection.execute_batch("CREATE TABLE phantom (x)").unwrap();
        connection.execute_batch("INSERT INTO phantom VALUES (randomblob(40000))").unwrap();
        drop(connection);
        let after = std::fs::read(log_of(&other)).unwrap();
        assert!(after.len() > end && after[..end] == before[..end]);
        let mut file_of_log = File::options().write(true).open(&log).unwrap();
        file_of_log.seek(SeekFrom::Start(end as u64)).and_then(|_| file_of_log.write_all(&after[end..])).unwrap();
        // SQLite does not count it, so it is in no cut.
        kept.cut();
        assert!(kept.replayed(2, None) == kept.now(), "what failed was copied");
        kept.world.save("notes/b", "{}");
        kept.cut();
        assert!(kept.replayed(3, None) == kept.now(), "what was written over it is missing");
        kept.world.assert_healthy();
    }
}
