//! H48: secrets are put wherever a secret can be, everything that can be said is said and done, and then everything that was
//! told, kept or sent is searched for them.
//!
//! Documents are no secrets of the configuration's: they may be in the store, in the body of a backup and on the server, and
//! nowhere else.

use std::fmt::{Debug, Display};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tidelock::api::{Client, Endpoint};
use tidelock::logs::LogQuery;
use tidelock::{Backups, Config, Document, SyncRequest, Tidelock};
use tidelock_testbed::HoldAt;
use tracing_subscriber::layer::SubscriberExt;

use crate::command_line::Desk;
use crate::support::{Device, World, uuid};

/// In every secret of these tests that is not drawn by a server.
const SAID: &str = "cAnArY-5a1d";
const FIELD: &str = "cAnArY-f1e1d";
const PASSPHRASE: &str = "cAnArY pass phrase";
const REFUSED: &str = "cAnArYr3fu5ed";
/// In every document.
const RECORD: &str = "cAnArY-d0cument";

/// How long a process may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place that is searched.
struct Place {
    name: String,
    text: String,
    may_hold_documents: bool,
}

/// All places, and what must be in none of them.
struct Search {
    places: Vec<Place>,
    secrets: Vec<String>,
}

impl Search {
    /// For these, and for all that the tests have put somewhere.
    fn new(secrets: &[&str]) -> Self {
        let secrets = [SAID, FIELD, PASSPHRASE, REFUSED].iter().chain(secrets);
        Self { places: Vec::new(), secrets: secrets.map(|secret| secret.to_ascii_lowercase()).collect() }
    }

    fn add(&mut self, name: impl Display, bytes: impl AsRef<[u8]>) {
        let text = String::from_utf8_lossy(bytes.as_ref()).to_ascii_lowercase();
        self.places.push(Place { name: name.to_string(), text, may_hold_documents: false });
    }

    /// A place in which documents may be.
    fn add_with_documents(&mut self, name: impl Display, bytes: impl AsRef<[u8]>) {
        self.add(name, bytes);
        self.places.last_mut().unwrap().may_hold_documents = true;
    }

    /// Both ways in which a value shows itself.
    fn add_shown(&mut self, name: &str, shown: &(impl Display + Debug)) {
        self.add(name, format!("{shown}\n{shown:?}\n{shown:#?}"));
    }

    fn add_debug(&mut self, name: &str, shown: &impl Debug) {
        self.add(name, format!("{shown:?}\n{shown:#?}"));
    }

    /// Every file of a data folder. In the store and in what is copied of it documents may be, in clear backups as well.
    fn add_folder(&mut self, name: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{name}/{}", path.file_name().unwrap().to_string_lossy());
            let file = name.rsplit('/').next().unwrap_or_default();
            match path.is_dir() {
                true => self.add_folder(&name, &path),
                false if file.starts_with("logs.db") || file.ends_with(".json") || name.contains("sealed/backups") => {
                    self.add(name, std::fs::read(path).unwrap());
                }
                false => self.add_with_documents(name, std::fs::read(path).unwrap()),
            }
        }
    }

    /// Where a secret is, with what stands before it.
    fn finds(&self) -> Vec<String> {
        let found = self.places.iter().flat_map(|place| {
            let documents = Some(RECORD.to_ascii_lowercase()).filter(|_| !place.may_hold_documents);
            let secrets = self.secrets.iter().cloned().chain(documents);
            secrets.filter_map(|secret| {
                let at = place.text.find(&secret)?;
                let before = place.text[..at].chars().rev().take(300).collect::<Vec<_>>();
                Some(format!("{} has {secret} after: {}", place.name, before.into_iter().rev().collect::<String>()))
            })
        });
        found.collect()
    }

    /// Nothing is found, and it is said what was looked at.
    fn ends(self) {
        for Place { name, text, .. } in &self.places {
            println!("searched {:>9} B of {name}", text.len());
        }
        let bytes: usize = self.places.iter().map(|place| place.text.len()).sum();
        println!("searched {bytes} B in {} places for {} secrets", self.places.len(), self.secrets.len() + 1);
        let taken_out = self.places.iter().filter(|place| place.text.contains("[redacted]")).count();
        assert!(taken_out > 0, "something was taken out somewhere");
        let found = self.finds();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// What a host may say, with secrets wherever one can be.
fn say_secrets(device: &Device) {
    let subscriber = tracing_subscriber::registry().with(device.tidelock.logger().tracing_layer());
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("login", password = SAID, url = format!("https://u:{SAID}@host/"));
        let _span = span.enter();
        tracing::error!(token = SAID, prompt = FIELD, "with Bearer {SAID} and sb_secret_{SAID}");
        tracing::warn!(told = ?Some(json!({"apikey": SAID, "prompt": FIELD})), "the passphrase is {PASSPHRASE}");
        tracing::info!("GET /rest/v1/t?apikey={SAID}&select=id, Authorization: Basic {SAID}");
    });
    let metadata = json!({"prompt": {"text": FIELD}, "headers": {"Authorization": SAID}, "said": PASSPHRASE});
    device.tidelock.logger().log_api_call("p", &format!("sb_secret_{SAID}"), 1.0, metadata);
}

/// A device of a user's whose backups are as they are configured, and its configuration.
fn device(world: &World, name: &str, token: &str, backup: &str) -> (Device, Config, String) {
    let directory = world.folder(name);
    let text = world.config_text(&directory, "auto = false\nconflict = \"manual\"");
    let key = format!("anon_key = \"{}\"", world.project.secret_key);
    let text = text.replace(&key, &format!("{key}\naccess_token = \"{token}\""));
    let text = format!("{text}\n[backup]\n{backup}\n[log]\nlevel = \"trace\"\nredact = [\"prompt\"]");
    let config = Config::from_toml(&text).unwrap();
    (Device { tidelock: Tidelock::open(config.clone()).unwrap(), directory }, config, text)
}

/// An access token of nobody's.
fn refused_token() -> String {
    format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{REFUSED}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h48_no_secret_is_in_anything_that_a_device_says_keeps_or_sends() {
    let world = World::with_kit().await;
    let claims = json!({"sub": uuid(7), "role": "service_role", "exp": 4_000_000_000_i64});
    if world.project.is_external() {
        return println!("not on an external project: it signs no token for us");
    }
    let token = world.project.mint_token(&claims).unwrap();
    let signature = token.rsplit('.').next().unwrap().to_owned();
    let sealed = format!("encrypt = \"passphrase\"\npassphrase = \"{PASSPHRASE}\"");
    let (here, config, text) = device(&world, "sealed", &token, &sealed);
    let (there, ..) = device(&world, "clear", &token, "");
    let mut search = Search::new(&[&world.project.secret_key, &signature]);
    let (handle, record) = (&here.tidelock, |more: &str| format!(r#"{{"title":"{RECORD}"{more}}}"#));

    say_secrets(&here);
    // A record that arrives, one that both edit, and one that the server will not have.
    here.save("notes", "a", &format!(r#"{{"body":"{RECORD}"}}"#)).await;
    here.save("tasks", &uuid(1), &record("")).await;
    here.sync().await;
    there.sync().await;
    there.save("tasks", &uuid(1), &record(r#","n":1"#)).await;
    there.sync().await;
    here.save("tasks", &uuid(1), &record(r#","n":2"#)).await;
    here.save("tasks", &uuid(2), &record(r#","n":-1"#)).await;
    let report = here.sync().await;
    search.add("a round's report", format!("{report:?} {}", json!(report)));
    let status = handle.status();
    assert_eq!((status.parked, status.conflicts), (1, 1), "{status:?}");
    search.add("the status with a conflict and a parked operation", format!("{status:?} {}", json!(status)));
    search.add_with_documents("the queue", format!("{:?}", handle.queue(Default::default()).await.unwrap()));
    search.add_with_documents("the conflicts", format!("{:?}", handle.conflicts(true).await.unwrap()));

    // Requests that are denied, and one that gets no answer.
    handle.set_access_token(Some(refused_token().into()));
    let denied = handle.sync(SyncRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), "unauthorized", "{denied}");
    search.add_shown("the error of a denied round", &denied);
    let status = handle.status();
    search.add("the status of a denied device", format!("{status:?} {}", json!(status)));
    handle.set_access_token(Some(token.clone().into()));
    let gate = world.network.pause_next("POST", "/rest/v1/rpc/tidelock_pull", HoldAt::Request);
    world.network.set_offline(true);
    search.add_shown("the error of a cut round", &handle.sync(SyncRequest::default()).await.unwrap_err());
    world.network.set_offline(false);
    gate.release();
    here.sync().await;

    // Backups, sealed and clear, and one that cannot be opened.
    search.add_debug("a sealed backup's view", &handle.backup().await.unwrap());
    search.add_debug("a clear backup's view", &there.tidelock.backup().await.unwrap());
    let mut wrong = config.clone();
    wrong.backup.passphrase = Some(format!("{SAID} is another one").into());
    search.add_shown("the error of a wrong passphrase", &Backups::of(&wrong).unwrap().verify(None).await.unwrap_err());
    search.add_debug("a configuration", &wrong);

    // A part that fails, a store that is in use, and configurations that cannot be read.
    handle.drill("queue").await.unwrap();
    search.add_shown("the error of a store in use", &Tidelock::open(config.clone()).err().unwrap());
    for (what, broken) in [
        ("a text without an end", text.replacen("anon_key = \"", "anon_key = \"\"\"", 1)),
        ("a list where a secret belongs", text.replacen("passphrase = \"", "passphrase = [\"", 1)),
        ("an unknown key beside a secret", text.replacen("passphrase = \"", "passphrasse = \"", 1)),
        ("a token that no header takes", text.replacen("access_token = \"", "access_token = \"ü\\n", 1)),
    ] {
        let error = match Config::from_toml(&broken) {
            Ok(broken) => Tidelock::open(broken).err().unwrap(),
            Err(error) => error.into(),
        };
        println!("{what}: {error}");
        search.add_shown(what, &error);
    }
    let refused = Document::parse(&format!("{{\"body\": {RECORD}}}")).unwrap_err();
    search.add_debug("the error of a text that is no document", &refused);

    let entries = handle.logger().entries(LogQuery::default()).await.unwrap();
    here.told(|status| status.logger.pending == 0 && status.logger.last_shipped_at.is_some()).await;
    assert_eq!(entries.len(), 4, "{entries:?}");
    search.add("the entries", format!("{entries:?} {}", json!(entries)));
    search.add("the inspection", format!("{:?}", handle.inspect().await.unwrap()));
    search.add("the statistics", format!("{:?}", handle.stats().await.unwrap()));
    search.add("what was verified", format!("{:?}", handle.verify_integrity().await.unwrap()));
    let config = handle.config();
    search.add("the configuration", format!("{config:?} {config:#?} {}", json!(config)));
    for status in [handle.status(), there.tidelock.status()] {
        search.add("the status", format!("{status:?} {status:#?} {}", json!(status)));
    }
    for (what, sql) in [
        ("the server's log entries", "select * from public.usage_logs"),
        ("what the server knows of backups", "select * from public.tidelock_backups"),
    ] {
        search.add(what, world.project.rows_as_json(sql).await.unwrap_or_default().concat());
    }
    here.tidelock.shutdown().await;
    there.tidelock.shutdown().await;
    search.add_folder("sealed", &here.directory);
    search.add_folder("clear", &there.directory);
    let place = |name: &str| search.places.iter().find(|place| place.name.contains(name)).unwrap();
    assert!(place("server's log").text.contains("with bearer [redacted] and [redacted]"));
    let record = RECORD.to_ascii_lowercase();
    let holds_it = |place: &Place| place.name.starts_with("clear/tidelock.db") && place.text.contains(&record);
    assert!(search.places.iter().any(holds_it), "the store was looked into");
    search.ends();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// At its loudest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h48_no_secret_is_in_anything_that_a_process_says_or_answers() {
    let world = World::with_kit().await;
    let claims = json!({"sub": uuid(7), "role": "service_role", "exp": 4_000_000_000_i64});
    if world.project.is_external() {
        return println!("not on an external project: it signs no token for us");
    }
    let token = world.project.mint_token(&claims).unwrap();
    let text = world.config_text(Path::new("data"), "interval = '200ms'");
    let key = format!("anon_key = \"{}\"", world.project.secret_key);
    let text = text.replace(&key, &format!("{key}\naccess_token = \"{token}\""));
    let backup = format!("[backup]\nencrypt = \"passphrase\"\npassphrase = \"{PASSPHRASE}\"");
    let desk = Desk::with(&format!("{text}\n{backup}\n[log]\nlevel = \"trace\"\nredact = [\"prompt\"]"));
    let console = desk.path("console");
    let mut process = desk.prepared(&["run", "--json", "--log-format", "json"]);
    let process = process.stdout(Stdio::piped()).stderr(File::create(&console).unwrap()).spawn();
    let mut process = Killed(process.unwrap());
    let mut up = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut up).unwrap();

    let endpoint = Endpoint::find(&desk.path("data")).unwrap();
    let bearer = endpoint.token.expose_secret().to_owned();
    let signature = token.rsplit('.').next().unwrap();
    let mut search = Search::new(&[&world.project.secret_key, signature, &bearer]);
    search.add("its first word", up);
    search.add_debug("where it answers", &endpoint);
    let client = reqwest::Client::new();
    let address = |path: &str| format!("http://{}/v1/{path}", endpoint.address);
    let call = json!({"provider": "p", "action": format!("sb_secret_{SAID}"), "credits": 3, "metadata": {
        "prompt": FIELD, "headers": {"Authorization": SAID}, "url": format!("https://u:{SAID}@h/?apikey={SAID}"),
        "said": PASSPHRASE,
    }});
    let noted = client.post(address("logs/calls")).bearer_auth(&bearer).body(call.to_string()).send().await.unwrap();
    assert!(noted.status().is_success(), "{}", noted.text().await.unwrap());
    desk.ok(&["put", "notes", "a", &format!(r#"{{"body":"{RECORD}"}}"#)]);
    desk.ok(&["put", "tasks", &uuid(1), &format!(r#"{{"title":"{RECORD}","n":-1}}"#)]);
    desk.run(&["sync"]);
    desk.json(&["backup", "create"]);
    let stranger = client.get(address("status")).bearer_auth(SAID).send().await.unwrap();
    search.add("what a stranger is told", stranger.text().await.unwrap());
    until_shipped(&endpoint).await;

    // What a process can be asked to tell of itself.
    for path in ["status", "metrics", "logs", "stats", "backups", "backups/info", "rounds", "verify"] {
        let answer = client.get(address(path)).bearer_auth(&bearer).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}");
        search.add(format!("/v1/{path}"), answer.text().await.unwrap());
    }
    for words in [
        &["status"][..],
        &["logs"],
        &["stats"],
        &["doctor"],
        &["config", "show"],
        &["config", "check"],
        &["backup", "list"],
        &["backup", "info"],
        &["remote", "check"],
        &["get", "nothing", "a"],
        &["backup", "restore", "nothing"],
    ] {
        for json in [&[][..], &["--json"]] {
            let done = desk.run(&[words, json].concat());
            search.add(format!("tidelock {}", [words, json].concat().join(" ")), [done.said, done.complained].concat());
        }
    }
    let bundled = desk.run(&["doctor", "--bundle", "bundle.json"]);
    search.add("what a bundle's maker is told", [bundled.said, bundled.complained].concat());
    let bundle = std::fs::read_to_string(desk.path("bundle.json")).unwrap();
    assert!(bundle.contains("[redacted]"), "{bundle}");
    search.add("a bundle for a bug report", bundle);
    let checkup = client.get(address("doctor")).bearer_auth(&bearer).send().await.unwrap();
    search.add("/v1/doctor", checkup.text().await.unwrap());
    for words in [&["queue", "list"], &["conflicts", "list"]] {
        let done = desk.run(words);
        search.add_with_documents(format!("tidelock {}", words.join(" ")), [done.said, done.complained].concat());
    }

    // A configuration that cannot be used is complained about.
    let broken = std::fs::read_to_string(desk.path("tidelock.toml")).unwrap();
    let broken = broken.replace("access_token = \"", "access_token = \" ü");
    std::fs::write(desk.path("tidelock.toml"), broken).unwrap();
    let api = Client::connect(endpoint).await.unwrap();
    let complained = async || {
        let entries = json!(api.logs(LogQuery::default()).await.unwrap()).to_string();
        entries.contains("stays in force").then_some(entries)
    };
    search.add("the last entries", in_time("the process complains", complained).await);
    let complaint = desk.run(&["status"]);
    search.add("a command's complaint", [complaint.said, complaint.complained].concat());
    drop(process);
    let rows = world.project.rows_as_json("select * from public.usage_logs").await.unwrap().concat();
    assert!(rows.contains("[redacted]"), "{rows}");
    search.add("the server's log entries", rows);
    let said = std::fs::read_to_string(&console).unwrap();
    assert!(said.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "still JSON");
    assert!(said.contains("\"TRACE\""), "at its loudest");
    search.add("standard error", said);
    search.ends();
}

async fn until_shipped(endpoint: &Endpoint) {
    let api = Client::connect(endpoint.clone()).await.unwrap();
    let shipped = async || {
        let logger = api.status().await.unwrap().logger;
        (logger.pending == 0 && logger.last_shipped_at.is_some()).then_some(())
    };
    in_time("the entries are sent", shipped).await;
}

/// Asks until there is an answer; what never comes fails the test.
async fn in_time<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}, not within {PATIENCE:?}"))
}

#[test]
fn the_search_sees_a_secret_in_any_place_and_a_document_where_none_may_be() {
    let mut search = Search::new(&["drawn"]);
    search.add_with_documents("the store", format!("\u{0}{RECORD}"));
    assert!(search.finds().is_empty());
    search.add("a", [b"\xff\xfe DRAWN ".as_slice(), RECORD.as_bytes()].concat());
    search.add_with_documents("b", PASSPHRASE.to_uppercase());
    let found = search.finds();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("a has drawn after") && found[2].starts_with("b has canary pass phrase"));
}
