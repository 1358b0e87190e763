//! The main job: two devices, one project.

use crate::support::{World, assert_equal, uuid};

#[tokio::test]
async fn what_one_device_saves_offline_arrives_on_the_other() {
    let world = World::new().await;
    let (here, there) = (world.device("here"), world.device("there"));
    let project = uuid(1);
    here.save("projects", &project, r#"{"name":"tides"}"#).await;
    here.save("tasks", &uuid(2), &format!(r#"{{"project_id":"{project}","title":"measure","n":1}}"#)).await;
    here.save("notes", "n1", r#"{"body":"by hand"}"#).await;
    assert_eq!(here.tidelock.status().pending, 3);

    let report = here.sync().await;
    assert_eq!((report.pushed, report.failed, report.parked), (3, 0, 0));
    assert_eq!(here.tidelock.status().pending, 0);
    there.sync().await;
    for collection in ["projects", "tasks", "notes"] {
        let on_server = world.rows(collection).await;
        assert_equal(&here.records(collection).await, &on_server, collection);
        assert_equal(&there.records(collection).await, &on_server, collection);
    }
    here.assert_healthy().await;
}

#[tokio::test]
async fn edits_and_deletions_travel_both_ways() {
    let world = World::new().await;
    let (here, there) = (world.device("here"), world.device("there"));
    for number in 1..=20 {
        here.save("projects", &uuid(number), r#"{"name":"old"}"#).await;
        here.save("notes", &format!("n{number}"), r#"{"body":"old"}"#).await;
    }
    here.sync().await;
    there.sync().await;
    there.save("projects", &uuid(1), r#"{"name":"new"}"#).await;
    there.save("notes", "n1", r#"{"body":"new"}"#).await;
    there.tidelock.delete("projects", &uuid(2)).await.unwrap();
    there.tidelock.delete("notes", "n2").await.unwrap();
    there.sync().await;
    here.sync().await;
    assert_eq!(here.field("projects", &uuid(1), "name").await, r#""new""#);
    assert_eq!(here.field("notes", "n1", "body").await, r#""new""#);
    assert_eq!(here.get("projects", &uuid(2)).await, None);
    assert_eq!(here.get("notes", "n2").await, None);
    for collection in ["projects", "notes"] {
        assert_equal(&here.records(collection).await, &world.rows(collection).await, collection);
    }
}

#[tokio::test]
async fn an_idle_round_brings_and_sends_nothing() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("projects", &uuid(1), r#"{"name":"x"}"#).await;
    device.sync().await;
    device.sync().await;
    let idle = device.sync().await;
    assert_eq!((idle.pushed, idle.pulled, idle.conflicts), (0, 0, 0));
}

#[tokio::test]
async fn h41_numbers_timestamps_and_text_come_back_exact() {
    let world = World::new().await;
    let (here, there) = (world.device("here"), world.device("there"));
    let exact = r#"{"big":9223372036854775807,"amount":1234567890123456789012345678.0123456789,"at":"2026-11-22T10:11:12.123456+00:00","meta":{"deep":[9007199254740993,1.50,{"x":12345678901234567890}]},"title":"🌊 tïde \"lock\" \\ ﷽"}"#;
    here.save("tasks", &uuid(1), exact).await;
    here.sync().await;
    there.sync().await;
    let sent = tidelock::Document::parse(exact).unwrap();
    for device in [&here, &there] {
        let back = device.get("tasks", &uuid(1)).await.unwrap();
        assert!(sent.is_within(&back), "{sent} came back as {back}");
        assert_eq!(device.field("tasks", &uuid(1), "big").await, "9223372036854775807");
    }
    let in_database =
        world.value("select amount::text || ' ' || big || ' ' || (meta#>>'{deep,0}') from public.tasks").await;
    assert_eq!(in_database, "1234567890123456789012345678.0123456789 9223372036854775807 9007199254740993");
}

#[tokio::test]
async fn h35_columns_that_this_device_does_not_know_are_kept() {
    let world = World::new().await;
    let device = world.device("here");
    world
        .project
        .sql(&format!("insert into public.tasks (id, title, n) values ('{}', 'theirs', 7)", uuid(1)))
        .await
        .unwrap();
    device.sync().await;
    device.save("tasks", &uuid(1), r#"{"title":"ours"}"#).await;
    device.sync().await;
    assert_eq!(world.value("select title || ' ' || n from public.tasks").await, "ours 7");
}

#[tokio::test]
async fn h17_a_record_made_and_deleted_before_the_first_sync_leaves_no_trace() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("projects", &uuid(1), r#"{"name":"brief"}"#).await;
    device.tidelock.delete("projects", &uuid(1)).await.unwrap();
    device.sync().await;
    assert!(world.rows("projects").await.is_empty());
    // The server is only asked whether it has the kit.
    let is_write = |(method, path): &(String, String)| method != "GET" && !path.ends_with("/rpc/tidelock_describe");
    assert!(!world.network.requests().iter().any(is_write));
    assert_eq!(device.tidelock.status().pending, 0);

    device.save("projects", &uuid(1), r#"{"name":"again"}"#).await;
    device.sync().await;
    world.project.sql("delete from public.projects").await.unwrap();
    device.tidelock.delete("projects", &uuid(1)).await.unwrap();
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (1, 0), "deleting what is gone is success");
    device.sync().await;
    assert!(device.records("projects").await.is_empty(), "and it stays gone");
}

#[tokio::test]
async fn h21_a_child_saved_before_its_parent_waits_for_it() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("tasks", &uuid(2), &format!(r#"{{"project_id":"{}","title":"early"}}"#, uuid(1))).await;
    device.sync().await;
    assert_eq!(device.tidelock.status().pending, 1, "not sent, not parked");
    device.save("projects", &uuid(1), r#"{"name":"late"}"#).await;
    device.sync_until_settled().await;
    assert_eq!(device.tidelock.status().parked, 0);
    assert_eq!(world.rows("tasks").await.len(), 1);
}

#[tokio::test]
async fn h39_having_synced_is_remembered_and_never_claimed_too_early() {
    let world = World::new().await;
    let device = world.device("here");
    assert_eq!(device.tidelock.status().last_synced_at, None, "an empty store has not synced");
    world.network.set_offline(true);
    assert!(device.tidelock.sync(Default::default()).await.is_err());
    assert_eq!(device.tidelock.status().last_synced_at, None);
    world.network.set_offline(false);
    device.sync().await;
    let synced = device.tidelock.status().last_synced_at;
    assert!(synced.is_some());
    device.tidelock.shutdown().await;
    let again = tidelock::Tidelock::open(device.tidelock.config()).unwrap();
    assert_eq!(again.status().last_synced_at, synced, "remembered across a restart");
}

#[tokio::test]
async fn h02_an_edit_made_offline_and_uploaded_late_is_seen_by_who_pulled_meanwhile() {
    let world = World::new().await;
    let (here, there) = (world.device("here"), world.device("there"));
    here.save("projects", &uuid(1), r#"{"name":"made first, sent last"}"#).await;
    there.save("projects", &uuid(2), r#"{"name":"made last, sent first"}"#).await;
    there.sync().await;
    here.sync().await;
    there.sync().await;
    assert_eq!(there.records("projects").await.len(), 2);
}

#[tokio::test]
async fn h05_acknowledging_an_own_write_does_not_step_over_others() {
    let world = World::new().await;
    let device = world.device("here");
    device.sync().await;
    world
        .project
        .sql(&format!("insert into public.projects (id, name) values ('{}', 'theirs')", uuid(1)))
        .await
        .unwrap();
    device.save("projects", &uuid(2), r#"{"name":"ours, stamped later"}"#).await;
    device.tidelock.sync(tidelock::SyncRequest { pull: false, ..Default::default() }).await.unwrap();
    device.sync().await;
    assert!(device.get("projects", &uuid(1)).await.is_some());
}

#[tokio::test]
async fn h18_stopping_in_the_middle_of_a_push_settles_nothing_that_the_server_did_not_answer() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("projects", &uuid(1), r#"{"name":"x"}"#).await;
    let mut held = world.network.pause_next("POST", "/rest/v1/projects", tidelock_testbed::HoldAt::Request);
    let handle = device.tidelock.clone();
    let syncing = tokio::spawn(async move { handle.sync(Default::default()).await });
    assert!(held.reached().await);
    device.tidelock.shutdown().await;
    assert!(syncing.await.unwrap().is_err());
    drop(held);
    let again = tidelock::Tidelock::open(device.tidelock.config()).unwrap();
    assert_eq!(again.status().pending, 1);
    again.sync(Default::default()).await.unwrap();
    assert_eq!((again.status().pending, world.rows("projects").await.len()), (0, 1));
}
