//! A world in one line: a project on the real backend, a faulty network in front of it, and devices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use tempfile::TempDir;
use tidelock::adapters::sqlite::ListQuery;
use tidelock::{Config, Document, Status, SyncReport, SyncRequest, Tidelock};
use tidelock_testbed::{FaultPlan, FaultProxy, Project, ProjectOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A project, and the network that leads to it.
pub struct World {
    pub project: Project,
    pub network: FaultProxy,
    has_kit: bool,
    directories: TempDir,
}

/// One device: its handle and where its store lies.
pub struct Device {
    pub tidelock: Tidelock,
    pub directory: PathBuf,
}

impl World {
    /// A fresh database and a network without faults.
    pub async fn new() -> Self {
        Self::with(ProjectOptions::default()).await
    }

    /// One world with nothing installed on the server, and one with the server kit.
    pub async fn both() -> [Self; 2] {
        [Self::new().await, Self::with_kit().await]
    }

    /// The same with the server kit installed and the tables of the trial collections attached.
    pub async fn with_kit() -> Self {
        let tables = ["projects", "tasks", "notes"].map(|table| (table, None)).to_vec();
        let options = ProjectOptions { kit: tables.clone(), ..ProjectOptions::default() };
        let project = tidelock_testbed::project_with(options).await.unwrap();
        if project.is_external() {
            project.install_kit(&tables).await.unwrap();
        }
        Self { has_kit: true, ..Self::around(project).await }
    }

    /// Where changes of a table are sent to.
    pub fn push_path(&self, table: &str) -> String {
        if self.has_kit { "/rest/v1/rpc/tidelock_push".to_owned() } else { format!("/rest/v1/{table}") }
    }

    pub async fn with(options: ProjectOptions) -> Self {
        let project = tidelock_testbed::project_with(options).await.unwrap();
        Self::around(project).await
    }

    pub async fn around(project: Project) -> Self {
        let network = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
        Self { project, network, has_kit: false, directories: TempDir::new().unwrap() }
    }

    /// A device with the trial collections; rounds run only when asked for.
    pub fn device(&self, name: &str) -> Device {
        self.device_with(name, "")
    }

    /// As `device`, with TOML that comes last and so may add sections and collections.
    pub fn device_with(&self, name: &str, more: &str) -> Device {
        let directory = self.directories.path().join(name);
        let text = format!("{}\n{more}", self.config_text(&directory, "auto = false"));
        let config = Config::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Device { tidelock: Tidelock::open(config).unwrap(), directory }
    }

    /// The configuration of a device as TOML; `sync` is added to its section.
    pub fn config_text(&self, directory: &Path, sync: &str) -> String {
        format!(
            r#"
            [remote]
            url = "{url}"
            anon_key = "{key}"
            timeout = "10s"
            [sync]
            {sync}
            retry_delay = "50ms"
            retry_delay_max = "1s"
            [storage]
            data_dir = "{directory}"
            [api]
            bind = "127.0.0.1:0"
            [collections.projects]
            table = "projects"
            [collections.tasks]
            table = "tasks"
            after = ["projects"]
            [collections.notes]
            table = "notes"
            "#,
            url = self.network.url,
            key = self.project.secret_key,
            directory = directory.display(),
        )
    }

    /// A folder of this world's own.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.directories.path().join(name)
    }

    /// The rows of a table, by key, as documents, without the kit's column.
    pub async fn rows(&self, table: &str) -> BTreeMap<String, Document> {
        let rows = self.project.rows_as_json(&format!("select * from public.{table}")).await.unwrap();
        let documents = rows.iter().map(|row| Document::parse(row).unwrap().without("tidelock_version"));
        documents.map(|document| (document.string("id").unwrap(), document)).collect()
    }

    /// One value that SQL answers.
    pub async fn value(&self, sql: &str) -> String {
        self.project.value(sql).await.unwrap().unwrap_or_default()
    }
}

impl Device {
    pub async fn save(&self, collection: &str, key: &str, document: &str) {
        self.tidelock.save(collection, key, Document::parse(document).unwrap()).await.unwrap();
    }

    pub async fn get(&self, collection: &str, key: &str) -> Option<Document> {
        self.tidelock.get(collection, key).await.unwrap()
    }

    pub async fn field(&self, collection: &str, key: &str, field: &str) -> String {
        let document = self.get(collection, key).await.unwrap_or_else(|| panic!("no {collection}/{key}"));
        document.fields().get(field).map_or_else(|| "absent".to_owned(), str::to_owned)
    }

    /// A round that must end well.
    pub async fn sync(&self) -> SyncReport {
        self.tidelock.sync(SyncRequest::default()).await.unwrap()
    }

    /// Rounds until the outbox is empty and nothing more comes; a faulty network may fail many.
    pub async fn sync_until_settled(&self) -> Status {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(240);
        loop {
            let report = self.tidelock.sync(SyncRequest::default()).await;
            let status = self.tidelock.status();
            if status.pending == 0 && report.is_ok_and(|report| report.pulled == 0) {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "not settled in time: {status:?}");
        }
    }

    /// The first published status that is so, and still is: what is published may be a moment behind.
    pub async fn told(&self, is_so: impl Fn(&Status) -> bool) -> Status {
        let is_so = |status: &Status| std::future::ready(is_so(status) && is_so(&self.tidelock.status()));
        let mut found = self.tidelock.status_stream().filter(is_so);
        match tokio::time::timeout(Duration::from_secs(120), found.next()).await {
            Ok(Some(status)) => status,
            Ok(None) | Err(_) => panic!("it did not come to that: {:?}", self.tidelock.status()),
        }
    }

    /// All records of a collection, by key.
    pub async fn records(&self, collection: &str) -> BTreeMap<String, Document> {
        let mut records = BTreeMap::new();
        let mut query = ListQuery { collection: collection.to_owned(), limit: 1_000, ..ListQuery::default() };
        loop {
            let page = self.tidelock.list(query.clone()).await.unwrap();
            records.extend(page.rows);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return records,
            }
        }
    }

    /// The store must be sound whatever happened.
    pub async fn assert_healthy(&self) {
        let verified = self.tidelock.verify_integrity().await.unwrap();
        assert!(verified.healthy, "{:#?}", verified.issues);
    }
}

/// Both sides have the same records with the same meaning; the first few differences are named.
pub fn assert_equal(left: &BTreeMap<String, Document>, right: &BTreeMap<String, Document>, what: &str) {
    let missing = right.keys().filter(|key| !left.contains_key(*key)).map(|key| format!("{key} is only on the right"));
    let differing = left.iter().filter_map(|(key, document)| match right.get(key) {
        None => Some(format!("{key} is only on the left")),
        Some(other) if !document.means_the_same(other) => Some(format!("{key}: {document} against {other}")),
        Some(_) => None,
    });
    let differences: Vec<String> = differing.chain(missing).take(5).collect();
    assert!(differences.is_empty(), "{what}: {} against {} records: {differences:#?}", left.len(), right.len());
}

/// Something that gives every request this answer and hangs up.
pub async fn canned(answer: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

/// A key that is a uuid, the same for the same number.
pub fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// A seeded source of numbers; the seed is printed, and `TIDELOCK_SEED` replays it.
pub struct Dice(tidelock_actors::machine::Chance);

impl Dice {
    pub fn new(what: &str) -> (Self, u64) {
        let given = std::env::var("TIDELOCK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| jiff::Timestamp::now().as_nanosecond() as u64 % 1_000_000);
        println!("{what}: seed {seed} (TIDELOCK_SEED={seed} replays it)");
        (Self(tidelock_actors::machine::Chance::from_seed(seed)), seed)
    }

    /// One of several sources that come of the same seed.
    pub fn of_seed(seed: u64) -> Self {
        Self(tidelock_actors::machine::Chance::from_seed(seed))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.0.fraction() * bound as f64) as u64
    }
}
