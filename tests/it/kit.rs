//! Devices on a server with the kit: exact pulls, pushes that take effect once, whole transactions.

use tidelock::{Document, SyncRequest};
use tidelock_testbed::{Fault, HoldAt, Session};

use crate::support::{Device, World, assert_equal, uuid};

/// A connection that stays open between statements, beside the server.
async fn connection(world: &World) -> tokio_postgres::Client {
    let address = world.project.database_url.as_ref().unwrap();
    let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn h01_a_transaction_that_commits_behind_others_arrives_all_the_same() {
    let world = World::with_kit().await;
    let device = world.device("here");
    device.sync().await;
    let (slow, quick) = (connection(&world).await, connection(&world).await);
    slow.batch_execute("begin; insert into notes (id, body) values ('slow', 'a'), ('slow too', 'a')").await.unwrap();
    quick.batch_execute("insert into notes (id, body) values ('quick', 'b')").await.unwrap();
    device.sync().await;
    assert!(device.get("notes", "quick").await.is_some() && device.get("notes", "slow").await.is_none());
    slow.batch_execute("commit").await.unwrap();
    let report = device.sync().await;
    assert_eq!(report.pulled, 2);
    assert_equal(&device.records("notes").await, &world.rows("notes").await, "notes");
}

#[tokio::test]
async fn h51_what_was_pushed_does_not_come_back_and_an_idle_round_is_one_request() {
    let world = World::with_kit().await;
    let device = world.device("here");
    device.sync().await;
    let tasks = (0..2_000).map(|n| (uuid(n), Document::parse(r#"{"title":"mine","n":1}"#).unwrap())).collect();
    device.tidelock.bulk_save("tasks", tasks).await.unwrap();
    let report = device.sync().await;
    assert_eq!((report.pushed, report.pulled), (2_000, 0));
    assert_equal(&device.records("tasks").await, &world.rows("tasks").await, "with what triggers and defaults made");
    let idle = device.sync().await;
    assert_eq!((idle.requests, idle.pulled), (1, 0));
    assert_eq!(device.tidelock.status().mode, "kit");
}

#[tokio::test]
async fn h51_what_triggers_write_beside_a_push_arrives() {
    let world = World::with_kit().await;
    let count_tasks = "
        create function count_tasks() returns trigger language plpgsql as $$ begin
          update projects set name = 'tasks: ' || (select count(*) from tasks t where t.project_id = new.project_id)
          where id = new.project_id; return null; end $$;
        create trigger count_tasks after insert on tasks for each row execute function count_tasks()";
    world.project.sql(count_tasks).await.unwrap();
    let device = world.device("here");
    device.save("projects", &uuid(1), r#"{"name":"mine"}"#).await;
    device.sync().await;
    device.save("tasks", &uuid(2), &format!(r#"{{"project_id":"{}"}}"#, uuid(1))).await;
    device.sync().await;
    assert_eq!(device.field("projects", &uuid(1), "name").await, r#""tasks: 1""#);
}

#[tokio::test]
async fn h23_a_push_whose_answer_is_lost_takes_effect_once() {
    let world = World::with_kit().await;
    let count_effects = "
        create table effects (verb text); alter table effects disable row level security;
        create function note_effect() returns trigger language plpgsql security definer as
          $$ begin insert into public.effects values (tg_op); return null; end $$;
        create trigger note_effect after insert or update or delete on public.tasks
          for each row execute function note_effect()";
    world.project.sql(count_effects).await.unwrap();
    let device = world.device("here");
    let lose = || world.network.next_for("POST", "/rest/v1/rpc/tidelock_push", Fault::LoseResponse);
    for edit in [r#"{"n":1}"#, r#"{"n":2}"#] {
        device.save("tasks", &uuid(1), edit).await;
        lose();
        device.sync_until_settled().await;
        assert_equal(&device.records("tasks").await, &world.rows("tasks").await, "with the server's columns");
    }
    device.tidelock.delete("tasks", &uuid(1)).await.unwrap();
    lose();
    device.sync_until_settled().await;
    assert_eq!(world.value("select string_agg(verb, ' ') from effects").await, "INSERT UPDATE DELETE");
    assert!(device.tidelock.conflicts(true).await.unwrap().is_empty());
}

/// One local transaction over a project and two tasks of it.
async fn save_together(device: &Device, project: u64, tasks: [(u64, i64); 2]) {
    let parse = |text: &str| Document::parse(text).unwrap();
    let saved = device.tidelock.transaction(|transaction| {
        transaction.save("projects", &uuid(project), &parse(r#"{"name":"together"}"#))?;
        for (task, n) in tasks {
            let text = format!(r#"{{"project_id":"{}","n":{n}}}"#, uuid(project));
            transaction.save("tasks", &uuid(task), &parse(&text))?;
        }
        Ok(())
    });
    saved.await.unwrap();
}

#[tokio::test]
async fn h15_h19_a_transaction_takes_effect_whole_or_is_parked_whole() {
    let world = World::with_kit().await;
    world.project.sql("alter table tasks add constraint small check (n < 100)").await.unwrap();
    let device = world.device("here");
    save_together(&device, 1, [(11, 1), (12, 2)]).await;
    save_together(&device, 2, [(21, 1), (22, 1_000)]).await;
    save_together(&device, 3, [(31, 1), (32, 2)]).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (6, 3), "{:?}", device.tidelock.status());
    assert_eq!(world.value("select string_agg(name, ' ') from projects").await, "together together");
    assert_eq!(world.value("select count(*) from tasks").await, "4");
    let parked = device.tidelock.status();
    assert_eq!((parked.pending, parked.parked), (0, 3));
    world.project.sql("alter table tasks drop constraint small").await.unwrap();
    device.tidelock.redrive(vec![]).await.unwrap();
    device.sync_until_settled().await;
    assert_eq!(world.value("select count(*) from tasks").await, "6");
}

#[tokio::test]
async fn a_conflict_holds_its_transaction_until_it_is_resolved() {
    let world = World::with_kit().await;
    let (here, there) = (world.device("here"), world.device("there"));
    save_together(&here, 1, [(11, 1), (12, 1)]).await;
    here.sync().await;
    there.sync().await;
    there.save("tasks", &uuid(11), r#"{"title":"theirs"}"#).await;
    there.sync().await;
    save_together(&here, 1, [(11, 2), (12, 2)]).await;
    here.save("tasks", &uuid(12), r#"{"n":3}"#).await;
    here.sync_until_settled().await;
    assert_eq!(world.value("select string_agg(n::text, ' ' order by id) from tasks").await, "2 3");
    there.sync_until_settled().await;
    for device in [&here, &there] {
        assert_equal(&device.records("tasks").await, &world.rows("tasks").await, "tasks");
        device.assert_healthy().await;
    }
}

/// A device of a signed-in user with the collection `owned`.
fn device_of(world: &World, name: &str, session: &Session) -> Device {
    let token = format!(
        "[remote]\naccess_token = \"{}\"\nanon_key = \"{}\"",
        session.access_token, world.project.publishable_key
    );
    let directory = world.folder(name);
    let text = world.config_text(&directory, "auto = false");
    let (head, tail) = text.split_once("[sync]").unwrap();
    let head = head.replace(&format!("anon_key = \"{}\"", world.project.secret_key), "");
    let text = format!("{}\n[sync]{tail}\n[collections.owned]\ntable = \"owned\"", head.replace("[remote]", &token));
    let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
    Device { tidelock, directory }
}

#[tokio::test]
async fn another_users_rows_are_neither_pulled_nor_pushed_nor_told_of() {
    let world = World::with_kit().await;
    world.project.sql("select tidelock.attach('public.owned', owner => 'owner')").await.unwrap();
    let (alice, bob) = (world.project.any_user().await.unwrap(), world.project.any_user().await.unwrap());
    let (hers, his) = (device_of(&world, "hers", &alice), device_of(&world, "his", &bob));
    hers.save("owned", &uuid(1), &format!(r#"{{"owner":"{}"}}"#, alice.user_id)).await;
    hers.save("owned", &uuid(2), &format!(r#"{{"owner":"{}"}}"#, alice.user_id)).await;
    hers.sync().await;
    his.sync().await;
    assert!(his.records("owned").await.is_empty());
    hers.tidelock.delete("owned", &uuid(2)).await.unwrap();
    hers.sync().await;
    let report = his.sync().await;
    assert_eq!(report.pulled, 0);
    // He makes up a row with her key, and one in her name.
    his.save("owned", &uuid(1), &format!(r#"{{"owner":"{}"}}"#, bob.user_id)).await;
    his.save("owned", &uuid(3), &format!(r#"{{"owner":"{}"}}"#, alice.user_id)).await;
    let report = his.sync().await;
    assert_eq!((report.pushed, report.parked), (0, 2));
    assert_eq!(world.value("select count(*) from owned").await, "1");
    // What changes hands leaves one device and comes to the other.
    world.project.sql(&format!("update owned set owner = '{}'", bob.user_id)).await.unwrap();
    hers.sync().await;
    assert!(hers.records("owned").await.is_empty());
}

#[tokio::test]
async fn h40_another_database_stops_the_sync_and_keeps_everything_until_it_is_accepted() {
    let world = World::with_kit().await;
    let device = world.device("here");
    device.save("notes", "kept", r#"{"body":"x"}"#).await;
    device.sync().await;
    device.save("notes", "unsent", r#"{"body":"y"}"#).await;
    world.project.sql("update tidelock.kit set identity = gen_random_uuid()").await.unwrap();
    let error = device.tidelock.sync(SyncRequest::default()).await.unwrap_err().to_string();
    assert!(error.contains("another database"), "{error}");
    assert_eq!(device.tidelock.status().pending, 1);
    assert_eq!(world.value("select count(*) from notes").await, "1", "nothing was sent");
    let accept = SyncRequest { accept_server: true, ..Default::default() };
    device.tidelock.sync(accept).await.unwrap();
    device.sync_until_settled().await;
    assert_equal(&device.records("notes").await, &world.rows("notes").await, "notes");
}

#[tokio::test]
async fn waiting_ends_when_both_sides_are_the_same() {
    let world = World::with_kit().await;
    let device = world.device("here");
    save_together(&device, 1, [(11, 1), (12, 2)]).await;
    world.project.sql("insert into notes (id, body) values ('theirs', 'x')").await.unwrap();
    device.tidelock.wait_synced().await.unwrap();
    assert_eq!(world.value("select count(*) from tasks").await, "2");
    assert!(device.get("notes", "theirs").await.is_some());
    world.project.sql("alter table tasks add constraint small check (n < 100)").await.unwrap();
    device.save("tasks", &uuid(11), r#"{"n":1000}"#).await;
    let error = device.tidelock.wait_synced().await.unwrap_err().to_string();
    assert!(error.starts_with("1 operations are parked"), "{error}");
    world.network.set_offline(true);
    device.save("tasks", &uuid(12), r#"{"n":3}"#).await;
    assert!(device.tidelock.wait_synced().await.is_err(), "rounds do not start by themselves here");
}

#[tokio::test]
async fn what_one_operation_of_a_transaction_triggers_is_no_conflict_for_another() {
    let world = World::with_kit().await;
    let count_tasks = "
        create function count_tasks() returns trigger language plpgsql as $$ begin
          update projects set name = name || '-' where id = old.project_id; return null; end $$;
        create trigger count_tasks after delete on tasks for each row execute function count_tasks()";
    world.project.sql(count_tasks).await.unwrap();
    let device = world.device("here");
    save_together(&device, 1, [(11, 1), (12, 1)]).await;
    device.sync().await;
    let edited = device.tidelock.transaction(|transaction| {
        transaction.delete("tasks", &uuid(11));
        transaction.save("projects", &uuid(1), &Document::parse(r#"{"name":"edited"}"#).unwrap())
    });
    edited.await.unwrap();
    let report = device.sync().await;
    assert_eq!((report.pushed, report.conflicts, report.failed), (2, 0, 0));
    device.sync().await;
    assert_equal(&device.records("projects").await, &world.rows("projects").await, "projects");
    assert_eq!(world.value("select count(*) from tasks").await, "1");
}

#[tokio::test]
async fn h15_a_document_that_the_database_cannot_even_read_is_parked_alone() {
    let world = World::with_kit().await;
    let device = world.device("here");
    for number in 0..20 {
        device.save("notes", &format!("n{number}"), r#"{"body":"good"}"#).await;
    }
    device.save("notes", "bad", r#"{"body":"no \u0000 in PostgreSQL"}"#).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (20, 1), "{:?}", device.tidelock.status());
    assert_eq!(world.rows("notes").await.len(), 20);
}

#[tokio::test]
async fn h40_a_server_without_the_kit_that_it_had_is_not_taken_for_an_empty_one() {
    let mut world = World::with_kit().await;
    if world.project.is_external() {
        eprintln!("not run on an external Supabase: it takes the kit away");
        return;
    }
    let device = world.device("here");
    device.save("notes", "kept", r#"{"body":"x"}"#).await;
    device.sync().await;
    device.tidelock.shutdown().await;
    world.project.sql("select tidelock.remove(); truncate notes").await.unwrap();
    world.project.stop_server().unwrap();
    world.project.start_server().await.unwrap();
    let again = tidelock::Tidelock::open(device.tidelock.config()).unwrap();
    let error = again.sync(SyncRequest::default()).await.unwrap_err().to_string();
    assert!(error.contains("has none now"), "{error}");
    assert!(again.get("notes", "kept").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_goes_from_plain_to_the_kit_and_back() {
    let world = World::with_kit().await;
    let directory = world.folder("here");
    for (turn, mode) in ["plain", "kit", "plain", "auto"].into_iter().enumerate() {
        let text =
            world.config_text(&directory, "auto = false").replace("[remote]", &format!("[remote]\nmode = \"{mode}\""));
        let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
        let device = Device { tidelock, directory: directory.clone() };
        device.save("tasks", &uuid(1), &format!(r#"{{"n":{turn}}}"#)).await;
        device.sync_until_settled().await;
        assert_eq!(world.value("select n from tasks").await, turn.to_string(), "{mode}");
        let status = device.tidelock.status();
        assert_eq!((status.pending, status.parked, status.conflicts), (0, 0, 0), "{mode}: {status:?}");
        device.tidelock.shutdown().await;
    }
}

#[tokio::test]
async fn rows_that_are_only_marked_as_deleted_stay_away_when_keys_are_compared() {
    let world = World::with_kit().await;
    world.project.sql("alter table notes add deleted_at timestamptz").await.unwrap();
    world.project.sql("select tidelock.attach('public.notes', soft => 'deleted_at')").await.unwrap();
    let open = |name: &str| {
        let directory = world.folder(name);
        let text = world.config_text(&directory, "auto = false");
        let text = format!("{text}\nsoft_delete = \"deleted_at\"");
        let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
        Device { tidelock, directory }
    };
    let (here, there) = (open("here"), open("there"));
    for key in ["a", "b"] {
        here.save("notes", key, r#"{"body":"x"}"#).await;
    }
    here.sync().await;
    there.sync().await;
    here.tidelock.delete("notes", "a").await.unwrap();
    here.sync().await;
    assert_eq!(world.value("select count(*) from notes where deleted_at is not null").await, "1");
    there.sync().await;
    // Another scope makes the next round compare keys.
    there.tidelock.shutdown().await;
    let text = world.config_text(&there.directory, "auto = false");
    let text = format!("{text}\nsoft_delete = \"deleted_at\"\nfilter = \"body=eq.x\"");
    let there = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
    let requests = there.sync(SyncRequest::default()).await.unwrap().requests;
    assert!(requests > 2, "keys were counted at least");
    assert!(there.get("notes", "a").await.unwrap().is_none() && there.get("notes", "b").await.unwrap().is_some());
}

#[tokio::test]
async fn h15_an_update_that_may_not_even_be_looked_at_is_parked_alone() {
    let world = World::with_kit().await;
    let user = world.project.any_user().await.unwrap();
    let device = device_of(&world, "here", &user);
    for collection in ["projects", "tasks"] {
        device.save(collection, &uuid(1), "{}").await;
    }
    device.sync().await;
    world.project.sql("revoke all on tasks from authenticated, anon").await.unwrap();
    device.save("projects", &uuid(1), r#"{"name":"fine"}"#).await;
    device.save("tasks", &uuid(1), r#"{"title":"denied"}"#).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (1, 1), "{:?}", device.tidelock.status());
    assert_eq!(world.value("select name from projects").await, "fine");
}

#[tokio::test]
async fn what_is_committed_while_keys_are_compared_arrives_whole() {
    let world = World::with_kit().await;
    let device = world.device("here");
    let (project, task) = (uuid(1), uuid(2));
    let made = format!(
        "insert into projects (id) values ('{project}'); insert into tasks (id, project_id) values ('{task}', '{project}')"
    );
    let deleted = "delete from tasks; delete from projects".to_owned();
    device.save("notes", "any", r#"{"body":"x"}"#).await;
    device.sync_until_settled().await;
    for committed in [made, deleted] {
        // Keys are compared after a table was emptied.
        world.project.sql("truncate notes").await.unwrap();
        let [mut before, mut between] = ["projects", "tasks"]
            .map(|table| world.network.pause_next("GET", &format!("/rest/v1/{table}"), HoldAt::Request));
        let handle = device.tidelock.clone();
        let syncing = tokio::spawn(async move { handle.sync(SyncRequest::default()).await });
        if tokio::time::timeout(std::time::Duration::from_secs(8), before.reached()).await.is_err() {
            panic!("{:?} {:?}", world.network.requests(), device.tidelock.status())
        }
        world.project.sql(&format!("begin; {committed}; commit")).await.unwrap();
        before.release();
        if tokio::time::timeout(std::time::Duration::from_secs(8), between.reached()).await.is_err() {
            panic!("between {:?} {:?}", world.network.requests(), device.tidelock.status())
        }
        let seen = [device.get("projects", &project).await, device.get("tasks", &task).await];
        assert_eq!(seen[0].is_some(), seen[1].is_some(), "{seen:?}");
        between.release();
        syncing.await.unwrap().unwrap();
        device.sync_until_settled().await;
        for table in ["projects", "tasks"] {
            assert_equal(&device.records(table).await, &world.rows(table).await, table);
        }
    }
}
