//! The cases of `docs/troubleshooting.md`, each set up for real: what `status` and `doctor` say is what the guide quotes, and
//! doing what they say ends the trouble with nothing lost.

mod access;
mod guide;
mod room;
mod server;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command_line::{Desk, Done, Process};
use crate::support::World;
use guide::{Section, one_line};

/// Every case, as the guide calls it.
const CASES: [&str; 12] = [
    access::WRONG_KEY,
    access::EXPIRED,
    access::DENIED,
    server::MISSING_TABLE,
    server::CLOCK,
    room::DISK,
    server::DOWN,
    room::QUOTA,
    server::RESTRICTED,
    server::KIT,
    work::PARKED,
    work::CONFLICTS,
];

#[test]
fn the_guide_has_a_section_for_every_case_and_a_case_for_every_section() {
    assert_eq!(guide::titles(), CASES);
}

/// How long a status may take to say something.
const SOON: Duration = Duration::from_secs(120);

/// A device whose process keeps it in sync, as somebody has it who then meets trouble.
struct Scene {
    world: World,
    desk: Desk,
    process: Option<Process>,
    /// The configuration with which all was well.
    text: String,
    /// What the doctor says of it even so.
    usual: BTreeSet<String>,
}

/// The configuration of an app: its key is the publishable one, and rounds run by themselves.
fn app(world: &World, sync: &str) -> String {
    let text = world.config_text(Path::new("data"), &format!("auto = true\n{sync}"));
    let text = text.replace(&world.project.secret_key, &world.project.publishable_key);
    // What is logged, and where backups lie, is nobody's trouble here.
    format!("{text}\n[log]\ntable = \"\"\n[backup]\npublish = false\n")
}

/// The same for somebody who is signed in.
fn signed_in(text: &str, token: &str) -> String {
    text.replace("timeout = \"10s\"", &format!("timeout = \"10s\"\naccess_token = \"{token}\""))
}

impl Scene {
    /// A device that has synced and is well.
    fn well(world: World, text: String) -> Self {
        let desk = Desk::with(&text);
        let process = Some(desk.process());
        let mut scene = Self { world, desk, process, text, usual: BTreeSet::new() };
        scene.put("before");
        scene.until_done();
        scene.usual = scene.troubles().into_iter().collect();
        scene
    }

    /// Saves a note.
    fn put(&self, key: &str) {
        self.desk.ok(&["put", "notes", key, r#"{"body":"words"}"#]);
    }

    /// Writes another configuration; the process reads it by itself, or where it is told to.
    fn configure(&self, text: &str) {
        fs::write(self.desk.path("tidelock.toml"), text).unwrap();
    }

    fn restart(&mut self) {
        self.process = None;
        self.process = Some(self.desk.process());
    }

    /// Asks until the status is so. Each asking takes its time; nothing is slept for.
    #[track_caller]
    fn until(&self, is: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.desk.json(&["status"]);
            if is(&status) {
                return status;
            }
            assert!(began.elapsed() < SOON, "{status:#}\n{}", self.desk.run(&["doctor"]).said);
        }
    }

    /// Syncs until a round ends well; a server may take a moment to notice that its tables have changed.
    #[track_caller]
    fn sync(&self) {
        let began = Instant::now();
        loop {
            let done = self.desk.run(&["sync"]);
            if done.exit == 0 {
                return;
            }
            assert!(began.elapsed() < SOON, "{}{}", done.said, done.complained);
        }
    }

    #[track_caller]
    fn until_done(&self) {
        self.until(|status| {
            let is_empty = ["pending", "parked", "conflicts"].iter().all(|name| status[name] == 0);
            is_empty
                && status["phase"] == "idle"
                && status["last_error"].is_null()
                && !status["last_synced_at"].is_null()
        });
    }

    /// What the doctor finds fault with, as it prints it.
    fn troubles(&self) -> Vec<String> {
        troubles(&self.desk.run(&["doctor"]), &self.desk.run(&["doctor", "--json"]))
    }

    /// Looks as somebody in trouble does, and holds the guide to what is said.
    #[track_caller]
    fn look(&self, section: &mut Section) {
        let began = Instant::now();
        loop {
            let (status, json) = (self.desk.ok(&["status"]), self.desk.json(&["status"]));
            // Between the two a round may begin or end.
            let phase = one_line(&format!("phase {}: {}", word(&json, "phase"), word(&json, "phase_reason")));
            if status.lines().any(|line| one_line(line) == phase) && section.tells_status(&status) {
                break;
            }
            let doctor = || self.troubles().join("\n");
            assert!(began.elapsed() < SOON, "the guide does not quote this status:\n{status}\n{}", doctor());
        }
        let found: Vec<_> = self.troubles().into_iter().filter(|line| !self.usual.contains(line)).collect();
        section.assert_tells("tidelock doctor", &found);
    }

    /// The trouble is over: nothing waits, nothing is said any more, the store is sound.
    #[track_caller]
    fn assert_well_again(&self) {
        self.until_done();
        let left: Vec<_> = self.troubles().into_iter().filter(|line| !self.usual.contains(line)).collect();
        assert!(left.is_empty(), "{left:#?}");
        let status = self.desk.ok(&["status"]);
        assert!(!status.contains("next step"), "{status}");
        assert_eq!(self.desk.json(&["verify"])["healthy"], true);
    }

    /// The notes that the server has, and this device too.
    async fn assert_notes<const N: usize>(&self, wanted: [&str; N]) {
        let there: Vec<_> = self.world.rows("notes").await.into_keys().collect();
        let here = self.desk.json(&["list", "notes"]);
        let here: Vec<_> = here.as_array().unwrap().iter().map(|note| note["id"].as_str().unwrap()).collect();
        assert_eq!((there.as_slice(), here.as_slice()), (wanted.map(str::to_owned).as_slice(), wanted.as_slice()));
    }
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

/// The checks that are not as they should be: the same in both forms of what the doctor says.
fn troubles(text: &Done, json: &Done) -> Vec<String> {
    let is_trouble = |line: &&str| line.starts_with("failure") || line.starts_with("warning");
    let printed: Vec<_> = text.said.lines().filter(is_trouble).map(one_line).collect();
    let checkup: Value = serde_json::from_str(&json.said).unwrap();
    let checks = checkup["checks"].as_array().unwrap().iter().filter(|check| check["state"] != "ok");
    let told: Vec<_> = checks
        .map(|check| ["state", "check", "found", "next"].map(|name| word(check, name)))
        .map(|[state, check, found, next]| one_line(&format!("{state} {check} {found} → {next}")))
        .collect();
    let names = |lines: &[String]| lines.iter().map(|line| line.chars().take(20).collect()).collect::<Vec<String>>();
    assert_eq!(names(&printed), names(&told), "{printed:#?} {told:#?}");
    assert_eq!((text.exit, text.exit == 0), (json.exit, checkup["healthy"] == true));
    told
}
