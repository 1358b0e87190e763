//! The log of a process: read, followed, made louder.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command_line::Desk;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command answers once it answers so.
fn until(desk: &Desk, words: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = desk.json(words);
        if is_so(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{words:?}: {answer}");
    }
}

fn messages(entries: &Value) -> Vec<String> {
    let entries = entries.as_array().unwrap();
    entries.iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_log_is_read_with_and_without_a_process_and_made_louder() {
    let desk = Desk::with("[api]\nbind = \"127.0.0.1:0\"\n[storage]\ndata_dir = \"data\"\n[collections.runs]");
    assert_eq!(desk.json(&["logs"]), json!([]));
    let refused = desk.fails(&["logs", "--set-level", "debug"], 2);
    assert!(refused.contains("no process runs"), "{refused}");
    {
        let _process = desk.process();
        let said = until(&desk, &["logs", "--level", "info"], |entries| !entries.as_array().unwrap().is_empty());
        assert!(messages(&said)[0].starts_with("tidelock is up"), "{said}");
        let entry = &said[0];
        for name in ["number", "id", "at", "last_at", "level", "target", "message", "count", "pending"] {
            assert!(entry.get(name).is_some(), "{name}: {entry}");
        }
        assert_eq!(desk.json(&["logs", "--level", "warn"]), json!([]));
        assert_eq!(desk.json(&["logs", "--since", "0s"]), json!([]));
        assert!(desk.ok(&["logs"]).contains(" INFO  tidelock::command::run: tidelock is up"), "{}", desk.ok(&["logs"]));
        assert_eq!(desk.json(&["logs", "--set-level", "warn"]), json!({"level": "warn"}));
    }
    let kept = desk.json(&["logs"]);
    assert!(messages(&kept)[0].starts_with("tidelock is up"), "{kept}");
    let refused = desk.run(&["logs", "--follow"]);
    assert_eq!(refused.exit, 2, "{}", refused.complained);
}

#[test]
fn the_log_is_followed_as_it_grows() {
    let desk = Desk::with("[api]\nbind = \"127.0.0.1:0\"\n[storage]\ndata_dir = \"data\"\n[collections.runs]");
    let _process = desk.process();
    let mut following = desk.prepared(&["logs", "--follow", "--json"]);
    let mut following = Killed(following.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert!(next()["message"].as_str().unwrap().starts_with("tidelock is up"));
    // The file changes, which the process says.
    let text =
        "[api]\nbind = \"127.0.0.1:0\"\n[storage]\ndata_dir = \"data\"\n[collections.runs]\nconflict = \"manual\"";
    std::fs::write(desk.path("tidelock.toml"), text).unwrap();
    assert_eq!(next()["message"], "the configuration was read anew");
}
