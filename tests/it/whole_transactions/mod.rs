//! What was saved together takes effect together or waits together, through every turn that a queue can take (P4).

mod drawn;

use std::collections::BTreeSet;

use tidelock::adapters::sqlite::{OperationState, QueueFilter, QueuedOperation};
use tidelock::{Choice, Config, Document, SyncRequest, Tidelock};

use serde_json::json;

use crate::command_line::Desk;
use crate::support::{Device, World, assert_equal, uuid};

async fn queue(device: &Device) -> Vec<QueuedOperation> {
    device.tidelock.queue(QueueFilter::default()).await.unwrap()
}

/// The records in the queue that stand so.
async fn records(device: &Device, state: OperationState) -> BTreeSet<String> {
    let queue = queue(device).await;
    queue.iter().filter(|one| one.state == state).map(|one| format!("{}/{}", one.collection, one.key)).collect()
}

async fn operation_on(device: &Device, key: &str) -> QueuedOperation {
    queue(device).await.into_iter().find(|operation| operation.key == key).unwrap()
}

/// Saves in one local transaction.
async fn save_together(device: &Device, saves: &[(&str, &str, &str)]) {
    let saved = device.tidelock.transaction(|transaction| {
        saves
            .iter()
            .try_for_each(|(collection, key, text)| transaction.save(collection, key, &Document::parse(text).unwrap()))
    });
    saved.await.unwrap();
}

/// A world in which no task may have an `n` of 100 or more.
async fn strict() -> World {
    let world = World::with_kit().await;
    world.project.sql("alter table tasks add constraint small check (n < 100)").await.unwrap();
    world
}

async fn allow_all(world: &World) {
    world.project.sql("alter table tasks drop constraint small").await.unwrap();
}

/// A device on which conflicts wait for somebody.
fn patient(world: &World, name: &str) -> Device {
    let directory = world.folder(name);
    let text = world.config_text(&directory, "auto = false\nconflict = \"manual\"");
    Device { tidelock: Tidelock::open(Config::from_toml(&text).unwrap()).unwrap(), directory }
}

#[tokio::test]
async fn p4_redriving_one_operation_puts_its_whole_transaction_back() {
    let world = strict().await;
    let device = world.device("here");
    save_together(&device, &[("notes", "a", "{}"), ("tasks", &uuid(1), r#"{"n":1000}"#), ("notes", "b", "{}")]).await;
    save_together(&device, &[("notes", "c", "{}"), ("tasks", &uuid(2), r#"{"n":1000}"#)]).await;
    assert_eq!(device.sync().await.parked, 5);
    allow_all(&world).await;
    let one = operation_on(&device, "b").await;
    assert_eq!(device.tidelock.redrive(vec![one.id]).await.unwrap(), 3, "it says how many went back");
    device.sync().await;
    assert_eq!(world.value("select string_agg(id, ' ' order by id) from notes").await, "a b");
    assert_eq!(device.tidelock.status().parked, 2, "the other transaction stays where it is");
    device.assert_healthy().await;
}

#[tokio::test]
async fn p4_giving_one_operation_up_gives_its_whole_transaction_up_unless_only_that_one_is_meant() {
    let world = strict().await;
    let device = world.device("here");
    let bad = uuid(1);
    save_together(&device, &[("notes", "a", "{}"), ("tasks", &bad, r#"{"n":1000}"#)]).await;
    save_together(&device, &[("notes", "b", "{}"), ("tasks", &uuid(2), r#"{"n":1000}"#)]).await;
    assert_eq!(device.sync().await.parked, 4);
    assert_eq!(device.tidelock.discard(vec![operation_on(&device, &bad).await.id]).await.unwrap(), 2);
    assert_eq!((device.get("notes", "a").await, device.get("tasks", &bad).await), (None, None));
    assert_eq!(device.tidelock.history("notes", "a").await.unwrap().len(), 1, "what it held stays in the history");
    let other = operation_on(&device, &uuid(2)).await;
    assert_eq!(device.tidelock.discard_alone(vec![other.id]).await.unwrap(), 1);
    assert_eq!(device.tidelock.redrive(vec![]).await.unwrap(), 1);
    device.sync_until_settled().await;
    assert_eq!(world.value("select string_agg(id, ' ') from notes").await, "b");
    device.assert_healthy().await;
}

#[tokio::test]
async fn p4_an_edit_that_mends_one_record_sends_the_whole_transaction() {
    let world = strict().await;
    let device = world.device("here");
    let bad = uuid(1);
    save_together(&device, &[("notes", "a", "{}"), ("tasks", &bad, r#"{"n":1000}"#)]).await;
    assert_eq!(device.sync().await.parked, 2);
    device.save("tasks", &bad, r#"{"n":1}"#).await;
    assert_eq!(device.tidelock.status().parked, 0);
    device.sync_until_settled().await;
    assert_eq!(world.value("select n || (select id from notes) from tasks").await, "1a");
    device.assert_healthy().await;
}

#[tokio::test]
async fn p4_a_transaction_with_a_child_of_a_parked_record_is_parked_whole_and_released_whole() {
    let world = World::with_kit().await;
    world.project.sql("alter table projects add constraint named check (name <> 'bad')").await.unwrap();
    let device = world.device("here");
    device.save("projects", &uuid(1), r#"{"name":"bad"}"#).await;
    let child = format!(r#"{{"project_id":"{}"}}"#, uuid(1));
    save_together(&device, &[("notes", "a", "{}"), ("tasks", &uuid(2), &child)]).await;
    assert_eq!(device.sync().await.parked, 3);
    // One that is saved when its parent is parked already.
    save_together(&device, &[("notes", "b", "{}"), ("tasks", &uuid(3), &child)]).await;
    device.sync().await;
    assert_eq!(world.value("select count(*) from notes").await, "0");
    let waiting = operation_on(&device, "b").await;
    assert_eq!(waiting.state, OperationState::Parked);
    let cause = waiting.cause.unwrap().message;
    assert!(cause.starts_with("was saved together with operation"), "{cause}");
    device.save("projects", &uuid(1), r#"{"name":"good"}"#).await;
    device.sync_until_settled().await;
    assert_eq!(world.value("select count(*) from notes").await, "2");
    assert_eq!(device.tidelock.status().parked, 0);
    device.assert_healthy().await;
}

/// Two devices with a task that both have changed: `here` together with the note `a`, and with a later change.
async fn contested(world: &World, here: &Device) {
    let there = world.device("there");
    save_together(here, &[("tasks", &uuid(1), r#"{"n":1}"#), ("notes", "a", r#"{"body":"old"}"#)]).await;
    here.sync().await;
    there.sync().await;
    there.save("tasks", &uuid(1), r#"{"n":7}"#).await;
    there.sync().await;
    save_together(here, &[("tasks", &uuid(1), r#"{"n":2}"#), ("notes", "a", r#"{"body":"new"}"#)]).await;
    // What stands on the note has to wait as well, and what was saved with that.
    save_together(here, &[("notes", "a", r#"{"body":"newer"}"#), ("notes", "b", "{}")]).await;
}

#[tokio::test]
async fn p4_while_a_conflict_is_open_everything_that_was_saved_with_it_waits() {
    for (choice, expected) in [(Choice::Local, "2newer"), (Choice::Remote, "7newer")] {
        let world = World::with_kit().await;
        let here = patient(&world, "here");
        contested(&world, &here).await;
        here.sync().await;
        here.sync().await;
        assert_eq!(world.value("select body from notes").await, "old", "nothing of it went alone");
        assert_eq!(records(&here, OperationState::Held).await.len(), 1);
        assert_eq!(records(&here, OperationState::Parked).await, BTreeSet::from(["notes/a".into(), "notes/b".into()]));
        let waiting = operation_on(&here, "a").await;
        let cause = waiting.cause.unwrap().message;
        assert!(cause.contains("saved together with") && cause.contains("waits for a decision"), "{cause}");
        // Neither a redrive nor an edit gets it past the decision; what has nothing to do with it goes.
        let refused = here.tidelock.redrive(vec![waiting.id]).await.unwrap_err().to_string();
        assert!(refused.contains("decide the conflict"), "{refused}");
        assert_eq!(here.tidelock.redrive(vec![]).await.unwrap(), 0);
        save_together(&here, &[("notes", "b", r#"{"body":"edited"}"#), ("notes", "c", "{}")]).await;
        save_together(&here, &[("tasks", &uuid(1), r#"{"title":"mine"}"#), ("notes", "d", "{}")]).await;
        here.save("notes", "free", "{}").await;
        here.sync().await;
        assert_eq!(world.value("select string_agg(id, ' ' order by id) from notes").await, "a free");
        here.assert_healthy().await;

        let conflict = here.tidelock.conflicts(false).await.unwrap().remove(0);
        here.tidelock.resolve(conflict.id, choice).await.unwrap();
        here.sync_until_settled().await;
        assert_eq!(world.value("select n || (select body from notes where id = 'a') from tasks").await, expected);
        assert_eq!(world.value("select string_agg(id, ' ' order by id) from notes").await, "a b c d free");
        assert_equal(&here.records("notes").await, &world.rows("notes").await, "notes");
        let status = here.tidelock.status();
        assert_eq!((status.pending, status.parked, status.conflicts), (0, 0, 0));
        here.assert_healthy().await;
    }
}

#[tokio::test]
async fn p4_what_a_strategy_decides_goes_with_its_transaction_again() {
    let world = World::with_kit().await;
    let count_together = "
        create table seen (task bigint, note bigint); alter table seen disable row level security;
        create function see() returns trigger language plpgsql security definer as $$ begin
          insert into public.seen select pg_current_xact_id()::text::bigint, case when tg_table_name = 'notes' then 1 end;
          return null; end $$;";
    world.project.sql(count_together).await.unwrap();
    let here = world.device("here");
    contested(&world, &here).await;
    let watch = "
        create trigger see after update on tasks for each row execute function see();
        create trigger see after update on notes for each row execute function see()";
    world.project.sql(watch).await.unwrap();
    here.sync().await;
    assert_eq!(here.tidelock.status().pending, 0, "one round is enough");
    assert_eq!(world.value("select n || (select body from notes where id = 'a') from tasks").await, "2newer");
    assert_eq!(
        world.value("select count(distinct task) || ' ' || count(note) || ' ' || count(*) from seen").await,
        "1 1 2"
    );
    here.assert_healthy().await;
}

#[tokio::test]
async fn p4_where_the_server_wins_the_transaction_goes_on_without_that_record() {
    let world = World::with_kit().await;
    let directory = world.folder("here");
    let text = world.config_text(&directory, "auto = false\nconflict = \"remote-wins\"");
    let here = Device { tidelock: Tidelock::open(Config::from_toml(&text).unwrap()).unwrap(), directory };
    contested(&world, &here).await;
    here.sync_until_settled().await;
    assert_eq!(world.value("select n || (select body from notes where id = 'a') from tasks").await, "7newer");
    let conflict = here.tidelock.conflicts(true).await.unwrap().remove(0);
    assert_eq!(conflict.local.unwrap().fields().get("n"), Some("2"), "the loser is kept");
    here.assert_healthy().await;
}

#[tokio::test]
async fn p4_transactions_that_changed_one_record_are_refused_together_and_the_cause_says_so() {
    let world = strict().await;
    let device = world.device("here");
    save_together(&device, &[("notes", "a", r#"{"body":"1"}"#), ("notes", "b", "{}")]).await;
    save_together(&device, &[("notes", "a", r#"{"body":"2"}"#), ("tasks", &uuid(1), r#"{"n":1000}"#)]).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (0, 4));
    let cause = operation_on(&device, "a").await.cause.unwrap();
    assert!(cause.to_string().contains("2 local transactions changed this record"), "{cause}");
    device.save("tasks", &uuid(1), r#"{"n":1}"#).await;
    device.sync_until_settled().await;
    assert_eq!(world.value("select string_agg(id || coalesce(body, ''), ' ' order by id) from notes").await, "a2 b");
}

#[tokio::test]
async fn a_transaction_that_always_takes_too_long_is_set_aside_while_others_go_through() {
    let world = World::with_kit().await;
    let slow = "
        create function dawdle() returns trigger language plpgsql as $$ begin
          raise exception 'canceling statement due to statement timeout' using errcode = '57014'; end $$;
        create trigger dawdle before insert on tasks for each row when (new.title = 'slow') execute function dawdle()";
    world.project.sql(slow).await.unwrap();
    let device = world.device("here");
    save_together(&device, &[("tasks", &uuid(1), r#"{"title":"slow"}"#), ("notes", "with it", "{}")]).await;
    for _ in 0..3 {
        device.sync().await;
    }
    assert_eq!(device.tidelock.status().pending, 2, "alone it may be the server's state: it is tried again");
    let mut rounds = 0;
    while device.tidelock.status().parked == 0 {
        device.save("notes", &format!("quick {rounds}"), "{}").await;
        let report = device.tidelock.sync(SyncRequest::default()).await.unwrap();
        assert!(report.pushed >= 1, "others are not held up");
        rounds += 1;
        assert!(rounds < 200, "{:?}", queue(&device).await);
    }
    assert_eq!(device.tidelock.status().parked, 2);
    let cause = operation_on(&device, &uuid(1)).await.cause.unwrap();
    assert_eq!(cause.code.as_deref(), Some("57014"));
    world.project.sql("drop trigger dawdle on tasks").await.unwrap();
    device.tidelock.redrive(vec![]).await.unwrap();
    device.sync_until_settled().await;
    assert_eq!(world.value("select count(*) from tasks").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_how_many_went_with_the_one_that_was_named() {
    let world = strict().await;
    let device = world.device("here");
    for number in 1..=3 {
        let (note, task) = (format!("n{number}"), uuid(number));
        save_together(&device, &[("notes", &note, "{}"), ("tasks", &task, r#"{"n":1000}"#)]).await;
    }
    device.sync().await;
    device.tidelock.shutdown().await;
    let desk = Desk::with(&world.config_text(&device.directory, "auto = false"));
    for (command, expected) in [
        (&["queue", "discard", "--only"][..], json!({ "discarded": 1 })),
        (&["queue", "discard"], json!({ "discarded": 1 })),
        (&["queue", "discard"], json!({ "discarded": 2 })),
        (&["queue", "redrive"], json!({ "redriven": 2 })),
    ] {
        let queue = desk.json(&["queue", "list", "--state", "parked"]);
        let id = &queue[0]["id"];
        assert_eq!(desk.json(&[command, &[&id.to_string()]].concat()), expected, "{command:?} {id}");
    }
    assert_eq!(desk.json(&["queue", "list"]).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn in_the_plain_mode_every_operation_stands_for_itself() {
    let world = World::new().await;
    let device = world.device("here");
    save_together(&device, &[("notes", "a", "{}"), ("tasks", &uuid(1), r#"{"n":-1}"#), ("notes", "b", "{}")]).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (2, 1));
    assert_eq!(device.tidelock.redrive(vec![operation_on(&device, &uuid(1)).await.id]).await.unwrap(), 1);
    device.assert_healthy().await;
}
