//! The changes of records for all event streams: each notice has a number, and the last ones are kept, so that a page that
//! lost its connection goes on where it was. A stream takes from here when it can send; one that cannot costs nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidelock_actors::model::RecordId;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

use super::EVENT_KEYS_KEPT;

/// The last changes, and how many there have been.
pub(super) struct Feed {
    /// Names this run: the numbers of another one mean nothing here.
    run: String,
    kept: Mutex<Kept>,
    /// How many notices there have been; nothing once there will be no more.
    count: watch::Sender<Option<u64>>,
}

#[derive(Default)]
struct Kept {
    /// The number of the oldest notice that is kept.
    first: u64,
    notices: VecDeque<Arc<[RecordId]>>,
    /// The keys in all of them.
    keys: usize,
}

/// What came after a place in the feed.
#[derive(Debug, PartialEq)]
pub(super) enum Since {
    /// These changes.
    Changes(Vec<Arc<[RecordId]>>),
    /// More than is kept.
    Forgotten,
}

impl Feed {
    /// Takes in all changes from now on, until there are no more.
    pub(super) fn start(mut changes: Receiver<Arc<[RecordId]>>) -> Arc<Self> {
        let feed = Arc::new(Self::new());
        let filled = feed.clone();
        actix_web::rt::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok(changed) => filled.add(changed),
                    Err(RecvError::Lagged(_)) => filled.forget(),
                    Err(RecvError::Closed) => return filled.close(),
                }
            }
        });
        feed
    }

    fn new() -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self { run, kept: Mutex::default(), count: watch::Sender::new(Some(0)) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, changed: Arc<[RecordId]>) {
        let mut kept = self.kept();
        kept.keys += changed.len();
        kept.notices.push_back(changed);
        while kept.keys > EVENT_KEYS_KEPT
            && let Some(oldest) = kept.notices.pop_front()
        {
            kept.keys -= oldest.len();
            kept.first += 1;
        }
        self.tell(&kept);
    }

    /// Changes were missed: whoever listens has missed them.
    fn forget(&self) {
        let mut kept = self.kept();
        kept.first += kept.notices.len() as u64 + 1;
        (kept.notices, kept.keys) = (VecDeque::new(), 0);
        self.tell(&kept);
    }

    fn tell(&self, kept: &Kept) {
        let count = kept.first + kept.notices.len() as u64;
        self.count.send_modify(|told| *told = told.map(|_| count));
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        self.count.send_replace(None);
    }

    /// How many notices there have been, as it grows; nothing once the feed has ended.
    pub(super) fn count(&self) -> watch::Receiver<Option<u64>> {
        self.count.subscribe()
    }

    /// What came from this place on, and the place after it.
    pub(super) fn since(&self, place: u64) -> (Since, u64) {
        let kept = self.kept();
        let count = kept.first + kept.notices.len() as u64;
        let since = match place.checked_sub(kept.first) {
            Some(skipped) => Since::Changes(kept.notices.iter().skip(skipped as usize).cloned().collect()),
            None => Since::Forgotten,
        };
        (since, count)
    }

    /// A place as an event's id.
    pub(super) fn id(&self, place: u64) -> String {
        format!("{}-{place}", self.run)
    }

    /// The place of an event's id, if it is of this run and still known.
    pub(super) fn place(&self, id: &str) -> Option<u64> {
        let (run, place) = id.rsplit_once('-')?;
        let place = place.parse().ok().filter(|_| run == self.run)?;
        let (since, count) = self.since(place);
        (since != Since::Forgotten && place <= count).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(keys: usize) -> Arc<[RecordId]> {
        (0..keys).map(|key| RecordId::new("notes", key.to_string())).collect()
    }

    #[test]
    fn a_stream_goes_on_where_it_was() {
        let feed = Feed::new();
        feed.add(notice(1));
        feed.add(notice(2));
        assert_eq!(feed.since(0), (Since::Changes(vec![notice(1), notice(2)]), 2));
        assert_eq!(feed.since(1), (Since::Changes(vec![notice(2)]), 2));
        assert_eq!(feed.since(2), (Since::Changes(vec![]), 2));
        assert_eq!(feed.place(&feed.id(1)), Some(1));
    }

    #[test]
    fn what_is_no_longer_kept_was_forgotten_not_skipped() {
        let feed = Feed::new();
        for _ in 0..3 {
            feed.add(notice(EVENT_KEYS_KEPT / 2));
        }
        assert_eq!(feed.since(0), (Since::Forgotten, 3));
        assert_eq!(feed.place(&feed.id(0)), None);
        assert!(matches!(feed.since(1), (Since::Changes(two), 3) if two.len() == 2));
        feed.add(notice(EVENT_KEYS_KEPT + 1));
        assert_eq!((feed.since(3), feed.since(4)), ((Since::Forgotten, 4), (Since::Changes(vec![]), 4)));
        feed.forget();
        assert_eq!((feed.since(4), feed.since(5)), ((Since::Forgotten, 5), (Since::Changes(vec![]), 5)));
    }

    #[test]
    fn an_id_of_another_run_or_of_the_future_means_nothing() {
        let feed = Feed::new();
        for id in ["", "1", "-1", &Feed::new().id(0), &feed.id(1)] {
            assert_eq!(feed.place(id), None, "{id}");
        }
    }
}
