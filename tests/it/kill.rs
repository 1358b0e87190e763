//! The process killed again and again under load: what it acknowledged is there, and the queue drains.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Dice, World};

const KILLS: usize = 20;

pub struct Process {
    pub child: Child,
}

pub fn tidelock(config: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
    command.arg("--config").arg(config).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Starts the process and waits until it listens.
pub async fn run(config: &std::path::Path) -> Process {
    let mut child = tidelock(config).arg("run").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut all = String::new();
    loop {
        let line = said.next_line().await.unwrap().unwrap_or_else(|| panic!("the process ended: {all}"));
        if line.contains("listening") {
            break;
        }
        all.push_str(&line);
    }
    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
    Process { child }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h47_twenty_kills_under_load_lose_no_acknowledged_put() {
    let (mut dice, _) = Dice::new("kill");
    let world = World::new().await;
    let directory = world.folder("here");
    std::fs::create_dir_all(&directory).unwrap();
    let config = directory.join("tidelock.toml");
    std::fs::write(&config, world.config_text(&directory.join("data"), "auto = true")).unwrap();

    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let putters: Vec<_> = (0..3)
        .map(|putter| {
            let (config, acknowledged, stop) = (config.clone(), acknowledged.clone(), stop.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("{putter}-{number}");
                    let put = tidelock(&config).args(["put", "notes", &key, r#"{"body":"x"}"#, "--json"]).output();
                    if put.await.unwrap().status.success() {
                        acknowledged.lock().unwrap().push(key);
                    }
                    number += 1;
                }
            })
        })
        .collect();

    for _ in 0..KILLS {
        let mut process = run(&config).await;
        tokio::time::sleep(Duration::from_millis(50 + dice.below(300))).await;
        process.child.kill().await.unwrap();
    }
    let last = run(&config).await;
    stop.store(true, Ordering::Relaxed);
    for putter in putters {
        putter.await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 20, "the load was no load: {}", acknowledged.len());

    let drained = async {
        loop {
            let output = tidelock(&config).args(["sync", "--json"]).output().await.unwrap();
            let status = tidelock(&config).args(["status", "--json"]).output().await.unwrap();
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
            if output.status.success() && status["pending"] == 0 && status["parked"] == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), drained).await.expect("the queue drains");
    drop(last);
    let on_server = world.rows("notes").await;
    let lost: Vec<_> = acknowledged.iter().filter(|key| !on_server.contains_key(*key)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h36_seventy_thousand_rows_are_fetched_in_bounded_memory() {
    let world = World::new().await;
    let rows = "insert into public.projects (id, name) select gen_random_uuid(), repeat('x', 500) from generate_series(1, 70000)";
    world.project.sql(rows).await.unwrap();
    let directory = world.folder("here");
    std::fs::create_dir_all(&directory).unwrap();
    let config = directory.join("tidelock.toml");
    std::fs::write(&config, world.config_text(&directory.join("data"), "auto = true")).unwrap();
    let process = run(&config).await;
    let fetched = async {
        loop {
            let output = tidelock(&config).args(["status", "--json"]).output().await.unwrap();
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            if status["collections"]["projects"]["records"] == 70_000 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), fetched).await.expect("all rows arrive");
    let path = format!("/proc/{}/status", process.child.id().unwrap());
    let Ok(status) = std::fs::read_to_string(path) else { return println!("no /proc here: memory was not looked at") };
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most_kib: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    println!("the most memory: {} MiB", most_kib / 1024);
    assert!(most_kib < 120 * 1024, "{most_kib} KiB");
}
