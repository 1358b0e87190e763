//! Backups on the command line, with and without a process on the data folder.

use std::fs;

use serde_json::Value;

use crate::command_line::Desk;

const CONFIG: &str = r#"
[api]
bind = "127.0.0.1:0"
[storage]
data_dir = "data"
[backup]
keep_last = 50
[collections.runs]
[collections.drafts]
direction = "local"
"#;

fn filled() -> Desk {
    let desk = Desk::with(CONFIG);
    assert_eq!(desk.json(&["backup", "info"])["exists"], false);
    desk.ok(&["put", "runs", "a", r#"{"prompt":"one"}"#]);
    desk.ok(&["put", "drafts", "d", r#"{"text":"one"}"#]);
    desk
}

fn id_of(view: &Value) -> String {
    view["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_is_taken_tried_listed_and_restored_with_a_process_and_without() {
    for with_process in [false, true] {
        let desk = filled();
        let _process = with_process.then(|| desk.process());
        let first = desk.json(&["backup", "create"]);
        assert_eq!((&first["kind"], &first["records"]), (&"full".into(), &2.into()));
        desk.ok(&["put", "runs", "a", r#"{"prompt":"two"}"#]);
        desk.ok(&["put", "runs", "b", r#"{"prompt":"two"}"#]);
        let second = desk.json(&["backup", "create"]);
        assert_eq!((&second["kind"], &second["base"]), (&"log".into(), &first["id"]));
        let trial = desk.json(&["backup", "verify", &id_of(&first)]);
        assert_eq!(trial["healthy"], true);
        let info = desk.json(&["backup", "info"]);
        for (name, value) in [("exists", true.into()), ("id", second["id"].clone()), ("verified", false.into())] {
            assert_eq!(info[name], value, "{info}");
        }
        assert!(info["age_seconds"].as_i64().is_some_and(|age| (0..60).contains(&age)), "{info}");
        assert_eq!(desk.json(&["backup", "list"]).as_array().unwrap().len(), 2);

        let words = ["backup", "restore", &id_of(&first), "--mode", "authority"];
        let trial = desk.json(&[&words[..], &["--dry-run"]].concat());
        assert_eq!((&trial["restored"]["changed"], &trial["before"]), (&2.into(), &Value::Null));
        assert_eq!(desk.json(&["get", "runs", "a"])["prompt"], "two", "a trial writes nothing");
        let report = desk.json(&words);
        assert_eq!(report["restored"]["changed"], 2, "{report}");
        assert_eq!(desk.json(&["get", "runs", "a"])["prompt"], "one");
        assert_eq!(desk.run(&["get", "runs", "b"]).exit, 1);
        let number = report["restored"]["number"].to_string();
        desk.ok(&["rollback", "round", &number]);
        assert_eq!(desk.json(&["get", "runs", "b"])["prompt"], "two", "a restore can be taken back");
        assert_eq!(desk.json(&["verify"])["healthy"], true);
    }
}

#[test]
fn a_backup_is_carried_to_another_machine_as_one_file() {
    let desk = filled();
    desk.ok(&["backup", "create"]);
    desk.ok(&["put", "runs", "b", r#"{"prompt":"two"}"#]);
    desk.ok(&["backup", "create"]);
    desk.ok(&["backup", "export", "carried.tidelock"]);
    let other = Desk::with(CONFIG);
    fs::copy(desk.path("carried.tidelock"), other.path("carried.tidelock")).unwrap();
    other.ok(&["put", "runs", "own", r#"{"prompt":"own"}"#]);
    assert_eq!(other.json(&["backup", "verify", "carried.tidelock"])["healthy"], true);
    let report = other.json(&["backup", "import", "carried.tidelock"]);
    assert_eq!(report["restored"]["changed"], 3, "{report}");
    assert_eq!(other.json(&["list", "runs"]).as_array().unwrap().len(), 3);
    other.ok(&["backup", "import", "carried.tidelock", "--replace"]);
    assert_eq!(other.run(&["get", "runs", "own"]).exit, 1, "what the file does not have is gone");
    let copy = other.json(&["backup", "restore", "carried.tidelock", "--to", "new"]);
    assert_eq!((&copy["records"], &copy["pending"]), (&3.into(), &2.into()));
    assert_eq!(other.json(&["--data-dir", "new", "get", "runs", "b"])["prompt"], "two");
}

#[test]
fn what_cannot_be_restored_says_why_and_what_to_do() {
    let desk = filled();
    let refused = |words: &[&str], exit: i32, said: &str| {
        let complained = desk.fails(words, exit);
        assert!(complained.contains(said), "{words:?}: {complained}");
    };
    refused(&["backup", "verify"], 1, "there is no backup yet; see tidelock backup list");
    desk.ok(&["backup", "create"]);
    refused(&["backup", "restore"], 2, "--mode");
    refused(&["backup", "restore", "nope", "--mode", "replica"], 1, "there is no backup \"nope\"");
    refused(&["backup", "restore", "--to", "data"], 2, "there is a store in");
    refused(&["backup", "restore", "--at", "2020-01-01T00:00:00Z", "--to", "x"], 1, "no backup reaches back to");
    let file = desk.json(&["backup", "info"])["path"].as_str().unwrap().to_owned();
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    refused(&["backup", "restore", "--to", "x"], 1, "its bytes are not the ones that were written");
    let done = desk.run(&["backup", "verify", "--json"]);
    let trial: Value = serde_json::from_str(&done.said).unwrap();
    assert_eq!((done.exit, &trial["healthy"]), (1, &false.into()));
}

#[test]
fn h45_a_damaged_store_goes_on_from_its_backup_and_verify_repairs_what_it_finds() {
    let desk = filled();
    desk.ok(&["backup", "create"]);
    assert_eq!(desk.json(&["verify", "--repair"])["healthy"], true, "nothing to mend");
    let database = desk.path("data/tidelock.db");
    let mut bytes = fs::read(&database).unwrap();
    // The pages after the first.
    bytes[4096..8192].fill(0x55);
    fs::write(&database, bytes).unwrap();
    // What is in the log would hide the damage.
    let _ = fs::remove_file(desk.path("data/tidelock.db-wal"));
    let repaired = desk.run(&["verify", "--repair"]);
    assert_eq!(repaired.exit, 0, "{}", repaired.complained);
    let kept = fs::read_dir(desk.path("data/damaged")).unwrap().count();
    assert_eq!(kept, 1);
    assert_eq!(desk.json(&["get", "runs", "a"])["prompt"], "one");
    assert_eq!(desk.json(&["verify"])["healthy"], true);
}
