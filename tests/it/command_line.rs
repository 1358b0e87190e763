//! The command line without a server: every command, with and without a process on the data folder, and the desk that such
//! tests work at.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const CONFIG: &str = r#"
[api]
bind = "127.0.0.1:0"
[storage]
data_dir = "data"
[collections.runs]
[collections.albums]
[collections.photos]
after = ["albums"]
[collections.prices]
direction = "pull"
"#;

/// A folder with a configuration, and nothing of the machine the test runs on.
pub struct Desk {
    folder: TempDir,
}

/// What a command did.
pub struct Done {
    pub exit: i32,
    pub said: String,
    pub complained: String,
}

/// A running process, killed with the test.
pub struct Process(Child);

impl Desk {
    pub fn new() -> Self {
        Self::with(CONFIG)
    }

    pub fn with(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("tidelock.toml"), config).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn prepared(&self, words: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidelock"));
        command.args(words).current_dir(self.folder.path()).env_clear().env("HOME", self.folder.path());
        command
    }

    fn with_input(&self, words: &[&str], input: &str) -> Done {
        let output = Command::from_std(self.prepared(words)).write_stdin(input).output().unwrap();
        Done::from(output)
    }

    pub fn run(&self, words: &[&str]) -> Done {
        self.with_input(words, "")
    }

    /// What a command prints that must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert_eq!(done.exit, 0, "{words:?}: {}", done.complained);
        assert_eq!(done.complained, "", "{words:?}");
        done.said
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let said = self.ok(&[words, &["--json"]].concat());
        assert_eq!(said.lines().count(), 1, "one document: {said}");
        serde_json::from_str(&said).unwrap()
    }

    /// The one line of a command that must fail.
    pub fn fails(&self, words: &[&str], exit: i32) -> String {
        self.run(words).failed(exit)
    }

    /// Starts `tidelock run` and waits until it answers.
    pub fn process(&self) -> Process {
        self.process_with(&[])
    }

    pub fn process_with(&self, words: &[&str]) -> Process {
        let words = [&["run", "--json"], words].concat();
        Process::started(self.prepared(&words))
    }

    /// Does the same at a desk of its own with and without a process.
    pub fn both_ways(check: impl Fn(&Desk)) {
        check(&Desk::new());
        let desk = Desk::new();
        let _process = desk.process();
        check(&desk);
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { exit: output.status.code().unwrap(), said: text(output.stdout), complained: text(output.stderr) }
    }
}

impl Done {
    pub fn failed(self, exit: i32) -> String {
        assert_eq!(self.exit, exit, "{}", self.complained);
        assert_eq!(self.complained.lines().count(), 1, "one line: {}", self.complained);
        self.complained.trim_end().to_owned()
    }
}

impl Process {
    /// Starts a command that is a `tidelock run --json`, and waits until it answers.
    pub fn started(mut command: std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut up = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut up).unwrap();
        let mut process = Self(child);
        assert!(up.starts_with('{'), "{}", process.last_words());
        process
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end: the exit code.
    pub fn end(&mut self) -> i32 {
        self.0.wait().unwrap().code().unwrap()
    }

    /// Ends it if it still runs: all that it said on standard error.
    pub fn last_words(&mut self) -> String {
        let _ = self.0.kill();
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn records_are_put_read_listed_and_deleted() {
    Desk::both_ways(|desk| {
        assert_eq!(desk.json(&["put", "runs", "r/1", r#"{"n":2,"status":"done"}"#]), json!({ "id": "r/1" }));
        assert_eq!(desk.ok(&["put", "runs", r#"{"id":7,"n":10,"status":"done"}"#]), "7\n");
        let made = desk.json(&["put", "runs", r#"{"status":"queued"}"#])["id"].as_str().unwrap().to_owned();
        assert_eq!(made.len(), 36);
        desk.ok(&["put", "runs", "r/1", r#"{"note":"kept beside n"}"#]);

        assert_eq!(
            desk.json(&["get", "runs", "r/1"]),
            json!({ "id": "r/1", "n": 2, "status": "done", "note": "kept beside n" })
        );
        let done = desk.json(&["list", "runs", "--where", "status=done", "--order", "n:desc"]);
        assert_eq!(done.as_array().unwrap().iter().map(|run| run["n"].clone()).collect::<Vec<_>>(), [10, 2]);
        assert_eq!(desk.json(&["list", "runs", "--where", "n>2"]).as_array().unwrap().len(), 1);
        assert_eq!(desk.json(&["list", "runs", "--where", "status~que%"])[0]["id"], json!(made));
        assert_eq!(desk.ok(&["list", "runs", "--limit", "2"]).lines().count(), 2);
        assert_eq!(desk.json(&["list", "runs", "--after", "7"]).as_array().unwrap().len(), 1);
        assert_eq!(desk.json(&["list", "albums"]), json!([]));

        assert_eq!(desk.json(&["delete", "runs", "r/1"]), json!({ "deleted": true }));
        assert_eq!(desk.json(&["delete", "runs", "r/1"]), json!({ "deleted": false }));
        assert!(desk.fails(&["get", "runs", "r/1"], 1).contains(r#"there is no record "r/1" in runs"#));
        let history = desk.json(&["history", "runs", "r/1"]);
        assert_eq!(history[0]["document"]["note"], "kept beside n", "what was deleted can be read: {history}");
    });
}

#[test]
fn h41_documents_come_back_to_the_last_digit() {
    let exact = r#"{"id":"x","big":9223372036854775807,"money":12345678901234567890123456.0123456789,"at":"2026-11-22T10:00:00.123456+00:00","emoji":"🦀 é","nested":{"a":[1.50,null]}}"#;
    Desk::both_ways(|desk| {
        assert_eq!(desk.with_input(&["put", "runs", "-"], exact).exit, 0);
        assert_eq!(desk.ok(&["get", "runs", "x"]).trim_end(), exact);
        assert_eq!(desk.ok(&["list", "runs", "--json"]).trim_end(), format!("[{exact}]"));
    });
}

#[test]
fn a_file_goes_in_and_comes_out_again() {
    let lines: String = (0..1200).map(|n| format!("{{\"id\":\"r{n:04}\",\"n\":{n}}}\n")).collect();
    Desk::both_ways(|desk| {
        fs::write(desk.path("runs.jsonl"), format!("\n{lines}\n")).unwrap();
        assert_eq!(desk.json(&["import", "runs", "runs.jsonl"]), json!({ "imported": 1200, "changed": 1200 }));
        assert_eq!(desk.ok(&["export", "runs"]), lines);
        assert_eq!(desk.json(&["import", "runs", "runs.jsonl"]), json!({ "imported": 1200, "changed": 0 }));
        let runs = &desk.json(&["status"])["collections"]["runs"];
        let told = ["records", "pending", "parked", "conflicts", "paused"].map(|name| runs[name].clone());
        assert_eq!(told, [json!(1200), json!(1200), json!(0), json!(0), Value::Null], "{runs}");
        assert_eq!(desk.json(&["queue", "list"]).as_array().unwrap().len(), 1000);
    });
}

#[test]
fn a_bad_line_is_named_and_what_stands_before_it_is_in() {
    Desk::both_ways(|desk| {
        let good: String = (0..700).map(|n| format!("{{\"id\":\"r{n}\"}}\n")).collect();
        fs::write(desk.path("runs.jsonl"), format!("{good}{{\"id\":\n{{\"id\":\"late\"}}\n")).unwrap();
        let said = desk.fails(&["import", "runs", "runs.jsonl"], 3);
        assert!(said.starts_with("tidelock: runs.jsonl: line 701: not a JSON object"), "{said}");
        assert!(said.contains("the 700 documents before it were imported"), "{said}");
        assert_eq!(desk.json(&["list", "runs"]).as_array().unwrap().len(), 700);

        let first = desk.with_input(&["import", "runs", "-"], "[1]\n").failed(2);
        assert!(first.starts_with("tidelock: standard input: line 1: "), "{first}");
        assert!(first.ends_with("nothing was imported"), "{first}");
    });
}

#[test]
fn the_queue_shows_what_is_still_to_be_sent() {
    Desk::both_ways(|desk| {
        desk.ok(&["put", "runs", "a", r#"{"n":1}"#]);
        desk.ok(&["put", "runs", "a", r#"{"n":2}"#]);
        let queue = desk.json(&["queue", "list", "--state", "pending", "--collection", "runs"]);
        assert_eq!(queue[0]["action"], "create");
        assert_eq!(
            (&queue[1]["collection"], &queue[1]["key"], &queue[1]["cause"]),
            (&json!("runs"), &json!("a"), &json!(null))
        );
        let id = queue[1]["id"].to_string();
        assert_eq!(desk.json(&["queue", "show", &id])["payload"], json!({ "n": 2 }));
        assert!(desk.ok(&["queue", "show", &id]).contains("payload     {\"n\":2}"));
        assert_eq!(desk.json(&["queue", "list", "--state", "parked"]), json!([]));
        assert_eq!(desk.json(&["queue", "redrive", "--all"]), json!({ "redriven": 0 }));
        assert_eq!(desk.json(&["queue", "discard", "--all"]), json!({ "discarded": 0 }));
        assert!(desk.fails(&["queue", "show", "99"], 1).contains("there is no operation 99"));
        assert!(desk.fails(&["queue", "redrive", "99"], 1).contains("there is no operation 99"));
        desk.fails(&["queue", "redrive"], 2);
    });
}

#[test]
fn conflicts_can_be_looked_at() {
    Desk::both_ways(|desk| {
        assert_eq!(desk.json(&["conflicts", "list"]), json!([]));
        assert_eq!(desk.ok(&["conflicts", "list", "--all"]), "");
        assert!(desk.fails(&["conflicts", "show", "4"], 1).contains("there is no conflict 4"));
        assert!(desk.fails(&["conflicts", "resolve", "4", "--take", "local"], 1).contains("there is no conflict 4"));
        assert!(desk.fails(&["conflicts", "resolve", "4", "--merged", "{}"], 1).contains("there is no conflict 4"));
        assert!(desk.fails(&["conflicts", "undo", "4"], 1).contains("there is no conflict 4"));
        desk.fails(&["conflicts", "resolve", "4"], 2);
    });
}

#[test]
fn a_command_that_opens_the_store_itself_knows_what_waits_and_since_when() {
    let desk = Desk::new();
    desk.ok(&["put", "runs", "a", "{}"]);
    // On a machine that is busy with something else the first look may come too late for one of them.
    let knows = |_| {
        let status = desk.json(&["status"]);
        status["oldest_pending_at"].is_string() && status["pending_bytes"].as_u64() > Some(0)
    };
    assert!((0..10).any(knows));
    assert!((0..10).any(|_| desk.ok(&["status"]).contains(", the oldest of 2")));
}

#[test]
fn the_store_is_verified_measured_and_described() {
    Desk::both_ways(|desk| {
        desk.ok(&["put", "runs", "a", "{}"]);
        assert_eq!(desk.json(&["verify"]), json!({ "healthy": true, "issues": [] }));
        assert_eq!(desk.ok(&["verify"]), "the store is healthy\n");
        let stats = desk.json(&["stats"]);
        assert_eq!((&stats["records"], &stats["pending"]), (&json!(1), &json!(1)));
        assert!(stats["bytes"].as_u64().unwrap() > 0 && stats["free_bytes"].as_u64().unwrap() > 0, "{stats}");
        let status = desk.json(&["status"]);
        for name in [
            "phase",
            "online",
            "syncing",
            "pending",
            "parked",
            "conflicts",
            "last_synced_at",
            "last_error",
            "stalled_since",
        ] {
            assert!(status.get(name).is_some(), "{name} is missing: {status}");
        }
        assert_eq!(status["pending"], 1);
        let checks = desk.json(&["doctor"]);
        assert_eq!(checks["healthy"], true, "{checks}");
        assert!(desk.ok(&["doctor"]).contains("server         none is configured → set remote.url"));
    });
}

#[test]
fn mistakes_are_one_clear_line_each() {
    Desk::both_ways(|desk| {
        for (words, exit, text) in [
            (&["put", "runs", "a", "{n:1}"][..], 2, "the document is not a JSON object: key must be a string"),
            (&["put", "runs", "a", "[]"], 2, "the document is not a JSON object: it begins with \"[]\""),
            (&["put", "runs", "a", r#"{"id":"b"}"#], 2, "key field \"id\""),
            (&["put", "runs", r#"{"id":true}"#], 2, "neither text nor a number"),
            (&["put", "nothing", "a", "{}"], 2, "unknown collection \"nothing\"; the configuration declares: "),
            (&["get", "nothing", "a"], 2, "unknown collection \"nothing\""),
            (&["list", "nothing"], 2, "unknown collection \"nothing\""),
            (&["import", "runs", "gone.jsonl"], 2, "gone.jsonl cannot be read"),
            (&["put", "prices", "a", "{}"], 2, "pull-only"),
            (&["delete", "prices", "a"], 2, "pull-only"),
            (&["list", "runs", "--where", "status"], 2, "\"status\" is not a condition"),
            (&["list", "runs", "--order", "n:down"], 2, "\"n:down\" is not an order"),
            (&["lst"], 2, "unrecognized subcommand 'lst'"),
            (&["list"], 2, "required arguments were not provided: <COLLECTION>; see `tidelock --help`"),
            (&["sync", "--push", "--pull"], 2, "cannot be used with"),
            (&["sync"], 2, "no server is configured"),
        ] {
            let said = desk.fails(words, exit);
            assert!(said.starts_with("tidelock: ") && said.contains(text), "{words:?}: {said}");
        }
        assert_eq!(desk.json(&["status"])["pending"], 0, "a mistake changes nothing");
    });
}

#[test]
fn the_configuration_is_shown_with_its_places_and_checked() {
    let desk = Desk::new();
    let shown = desk.ok(&["config", "show"]);
    let line = |begin: &str| shown.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{shown}"));
    assert!(line("bind = \"127.0.0.1:0\"").ends_with("# tidelock.toml"));
    assert!(line("interval = \"30s\"").ends_with("# built-in"));
    assert_eq!(desk.json(&["config", "show"])["sync"]["conflict"], "newest-wins");
    assert_eq!(desk.ok(&["config", "check"]), "the configuration is ok\n");

    for (text, problem) in [
        (
            "[sync]\nintervall = '3s'",
            "tidelock: tidelock.toml: unknown key sync.intervall = \"3s\"; did you mean interval? ",
        ),
        (
            "[sync]\ninterval = 'soon'",
            "tidelock: tidelock.toml: sync.interval = \"soon\" is not allowed; allowed: a duration ",
        ),
        ("[remote]\nmode = 'sql'", "tidelock: tidelock.toml: remote.mode = \"sql\" is not allowed; "),
        ("[sync\n", "tidelock: tidelock.toml: line 1 is not TOML: "),
    ] {
        fs::write(desk.path("tidelock.toml"), text).unwrap();
        for words in [&["config", "check"][..], &["status"], &["run"], &["put", "runs", "a", "{}"]] {
            let said = desk.fails(words, 2);
            assert!(said.starts_with(problem), "{words:?}: {said}");
        }
        assert_eq!(desk.run(&["doctor"]).exit, 1);
    }
    assert!(!desk.path("data").exists(), "a bad configuration touches nothing");
    assert!(desk.fails(&["status", "--config", "gone.toml"], 2).contains("gone.toml: cannot be read"));
}

#[test]
fn the_environment_goes_before_the_file() {
    let desk = Desk::new();
    let mut command = desk.prepared(&["config", "show", "--json"]);
    command.env("TIDELOCK__SYNC__BATCH_SIZE", "7").env("SUPABASE_URL", "http://127.0.0.1:1");
    command.env("VITE_SUPABASE_ANON_KEY", "very secret");
    let shown: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap_or_default();
    assert_eq!(shown, Value::Null, "a key with a blank cannot be sent");
    command.env("VITE_SUPABASE_ANON_KEY", "very_secret");
    let shown: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!((&shown["sync"]["batch_size"], &shown["remote"]["url"]), (&json!(7), &json!("http://127.0.0.1:1")));
    assert!(!shown.to_string().contains("very_secret"), "{shown}");
}

#[test]
fn without_a_network_local_work_goes_on() {
    let desk = Desk::with(&format!(
        "[remote]\nurl = 'http://127.0.0.1:9'\nanon_key = 'k'\n[sync]\nauto = false\nretry_delay = '10ms'\n{CONFIG}"
    ));
    let check = |desk: &Desk| {
        desk.ok(&["put", "runs", "a", "{}"]);
        let said = desk.fails(&["sync"], 5);
        assert!(said.starts_with("tidelock: the server cannot be reached ("), "{said}");
        assert_eq!(desk.json(&["get", "runs", "a"]), json!({ "id": "a" }));
        assert_eq!(desk.json(&["status"])["pending"], 1);
        assert_eq!(desk.run(&["doctor"]).exit, 1);
    };
    check(&desk);
    let _process = desk.process();
    check(&desk);
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let desk = Desk::new();
    let lines: String = (0..5000).map(|n| format!("{{\"id\":\"r{n}\",\"text\":\"{}\"}}\n", "x".repeat(100))).collect();
    assert_eq!(desk.with_input(&["import", "runs", "-"], &lines).exit, 0);
    let mut child = desk.prepared(&["export", "runs"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(child.wait().unwrap().success());
    let mut complained = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complained).unwrap();
    assert_eq!(complained, "");
}

#[test]
fn help_and_completions_are_there() {
    let desk = Desk::new();
    assert!(desk.ok(&["--help"]).contains("Exit codes: 0 done, 1 failed, 2 usage, 3 done in part"));
    assert!(desk.ok(&["completions", "bash"]).contains("_tidelock()"));
    assert!(desk.ok(&["--version"]).starts_with("tidelock 0."));
    let nothing = desk.run(&[]);
    assert!(nothing.exit == 2 && nothing.complained.contains("Usage: tidelock"), "{}", nothing.complained);
    assert!(!desk.path("data").exists(), "none of these touches the store");
}
