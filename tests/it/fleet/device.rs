//! A device in this process: whole transactions, rounds through a bad network, a reader that never stops, and now and
//! then another start on the same store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{FutureExt, StreamExt};
use tidelock::{Document, SyncRequest, Tidelock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::model::{Author, Step, TABLES};
use super::world::{Fleet, HALVES};
use crate::support::Device;

/// What a writer leaves behind.
pub struct Worked {
    pub author: Author,
    /// Marks that the server has taken for certain.
    pub settled: BTreeSet<u64>,
    /// How often it looked for halves.
    pub reads: u64,
}

/// Does this many transactions on the device of this number.
pub async fn work(fleet: Arc<Fleet>, number: u64, transactions: u64) -> Worked {
    let mut worked = Worked { author: Author::new(number, fleet.seed, None), settled: BTreeSet::new(), reads: 0 };
    let mut opened = Opened::open(&fleet, number).await;
    for _ in 0..transactions {
        let is_shared = worked.author.dice.below(8) == 0;
        let step = if is_shared { one_of_all(&fleet, &mut worked.author) } else { worked.author.next() };
        save(&opened.device, &step).await;
        if !is_shared {
            worked.author.done(&step);
        }
        fleet.beat();
        match worked.author.dice.below(40) {
            0..10 => drop(opened.device.tidelock.sync(SyncRequest::default()).await),
            10..12 => {
                until_sent(&opened.device).await;
                worked.settled.extend(marks(&worked.author));
            }
            12 => {
                worked.reads += opened.close().await;
                opened = Opened::open(&fleet, number).await;
            }
            _ => {}
        }
    }
    until_sent(&opened.device).await;
    worked.settled.extend(marks(&worked.author));
    worked.reads += opened.close().await;
    worked
}

/// The device's name, under which its store is found again.
pub fn name(number: u64) -> String {
    format!("device {number}")
}

/// A device with somebody who reads on it.
struct Opened {
    device: Device,
    reader: JoinHandle<u64>,
    until: oneshot::Sender<()>,
}

impl Opened {
    /// Half of the devices begin rounds by themselves. The device knows something before anybody looks.
    async fn open(fleet: &Arc<Fleet>, number: u64) -> Self {
        let device = fleet.open(&name(number), number.is_multiple_of(2));
        while device.tidelock.status().last_synced_at.is_none() {
            let _ = device.tidelock.sync(SyncRequest::default()).await;
        }
        let (until, closed) = oneshot::channel();
        let reader = tokio::spawn(read_on(fleet.clone(), device.tidelock.clone(), number, closed));
        Self { device, reader, until }
    }

    /// How often the reader looked.
    async fn close(self) -> u64 {
        self.device.tidelock.shutdown().await;
        drop(self.until);
        self.reader.await.unwrap()
    }
}

/// Rounds until nothing waits to be sent.
pub async fn until_sent(device: &Device) {
    let sent = async {
        while device.tidelock.status().pending > 0 {
            let _ = device.tidelock.sync(SyncRequest::default()).await;
        }
    };
    let within = std::time::Duration::from_secs(120);
    let waited = tokio::time::timeout(within, sent).await;
    assert!(waited.is_ok(), "not sent in time: {:?}", device.tidelock.status());
}

/// The marks of an author's rows as they are now.
pub fn marks(author: &Author) -> impl Iterator<Item = u64> + '_ {
    author.groups.values().flatten().map(|row| row.mark)
}

/// A group that everybody writes.
fn one_of_all(fleet: &Fleet, author: &mut Author) -> Step {
    let (group, rows) = &fleet.shared[author.dice.below(fleet.shared.len() as u64) as usize];
    author.rewrite(group.clone(), rows.clone(), Vec::new())
}

async fn save(device: &Device, step: &Step) {
    let saved = device.tidelock.transaction(|transaction| {
        for row in &step.saved {
            let document = Document::parse(&step.document(row)).unwrap();
            transaction.save_document(TABLES[row.table], &row.key, document);
        }
        step.removed.iter().rev().for_each(|row| transaction.delete(TABLES[row.table], &row.key));
        Ok(())
    });
    saved.await.unwrap();
}

/// Looks after every change whether all groups are whole, until the device is closed; how often it looked.
async fn read_on(fleet: Arc<Fleet>, tidelock: Tidelock, number: u64, closed: oneshot::Receiver<()>) -> u64 {
    let changes = futures::stream::select_all(TABLES.map(|table| tidelock.watch(table)));
    let mut changes = changes.take_until(closed);
    let mut reads = 0;
    while changes.next().await.is_some() {
        while let Some(Some(_)) = changes.next().now_or_never() {}
        let Ok(halves) = tidelock.query(HALVES, Vec::new()).await else { continue };
        reads += 1;
        for half in halves {
            if fleet.is_shared(&half.string("grp").unwrap()) {
                fleet.shared_halves.fetch_add(1, Ordering::Relaxed);
            } else {
                panic!("device {number} saw half a transaction: {half}");
            }
        }
    }
    reads
}
