//! An audit of a large table: how long it takes, and how many bytes travel, with nothing to find and with one row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidelock::{AuditReport, AuditRequest, Config, SyncRequest, Tidelock};
use tidelock_testbed::{Project, ProjectOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::figure::{Figure, Options};
use crate::kit::bare_pages;

/// How often each audit is made.
const TURNS: usize = 3;

pub async fn figures(options: &Options) -> Vec<Figure> {
    let rows = if options.quick { 100_000 } else { 1_000_000 };
    let kit = ProjectOptions { kit: vec![("bench", None)], ..ProjectOptions::default() };
    let project = tidelock_testbed::project_with(kit).await.unwrap();
    // The table's own trigger makes nothing here; every row has its version from the column's default.
    let fill = format!(
        "set session_replication_role = replica; insert into public.bench (id, grp, title, body, done, n, meta) select gen_random_uuid(), n % 10, 'row ' || n,
           repeat('x', 330), false, n, '{{\"seed\": 7, \"tags\": [\"a\", \"b\"]}}' from generate_series(1, {rows}) n"
    );
    project.sql(&fill).await.unwrap();
    project.sql("vacuum analyze public.bench").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let open = |url: &str| {
        let text = format!(
            "[remote]\nurl = \"{url}\"\nanon_key = \"{}\"\ntimeout = \"60s\"\n[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n\
             [collections.bench]\ntable = \"bench\"",
            project.secret_key,
            directory.path().display()
        );
        Tidelock::open(Config::from_toml(&text).unwrap()).unwrap()
    };
    let tidelock = open(&project.url);
    let began = Instant::now();
    tidelock.sync(SyncRequest::default()).await.unwrap();
    let pull = rows as f64 / began.elapsed().as_secs_f64();
    tidelock.shutdown().await;
    drop(tidelock);
    let most_mb = memory_mb("VmHWM");
    let floor = bare_pages(&project, rows).await;

    let counted = Counted::before(&project).await;
    let tidelock = open(&counted.url);
    tidelock.sync(SyncRequest::default()).await.unwrap();
    let (mut requests, mut pulled_bytes) = (Vec::new(), Vec::new());
    for round in 0..TURNS {
        let change = format!(
            "update public.bench set n = -1 where id = (select id from public.bench order by id offset {round} limit 1)"
        );
        project.sql(&change).await.unwrap();
        let before = counted.bytes.load(Ordering::Relaxed);
        let report = tidelock.sync(SyncRequest::default()).await.unwrap();
        assert_eq!(report.pulled, 1, "{report:?}");
        requests.push(report.requests as f64);
        pulled_bytes.push((counted.bytes.load(Ordering::Relaxed) - before) as f64);
    }
    let (mut seconds, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (report, time, travelled) = audited(&tidelock, &counted).await;
        assert!(report.equal, "{report:?}");
        seconds.push(time);
        bytes.push(travelled);
    }
    let (mut differing_seconds, mut differing_bytes) = (Vec::new(), Vec::new());
    for round in 0..TURNS {
        let drift = format!(
            "set session_replication_role = replica;
             update public.bench set title = 'drifted' where id = (select id from public.bench order by id offset {round} limit 1)"
        );
        project.sql(&drift).await.unwrap();
        let (report, time, travelled) = audited(&tidelock, &counted).await;
        assert_eq!((report.different, report.repaired), (1, 1), "{report:?}");
        differing_seconds.push(time);
        differing_bytes.push(travelled);
    }
    tidelock.shutdown().await;
    vec![
        Figure::against_floor("kit_pull_1000000_rows", "rows/s", 0.9, &[(pull, floor)]),
        Figure::below("memory_during_that_pull", "MB", 120.0, [most_mb]),
        Figure::below("one_changed_row_of_1m_requests", "", 2.0, requests),
        Figure::below("one_changed_row_of_1m_bytes", "B", 3_000.0, pulled_bytes),
        Figure::below("audit_1m_equal_rows", "s", 5.0, seconds),
        Figure::below("audit_1m_equal_rows_bytes", "B", 100_000.0, bytes),
        Figure::below("audit_1m_rows_one_differing", "s", 10.0, differing_seconds),
        Figure::below("audit_1m_rows_one_differing_bytes", "B", 200_000.0, differing_bytes),
    ]
}

/// Of this whole process.
fn memory_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}

async fn audited(tidelock: &Tidelock, counted: &Counted) -> (AuditReport, f64, f64) {
    let before = counted.bytes.load(Ordering::Relaxed);
    let began = Instant::now();
    let report = tidelock.audit(AuditRequest { repair: true, collections: vec![] }).await.unwrap();
    let time = began.elapsed().as_secs_f64();
    (report, time, (counted.bytes.load(Ordering::Relaxed) - before) as f64)
}

/// Passes every byte on, both ways, and counts it.
struct Counted {
    url: String,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    async fn before(project: &Project) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = project.url.trim_start_matches("http://").to_owned();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = bytes.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, counter.clone()));
                tokio::spawn(pass(from_server, to_client, counter.clone()));
            }
        });
        Self { url, bytes }
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, counter: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        counter.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
