//! Tells the status as it changes: at most every `STATUS_PAUSE`, and always the last one.

use tidelock_actors::limits::STATUS_PAUSE;
use tokio::sync::watch;

use super::{Status, StatusSources};
use crate::gauges;

/// The status as it changes, from now on; on the runtime's thread.
pub(crate) fn publish(mut sources: StatusSources) -> watch::Receiver<Status> {
    let (publish, status) = watch::channel(sources.read());
    actix::spawn(async move {
        let parts = sources.part_names();
        gauges::set(&publish.borrow(), &parts);
        while sources.changed().await {
            let now = sources.read();
            gauges::set(&now, &parts);
            publish.send_if_modified(|last| {
                let is_new = *last != now;
                *last = now;
                is_new
            });
            tokio::time::sleep(STATUS_PAUSE).await;
        }
        publish.send_replace(sources.read());
    });
    status
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use tidelock_actors::backup::BackupStatus;
    use tidelock_actors::model::{CollectionCounts, Counts, Direction};
    use tidelock_actors::status::SyncStatus;
    use tokio::time::Instant;

    use super::*;
    use crate::adapters::nowhere::Nowhere;
    use crate::adapters::sqlite::Usage;

    fn pending(pending: u64) -> Counts {
        [("notes".into(), CollectionCounts { pending, ..CollectionCounts::default() })].into()
    }

    #[test]
    fn changes_are_told_at_most_every_100_ms_and_the_last_one_always() {
        let test = async {
            tokio::time::pause();
            let (counts, watched) = watch::channel(pending(0));
            let (sync, backups) =
                (watch::Sender::new(SyncStatus::default()), watch::Sender::new(BackupStatus::default()));
            let (backlog, logger, news) = (watch::Sender::default(), watch::Sender::default(), watch::Sender::new(()));
            let usage = watch::Sender::new(Usage::default());
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
            let mut status = publish(sources);
            let told = Rc::new(RefCell::new(Vec::new()));
            let heard = told.clone();
            actix::spawn(async move {
                while status.changed().await.is_ok() {
                    heard.borrow_mut().push((Instant::now(), status.borrow_and_update().pending));
                }
            });
            for saves in 1..=200 {
                counts.send_replace(pending(saves));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            tokio::time::sleep(STATUS_PAUSE).await;
            let told = told.borrow();
            assert_eq!(told.last().map(|(_, pending)| *pending), Some(200), "{told:?}");
            assert!(told.len() >= 6, "{told:?}");
            assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= STATUS_PAUSE), "{told:?}");
        };
        actix::System::new().block_on(test);
    }
}
