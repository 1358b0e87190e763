//! The log of a process: read, followed, made louder; and no secret in anything that it says.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelock::logs::LogQuery;

use crate::command_line::Desk;
use crate::support::{World, uuid};

/// In none of what the process says.
const CANARY: &str = "cAnArY0f5ecret5";

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

/// Everything that the process says and sends, with secrets wherever they can be, at its loudest.
#[tokio::test(flavor = "multi_thread")]
async fn h48_the_canary_is_in_no_log_status_error_or_row() {
    let world = World::new().await;
    let token = world.project.mint_token(&json!({"sub": uuid(7), "role": "service_role", "exp": 4_000_000_000_i64}));
    let Ok(token) = token else { return println!("not on an external project: it signs no token for us") };
    let text = world.config_text(std::path::Path::new("data"), "interval = '200ms'");
    let secrets = format!("anon_key = \"{}\"\naccess_token = \"{token}\"", world.project.secret_key);
    let text = text.replace(&format!("anon_key = \"{}\"", world.project.secret_key), &secrets);
    let backup = format!("[backup]\nencrypt = \"passphrase\"\npassphrase = \"pass {CANARY} phrase\"");
    let desk = Desk::with(&format!("{text}\n{backup}\n[log]\nlevel = \"trace\"\nredact = [\"prompt\"]"));
    let (console, mut process) = (desk.path("console"), desk.prepared(&["run", "--json", "--log-format", "json"]));
    let process = process.stdout(Stdio::piped()).stderr(File::create(&console).unwrap());
    let mut process = Killed(process.spawn().unwrap());
    let mut up = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut up).unwrap();

    let endpoint = tidelock::api::Endpoint::find(&desk.path("data")).unwrap();
    let call = json!({"provider": "p", "action": format!("sb_secret_{CANARY}"), "credits": 3, "metadata": {
        "prompt": CANARY, "headers": {"Authorization": CANARY}, "url": format!("https://u:{CANARY}@h/?apikey={CANARY}"),
        "said": format!("pass {CANARY} phrase"),
    }});
    let address = format!("http://{}/v1/logs/calls", endpoint.address);
    let bearer = secrecy::ExposeSecret::expose_secret(&endpoint.token).to_owned();
    let answer = reqwest::Client::new().post(address).bearer_auth(bearer).body(call.to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    desk.ok(&["put", "notes", "a", &format!(r#"{{"body":"{CANARY}"}}"#)]);
    desk.run(&["sync"]);
    desk.json(&["backup", "create"]);
    // A configuration that cannot be used is complained about.
    let broken = std::fs::read_to_string(desk.path("tidelock.toml"))
        .unwrap()
        .replace("access_token = \"", "access_token = \" ü");
    std::fs::write(desk.path("tidelock.toml"), broken).unwrap();
    let is_told = |entries: &Value| messages(entries).iter().any(|said| said.contains("stays in force"));
    let client = tidelock::api::Client::connect(endpoint).await.unwrap();
    asked(async || client.logs(LogQuery::default()).await.unwrap(), is_told).await;
    let is_shipped =
        |status: &Value| status["logger"]["pending"] == 0 && !status["logger"]["last_shipped_at"].is_null();
    let status = asked(async || client.status().await.unwrap(), is_shipped).await;
    let logs = asked(async || client.logs(LogQuery::default()).await.unwrap(), |_| true).await;
    drop(process);
    let rows = world.project.rows_as_json("select * from public.usage_logs").await.unwrap();
    assert!(rows.iter().any(|row| row.contains("[redacted]")), "{rows:?}");
    let console = std::fs::read_to_string(&console).unwrap();
    assert!(console.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "still JSON");
    let signature = token.rsplit('.').next().unwrap();
    for (what, text) in [
        ("the console", console),
        ("logs", logs.to_string()),
        ("status", status.to_string()),
        ("the rows", rows.concat()),
    ] {
        for secret in [CANARY, signature, world.project.secret_key.as_str()] {
            assert!(!text.contains(secret), "{what} has {secret}: {}", around(&text, secret));
        }
    }
}

fn around(text: &str, found: &str) -> String {
    let at = text.find(found).unwrap_or_default();
    text[..at].chars().rev().take(200).collect::<String>().chars().rev().collect()
}

/// Asks the process itself until it answers so: commands would stumble over the broken configuration.
async fn asked<T: serde::Serialize>(ask: impl AsyncFn() -> T, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = serde_json::to_value(ask().await).unwrap();
        if is_so(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
