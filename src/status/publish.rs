//! Tells the status as it changes: at most every `STATUS_PAUSE`, and always the last one.

use futures::StreamExt;
use tidelock_actors::limits::STATUS_PAUSE;
use tokio::sync::watch;

use super::{Status, StatusSources};
use crate::gauges;

/// The status as it changes, from now on; on the runtime's thread.
pub(crate) fn publish(sources: StatusSources) -> watch::Receiver<Status> {
    let (tell, status) = watch::channel(sources.read());
    gauges::set(&tell.borrow(), &sources.part_names());
    let mut changes = sources.changes();
    let publisher = Publisher { sources, tell };
    actix::spawn(async move {
        while changes.next().await.is_some() {
            publisher.publish();
            tokio::time::sleep(STATUS_PAUSE).await;
        }
    });
    status
}

struct Publisher {
    sources: StatusSources,
    tell: watch::Sender<Status>,
}

impl Publisher {
    fn publish(&self) {
        let now = self.sources.read();
        gauges::set(&now, &self.sources.part_names());
        self.tell.send_if_modified(|last| {
            let is_new = *last != now;
            *last = now;
            is_new
        });
    }
}

/// What came within the last pause is told as well, however the end comes.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.publish();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use tidelock_actors::backup::BackupStatus;
    use tidelock_actors::logger::LoggerStatus;
    use tidelock_actors::model::{CollectionCounts, Counts, Direction};
    use tidelock_actors::status::SyncStatus;
    use tokio::time::Instant;

    use super::*;
    use crate::adapters::nowhere::Nowhere;
    use crate::adapters::sqlite::{Backlog, Usage};

    fn pending(pending: u64) -> Counts {
        [("notes".into(), CollectionCounts { pending, ..CollectionCounts::default() })].into()
    }

    /// What the sources are told by.
    struct World {
        counts: watch::Sender<Counts>,
        sync: watch::Sender<SyncStatus>,
        backups: watch::Sender<BackupStatus>,
        others: (watch::Sender<Backlog>, watch::Sender<LoggerStatus>, watch::Sender<()>, watch::Sender<Usage>),
    }

    fn world() -> (World, StatusSources) {
        let (counts, watched) = watch::channel(pending(0));
        let (sync, backups) = (watch::Sender::new(SyncStatus::default()), watch::Sender::new(BackupStatus::default()));
        let others = (
            watch::Sender::default(),
            watch::Sender::default(),
            watch::Sender::new(()),
            watch::Sender::new(Usage::default()),
        );
        let (backlog, logger, news, usage) = &others;
        let sources = StatusSources {
            counts: watched,
            sync: sync.subscribe(),
            backups: backups.subscribe(),
            backlog: backlog.subscribe(),
            logger: logger.subscribe(),
            news: news.subscribe(),
            usage: usage.subscribe(),
            parts: Vec::new(),
            collections: vec![("notes".into(), Direction::Both)],
            remote: Arc::new(Nowhere),
        };
        (World { counts, sync, backups, others }, sources)
    }

    fn on_fake_time(test: impl Future<Output = ()>) {
        actix::System::new().block_on(async {
            tokio::time::pause();
            test.await;
        });
    }

    #[test]
    fn changes_are_told_at_most_every_100_ms_and_the_last_one_always() {
        on_fake_time(async {
            let (world, sources) = world();
            let mut status = publish(sources);
            let told = Rc::new(RefCell::new(Vec::new()));
            let heard = told.clone();
            actix::spawn(async move {
                while status.changed().await.is_ok() {
                    heard.borrow_mut().push((Instant::now(), status.borrow_and_update().pending));
                }
            });
            for saves in 1..=200 {
                world.counts.send_replace(pending(saves));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            tokio::time::sleep(STATUS_PAUSE).await;
            let told = told.borrow();
            assert_eq!(told.last().map(|(_, pending)| *pending), Some(200), "{told:?}");
            assert!(told.len() >= 6, "{told:?}");
            assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= STATUS_PAUSE), "{told:?}");
        });
    }

    #[test]
    fn parts_that_stop_leave_the_others_to_be_told_of_until_all_have_stopped() {
        on_fake_time(async {
            let (World { counts, sync, backups, others }, sources) = world();
            let mut status = publish(sources);
            drop((backups, others));
            counts.send_replace(pending(1));
            status.wait_for(|status| status.pending == 1).await.unwrap();
            drop(counts);
            // It comes within the pause after the last one, and is the end.
            sync.send_replace(SyncStatus { is_online: true, ..SyncStatus::default() });
            drop(sync);
            assert!(status.wait_for(|status| status.online).await.is_ok());
            assert!(status.changed().await.is_err(), "it ends");
        });
    }

    #[cfg(feature = "process")]
    #[test]
    fn a_gauge_of_what_is_not_known_any_more_is_0() {
        let mut status = world().1.read();
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let told = |open: Option<u64>| {
            status.server.open_transactions = open;
            metrics::with_local_recorder(&recorder, || gauges::set(&status, &[]));
            let told = recorder.handle().render();
            told.lines().find(|line| line.starts_with("tidelock_server_open_transactions ")).map(str::to_owned)
        };
        assert_eq!(
            [Some(3), None].map(told),
            ["3", "0"].map(|is| Some(format!("tidelock_server_open_transactions {is}")))
        );
    }

    #[test]
    fn h13_what_changed_just_before_the_thread_ends_is_told() {
        let mut told = None;
        on_fake_time(async {
            let (world, sources) = world();
            told = Some(publish(sources));
            tokio::task::yield_now().await;
            world.counts.send_replace(pending(1));
            tokio::task::yield_now().await;
            world.counts.send_replace(pending(2));
        });
        assert_eq!(told.map(|status| status.borrow().pending), Some(2));
    }
}
