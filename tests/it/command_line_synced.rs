//! The command line against the real backend: what scripts rely on, names and exit codes.

use serde_json::{Value, json};

use crate::command_line::Desk;
use crate::support::{World, uuid};

/// A desk whose configuration leads to this world; it may have a process or not.
fn desk(world: &World, sync: &str) -> Desk {
    let text = world.config_text(std::path::Path::new("data"), &format!("auto = false\n{sync}"));
    Desk::with(&text)
}

/// Does the same in worlds of its own, with and without a process.
async fn both_ways(sync: &str, check: impl AsyncFn(&World, &Desk)) {
    for with_process in [false, true] {
        let world = World::new().await;
        let desk = desk(&world, sync);
        let _process = with_process.then(|| desk.process());
        check(&world, &desk).await;
    }
}

fn synced(desk: &Desk, exit: i32) -> Value {
    let done = desk.run(&["sync", "--json"]);
    assert_eq!((done.exit, done.complained.as_str()), (exit, ""), "{}", done.said);
    serde_json::from_str(&done.said).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_says_what_it_did() {
    both_ways("", async |world, desk| {
        desk.ok(&["put", "notes", "a", r#"{"body":"from here"}"#]);
        world.project.sql("insert into public.notes values ('b', 'from there')").await.unwrap();
        let pushed = desk.json(&["sync", "--push"]);
        assert_eq!((&pushed["pushed"], &pushed["pulled"]), (&json!(1), &json!(0)), "{pushed}");
        let pulled = desk.json(&["sync", "--pull"]);
        assert_eq!((&pulled["pushed"], &pulled["pulled"]), (&json!(0), &json!(1)), "{pulled}");
        for name in ["failed", "parked", "conflicts", "requests"] {
            assert!(pulled[name].is_u64(), "{name}: {pulled}");
        }
        assert_eq!(desk.json(&["get", "notes", "b"]), json!({ "id": "b", "body": "from there" }));
        assert_eq!(world.value("select body from public.notes where id = 'a'").await, "from here");
        assert_eq!(desk.json(&["status"])["pending"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_ends_with_three_until_it_is_mended() {
    both_ways("", async |world, desk| {
        desk.ok(&["put", "tasks", &uuid(1), r#"{"title":"bad","n":-1}"#]);
        desk.ok(&["put", "tasks", &uuid(2), r#"{"title":"good","n":1}"#]);
        let report = synced(desk, 3);
        assert_eq!((&report["pushed"], &report["parked"]), (&json!(1), &json!(1)));
        let parked = desk.json(&["queue", "list", "--state", "parked"]);
        let (operation, cause) = (&parked[0], &parked[0]["cause"]);
        assert_eq!((&operation["collection"], &operation["key"]), (&json!("tasks"), &json!(uuid(1))));
        assert_eq!((&cause["code"], &cause["status"]), (&json!("23514"), &json!(400)), "{cause}");
        assert!(cause["message"].as_str().unwrap().contains("tasks_n_check"), "{cause}");
        synced(desk, 3);

        world.project.sql("alter table public.tasks drop constraint tasks_n_check").await.unwrap();
        assert_eq!(desk.json(&["queue", "redrive", &operation["id"].to_string()]), json!({ "redriven": 1 }));
        assert_eq!(synced(desk, 0)["pushed"], 1);
        assert_eq!(world.value("select count(*) from public.tasks").await, "2");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_waits_for_a_decision_that_can_be_taken_back() {
    both_ways("conflict = 'manual'", async |world, desk| {
        let id = uuid(1);
        desk.ok(&["put", "tasks", &id, r#"{"title":"base"}"#]);
        synced(desk, 0);
        world.project.sql(&format!("update public.tasks set title = 'there' where id = '{id}'")).await.unwrap();
        desk.ok(&["put", "tasks", &id, r#"{"title":"here"}"#]);
        assert_eq!(synced(desk, 3)["conflicts"], 1);

        let open = desk.json(&["conflicts", "list"]);
        assert_eq!((&open[0]["collection"], &open[0]["key"]), (&json!("tasks"), &json!(id)), "{open}");
        assert!(open[0]["cause"]["message"].is_string(), "{open}");
        let conflict = open[0]["id"].to_string();
        let shown = desk.json(&["conflicts", "show", &conflict]);
        assert_eq!((&shown["local"]["title"], &shown["remote"]["title"]), (&json!("here"), &json!("there")));

        desk.ok(&["conflicts", "resolve", &conflict, "--take", "remote"]);
        synced(desk, 0);
        assert_eq!(desk.json(&["get", "tasks", &id])["title"], "there");
        desk.ok(&["conflicts", "undo", &conflict]);
        synced(desk, 0);
        assert_eq!(world.value("select title from public.tasks").await, "here");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_says_what_differs_and_ends_with_three_until_it_is_put_right() {
    both_ways("", async |world, desk| {
        let fill = "set session_replication_role = replica; insert into public.tasks (id, title, updated_at)
            select gen_random_uuid(), 'task ' || n, '2020-01-01' from generate_series(1, 5) n";
        world.project.sql(fill).await.unwrap();
        synced(desk, 0);
        let equal = json!({ "equal": true, "missing": 0, "extra": 0, "different": 0, "repaired": 0 });
        let counts = |mut report: Value| {
            assert_eq!(report["paused"], json!({}), "{report}");
            let collections = report.as_object_mut().unwrap().remove("collections").unwrap();
            report.as_object_mut().unwrap().remove("paused");
            (report, collections)
        };
        let (report, collections) = counts(desk.json(&["audit"]));
        assert_eq!((report, collections.as_object().unwrap().len()), (equal.clone(), 3));
        assert_eq!(desk.ok(&["audit"]).trim(), "everything that came from the server is as the server has it");

        let drift =
            "set session_replication_role = replica; update public.tasks set title = 'drifted' where title = 'task 1';
            delete from public.tasks where title = 'task 2'";
        world.project.sql(drift).await.unwrap();
        let done = desk.run(&["audit", "--json"]);
        assert_eq!((done.exit, done.complained.as_str()), (3, ""), "{}", done.said);
        let (report, _) = counts(serde_json::from_str(&done.said).unwrap());
        assert_eq!(report, json!({ "equal": false, "missing": 0, "extra": 1, "different": 1, "repaired": 0 }));
        let words = desk.run(&["audit", "tasks"]);
        assert!(words.exit == 3 && words.said.contains("tidelock audit --repair"), "{}", words.said);
        assert_eq!(counts(desk.json(&["audit", "notes"])).0, equal, "only what is named is looked at");

        let (report, collections) = counts(desk.json(&["audit", "--repair", "tasks"]));
        assert_eq!(report, json!({ "equal": false, "missing": 0, "extra": 1, "different": 1, "repaired": 2 }));
        assert_eq!(collections["tasks"]["repaired"], 2, "{collections}");
        assert_eq!(counts(desk.json(&["audit"])).0, equal);
        assert!(desk.fails(&["audit", "tusks"], 2).contains("unknown collection"));
    })
    .await;
    let world = World::new().await;
    let text = world.config_text(std::path::Path::new("data"), "auto = false");
    Desk::with(&text.replace(&world.project.secret_key, "sb_secret_wrong")).fails(&["audit"], 4);
    Desk::with(&text.replace(&world.network.url, "http://127.0.0.1:1")).fails(&["audit"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_ends_with_four_and_loses_nothing() {
    let world = World::new().await;
    let text = world.config_text(std::path::Path::new("data"), "auto = false");
    let desk = Desk::with(&text.replace(&world.project.secret_key, "sb_secret_wrong"));
    desk.ok(&["put", "notes", "a", "{}"]);
    let said = desk.fails(&["sync"], 4);
    assert!(said.starts_with("tidelock: the server does not accept the credentials ("), "{said}");
    assert_eq!(desk.json(&["status"])["pending"], 1);
    let doctor = desk.run(&["doctor"]);
    assert!(doctor.exit == 1 && doctor.said.contains("failure  credentials"), "{}", doctor.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_the_server() {
    both_ways("", async |world, desk| {
        let findings = desk.json(&["doctor"]);
        assert_eq!(findings["healthy"], true, "{findings}");
        let words = desk.ok(&["doctor"]);
        for check in ["connection", "credentials", "schema", "clock"] {
            let is_ok = words.lines().any(|line| line.split_whitespace().take(2).eq(["ok", check]));
            assert!(is_ok, "{check}: {words}");
        }
        world.project.sql("alter table public.notes rename to letters; notify pgrst, 'reload schema'").await.unwrap();
        let doctor = desk.run(&["doctor"]);
        let is_told = |line: &str| line.split_whitespace().take(3).eq(["failure", "schema", "notes:"]);
        assert!(doctor.exit == 1 && doctor.said.lines().any(is_told), "{}", doctor.said);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kit_that_is_demanded_and_not_there_is_no_sync() {
    let world = World::new().await;
    let text = world.config_text(std::path::Path::new("data"), "auto = false\n");
    let desk = Desk::with(&text.replace("[remote]", "[remote]\nmode = \"kit\""));
    desk.ok(&["put", "notes", "a", r#"{"body":"from here"}"#]);
    let done = desk.run(&["sync", "--json"]);
    assert_eq!((done.exit, done.said.as_str()), (1, ""), "{}", done.complained);
    assert!(done.complained.contains("tidelock remote sql"), "{}", done.complained);
    assert_eq!(desk.run(&["audit"]).exit, 1, "what was not compared is not equal");
    let status = desk.json(&["status"]);
    assert_eq!((&status["last_synced_at"], &status["pending"]), (&Value::Null, &json!(1)), "{status}");
}
