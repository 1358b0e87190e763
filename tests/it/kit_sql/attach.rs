//! Attaching and taking away: what it does to tables, and what it survives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelock_testbed::ProjectOptions;

use super::{Caller, Follower, Kit, create, in_full, kinds, operation};

const NOTES: &str = "create table items (id int primary key, owner uuid, body text); insert into items select n from generate_series(1, 500) n;";

/// Everything about a table that attaching could change.
const LOOKS: &str = "
    select concat_ws(' ', 'column', attnum > 0, attname, atttypid::regtype, attnotnull, atthasdef) from pg_attribute
      where attrelid = 'items'::regclass and not attisdropped
    union all select 'index ' || indexdef from pg_indexes where tablename = 'items'
    union all select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'items'::regclass
    union all select 'function ' || proname from pg_proc where pronamespace = 'public'::regnamespace and proname like 'tidelock%'
    union all select 'schema ' || nspname from pg_namespace where nspname = 'tidelock'
    order by 1";

#[tokio::test]
async fn the_kit_is_installed_and_tables_attached_any_number_of_times() {
    let kit = Kit::with(NOTES).await;
    kit.owner.run("select tidelock.attach('items', 'owner')").await;
    let before = (kit.owner.column(LOOKS).await, kit.owner.value("select tidelock.epoch()").await);
    let since = kit.owner.snapshot().await;
    let script = tidelock_testbed::kit::script().unwrap();
    kit.owner.run(&script).await;
    kit.owner.run(&format!("begin; {script}; commit")).await;
    kit.owner.run("select tidelock.attach('items', 'owner')").await;
    assert_eq!((kit.owner.column(LOOKS).await, kit.owner.value("select tidelock.epoch()").await), before);
    let answer = kit.owner.changes(Some(&since), &json!([{ "table": "items" }]), 10).await;
    assert_eq!((&answer["collections"][0]["rows"], &answer["collections"][0]["whole"]), (&json!([]), &json!(false)));
}

#[tokio::test]
async fn no_row_is_rewritten_and_everybodys_writes_are_stamped() {
    let kit = Kit::with(NOTES).await;
    let file = "select relfilenode from pg_class where oid = 'items'::regclass";
    let before = kit.owner.value(file).await;
    kit.owner.run("select tidelock.attach('items', 'owner')").await;
    assert_eq!(kit.owner.value(file).await, before);
    let mut follower = Follower::of("items");
    follower.pull(&kit.owner, 10_000, "id").await;
    assert_eq!(follower.rows.len(), 500);
    kit.owner
        .run(
            "update items set body = 'x' where id = 1;
             update items set body = 'x', tidelock_version = '5' where id = 2;
             insert into items (id, tidelock_version) values (1001, '5');
             insert into items (id) values (1002), (3) on conflict (id) do update set body = 'x'",
        )
        .await;
    follower.deliveries.clear();
    follower.pull(&kit.owner, 10_000, "id").await;
    let keys: Vec<_> = follower.deliveries.keys().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["1", "1001", "1002", "2", "3"]);
}

#[tokio::test]
async fn truncating_raises_resets_and_what_is_truncated_with_it() {
    let kit = Kit::with(&format!("{NOTES} select tidelock.attach('items')")).await;
    let since = kit.owner.snapshot().await;
    kit.owner.run("truncate items").await;
    let answer = kit.owner.changes(Some(&since), &json!([{ "table": "items" }]), 10).await;
    assert_eq!(answer["collections"][0]["resets"], 1);
}

#[tokio::test]
async fn detaching_and_removing_leave_the_table_as_it_was() {
    let kit = Kit::with(NOTES).await;
    kit.owner.run("create index on items (body)").await;
    let with_kit = kit.owner.column(LOOKS).await;
    kit.owner
        .run(
            "select tidelock.attach('items', 'owner'); delete from items where id = 1; select tidelock.detach('items')",
        )
        .await;
    assert_eq!(kit.owner.column(LOOKS).await, with_kit);
    kit.owner.run("select tidelock.attach('items', 'owner'); create table lost (id int primary key); select tidelock.attach('lost'); drop table lost").await;
    kit.owner.run("select tidelock.remove()").await;
    let without: Vec<_> = with_kit.into_iter().filter(|line| !line.contains("tidelock")).collect();
    assert_eq!(kit.owner.column(LOOKS).await, without);
}

#[tokio::test]
async fn a_table_that_is_dropped_or_renamed_stands_in_nobodys_way() {
    let kit = Kit::with(&format!("{NOTES} select tidelock.attach('items'); create table lost (id int primary key); select tidelock.attach('lost'); drop table lost; alter table items rename to things")).await;
    let answer =
        kit.owner.push(&json!([create(1, "lost", "1", json!({})), create(2, "things", "1000", json!({}))])).await;
    assert_eq!(kinds(&answer), ["refused 42P01", "applied"], "{answer}");
    let answer = kit.owner.changes(None, &json!([{ "table": "lost" }, { "table": "things" }]), 1_000).await;
    assert_eq!(answer["collections"][0]["error"]["code"], "42P01");
    assert_eq!(answer["collections"][1]["rows"].as_array().unwrap().len(), 501);
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_in_clear_words() {
    let kit = Kit::with("create table keyless (n int); create table items (id int primary key, gone bool); create view seen as select 1 as id").await;
    for (call, words) in [
        ("'keyless'", "has no primary key"),
        ("'seen'", "has no primary key"),
        ("'items', 'nobody'", "has no column nobody"),
        ("'items', soft => 'nothing'", "has no column nothing"),
        ("'items', soft => 'gone'", "is not a time"),
    ] {
        let error = kit.owner.0.batch_execute(&format!("select tidelock.attach({call})")).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains(words), "{call}: {message}");
    }
    assert_eq!(kit.owner.value("select count(*) from tidelock.tables").await, "0");
}

#[tokio::test]
async fn the_owner_of_a_database_who_is_no_superuser_installs_and_uses_it() {
    let kit = Kit::with("select tidelock.remove(); drop schema if exists tidelock cascade;").await;
    let name = kit.owner.value("select current_database()").await;
    kit.owner
        .run(&format!(
            "create role owner_of_{name} login bypassrls; alter database {name} owner to owner_of_{name};
             grant anon, authenticated to owner_of_{name}; grant usage on schema auth to owner_of_{name}"
        ))
        .await;
    let owner = Caller::connect(&kit.database.url.replace("postgres@", &format!("owner_of_{name}@"))).await;
    owner.run(&tidelock_testbed::kit::script().unwrap()).await;
    owner
        .run(&format!("{NOTES} alter table items enable row level security; grant all on items to authenticated;
              create policy own on items to authenticated using (owner = auth.uid()); select tidelock.attach('items', 'owner')"))
        .await;
    let ada = kit.user(super::ADA).await;
    let mut follower = Follower::of("items");
    follower.pull(&ada, 10, "id").await;
    let answer = ada.push(&json!([create(1, "items", "1000", json!({ "owner": super::ADA }))])).await;
    assert_eq!((&kinds(&answer)[..], &answer["alone"]), (&["applied".to_owned()][..], &json!(true)), "{answer}");
    owner.run("delete from items where id = 1000; update items set owner = null where id = 1").await;
    let answer = ada.changes(follower.since.as_deref(), &json!([{ "table": "items" }]), 10).await;
    assert_eq!(answer["collections"][0]["gone"], json!(["1000"]));
    owner.run("select tidelock.remove()").await;
    drop(owner);
    kit.owner
        .run(&format!(
            "reassign owned by owner_of_{name} to postgres; drop owned by owner_of_{name}; drop role owner_of_{name}"
        ))
        .await;
}

#[tokio::test]
async fn a_database_restored_from_a_dump_has_another_epoch_and_goes_on() {
    let kit = Kit::with(&format!(
        "{NOTES} select tidelock.attach('items', shared => true); delete from items where id > 400"
    ))
    .await;
    let version =
        kit.owner.push(&json!([create(1, "items", "1000", json!({}))])).await["version"].as_str().unwrap().to_owned();
    let epoch = kit.owner.value("select tidelock.epoch()").await;
    let database = kit.database.restored().await.unwrap();
    let owner = Caller::connect(&database.url).await;
    assert_ne!(owner.value("select tidelock.epoch()").await, epoch);
    let kit = Kit { database, owner };
    kit.owner.run("select tidelock.attach('items', shared => true)").await;
    assert_eq!(
        kit.owner
            .value("select count(*) from pg_indexes where tablename = 'items' and indexname like 'tidelock%'")
            .await,
        "1"
    );
    let mut follower = Follower::of("items");
    follower.pull(&kit.owner, 1_000, "id").await;
    assert_eq!(follower.rows.len(), 401);
    let update = operation(2, "update", "items", "1000", Some(&version), json!({ "body": "x" }));
    let answer = kit.owner.push(&json!([update, create(1, "items", "1000", json!({}))])).await;
    assert_eq!(kinds(&answer), ["applied", "applied"], "the ledger came along: {answer}");
    kit.owner.run("delete from items where id < 400").await;
    follower.pull(&kit.owner, 1_000, "id").await;
    assert_eq!(follower.rows.keys().collect::<Vec<_>>(), ["1000", "400"]);
}

#[tokio::test]
async fn a_database_that_counts_its_transactions_anew_goes_on_when_the_kit_is_run_again() {
    let kit = Kit::with(&format!("{NOTES} select tidelock.attach('items', shared => true)")).await;
    // What a dump brings from a server that had counted much further.
    kit.owner
        .run(
            "alter table items disable trigger zz_tidelock_stamp; update items set tidelock_version = '4000000000' where id < 10;
             alter table items enable trigger zz_tidelock_stamp; delete from items where id = 500;
             update tidelock.tombstones set version = '4000000000'; update tidelock.tables set since = '3999999999';
             update tidelock.kit set purged_before = '3999999999'",
        )
        .await;
    let mut follower = Follower::of("items");
    follower.pull(&kit.owner, 1_000, "id").await;
    kit.owner.run(&tidelock_testbed::kit::script().unwrap()).await;
    assert_eq!(kit.owner.value("select tidelock.purged_before()").await, "0");
    follower.pull(&kit.owner, 1_000, "id").await;
    assert_eq!(follower.rows.len(), 499);
    follower.deliveries.clear();
    kit.owner.run("update items set body = 'x' where id = 3; delete from items where id = 4").await;
    follower.pull(&kit.owner, 1_000, "id").await;
    assert_eq!((follower.deliveries.len(), follower.rows.len()), (1, 498));
    assert_eq!(kit.owner.value("select count(*) from items where tidelock_version >= '3999999999'").await, "0");
}

#[tokio::test]
async fn a_writer_is_not_held_up_while_a_large_table_is_attached() {
    const ROWS: u32 = 1_000_000;
    let kit = Kit::with(&format!(
        "create unlogged table items (id int primary key, n int); insert into items select n, n from generate_series(1, {ROWS}) n"
    ))
    .await;
    let (writer, is_done) = (kit.another_owner().await, AtomicBool::new(false));
    let writing = async {
        let (mut longest, mut writes) = (Duration::ZERO, 0);
        while !is_done.load(Ordering::SeqCst) || writes < 2 {
            let started = Instant::now();
            writer.run("update items set n = n + 1 where id = 5").await;
            longest = longest.max(started.elapsed());
            writes += 1;
        }
        longest
    };
    let attaching = async {
        kit.owner.run("select tidelock.attach('items')").await;
        is_done.store(true, Ordering::SeqCst);
    };
    let (longest, ()) = tokio::join!(writing, attaching);
    assert!(longest < Duration::from_secs(1), "a write waited for {longest:?}");
}

#[tokio::test]
async fn attaching_a_table_that_is_in_use_gives_up_instead_of_holding_everybody_up() {
    let kit = Kit::with(NOTES).await;
    let reader = kit.another_owner().await;
    reader.run("begin; select count(*) from items").await;
    assert_eq!(kit.owner.refused("select tidelock.attach('items')").await, "55P03");
    reader.run("commit").await;
    kit.owner.run("select tidelock.attach('items')").await;
}

#[tokio::test]
async fn a_project_with_the_kit_answers_through_its_server() {
    let options = ProjectOptions { kit: vec![("public.notes", None)], ..ProjectOptions::default() };
    let project = tidelock_testbed::project_with(options).await.unwrap();
    let call = async |function: &str, body: Value| -> Value {
        let path = format!("/rest/v1/rpc/{function}");
        project.request(reqwest::Method::POST, &path).json(&body).send().await.unwrap().json().await.unwrap()
    };
    let batch = [create(1, "public.notes", "n", json!({ "body": "x" }))];
    let answer = call("tidelock_push", json!({ "client": "c", "epoch": "e", "batch": batch })).await;
    assert_eq!(kinds(&in_full(answer)), ["applied"]);
    let answer = call("tidelock_changes", json!({ "collections": [{ "table": "public.notes" }] })).await;
    assert_eq!(answer["collections"][0]["rows"][0]["body"], "x", "{answer}");
}
