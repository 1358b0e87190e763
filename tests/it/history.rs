//! What was there before comes back: on the device that asks for it, on the server and on every other device.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidelock::adapters::sqlite::RoundKind;
use tidelock::{Config, Document, RollbackReport, RollbackRequest, RollbackTarget, Tidelock};

use crate::command_line::Desk;
use crate::support::{Device, World, assert_equal, uuid};

const MANY: usize = 10_000;

type Records = BTreeMap<String, Document>;

async fn roll_back(device: &Device, target: RollbackTarget) -> RollbackReport {
    let report = device.tidelock.roll_back(RollbackRequest { target, dry_run: false }).await.unwrap();
    assert_eq!((report.unknown, report.skipped), (0, 0), "{:?}", report.left);
    device.assert_healthy().await;
    report
}

async fn roll_back_round(device: &Device, number: i64) -> RollbackReport {
    roll_back(device, RollbackTarget::Round { number, collections: Vec::new(), force: false }).await
}

/// The number of the newest round that changed something here, and how many records.
async fn newest_round(device: &Device) -> (i64, u64) {
    let rounds = device.tidelock.rounds().await.unwrap();
    assert_eq!((rounds[0].kind, rounds[0].number % 2), (RoundKind::Sync, 0), "rollbacks are odd");
    (rounds[0].number, rounds[0].records)
}

#[track_caller]
fn assert_same_bytes(left: &Records, right: &Records) {
    assert_eq!(left.len(), right.len());
    for ((key, left), (_, right)) in left.iter().zip(right) {
        assert_eq!(left.as_str(), right.as_str(), "{key}");
    }
}

/// Without the server's stamp, which is another one after each change.
fn unstamped(records: &Records) -> Records {
    records.iter().map(|(key, document)| (key.clone(), document.without("updated_at"))).collect()
}

/// A device that waits longer for an answer: ten thousand operations of one transaction go in one request, beside other tests.
fn patient(world: &World, name: &str) -> Device {
    let directory = world.folder(name);
    let text = world.config_text(&directory, "auto = false").replace("timeout = \"10s\"", "timeout = \"5m\"");
    Device { tidelock: Tidelock::open(Config::from_toml(&text).unwrap()).unwrap(), directory }
}

#[tokio::test]
async fn h33_a_round_that_pulled_ten_thousand_rows_is_rolled_back_and_so_is_the_rollback() {
    // Without the kit each changed row is a request of its own.
    for (world, many) in [(World::new().await, MANY / 20), (World::with_kit().await, MANY)] {
        let fill = format!("insert into notes select n::text, 'old ' || n from generate_series(1, {many}) n");
        world.project.sql(&fill).await.unwrap();
        let (here, there) = (patient(&world, "here"), patient(&world, "there"));
        here.sync().await;
        there.sync().await;
        let old = here.records("notes").await;
        world.project.sql("update notes set body = 'new ' || id").await.unwrap();
        here.sync().await;
        let new = here.records("notes").await;
        let (number, records) = newest_round(&here).await;
        assert_eq!(records, many as u64);

        let first = roll_back_round(&here, number).await;
        assert_eq!(first.changed, many as u64);
        assert_same_bytes(&here.records("notes").await, &old);
        here.sync_until_settled().await;
        assert_equal(&world.rows("notes").await, &old, "the server has the old state");
        there.sync().await;
        assert_equal(&there.records("notes").await, &old, "and so has the other device");
        assert_same_bytes(&here.records("notes").await, &old);

        let second = roll_back_round(&here, first.number.unwrap()).await;
        assert_eq!((second.changed, second.changed_since), (many as u64, 0));
        assert_same_bytes(&here.records("notes").await, &new);
        here.sync_until_settled().await;
        there.sync().await;
        assert_equal(&world.rows("notes").await, &new, "the server has the new state again");
        assert_equal(&there.records("notes").await, &new, "and so has the other device");
        assert_same_bytes(&here.records("notes").await, &new);
        assert!(here.tidelock.queue(Default::default()).await.unwrap().is_empty());
        here.assert_healthy().await;
    }
}

#[tokio::test]
async fn rows_that_a_round_made_changed_and_deleted_go_back_together() {
    for world in World::both().await {
        let (here, there) = (world.device("here"), world.device("there"));
        let insert = |range: &str| {
            format!(
                "insert into projects (id, name) select ('{}' || lpad(to_hex(n), 12, '0'))::uuid, 'p' || n
                   from generate_series({range}) n;
                 insert into tasks (id, project_id, title, amount, meta)
                   select ('{0}' || lpad(to_hex(n), 12, '0'))::uuid, ('{0}' || lpad(to_hex(n), 12, '0'))::uuid,
                     't' || n, n / 3.0, '{{\"b\": [1, 2], \"a\": null}}' from generate_series({range}) n;",
                "00000000-0000-4000-8000-"
            )
        };
        world.project.sql(&insert("1, 40")).await.unwrap();
        here.sync().await;
        let old = (here.records("projects").await, here.records("tasks").await);
        let change = format!(
            "update tasks set title = 'changed', n = 1 where id < '{}'; delete from projects where id > '{}'",
            uuid(10),
            uuid(30)
        );
        world.project.sql(&change).await.unwrap();
        world.project.sql(&insert("101, 150")).await.unwrap();
        here.sync().await;
        let new = (here.records("projects").await, here.records("tasks").await);
        let (number, records) = newest_round(&here).await;
        assert_eq!(records, 9 + 10 + 10 + 50 + 50);

        let first = roll_back_round(&here, number).await;
        assert_eq!(first.changed, records);
        assert_equal(&unstamped(&here.records("tasks").await), &unstamped(&old.1), "here, before it was sent");
        let second = roll_back_round(&here, first.number.unwrap()).await;
        let is_as_new = |key: &String| new.1.contains_key(key);
        assert!(here.records("tasks").await.keys().all(is_as_new));
        assert_same_bytes(&here.records("tasks").await, &new.1);
        assert_same_bytes(&here.records("projects").await, &new.0);

        let third = roll_back_round(&here, second.number.unwrap()).await;
        here.sync_until_settled().await;
        there.sync().await;
        for (table, old) in [("projects", &old.0), ("tasks", &old.1)] {
            assert_equal(&unstamped(&world.rows(table).await), &unstamped(old), "the server");
            assert_equal(&unstamped(&there.records(table).await), &unstamped(old), "the other device");
        }
        let fourth = roll_back_round(&here, third.number.unwrap()).await;
        assert_eq!((fourth.changed, fourth.changed_since), (records, 0));
        here.sync_until_settled().await;
        for (table, new) in [("projects", &new.0), ("tasks", &new.1)] {
            assert_equal(&unstamped(&world.rows(table).await), &unstamped(new), "the server, again");
            assert_equal(&here.records(table).await, &world.rows(table).await, "here and there");
        }
        assert_eq!(here.tidelock.status().parked, 0);
        here.assert_healthy().await;
    }
}

#[tokio::test]
async fn a_collection_goes_back_to_a_time_on_every_device() {
    for world in World::both().await {
        let (here, there) = (world.device("here"), world.device("there"));
        for number in 1..=5 {
            here.save("tasks", &uuid(number), r#"{"title":"then","n":1}"#).await;
        }
        here.sync_until_settled().await;
        there.sync().await;
        let then = jiff::Timestamp::now();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        there.save("tasks", &uuid(1), r#"{"title":"theirs"}"#).await;
        there.tidelock.delete("tasks", &uuid(2)).await.unwrap();
        there.sync_until_settled().await;
        here.save("tasks", &uuid(3), r#"{"n":3}"#).await;
        here.save("tasks", &uuid(6), r#"{"title":"new"}"#).await;
        here.sync_until_settled().await;

        let target = RollbackTarget::Collections { names: vec!["tasks".to_owned()], to: then };
        assert_eq!(roll_back(&here, target).await.changed, 4);
        here.sync_until_settled().await;
        there.sync().await;
        let on_server = world.value("select count(*) || min(title) || max(title) || sum(n) from tasks").await;
        assert_eq!(on_server, "5thenthen5");
        assert_equal(&there.records("tasks").await, &world.rows("tasks").await, "the other device");
        there.assert_healthy().await;
    }
}

#[test]
fn the_command_line_rolls_back_with_and_without_a_process() {
    Desk::both_ways(|desk| {
        for n in 1..=3 {
            desk.ok(&["put", "runs", "a", &format!(r#"{{"n":{n}}}"#)]);
        }
        let history = desk.json(&["history", "runs", "a"]);
        let version = history[1]["id"].to_string();
        let diff = desk.json(&["diff", "runs", "a", &version]);
        assert_eq!(diff["fields"], json!([{ "field": "n", "before": 1, "after": 3 }]));
        assert_eq!((&diff["from"], &diff["to"]), (&history[1]["id"], &Value::Null));
        assert_eq!(desk.ok(&["diff", "runs", "a"]), "field  before  after\nn      2       3\n");

        let record = ["rollback", "record", "runs", "a"];
        let tried = desk.json(&[&record[..], &[&version, "--dry-run"]].concat());
        assert_eq!((&tried["changed"], &tried["number"], &tried["dry_run"]), (&json!(1), &Value::Null, &json!(true)));
        assert_eq!(desk.json(&["get", "runs", "a"])["n"], 3);
        let done = desk.json(&[&record[..], &[&version]].concat());
        assert_eq!(
            done["records"],
            json!([{ "collection": "runs", "key": "a", "change": "changed",
                     "fields": [{ "field": "n", "before": 3, "after": 1 }] }])
        );
        assert_eq!(desk.json(&["get", "runs", "a"])["n"], 1);
        let head = &desk.json(&["history", "runs", "a"])[0];
        assert_eq!((&head["replaced_by"], &head["replaced_in_round"]), (&json!("restored"), &done["number"]));

        let rounds = desk.json(&["rounds"]);
        assert_eq!((&rounds[0]["number"], &rounds[0]["kind"]), (&done["number"], &json!("rollback")));
        let number = done["number"].to_string();
        let said = desk.ok(&["rollback", "round", &number]);
        assert!(said.starts_with("1 record rolled back; take it back with: tidelock rollback round "), "{said}");
        assert!(said.contains("n: 1 -> 3"), "{said}");
        assert_eq!(desk.json(&["get", "runs", "a"])["n"], 3);

        desk.ok(&["rollback", "collection", "runs", "albums", "--to", "1h ago"]);
        assert_eq!(desk.fails(&["get", "runs", "a"], 1).lines().count(), 1);
        desk.ok(&["rollback", "record", "runs", "a", "--to", head["since"].as_str().unwrap()]);
        assert_eq!(desk.json(&["get", "runs", "a"])["n"], 3);
    });
}

#[test]
fn the_command_line_says_what_is_wrong_with_a_rollback() {
    Desk::both_ways(|desk| {
        desk.ok(&["put", "runs", "a", r#"{"n":1}"#]);
        let fails = |words: &[&str], exit: i32, said: &str| {
            let told = desk.fails(&[&["rollback"], words].concat(), exit);
            assert!(told.contains(said), "{told}");
        };
        fails(&["record", "runs", "a", "99"], 1, "there is no version 99 of runs/a; see its history");
        fails(&["round", "2"], 1, "no round 2 has changed anything that is still kept; see the list of rounds");
        fails(&["collection", "prices", "--to", "1h"], 2, "prices");
        fails(&["collection", "nowhere", "--to", "1h"], 2, "nowhere");
        fails(&["collection", "runs", "--to", "soon"], 2, "how long ago");
        fails(&["record", "runs", "a"], 2, "required");
        let same = desk.ok(&["rollback", "collection", "runs", "--to", "0s"]);
        assert_eq!(same, "nothing to roll back\n");

        desk.ok(&["put", "runs", "a", r#"{"n":2}"#]);
        let first = desk.json(&["rollback", "record", "runs", "a", "--to", "1h"])["number"].to_string();
        desk.ok(&["put", "runs", "a", r#"{"n":3}"#]);
        let left = desk.run(&["rollback", "round", &first, "--json"]);
        let told: Value = serde_json::from_str(&left.said).unwrap();
        assert_eq!((left.exit, &told["changed"], &told["changed_since"]), (3, &json!(0), &json!(1)));
        assert_eq!(told["left"], json!([{ "collection": "runs", "key": "a", "why": "changed_since" }]));
        desk.ok(&["rollback", "round", &first, "--force"]);
        assert_eq!(desk.json(&["get", "runs", "a"])["n"], 2);
    });
}
