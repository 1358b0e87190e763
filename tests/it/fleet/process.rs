//! A device that is a process of its own, killed again and again while commands write to it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::device::{Worked, marks};
use super::model::{Row, Step, TABLES};
use super::world::{Fleet, HALVES};
use crate::kill::{run, tidelock};
use crate::support::Dice;

/// The device's name, under which its store is found again.
pub fn name(number: u64) -> String {
    format!("process {number}")
}

/// Does this many transactions through the command line; the process is killed meanwhile, and at the end.
pub async fn work(fleet: Arc<Fleet>, number: u64, transactions: u64) -> (Worked, u64) {
    let directory = fleet.world.folder(&format!("files of {number}"));
    std::fs::create_dir_all(&directory).unwrap();
    let config = directory.join("tidelock.toml");
    let store = fleet.world.folder(&name(number));
    std::fs::write(&config, fleet.config_text(&store, true)).unwrap();

    // The device knows something before anybody looks.
    while !tidelock(&config).arg("sync").output().await.unwrap().status.success() {}
    let stop = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn(kill_on(config.clone(), Dice::of_seed(fleet.seed * 1_000 + number), stop.clone()));
    let commands = Commands { config, file: directory.join("rows.jsonl"), store };
    let mut worked = Worked { author: fleet.author_of_cards(number), settled: BTreeSet::new(), reads: 0 };
    let mut unanswered = String::new();
    for _ in 0..transactions {
        let mut step = worked.author.next();
        // Of a command that failed nobody knows whether it was done: what comes next says it all again.
        while !commands.perform(&step).await {
            step = worked.author.rewrite(step.group, step.saved, step.removed);
        }
        worked.author.done(&step);
        match commands.halves().await {
            Ok(halves) => {
                let own = halves.iter().filter(|half| !fleet.is_shared(half["grp"].as_str().unwrap()));
                assert_eq!(own.count(), 0, "a process saw half a transaction: {halves:?}");
                worked.reads += 1;
            }
            Err(why) => unanswered = why,
        }
        fleet.beat();
    }
    stop.store(true, Ordering::Relaxed);
    let kills = killer.await.unwrap();
    assert!(worked.reads > 0, "the process never told what it saw: {unanswered}");
    worked.settled.extend(marks(&worked.author));
    (worked, kills)
}

/// Starts the process and kills it, in chance intervals; how often.
async fn kill_on(config: PathBuf, mut dice: Dice, stop: Arc<AtomicBool>) -> u64 {
    let mut kills = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut process = run(&config).await;
        tokio::time::sleep(Duration::from_millis(300 + dice.below(3_000))).await;
        process.child.kill().await.unwrap();
        kills += 1;
    }
    kills
}

struct Commands {
    config: PathBuf,
    file: PathBuf,
    store: PathBuf,
}

impl Commands {
    /// Whether the command says that it is done.
    async fn perform(&self, step: &Step) -> bool {
        let mut command = tidelock(&self.config);
        if let [row] = &step.removed[..] {
            command.args(["delete", TABLES[row.table], &row.key]);
        } else {
            let line = |row: &Row| format!("{{\"id\":\"{}\",{}\n", row.key, &step.document(row)[1..]);
            std::fs::write(&self.file, step.saved.iter().map(line).collect::<String>()).unwrap();
            command.args(["import", "cards"]).arg(&self.file);
        }
        command.output().await.unwrap().status.success()
    }

    /// Asks the process for groups that are not whole, if it is up and has heard of the server; or says why it does not answer.
    async fn halves(&self) -> Result<Vec<Value>, String> {
        let said = |file: &str| std::fs::read_to_string(self.store.join(file)).map_err(|error| error.to_string());
        let (address, token) = (said("api.address")?, said("api.token")?);
        let request = reqwest::Client::new().post(format!("http://{}/v1/query", address.trim()));
        let body = json!({ "sql": HALVES, "parameters": [] });
        let request = request.bearer_auth(token.trim()).json(&body).timeout(Duration::from_secs(5));
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let answer: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
        answer.as_array().cloned().ok_or_else(|| answer.to_string())
    }
}
