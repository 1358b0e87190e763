//! `doctor --bundle` on the real backend: what is in the file, and what never is.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::command_line::Desk;
use crate::support::{World, uuid};

/// Too short to be found in what others say of it: nothing but not telling keeps it out. No UUID has such letters.
const SHORT: &str = "qzxjk";
/// The same as a number.
const NUMBER: i64 = 80_614_937;

const CANARIES: [&str; 5] = [
    "sb_publishable_canary_of_the_key",
    "canary.of.the-token",
    "canary-of-the-passphrase",
    "canary of a field",
    "canary-of-a-key",
];

#[tokio::test(flavor = "multi_thread")]
async fn h48_a_bundle_holds_what_a_bug_report_needs_and_no_secret_and_no_document() {
    let world = World::new().await;
    // A server that quotes what it was sent, and a filter that names what is a secret elsewhere.
    world
        .project
        .sql(
            "create function quote() returns trigger language plpgsql as
             $$ begin raise exception using errcode = '57014', message = 'no time for ' || new.body; end $$;
             create trigger quote before insert on public.notes for each row when (new.id = 'waits') execute function quote();",
        )
        .await
        .unwrap();
    let text = world.config_text(Path::new("data"), "auto = false");
    let text = format!("{text}\nfilter = \"body=neq.{}\"", world.project.secret_key);
    for with_process in [false, true] {
        let desk = Desk::with(&format!("{text}\n[backup]\npassphrase = \"{}\"\n[log]\nlevel = \"debug\"", CANARIES[2]));
        let _process = with_process.then(|| desk.process());
        // Somebody's texts may be the names of the bundle's parts.
        let number = format!(r#"{{"n":"{}","title":"conflicts","code":"configuration"}}"#, CANARIES[3]);
        desk.ok(&["put", "tasks", &uuid(1), &number]);
        desk.ok(&["put", "notes", CANARIES[4], &format!(r#"{{"body":"{}"}}"#, CANARIES[3])]);
        assert_eq!(desk.run(&["sync"]).exit, 3);
        desk.ok(&["put", "notes", "waits", &format!(r#"{{"body":"{SHORT}"}}"#)]);
        assert_eq!(desk.run(&["sync"]).exit, 3);
        assert_eq!(desk.ok(&["status"]).contains(SHORT), with_process, "the process remembers what it was told");

        let told: Value = desk.json(&["doctor", "--bundle", "bundle.json"]);
        let written = fs::read_to_string(desk.path("bundle.json")).unwrap();
        assert_eq!(told["bytes"], written.len());
        for canary in CANARIES.iter().chain(&[SHORT]) {
            assert!(!written.contains(canary), "{canary}: {written}");
        }
        let bearer = fs::read_to_string(desk.path("data/api.token")).unwrap_or_default();
        assert!(bearer.is_empty() != with_process && (bearer.is_empty() || !written.contains(bearer.trim())));
        assert!(!written.contains(&world.project.secret_key));
        let bundle: Value = serde_json::from_str(&written).unwrap();
        for part in [
            "versions",
            "configuration",
            "doctor",
            "status",
            "stats",
            "queue",
            "conflicts",
            "rounds",
            "backups",
            "metrics",
            "log",
        ] {
            assert!(bundle.get(part).is_some(), "{part}: {bundle:#}");
            assert!(
                bundle[part].get("missing").is_none() || (part == "metrics" && !with_process),
                "{part}: {bundle:#}"
            );
        }
        assert!(bundle["configuration"].to_string().contains(&world.network.url), "the address stays");
        let causes: Vec<_> =
            bundle["queue"]["counts"].as_array().unwrap().iter().map(|count| &count["cause"]).collect();
        assert!(causes.contains(&&json!("22P02: a value does not fit its column's type")), "{causes:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(desk.path("bundle.json")).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(desk.fails(&["doctor", "--bundle", "bundle.json"], 2).contains("is there already"));
        assert_eq!(fs::read_to_string(desk.path("bundle.json")).unwrap(), written);
        assert!(desk.ok(&["doctor", "--bundle", "second.json"]).contains("Read it before you send it"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h48_a_bundle_is_written_whatever_is_wrong() {
    let [key, token, ..] = CANARIES;
    let remote = format!("[remote]\nurl = \"http://127.0.0.1:1\"\nanon_key = \"{key}\"\naccess_token = \"{token}\"\n");
    let closed = Desk::with(&format!("{remote}[storage]\ndata_dir = \"data\"\n[collections.notes]"));
    fs::write(closed.path("data"), "not a folder").unwrap();
    let wrong = Desk::with(&format!("{remote}[sync]\nintervall = '3s'"));
    for (desk, part) in [(closed, "store"), (wrong, "configuration")] {
        desk.ok(&["doctor", "--bundle", "bundle.json"]);
        let written = fs::read_to_string(desk.path("bundle.json")).unwrap();
        let bundle: Value = serde_json::from_str(&written).unwrap();
        assert!(bundle[part]["missing"].is_string(), "{bundle:#}");
        assert_eq!(bundle["doctor"]["healthy"], false);
        assert!(!written.contains(key) && !written.contains(token), "{written}");
    }
}

/// Words that every check here must do without, with the kit as without it.
const QUOTING: &str = "
    create function quote() returns trigger language plpgsql as $$ begin
      if new.id = 'checked' then raise exception using errcode = '23514', message = 'no room for ' || new.body; end if;
      if new.id = 'raised' then raise exception 'no room for %', new.body; end if;
      return new;
    end $$;
    create trigger quote before insert on public.notes for each row execute function quote();";

#[tokio::test(flavor = "multi_thread")]
async fn h48_nothing_that_a_server_quotes_is_told_however_short_it_is() {
    for world in [World::new().await, World::with_kit().await] {
        world.project.sql(QUOTING).await.unwrap();
        let taken = format!("insert into public.tasks (id, code) values ('{}', '{SHORT}')", uuid(9));
        world.project.sql(&taken).await.unwrap();
        let desk = Desk::with(&world.config_text(Path::new("data"), "auto = false\nconflict = \"manual\""));
        let _process = desk.process();
        let put = |table: &str, key: &str, document: Value| drop(desk.ok(&["put", table, key, &document.to_string()]));
        put("tasks", &uuid(1), json!({ "title": SHORT }));
        desk.ok(&["sync"]);
        let theirs = format!("update public.tasks set title = 'their {SHORT}' where id = '{}'", uuid(1));
        world.project.sql(&theirs).await.unwrap();
        put("tasks", &uuid(1), json!({ "title": format!("our {SHORT}") }));
        put("tasks", &uuid(2), json!({ "n": SHORT }));
        put("tasks", &uuid(3), json!({ "n": -NUMBER }));
        put("tasks", &uuid(4), json!({ "n": NUMBER, "code": SHORT }));
        put("notes", "checked", json!({ "body": SHORT }));
        put("notes", "raised", json!({ "body": NUMBER.to_string() }));
        assert_eq!(desk.run(&["sync"]).exit, 3);
        let listed = desk.ok(&["queue", "list", "--json"]);
        assert!(listed.contains(&format!("no room for {SHORT}")), "who asks for the words has them: {listed}");

        desk.ok(&["doctor", "--bundle", "bundle.json"]);
        let written = fs::read_to_string(desk.path("bundle.json")).unwrap();
        let checked = desk.run(&["doctor", "--json"]).said;
        for told in [&written, &checked] {
            for quoted in [SHORT, &NUMBER.to_string()] {
                assert!(!told.contains(quoted), "{quoted}: {told}");
            }
        }
        let bundle: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(bundle["conflicts"].as_array().unwrap().len(), 1, "{bundle:#}");
        let causes = bundle["queue"]["counts"].to_string();
        for cause in [
            "22P02: a value does not fit its column's type",
            "23505: a unique value is there already",
            "23514: a check of the table refuses it",
            "P0001: a trigger or a function of the server refuses it",
        ] {
            assert!(causes.contains(cause), "{cause}: {causes}");
        }
        assert!(checked.contains("tasks: 23505: a unique value is there already"), "{checked}");
    }
}

#[test]
fn h48_what_is_damaged_is_counted_and_not_quoted() {
    let desk = Desk::new();
    desk.ok(&["put", "runs", "a", r#"{"n":1}"#]);
    let store = rusqlite::Connection::open(desk.path("data/tidelock.db")).unwrap();
    let spoiled = format!("UPDATE tl_records SET document = '{SHORT} is no document'");
    assert_eq!(store.execute(&spoiled, []).unwrap(), 1);
    drop(store);
    assert!(desk.run(&["verify"]).said.contains(SHORT), "who asks for the words has them");
    desk.ok(&["doctor", "--bundle", "bundle.json"]);
    let written = fs::read_to_string(desk.path("bundle.json")).unwrap();
    assert!(written.contains("things in it are not as they should be") && !written.contains(SHORT), "{written}");
}
