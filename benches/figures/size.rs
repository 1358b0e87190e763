//! A large store: how fast it opens and tells its status, how much memory a process takes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidelock::{Config, Tidelock};
use tidelock_testbed::{Project, ProjectOptions};

use crate::figure::{Figure, Options, document, uuid};

pub async fn figures(options: &Options) -> Vec<Figure> {
    let (records, pending) = if options.quick { (100_000, 10_000) } else { (1_000_000, 100_000) };
    let directory = tempfile::tempdir().unwrap();
    let config = large_store(directory.path());
    fill(&config, records - pending, pending).await;

    let (mut open_ms, mut status_ms) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let began = Instant::now();
        let tidelock = Tidelock::open(Config::from_toml(&config).unwrap()).unwrap();
        open_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        let began = Instant::now();
        let status = tidelock.status();
        status_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        assert_eq!(status.pending, pending as u64);
        tidelock.shutdown().await;
    }
    let idle = Process::start(directory.path(), &config);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle_mb = idle.memory_mb("VmRSS");
    drop(idle);
    vec![
        Figure::below("open_1m_records", "ms", 500.0, open_ms),
        Figure::below("status_1m_records", "ms", 5.0, status_ms),
        Figure::below("idle_process_1m_records", "MB", 60.0, [idle_mb]),
        Figure::below("process_during_full_pull", "MB", 120.0, [full_pull(options).await]),
    ]
}

fn large_store(directory: &Path) -> String {
    format!(
        "[sync]\nauto = false\n[api]\nbind = \"127.0.0.1:0\"\n[storage]\ndurability = \"normal\"\ndata_dir = \"{}\"\n\
         [collections.archive]\ntable = \"archive\"\ndirection = \"local\"\n[collections.bench]\ntable = \"bench\"",
        directory.display()
    )
}

async fn fill(config: &str, archived: usize, pending: usize) {
    let tidelock = Tidelock::open(Config::from_toml(config).unwrap()).unwrap();
    for (collection, count) in [("archive", archived), ("bench", pending)] {
        for from in (0..count).step_by(5_000) {
            let documents = (from..count.min(from + 5_000)).map(|number| (uuid(number), document(number)));
            tidelock.bulk_save(collection, documents.collect()).await.unwrap();
        }
    }
    tidelock.shutdown().await;
}

/// The most memory that a process took while it fetched everything.
async fn full_pull(options: &Options) -> f64 {
    let rows = if options.quick { 50_000 } else { 300_000 };
    let project: Project = tidelock_testbed::project_with(ProjectOptions::default()).await.unwrap();
    let insert = format!(
        "insert into public.bench (id, grp, title, body, done, n, meta) select gen_random_uuid(), 1, 'title', repeat('x', 330), false, n, '{{\"a\":[1,2,3]}}' from generate_series(1, {rows}) n"
    );
    project.sql(&insert).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\n[sync]\nauto = true\n[api]\nbind = \"127.0.0.1:0\"\n[storage]\ndata_dir = \"{}\"\n[collections.bench]\ntable = \"bench\"",
        project.url,
        project.secret_key,
        directory.path().display()
    );
    let process = Process::start(directory.path(), &config);
    let complete = format!("\"records\":{rows}");
    loop {
        let status = process.command(&["status", "--json"]).replace(' ', "");
        if status.contains(&complete) && status.contains("\"phase\":\"idle\"") {
            return process.memory_mb("VmHWM");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A `tidelock run` process; killed when dropped.
struct Process {
    child: Child,
    config: std::path::PathBuf,
}

impl Process {
    fn start(directory: &Path, config: &str) -> Self {
        let file = directory.join("bench.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidelock"))
            .args(["run", "--config"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_ready = said.any(|line| line.is_ok_and(|line| line.contains("listening")));
        assert!(is_ready, "the process did not come up");
        std::thread::spawn(move || said.for_each(drop));
        Self { child, config: file }
    }

    fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_tidelock"))
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn memory_mb(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
