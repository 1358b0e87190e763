//! `tidelock remote`: the printed SQL on a real database, and what the server then says of it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tidelock::adapters::supabase::{KIT_LEAST, KIT_VERSION};
use tidelock_testbed::Project;

use crate::command_line::{Desk, Done};
use crate::support::World;

/// A desk whose collections are those of a world, and `more`.
fn desk(world: &World, more: &str) -> Desk {
    let text = world.config_text(std::path::Path::new("data"), "auto = false");
    Desk::with(&format!("{text}\n{more}"))
}

/// Runs what `remote sql` prints, and waits until the server has noticed.
async fn install(project: &Project, desk: &Desk, words: &[&str]) {
    project.sql(&desk.ok(&[&["remote", "sql"], words].concat())).await.unwrap();
    let status = if words.contains(&"--remove") { 404 } else { 200 };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let asked = project.request(Method::POST, "/rest/v1/rpc/tidelock_describe").json(&json!({ "tables": [] }));
        if asked.send().await.unwrap().status() == status {
            return;
        }
        assert!(Instant::now() < deadline, "the server has not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `remote check` says: the exit code, its document, and the checks that are not well, a line each.
fn checked(desk: &Desk) -> (i32, Value, Vec<String>) {
    let Done { exit, said, complained } = desk.run(&["remote", "check", "--json"]);
    assert_eq!(complained, "");
    let report: Value = serde_json::from_str(&said).unwrap();
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let unwell = checks.filter(|check| check["state"] != "ok").map(|check| {
        assert_ne!(text(check, "advice"), "", "{check}");
        format!("{} {} {}", text(check, "state"), text(check, "name"), text(check, "message"))
    });
    (exit, report.clone(), unwell.collect())
}

/// Columns, indexes, triggers, constraints and rights of the tables in `public`, and the functions there.
async fn shape(world: &World) -> Vec<Vec<Option<String>>> {
    world
        .project
        .query(
            "select 'column', attrelid::regclass::text, attname from pg_attribute
               where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
                 and attnum > 0 and not attisdropped
             union all select 'trigger', tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal
             union all select 'index', tablename, indexdef from pg_indexes where schemaname = 'public'
             union all select 'constraint', conrelid::regclass::text, conname from pg_constraint where conrelid <> 0
             union all select 'rights', relname, relacl::text || relrowsecurity from pg_class
               where relnamespace = 'public'::regnamespace and relkind = 'r'
             union all select 'function', pronamespace::regnamespace::text, proname from pg_proc
               where pronamespace::regnamespace::text in ('public', 'tidelock')
             order by 1, 2, 3",
        )
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_kit_the_check_says_what_to_do() {
    let world = World::new().await;
    let desk = desk(&world, "");
    let (exit, report, unwell) = checked(&desk);
    assert_eq!((exit, &report["kit"]), (1, &json!({ "installed": false, "version": null, "needed": KIT_LEAST })));
    assert_eq!(unwell, ["failure kit the server kit is not installed"]);
    let words = desk.run(&["remote", "check"]);
    assert!(words.exit == 1 && words.said.contains("→ apply what `tidelock remote sql` prints"), "{}", words.said);
    assert!(desk.ok(&["doctor"]).contains("the server kit is not installed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_can_be_applied_twice_and_then_all_is_well() {
    let world = World::new().await;
    let desk = desk(&world, "[collections.runs]\ntable = \"generations\"\nowner = \"user_id\"");
    world.project.sql("insert into public.notes values ('a', 'there before')").await.unwrap();
    for _ in 0..2 {
        install(&world.project, &desk, &[]).await;
        let (exit, report, unwell) = checked(&desk);
        assert_eq!(
            (exit, &report["kit"]),
            (0, &json!({ "installed": true, "version": KIT_VERSION, "needed": KIT_LEAST })),
            "{report}"
        );
        // Everybody's tables have nobody as their owner.
        let told = |name: &str| {
            format!("warning owner {name}: {name} has no owner, so deletions are only found by comparing keys")
        };
        assert_eq!(unwell, ["notes", "projects", "tasks"].map(told));
        assert_eq!(report["checks"][0]["state"], "ok");
        assert!(report["checks"].to_string().contains("runs: generations is attached, owner user_id"), "{report}");
    }
    assert_eq!(world.value("select count(*) from tidelock.tables").await, "4");
    assert_eq!(world.value("select version from tidelock.kit").await, KIT_VERSION.to_string());
    let doctor = desk.ok(&["doctor"]);
    assert!(doctor.lines().any(|line| line.starts_with("ok") && line.contains("server kit")), "{doctor}");
    world.project.sql("update tidelock.kit set version = 0").await.unwrap();
    assert_eq!(checked(&desk).2[0], format!("failure kit version 0 is installed, and this build needs {KIT_LEAST}"));
    world.project.sql(&format!("update tidelock.kit set version = {KIT_LEAST}")).await.unwrap();
    let (exit, _, unwell) = checked(&desk);
    assert_eq!(exit, 0, "what works is no failure: {unwell:?}");
    assert!(unwell[0].starts_with("warning kit version 2 is installed: it works, and only 3 can tell"), "{unwell:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_does_not_fit_is_named() {
    let world = World::new().await;
    let desk = desk(
        &world,
        "[collections.owned]\nowner = \"owner\"\n[collections.bench]\nfields = { text = \"body\" }\ncolumns = [\"n\"]\n\
         [collections.lost]\n[collections.files]\ntable = \"Odd Name\"\n[collections.links]\nafter = [\"files\"]\n\
         [collections.mine]\ndirection = \"local\"",
    );
    let script = "
        create table public.\"Odd Name\" (a int, b int, primary key (a, b));
        create table public.links (id uuid primary key, task uuid references public.tasks, up uuid references public.links);
        alter table public.links enable row level security;
        create table public.lost (id text primary key);";
    world.project.sql(script).await.unwrap();
    install(&world.project, &desk, &["--collections", "owned,bench,lost,files,tasks"]).await;
    let script = "
        select tidelock.attach('public.owned');
        alter table public.bench drop column body;
        drop table public.lost;
        notify pgrst, 'reload schema';";
    world.project.sql(script).await.unwrap();
    let (exit, report, unwell) = checked(&desk);
    assert_eq!(exit, 1);
    let expected = [
        "failure columns bench: bench has no column body",
        "warning row_security bench: row-level security is off: whoever has the publishable key can read and write bench",
        "failure key files: the primary key of Odd Name is (a, b), not id",
        "warning row_security files: row-level security is off: whoever has the publishable key can read and write Odd Name",
        "failure attached links: links is not attached",
        "warning after links: links refers to tasks by task",
        "failure table lost: there is no table lost, or it may not be read with this key",
        "failure attached notes: notes is not attached",
        "failure owner owned: owned is attached without owner, not with owner",
        "failure attached projects: projects is not attached",
        "warning owner tasks: tasks has no owner, so deletions are only found by comparing keys",
    ];
    assert_eq!(unwell, expected, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_the_kit_away_leaves_the_tables_as_they_were() {
    let world = World::new().await;
    let desk = desk(&world, "[collections.runs]\ntable = \"generations\"\nowner = \"user_id\"");
    world.project.sql("insert into public.notes values ('a', 'stays')").await.unwrap();
    let before = shape(&world).await;
    install(&world.project, &desk, &[]).await;
    assert_ne!(shape(&world).await, before);
    install(&world.project, &desk, &["--remove"]).await;
    assert_eq!(shape(&world).await, before);
    assert_eq!(world.value("select count(*) from pg_namespace where nspname = 'tidelock'").await, "0");
    assert_eq!(world.value("select body from public.notes").await, "stays");
    assert_eq!(checked(&desk).0, 1);
    install(&world.project, &desk, &[]).await;
    assert_eq!(checked(&desk).0, 0);
}

/// The answer to a user: tables that may not be read are as good as not there, also as targets of foreign keys.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_read_is_not_described() {
    let world = World::new().await;
    let script = "
        create schema hidden;
        create table hidden.secrets (id uuid primary key);
        create table public.secrets (id uuid primary key, deep uuid references hidden.secrets);
        revoke all on public.secrets from anon, authenticated;
        create table public.half (id uuid primary key, one int, secret uuid references public.secrets);
        revoke all on public.half from anon, authenticated;
        grant select (id) on public.half to authenticated;";
    world.project.sql(script).await.unwrap();
    install(&world.project, &desk(&world, ""), &[]).await;
    let user = world.project.any_user().await.unwrap();
    let body = json!({ "tables": ["secrets", "hidden.secrets", "public.half", "nowhere", "nowhere.else", "tidelock.ledger", "notes"] });
    let asked = reqwest::Client::new()
        .post(format!("{}/rest/v1/rpc/tidelock_describe", world.project.url))
        .header("apikey", &world.project.publishable_key)
        .bearer_auth(&user.access_token)
        .json(&body);
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    let tables = answer["tables"].as_array().unwrap();
    for at in [0, 1, 3, 4, 5] {
        assert_eq!(tables[at], json!({ "table": body["tables"][at], "exists": false }));
    }
    assert_eq!((&tables[2]["exists"], &tables[2]["references"]), (&json!(true), &json!([])), "{answer}");
    assert_eq!((&tables[6]["key"], &tables[6]["attached"]), (&json!(["id"]), &json!(true)), "{answer}");
    assert_eq!(tables[6]["columns"][0], json!({ "name": "id", "type": "text", "nullable": false }));
    assert_eq!(answer["version"], KIT_VERSION);
    assert_eq!(answer["epoch"].as_str(), world.project.value("select tidelock.epoch()").await.unwrap().as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_says_who_does_not_answer() {
    let world = World::new().await;
    let text = world.config_text(std::path::Path::new("data"), "auto = false");
    let stranger = Desk::with(&text.replace(&world.project.secret_key, "sb_secret_wrong"));
    let said = stranger.fails(&["remote", "check"], 4);
    assert!(said.starts_with("tidelock: the server does not accept the credentials ("), "{said}");
    let lost = Desk::with(&text.replace(&world.network.url, "http://127.0.0.1:1"));
    assert!(lost.fails(&["remote", "check"], 5).contains("cannot be reached"));
    let offline = Desk::with("[collections.notes]");
    assert!(offline.fails(&["remote", "check"], 2).contains("set remote.url"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_needs_no_server_and_a_known_collection() {
    let desk = Desk::with("[collections.notes]\n[collections.albums]\nafter = [\"notes\"]");
    let said = desk.ok(&["remote", "sql"]);
    assert_eq!(said, desk.ok(&["remote", "sql", "--json"]), "it is SQL always");
    let ends = "select tidelock.attach('public.notes');\nselect tidelock.attach('public.albums');\n\nnotify pgrst, 'reload schema';\nreset client_min_messages;\n";
    assert!(said.starts_with("-- tidelock's server kit") && said.ends_with(ends), "{said}");
    let one = desk.ok(&["remote", "sql", "--collections", "albums"]);
    assert!(one.contains("attach('public.albums')") && !one.contains("attach('public.notes')"));
    assert!(desk.ok(&["remote", "sql", "--remove"]).contains("\nselect tidelock.remove();\n"));
    let said = desk.fails(&["remote", "sql", "--collections", "album"], 2);
    assert_eq!(said, "tidelock: unknown collection \"album\"; the configuration declares: albums, notes");
    let said = desk.fails(&["remote", "sql", "--remove", "--collections", "notes"], 2);
    assert!(said.contains("cannot be used with"), "{said}");
}
