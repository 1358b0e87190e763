//! H44 through the whole runtime: a real SQLite file that may not grow.

use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tidelock_actors::document::Document;
use tidelock_actors::model::{Compacted, Counts, Past, Stamp};
use tidelock_actors::ports::{Store, StoreError};
use tidelock_actors::writes::{Write, Written};

use super::equipment::{archive_options, store_options};
use super::{Config, Extras, Tidelock};
use crate::adapters::archive::FileArchive;
use crate::adapters::sqlite::{self, SqliteStore};

const ROOM: i64 = 1_000_000;

/// The store on a disk with room for that many pages.
struct OnADisk {
    store: SqliteStore,
    pages: Arc<AtomicI64>,
}

impl Store for OnADisk {
    fn perform(&mut self, writes: &[Write], now: Stamp) -> Result<Vec<Written>, StoreError> {
        // A limit below the file's size means its size: nothing more fits.
        self.store.limit_pages(self.pages.load(Ordering::Relaxed));
        self.store.perform(writes, now)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.store.commit()
    }

    fn counts(&self) -> &Counts {
        self.store.counts()
    }

    fn newest_stamp(&self) -> Stamp {
        self.store.newest_stamp()
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        self.store.maintain()
    }

    fn compact(&mut self, past: Past) -> Result<Compacted, StoreError> {
        self.store.compact(past)
    }

    fn reload(&mut self) -> Result<(), StoreError> {
        self.store.reload()
    }
}

/// A record that fills pages.
pub(super) fn long(key: &str) -> String {
    format!(r#"{{"id":"{key}","updated_at":"2026-11-22T10:00:00+00:00","body":"{}"}}"#, "x".repeat(100_000))
}

/// A server with one long row: whoever has read it gets nothing more.
pub(super) fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4_096];
            let read = stream.read(&mut head).unwrap_or_default();
            let is_first_page = String::from_utf8_lossy(&head[..read]).contains("updated_at=not.is");
            let body = if is_first_page { format!("[{}]", long("there")) } else { "[]".to_owned() };
            let head = "HTTP/1.1 200 OK\r\ncontent-range: 0-0/1\r\nconnection: close\r\ncontent-length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    url
}

#[tokio::test]
async fn h44_a_full_disk_refuses_saves_and_says_so_while_reads_go_on_and_mends_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[remote]\nmode = \"plain\"\nurl = \"{}\"\nanon_key = \"key\"\n[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n\
         [collections.notes]\ndirection = \"pull\"\n[collections.drafts]\ndirection = \"local\"",
        server(),
        folder.path().display()
    );
    let config = Config::from_toml(&text).unwrap();
    let (store, reads) = sqlite::open(store_options(&config, &config.rules())).unwrap();
    let quota = store.quota();
    let archive = FileArchive::new(archive_options(&config), None, quota.clone());
    let pages = Arc::new(AtomicI64::new(ROOM));
    let disk = Box::new(OnADisk { store, pages: pages.clone() });
    let tidelock = Tidelock::start(config, Extras::default(), disk, reads, archive, quota).unwrap();
    let save = async |key: &str| tidelock.save("drafts", key, Document::parse(&long(key)).unwrap()).await;
    save("before").await.unwrap();

    pages.store(1, Ordering::Relaxed);
    let refused = save("meanwhile").await.unwrap_err();
    assert_eq!((refused.code(), refused.exit_code()), ("disk_full", 1), "{refused}");
    assert!(tidelock.sync(Default::default()).await.is_err());
    let said = tidelock.status().last_error.unwrap_or_default();
    assert!(said.contains("the disk is full; free some space"), "{said}");
    assert!(tidelock.get("drafts", "before").await.unwrap().is_some());
    assert!(tidelock.get("drafts", "meanwhile").await.unwrap().is_none());
    assert!(tidelock.verify_integrity().await.unwrap().healthy);

    pages.store(ROOM, Ordering::Relaxed);
    save("after").await.unwrap();
    tidelock.sync(Default::default()).await.unwrap();
    assert_eq!(tidelock.status().last_error, None);
    assert!(tidelock.get("notes", "there").await.unwrap().is_some());
    assert!(tidelock.verify_integrity().await.unwrap().healthy);
}
