//! How much the store may take, and how much it takes: its database and its kept log are counted by the writer, its
//! backups by the archive. The log beside the database holds pages that are counted already, and is kept short.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::model::{Change, RemoteState};
use tidelock_actors::ports::StoreError;
use tidelock_actors::writes::Write;
use tokio::sync::watch;

use super::faults::Failure;
use super::sizes::used_bytes;
use crate::config::Size;
use crate::locks::locked;

/// How near the store is to its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fullness {
    /// Far from it, or there is none.
    #[default]
    Ok,
    /// Above four fifths of it.
    Near,
    /// At it: what adds data is refused.
    Full,
}

/// What the store takes of what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Bytes that count: the database less what is free within it, the log that is kept for backups, the backups.
    pub bytes: u64,
    /// `storage.quota`; nothing where there is none.
    pub quota_bytes: Option<u64>,
    /// How near that is.
    pub state: Fullness,
    /// Whether the last write found the disk full.
    #[serde(default)]
    pub disk_full: bool,
}

/// The quota of an open store. Clones share it.
#[derive(Clone)]
pub(crate) struct Quota {
    counted: Arc<Mutex<Counted>>,
    usage: watch::Sender<Usage>,
}

/// What was counted last.
#[derive(Debug, Default)]
struct Counted {
    quota: Option<u64>,
    database: u64,
    kept_log: u64,
    backups: u64,
    /// What the store took when something was refused, until it takes less.
    refused_at: Option<u64>,
    disk_full: bool,
    /// What the log was told, so that it is told once.
    said: Fullness,
}

impl Counted {
    fn bytes(&self) -> u64 {
        self.database + self.kept_log + self.backups
    }

    fn state(&self) -> Fullness {
        let bytes = self.bytes();
        match self.quota {
            None => Fullness::Ok,
            Some(quota) if bytes >= quota || self.refused_at.is_some_and(|at| bytes >= at) => Fullness::Full,
            Some(quota) if bytes >= near(quota) => Fullness::Near,
            Some(_) => Fullness::Ok,
        }
    }

    /// What is new and worth a warning. One who goes to and fro at the limit is warned once.
    fn news(&mut self) -> Option<Fullness> {
        let (state, bytes) = (self.state(), self.bytes());
        let is_far = self.quota.is_none_or(|quota| bytes < near(quota) / 10 * 9);
        if state == Fullness::Ok && is_far {
            self.said = Fullness::Ok;
        }
        let is_new = state > self.said;
        self.said = self.said.max(state);
        is_new.then_some(state)
    }

    /// What does not fit.
    fn excess(&self, bytes: u64) -> Option<u64> {
        self.quota.filter(|quota| bytes > *quota)
    }
}

fn near(quota: u64) -> u64 {
    quota / 5 * 4
}

impl Quota {
    /// So much, or as much as there is.
    pub(crate) fn new(quota: Option<Size>) -> Self {
        let counted = Counted { quota: quota.map(|size| size.0), ..Counted::default() };
        Self { counted: Arc::new(Mutex::new(counted)), usage: watch::Sender::default() }
    }

    /// Another quota, from now on; whether it is a larger one.
    pub(crate) fn set(&self, quota: Option<Size>) -> bool {
        let quota = quota.map(|size| size.0);
        self.change(|counted| {
            let before = std::mem::replace(&mut counted.quota, quota);
            counted.refused_at = counted.refused_at.filter(|_| before == quota);
            before.is_some_and(|before| quota.is_none_or(|quota| quota > before))
        })
    }

    /// The quota, if there is one.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.read(|counted| counted.quota)
    }

    /// What is taken, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Usage> {
        self.usage.subscribe()
    }

    /// What is taken.
    pub(crate) fn usage(&self) -> Usage {
        *self.usage.borrow()
    }

    /// The database's part, after a commit.
    pub(super) fn count_database(&self, bytes: u64) {
        self.change(|counted| (counted.database, counted.disk_full) = (bytes, false));
    }

    /// A write did not find room on the disk.
    pub(super) fn note_full_disk(&self) {
        self.change(|counted| counted.disk_full = true);
    }

    /// The kept log's part.
    pub(super) fn count_kept_log(&self, bytes: u64) {
        self.change(|counted| counted.kept_log = bytes);
    }

    /// The backups' part.
    pub(crate) fn count_backups(&self, bytes: u64) {
        self.change(|counted| counted.backups = bytes);
    }

    /// The kept log's and the backups' part.
    pub(super) fn beside(&self) -> (u64, u64) {
        self.read(|counted| (counted.kept_log, counted.backups))
    }

    /// Refuses writes that add data where they have made the store larger than it may be: as it is with them counts, not
    /// as it was before.
    pub(super) fn admit_writes(&self, writes: &[Write], transaction: &Connection) -> Result<(), Failure> {
        if self.bytes().is_some() && writes.iter().any(adds_data) {
            self.admit(used_bytes(transaction)?)?;
        }
        Ok(())
    }

    fn admit(&self, database: u64) -> Result<(), StoreError> {
        self.change(|counted| {
            let bytes = database + counted.kept_log + counted.backups;
            let Some(quota) = counted.excess(bytes) else { return Ok(()) };
            counted.refused_at = Some(counted.bytes());
            let (taken, quota) = (Size(counted.bytes()), Size(quota));
            Err(StoreError::OverQuota(format!("the store takes {taken} of the {quota} that storage.quota allows")))
        })
    }

    /// Refuses a backup that takes so many bytes more, where they do not fit; tells what is taken and allowed.
    pub(crate) fn admit_backup(&self, bytes: u64) -> Result<(), String> {
        self.read(|counted| match counted.excess(counted.bytes() + bytes) {
            None => Ok(()),
            Some(quota) => Err(format!(
                "a backup needs about {}, and the store takes {} of the {} that storage.quota allows",
                Size(bytes),
                Size(counted.bytes()),
                Size(quota)
            )),
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Counted) -> T) -> T {
        read(&locked(&self.counted))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        let mut counted = locked(&self.counted);
        let done = change(&mut counted);
        counted.refused_at = counted.refused_at.filter(|at| counted.bytes() >= *at);
        let (bytes, quota_bytes, state) = (counted.bytes(), counted.quota, counted.state());
        let disk_full = counted.disk_full;
        let news = counted.news();
        drop(counted);
        if let (Some(state), Some(quota)) = (news, quota_bytes) {
            warn(state, Size(bytes), Size(quota));
        }
        // Nobody is woken for a few bytes more.
        self.usage.send_if_modified(|usage| {
            let is_news = (usage.state, usage.quota_bytes, usage.disk_full) != (state, quota_bytes, disk_full);
            *usage = Usage { bytes, quota_bytes, state, disk_full };
            is_news
        });
        done
    }
}

fn warn(state: Fullness, bytes: Size, quota: Size) {
    let what = match state {
        Fullness::Ok => return,
        Fullness::Near => "the store is near its quota",
        Fullness::Full => "the store has reached its quota: what adds data is refused",
    };
    tracing::warn!(%bytes, %quota, "{what}; delete what is not needed and run tidelock compact --forget-history, or raise storage.quota");
}

/// Whether a write brings data that the quota may refuse. What the app deletes, what the server has said about what was
/// sent, and what people decide goes through in any case: it frees space, or keeps a promise.
fn adds_data(write: &Write) -> bool {
    match write {
        Write::Local(transaction) => transaction.changes.iter().any(|(_, change)| matches!(change, Change::Save(_))),
        Write::Observe(seen) => {
            // Rows that were read by their keys belong to the verdict on what was sent.
            !seen.by_key && seen.rows.iter().any(|row| matches!(row.state, RemoteState::Present { .. }))
        }
        Write::RollBack(wanted) => !wanted.is_trial,
        Write::Restore(wanted) => !wanted.is_trial,
        Write::Settle(_)
        | Write::Redrive(_)
        | Write::Discard(_)
        | Write::DiscardAlone(_)
        | Write::Decide { .. }
        | Write::Undo { .. }
        | Write::Listing(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, gone, id, row};
    use super::super::writer::file;
    use super::*;
    use tidelock_actors::document::Document;
    use tidelock_actors::model::{Outcome, Past};
    use tidelock_actors::ports::Store;
    use tidelock_actors::writes::{Observation, Written};

    const QUOTA: u64 = 1_000_000;

    fn text(n: usize) -> String {
        format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(10_000))
    }

    fn world() -> World {
        World::with(|options| options.quota = Some(Size(QUOTA)))
    }

    /// Saves until nothing more fits; how many were taken.
    fn fill(world: &mut World) -> usize {
        (0..1_000).find(|n| world.try_save(&format!("notes/{n}"), &text(*n)).is_err()).unwrap()
    }

    fn whole(n: usize) -> Change {
        Change::Save(Document::parse(&text(n)).unwrap())
    }

    #[test]
    fn a_save_that_does_not_fit_is_refused_and_nothing_of_it_is_written() {
        let mut world = world();
        let taken = fill(&mut world);
        assert!(taken > 10, "{taken}");
        let error = world.try_save("notes/more", &text(0)).unwrap_err();
        assert!(matches!(error, StoreError::OverQuota(_)) && error.is_transient(), "{error}");
        assert!(error.to_string().contains("of the 1MB that storage.quota allows; delete what is"), "{error}");
        let usage = world.store.quota().usage();
        assert!(usage.bytes <= QUOTA && usage.state == Fullness::Full, "{usage:?}");
        let together = (0..3).map(|n| (id(&format!("notes/together-{n}")), whole(n))).collect();
        assert!(world.change(together).is_err());
        assert_eq!(world.counts("notes"), (taken as u64, taken as u64, 0, 0, 0));
        assert_eq!((world.outbox().len(), world.rows("tl_records")), (taken, taken));
        assert!(world.get("notes/0").is_some() && world.get("notes/together-0").is_none());
        world.assert_healthy();
    }

    #[test]
    fn one_that_does_not_fit_takes_nobody_along_who_was_committed_before() {
        let mut world = world();
        fill(&mut world);
        let before = world.rows("tl_records");
        assert!(world.try_save("drafts/small", r#"{"n":1}"#).is_ok(), "what fits is taken");
        assert_eq!(world.rows("tl_records"), before + 1);
    }

    #[test]
    fn at_the_limit_what_keeps_a_promise_or_frees_space_goes_through() {
        let mut world = world();
        world.take(vec![row("notes/held", r#"{"id":"held"}"#, "v1")]);
        world.save("notes/held", r#"{"n":1}"#);
        world.decide(row("notes/held", r#"{"id":"held","n":2}"#, "v2"), Outcome::Hold);
        let taken = fill(&mut world);
        let operations = world.operations();
        let sequence = |key: &str| operations.iter().find(|one| one.key == key).unwrap().id;
        world.store.quota().set(Some(Size(1)));
        assert!(world.try_save("notes/0", r#"{"n":-1}"#).is_err());
        world.applied("notes/0", &[sequence("0")], "v1");
        assert_eq!(world.park("notes/1", &[sequence("1")]), 1);
        world.commit(Write::Discard(vec![sequence("1")])).unwrap();
        world.commit(Write::Decide { conflict: 1, choice: tidelock_actors::writes::Choice::Remote }).unwrap();
        assert!(world.delete("notes/2") && world.delete("notes/0"));
        let seen = Observation { by_key: true, ..world.observation(vec![row("notes/5", "{}", "v5")]) };
        assert!(matches!(world.commit(Write::Observe(seen)).unwrap(), Written::Contested(_)));
        let known = world.get(&format!("notes/{}", taken - 1));
        assert!(known.is_some() && world.get("notes/2").is_none());
        world.assert_healthy();
    }

    #[test]
    fn a_page_that_does_not_fit_leaves_its_checkpoint_where_it_was_and_comes_again() {
        let mut world = world();
        fill(&mut world);
        let page = |world: &mut World| {
            let mut page = world.observation((0..3).map(|n| row(&format!("tasks/{n}"), &text(n), "v1")).collect());
            page.checkpoints.insert("tasks".to_owned(), "page 2".to_owned());
            world.commit(Write::Observe(page))
        };
        assert!(matches!(page(&mut world), Err(StoreError::OverQuota(_))));
        assert!(!world.checkpoints().contains_key("tasks") && world.rows("tasks") == 0);
        world.observe(vec![gone("catalogue/nothing")]);
        world.store.quota().set(Some(Size(2 * QUOTA)));
        page(&mut world).unwrap();
        assert_eq!((world.checkpoints()["tasks"].as_str(), world.rows("tasks")), ("page 2", 3));
        world.assert_healthy();
    }

    #[test]
    fn deleting_and_compacting_make_room_without_a_restart() {
        let mut world = world();
        let fits = |world: &mut World, n| world.try_save(&format!("drafts/{n}"), &text(n)).is_ok();
        let taken = (0..).find(|n| !fits(&mut world, *n)).unwrap();
        for n in 0..taken {
            world.delete(&format!("drafts/{n}"));
        }
        assert!(world.try_save("notes/more", &text(0)).is_err(), "what was deleted is in the history");
        let compacted = world.store.compact(Past::Forgotten).unwrap();
        assert!(compacted.after_bytes * 2 < compacted.before_bytes, "{compacted:?}");
        assert_eq!(world.store.quota().usage().state, Fullness::Ok);
        assert!(world.save("notes/more", &text(0)));
        world.assert_healthy();
    }

    #[test]
    fn beside_a_small_quota_the_log_stays_small() {
        let mut world = World::with(|options| options.quota = Some(Size(16_000_000)));
        for n in 0..1_500 {
            world.save(&format!("drafts/{}", n % 100), &text(n));
        }
        let log = super::super::wal::log_of(&file(world.directory.path())).metadata().unwrap().len();
        assert!(log < 4_000_000, "{log}");
    }

    #[test]
    fn a_warning_comes_once_and_again_after_it_was_far_away() {
        let mut counted = Counted { quota: Some(100), ..Counted::default() };
        let mut news = |bytes| {
            counted.database = bytes;
            counted.news()
        };
        assert_eq!(news(70), None);
        assert_eq!(news(80), Some(Fullness::Near));
        assert_eq!([news(85), news(79), news(81)], [None; 3], "it goes to and fro");
        assert_eq!(news(100), Some(Fullness::Full));
        assert_eq!([news(90), news(100), news(120)], [None; 3]);
        assert_eq!(news(50), None);
        assert_eq!(news(101), Some(Fullness::Full));
    }

    #[test]
    fn what_others_take_counts_and_without_a_quota_nothing_is_refused() {
        let quota = Quota::new(Some(Size(100)));
        quota.count_database(50);
        assert!(quota.admit(90).is_ok());
        quota.count_backups(20);
        quota.count_kept_log(10);
        assert_eq!(quota.usage(), Usage { bytes: 80, quota_bytes: Some(100), state: Fullness::Near, disk_full: false });
        assert!(quota.admit(90).is_err() && quota.admit_backup(21).is_err() && quota.admit_backup(20).is_ok());
        assert!(quota.set(None));
        assert!(quota.admit(u64::from(u32::MAX)).is_ok() && quota.usage().state == Fullness::Ok);
    }
}
