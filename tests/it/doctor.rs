//! The doctor on the real backend: what it finds, what it says to do about it, and that it changes nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tidelock::Checkup;
use tidelock::adapters::supabase::KIT_VERSION;

use crate::command_line::Desk;
use crate::support::{Device, World, canned, uuid};

/// A line a check: its state, its name and what was found.
pub fn lines(checkup: &Checkup) -> Vec<String> {
    let line = |one: &tidelock::doctor::Finding| {
        assert!(one.state == tidelock::doctor::State::Ok || !one.next.is_empty(), "what to do? {one:?}");
        format!("{} {}: {}", one.state.name(), one.check, one.found)
    };
    checkup.checks.iter().map(line).collect()
}

/// The same of what a command says; a failure of the command is no failure of the test.
fn asked(desk: &Desk) -> Vec<String> {
    let done = desk.run(&["doctor", "--json"]);
    assert_eq!(done.complained, "");
    lines(&serde_json::from_str(&done.said).unwrap())
}

#[track_caller]
pub fn assert_said(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted} is not among {lines:#?}");
}

/// A signed-in user's device on one table.
pub async fn users_device(world: &World, name: &str, table: &str, more: &str) -> Device {
    let session = world.project.any_user().await.unwrap();
    let directory = world.folder(name);
    let text = format!(
        "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\naccess_token = \"{}\"\n[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n\
         [collections.{table}]\n{more}",
        world.network.url,
        world.project.publishable_key,
        session.access_token,
        directory.display()
    );
    Device { tidelock: tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap(), directory }
}

/// Every row of these tables with the transaction that wrote it.
async fn rows_and_writers(world: &World, tables: &[&str]) -> Vec<Vec<Option<String>>> {
    let of = |table: &&str| format!("select '{table}', t.xmin::text, t.ctid::text, t::text from {table} t");
    let all: Vec<_> = tables.iter().map(of).collect();
    world.project.query(&format!("{} order by 1, 4", all.join(" union all "))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_kit_a_missing_grant_is_seen_and_nothing_is_touched() {
    let world = World::new().await;
    let device = users_device(&world, "user", "notes", "").await;
    device.save("notes", "a", r#"{"body":"one"}"#).await;
    device.sync_until_settled().await;
    world.project.sql("insert into public.notes values ('', 'a key that is empty')").await.unwrap();
    let before = rows_and_writers(&world, &["public.notes"]).await;
    assert_eq!(before.len(), 2);
    let well = lines(&device.tidelock.doctor().await);
    assert_said(&well, "ok row-level security: nothing that the collections need is denied by a grant");
    assert_said(&well, "ok schema: 1 collections fit");
    assert_said(&well, "ok session: signed in as ");
    assert_said(&well, "ok key: a publishable key");

    for (grant, word) in [("insert", "insert"), ("update", "update"), ("delete", "delete")] {
        world.project.sql(&format!("revoke {grant} on public.notes from authenticated")).await.unwrap();
        let found = lines(&device.tidelock.doctor().await);
        assert_said(&found, &format!("warning row-level security: notes: this user has no grant to {word} in notes"));
        world.project.sql(&format!("grant {grant} on public.notes to authenticated")).await.unwrap();
    }
    world.project.sql("revoke select on public.notes from authenticated").await.unwrap();
    assert_said(
        &lines(&device.tidelock.doctor().await),
        "failure row-level security: notes: it may not be read (42501",
    );
    world.project.sql("grant select on public.notes to authenticated").await.unwrap();
    assert_eq!(rows_and_writers(&world, &["public.notes"]).await, before, "a dry run touches no row");

    world.project.sql("drop policy everybody on public.notes").await.unwrap();
    let hidden = lines(&device.tidelock.doctor().await);
    assert_said(
        &hidden,
        "warning row-level security: notes: 1 rows came from the server once, and it shows none of them now",
    );
    assert_eq!(rows_and_writers(&world, &["public.notes"]).await, before);
    assert_eq!(device.records("notes").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_kit_a_missing_policy_is_seen_and_nothing_is_touched() {
    let world = World::with_kit().await;
    let both = users_device(&world, "both", "readonly_for_users", "").await;
    let pull = users_device(&world, "pull", "readonly_for_users", "direction = \"pull\"").await;
    world.project.sql(&format!("insert into public.readonly_for_users (id) values ('{}')", uuid(1))).await.unwrap();
    let tables =
        ["public.readonly_for_users", "tidelock.ledger", "tidelock.tombstones", "tidelock.kit", "tidelock.tables"];
    let before = rows_and_writers(&world, &tables).await;
    let found = lines(&both.tidelock.doctor().await);
    assert_said(
        &found,
        "warning row-level security: readonly_for_users: row-level security lets authenticated read, insert and update, and \
         no policy lets it delete",
    );
    assert_said(&found, &format!("ok server kit: version {KIT_VERSION} is installed"));
    assert_said(&found, "ok database version: PostgreSQL ");
    assert_eq!(rows_and_writers(&world, &tables).await, before, "nothing is written, no ledger entry is made");

    world.project.sql("drop policy users_add on public.readonly_for_users").await.unwrap();
    assert_said(
        &lines(&both.tidelock.doctor().await),
        "lets authenticated read and update, and no policy lets it insert or delete",
    );
    assert_said(
        &lines(&pull.tidelock.doctor().await),
        "ok row-level security: there is a grant and a policy for everything that the collections need as authenticated",
    );
    world
        .project
        .sql(
            "alter policy users_read on public.readonly_for_users to anon;
             create policy for_nobody on public.readonly_for_users as restrictive for insert with check (true);
             revoke delete on public.readonly_for_users from authenticated",
        )
        .await
        .unwrap();
    let found = lines(&both.tidelock.doctor().await);
    assert_said(
        &found,
        "failure row-level security: readonly_for_users: row-level security lets authenticated update, and no",
    );
    assert_said(&found, "warning row-level security: readonly_for_users: authenticated has no grant to delete in");
    assert_said(&lines(&pull.tidelock.doctor().await), "and no policy lets it read");

    world.project.sql("update tidelock.kit set version = 2").await.unwrap();
    assert_said(
        &lines(&pull.tidelock.doctor().await),
        "warning server kit: version 2 is installed: it works, and only 3 can tell what this user may do",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_token_that_is_not_taken_is_told_from_the_way_to_the_server() {
    let world = World::new().await;
    let text = world.config_text(Path::new("data"), "auto = false");
    let found = asked(&Desk::with(&text));
    assert_said(&found, "warning key: remote.anon_key is a secret key: row-level security does not apply to it");
    assert_said(&found, "ok credentials: accepted");

    let found = asked(&Desk::with(&text.replace(&world.project.secret_key, "sb_publishable_wrong")));
    assert_said(&found, "ok connection: ");
    assert_said(&found, "failure credentials: the server does not accept the credentials (");

    let now = jiff::Timestamp::now().as_second();
    let claims = json!({ "sub": uuid(7), "role": "authenticated", "exp": now - 7_300 });
    let signed_in = |token: &str| {
        Desk::with(&text.replace("timeout = \"10s\"", &format!("timeout = \"10s\"\naccess_token = \"{token}\"")))
    };
    let found = asked(&signed_in(&world.project.mint_token(&claims).unwrap()));
    assert_said(&found, "failure credentials: the access token is refused (PGRST303");
    assert_said(&found, &format!("failure session: the access token of {} has expired 2 h ago", uuid(7)));
    let mut forged =
        world.project.mint_token(&json!({ "sub": uuid(7), "role": "authenticated", "exp": now + 600 })).unwrap();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    let found = asked(&signed_in(&forged));
    assert_said(&found, "failure credentials: the access token is refused (PGRST301");
    assert_said(&found, "ok session: signed in as ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_named() {
    let world = World::new().await;
    let at = |url: &str| {
        let text = world.config_text(Path::new("data"), "auto = false").replace("\"10s\"", "\"2s\"");
        asked(&Desk::with(&text.replace(&world.network.url, url)))
    };
    let found = at("http://nowhere.invalid");
    assert_said(&found, "failure connection: http://nowhere.invalid cannot be reached");
    assert_said(&found, "failure name lookup: ");
    let found = at("http://127.0.0.1:1");
    assert_said(&found, "failure port: 127.0.0.1 takes no connection on port 1 (");
    let found = at(&world.network.url.replace("http://", "https://"));
    assert_said(&found, "ok port: ");
    assert_said(&found, "failure certificate: 127.0.0.1: it does not speak TLS on this port");

    let answer = |head: &str, body: &str| {
        canned(format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    for (head, body, words) in [
        (
            "402 Payment Required",
            r#"{"message":"exceed_egress_quota"}"#,
            "its quota is used up or a bill is due (402: exceed_egress_quota)",
        ),
        ("540 Project Paused", r#"{"message":"paused"}"#, "the project is paused (540: paused)"),
        ("503 Unavailable", "", "the server is in trouble"),
        ("429 Too Many", r#"{"message":"slow"}"#, "the server is asked too often"),
        ("200 OK\r\ncontent-type: text/html", "<html>Welcome, sign in</html>", "something else answers"),
        ("302 Found\r\nlocation: http://sign.in", "", "something between answers with a redirection (302)"),
    ] {
        assert_said(&at(&answer(head, body).await), words);
    }
    let found = at(&answer("200 OK\r\ndate: Sun, 22 Nov 2020 10:00:00 GMT\r\nserver: postgrest/11.2.1", "[]").await);
    let clock = found.iter().find(|line| line.starts_with("warning clock: ")).unwrap();
    assert!(clock.contains("days ahead of the server's"), "{clock}");
    assert_said(&found, "warning server version: PostgREST 11.2.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn h13_a_server_that_never_answers_does_not_hang_the_doctor() {
    let world = World::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = world.config_text(Path::new("data"), "auto = false").replace("\"10s\"", "\"1s\"");
    let url = format!("http://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let found =
        tokio::task::spawn_blocking(move || asked(&Desk::with(&text.replace(&world.network.url, &url)))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_said(&found, "failure answer: 127.0.0.1 takes the connection and gives no answer in HTTP within 1 s");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_told_with_the_way_out() {
    let world = World::new().await;
    let device = users_device(&world, "user", "owned", "").await;
    device.save("owned", &uuid(1), &format!(r#"{{"title":"theirs","owner":"{}"}}"#, uuid(9))).await;
    device.sync().await;
    let checkup = device.tidelock.doctor().await;
    assert_said(&lines(&checkup), "warning queue: 0 pending, 1 parked, 0 in conflict");
    assert_said(
        &lines(&checkup),
        "warning parked: 1 for: owned: 42501: row-level security or a missing grant refuses it",
    );
    let next = &checkup.checks.iter().find(|one| one.check == "parked").unwrap().next;
    assert!(next.contains("tidelock queue redrive"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_keeps_the_doctor_from_nothing_else() {
    let world = World::new().await;
    let desk = Desk::with(&world.config_text(Path::new("data"), "auto = false"));
    fs::write(desk.path("data"), "not a folder").unwrap();
    let found = asked(&desk);
    assert_said(&found, "failure store: ");
    assert_said(&found, " disk space: ");
    assert_said(&found, "ok connection: ");
    assert_said(&found, "ok schema: 3 collections fit");

    let silent =
        Desk::with(&world.config_text(Path::new("data"), "auto = false").replace("[api]", "[api]\nenabled = false"));
    let _process = silent.process();
    let found = asked(&silent);
    assert!(found.iter().any(|line| line.starts_with("failure process: another process (pid ")), "{found:#?}");
    assert_said(&found, "ok schema: 3 collections fit");
}
