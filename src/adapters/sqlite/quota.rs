//! How much the store may take, and how much it takes: its database and its kept log are counted by the writer, its
//! backups by the archive. The log beside the database holds pages that are counted already, and is kept short.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tidelock_actors::model::{Change, RemoteState};
use tidelock_actors::ports::StoreError;
use tidelock_actors::writes::Write;
use tokio::sync::watch;

use crate::config::Size;

/// How near the store is to its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes that count: the database less what is free within it, the log that is kept for backups, the backups.
    pub bytes: u64,
    /// `storage.quota`; nothing where there is none.
    pub quota_bytes: Option<u64>,
    /// How near that is.
    pub state: Fullness,
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
        self.change(|counted| counted.quota)
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
        self.change(|counted| counted.database = bytes);
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
        self.change(|counted| (counted.kept_log, counted.backups))
    }

    /// Refuses what makes the database larger than it may be.
    pub(super) fn admit(&self, database: u64) -> Result<(), StoreError> {
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
        self.change(|counted| match counted.excess(counted.bytes() + bytes) {
            None => Ok(()),
            Some(quota) => Err(format!(
                "a backup needs about {}, and the store takes {} of the {} that storage.quota allows",
                Size(bytes),
                Size(counted.bytes()),
                Size(quota)
            )),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut counted);
        counted.refused_at = counted.refused_at.filter(|at| counted.bytes() >= *at);
        let (bytes, quota_bytes, state) = (counted.bytes(), counted.quota, counted.state());
        let news = counted.news();
        drop(counted);
        if let (Some(state), Some(quota)) = (news, quota_bytes) {
            warn(state, Size(bytes), Size(quota));
        }
        // Nobody is woken for a few bytes more.
        self.usage.send_if_modified(|usage| {
            let is_news = (usage.state, usage.quota_bytes) != (state, quota_bytes);
            *usage = Usage { bytes, quota_bytes, state };
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
    tracing::warn!(%bytes, %quota, "{what}; delete what is not needed and compact, or raise storage.quota");
}

/// Whether a write brings data that the quota may refuse. What the app deletes, what the server has said about what was
/// sent, and what people decide goes through in any case: it frees space, or keeps a promise.
pub(super) fn adds_data(write: &Write) -> bool {
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
