//! The quota and compacting on the command line, with and without a process on the data folder.

use std::time::Duration;

use serde_json::json;

use crate::command_line::Desk;

const CONFIG: &str = r#"
[api]
bind = "127.0.0.1:0"
[storage]
data_dir = "data"
quota = "1MB"
[collections.notes]
direction = "local"
"#;

fn document(n: u64) -> String {
    json!({ "n": n, "text": "x".repeat(50_000) }).to_string()
}

/// Saves until nothing more fits; how many were taken, and what was said then.
fn fill(desk: &Desk) -> (u64, String) {
    for n in 0..100 {
        let done = desk.run(&["put", "notes", &n.to_string(), &document(n)]);
        if done.exit != 0 {
            return (n, done.failed(1));
        }
    }
    panic!("nothing was refused");
}

#[test]
fn a_full_store_says_what_to_do_and_that_helps() {
    for with_process in [false, true] {
        let desk = Desk::with(CONFIG);
        let _process = with_process.then(|| desk.process());
        let (taken, said) = fill(&desk);
        assert!(
            taken > 5 && said.contains("of the 1MB that storage.quota allows; delete what is not needed"),
            "{said}"
        );
        // Each command counts anew; only a process remembers that it refused something.
        let full = if with_process { "full" } else { "near" };
        let status = desk.json(&["status"]);
        assert_eq!((&status["storage"]["state"], &status["storage"]["quota_bytes"]), (&json!(full), &json!(1_000_000)));
        let stats = desk.json(&["stats"]);
        assert_eq!((&stats["records"], &stats["quota_bytes"]), (&json!(taken), &json!(1_000_000)));
        let sizes = &stats["sizes"];
        assert!(sizes["collections"]["notes"].as_u64().unwrap() > taken * 50_000, "{sizes}");
        for name in ["history", "outbox", "conflicts", "database", "reclaimable", "log", "kept_log", "backups"] {
            assert!(sizes[name].is_u64(), "{name}: {sizes}");
        }
        assert_eq!(desk.json(&["stats", "--exact"])["sizes"]["exact"], true);
        let doctor = desk.run(&["doctor"]);
        assert!(
            doctor.exit == i32::from(with_process) && doctor.said.contains("tidelock compact --forget-history"),
            "{}",
            doctor.said
        );

        for n in 1..taken {
            desk.ok(&["delete", "notes", &n.to_string()]);
        }
        let compacted = desk.json(&["compact", "--forget-history"]);
        let [before, after] = ["before_bytes", "after_bytes"].map(|name| compacted[name].as_u64().unwrap());
        assert!(after * 2 < before, "{compacted}");
        desk.ok(&["put", "notes", "more", &document(0)]);
        assert_eq!(desk.json(&["get", "notes", "0"])["n"], 0);
        assert_eq!(desk.json(&["status"])["storage"]["state"], "ok");
        assert_eq!(desk.json(&["verify"])["healthy"], true);
        assert!(desk.ok(&["compact"]).contains("given back"));
    }
}

#[test]
fn a_quota_that_cannot_be_read_is_refused_with_what_is_allowed() {
    for wrong in ["much", "500", "10KB"] {
        let desk = Desk::with(&CONFIG.replace("1MB", wrong));
        let said = desk.fails(&["status"], 2);
        assert!(said.contains("storage.quota") && said.contains("a size from \"1MB\", such as"), "{said}");
    }
}

#[test]
fn compacting_may_be_killed_at_any_moment() {
    let desk = Desk::with(&CONFIG.replace("1MB", ""));
    let lines: Vec<String> =
        (0..4_000).map(|n| json!({ "id": n.to_string(), "text": "x".repeat(5_000) }).to_string()).collect();
    std::fs::write(desk.path("notes.jsonl"), lines.join("\n")).unwrap();
    desk.ok(&["import", "notes", "notes.jsonl"]);
    for n in (0..400).step_by(2) {
        desk.ok(&["delete", "notes", &n.to_string()]);
    }
    let before = desk.ok(&["export", "notes"]);
    for wait_ms in [20, 60, 120, 240] {
        let mut compacting = desk.prepared(&["compact"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        // One that is through already has nothing left to kill.
        let _ = compacting.kill();
        compacting.wait().unwrap();
        assert_eq!(desk.json(&["verify"])["healthy"], true, "killed after {wait_ms} ms");
        assert!(desk.ok(&["export", "notes"]) == before, "killed after {wait_ms} ms");
    }
    desk.ok(&["compact"]);
    assert!(desk.ok(&["export", "notes"]) == before);
}
