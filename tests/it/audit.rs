//! Audits on the real backend: what drifts without a trace is found, put right, and nothing of the user's is lost.

use std::time::Duration;

use futures::StreamExt;
use tidelock::adapters::sqlite::{OperationState, QueueFilter};
use tidelock::{AuditReport, AuditRequest, Tidelock};
use tidelock_testbed::ProjectOptions;

use crate::support::{Device, World, assert_equal, uuid};

const NO_TRIGGERS: &str = "set session_replication_role = replica;";
/// No row is newer than the first one, where rows have versions.
const OLD_VERSIONS: &str = "do $$ begin
    update tasks set tidelock_version = (select min(tidelock_version) from tasks);
  exception when undefined_column then null; end $$";

async fn audited(tidelock: &Tidelock, repair: bool) -> AuditReport {
    let report = tidelock.audit(AuditRequest { repair, collections: vec![] }).await.unwrap();
    assert!(report.paused.is_empty(), "{report:?}");
    report
}

/// Missing, extra, different, repaired.
async fn counts(device: &Device, repair: bool) -> [u64; 4] {
    let report = audited(&device.tidelock, repair).await;
    let found = [report.missing, report.extra, report.different];
    assert_eq!(report.equal, found == [0, 0, 0], "{report:?}");
    let [missing, extra, different] = found;
    [missing, extra, different, report.repaired]
}

/// A device that has forty tasks from the server, which are so old that no pull looks at them again.
async fn stocked(world: &World, name: &str) -> Device {
    let fill = "set session_replication_role = replica; insert into tasks (id, title, amount, at, meta, updated_at)
        select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'task ' || n, n / 3.0, now(), '{\"b\":[1, 2],\"a\":null}',
          '2020-01-01' from generate_series(1, 40) n on conflict do nothing";
    world.project.sql(fill).await.unwrap();
    let device = world.device(name);
    device.sync().await;
    device
}

/// Changes the store's file behind its back.
fn by_hand(device: &Device, sql: &str) {
    let file = rusqlite::Connection::open(device.directory.join("tidelock.db")).unwrap();
    file.execute_batch(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
}

async fn assert_repaired(world: &World, device: &Device) {
    assert_equal(&device.records("tasks").await, &world.rows("tasks").await, "after the repair");
    assert_eq!(counts(device, false).await, [0, 0, 0, 0]);
    device.assert_healthy().await;
}

#[tokio::test]
async fn h08_what_the_server_changed_without_a_trace_is_found_and_put_right() {
    for world in World::both().await {
        let device = stocked(&world, "here").await;
        assert_eq!(counts(&device, false).await, [0, 0, 0, 0]);
        let drift = format!(
            "{NO_TRIGGERS} update tasks set title = 'drifted' where id = '{}'; delete from tasks where id = '{}';
             insert into tasks (id, title, updated_at) values ('{}', 'unseen', '2020-01-01'); {OLD_VERSIONS}",
            uuid(3),
            uuid(4),
            uuid(100)
        );
        world.project.sql(&drift).await.unwrap();
        assert_eq!(counts(&device, false).await, [1, 1, 1, 0]);
        assert_eq!(device.field("tasks", &uuid(3), "title").await, r#""task 3""#, "an audit alone changes nothing");
        assert_eq!(counts(&device, true).await, [1, 1, 1, 3]);
        assert_repaired(&world, &device).await;
    }
}

#[tokio::test]
async fn h08_what_was_changed_in_the_store_by_hand_is_found_and_put_right() {
    for world in World::both().await {
        let device = stocked(&world, "here").await;
        let damage = format!(
            "update tl_records set document = json_set(document, '$.title', 'damaged') where key = '{}';
             insert into tl_records select 1000 + id, collection, '{}', on_server, confirmed, has_operations, stamp, origin,
               round, revision, version, document, server_document from tl_records where key = '{1}0' or key = '{}';
             delete from tl_records where key = '{2}'",
            uuid(3),
            uuid(200),
            uuid(4)
        );
        by_hand(&device, &damage);
        assert_eq!(counts(&device, true).await, [1, 1, 1, 3]);
        assert_repaired(&world, &device).await;
    }
}

#[tokio::test]
async fn h24_what_waits_to_be_sent_survives_a_repair_and_is_no_difference() {
    for world in World::both().await {
        let device = stocked(&world, "here").await;
        device.save("tasks", &uuid(1), r#"{"n":1}"#).await;
        device.save("tasks", &uuid(2), r#"{"n":2}"#).await;
        device.save("tasks", &uuid(300), r#"{"title":"mine"}"#).await;
        device.tidelock.delete("tasks", &uuid(5)).await.unwrap();
        assert_eq!(counts(&device, true).await, [0, 0, 0, 0]);
        assert_eq!(device.tidelock.status().pending, 4);

        let drift = format!("{NO_TRIGGERS} update tasks set code = 'drifted' where id = '{}'", uuid(2));
        world.project.sql(&drift).await.unwrap();
        assert_eq!(counts(&device, true).await, [0, 0, 1, 1]);
        assert_eq!(device.field("tasks", &uuid(2), "n").await, "2");
        assert_eq!(device.tidelock.status().pending, 4, "nothing was sent and nothing given up");
        assert_eq!(world.value("select count(*) from tasks where n is not null").await, "0");
        device.sync_until_settled().await;
        assert_eq!(world.value("select string_agg(n::text, ' ' order by n) from tasks").await, "1 2");
        assert_eq!(world.value("select count(*) from tasks").await, "40");
        assert_repaired(&world, &device).await;
    }
}

#[tokio::test]
async fn a_value_that_is_only_written_otherwise_is_no_difference_and_suspected_once() {
    let world = World::with_kit().await;
    let device = world.device("here");
    device.sync().await;
    let odd = r#"{"title":"é\u00e9","amount":1.5,"big":9223372036854775807,"at":"2026-11-22T12:00:00.5+02:00",
                  "meta":{"b":1e2,"a":[1.0,{"z":null,"y":"\u0001"}]},"done":null}"#;
    device.save("tasks", &uuid(1), odd).await;
    device.sync().await;
    assert_eq!(counts(&device, false).await, [0, 0, 0, 0]);
    let requests = world.network.requests().len();
    assert_eq!(counts(&device, false).await, [0, 0, 0, 0]);
    let asked = world.network.requests().split_off(requests);
    assert_eq!(asked.len(), 2 + 3, "a pull, the columns and a digest a collection: {asked:?}");
}

#[tokio::test]
async fn what_was_sent_from_here_and_does_not_match_the_filter_is_no_difference() {
    for world in World::both().await {
        let filtered = "[collections.open_tasks]\ntable = \"tasks\"\nfilter = \"title=eq.open\"";
        let device = world.device_with("here", filtered);
        for (number, title) in [(1, "open"), (2, "closed")] {
            device.save("open_tasks", &uuid(number), &format!(r#"{{"title":"{title}"}}"#)).await;
        }
        device.sync().await;
        device.sync().await;
        assert_eq!(counts(&device, true).await, [0, 0, 0, 0]);
        assert_eq!(device.records("open_tasks").await.len(), 2);
        let drift = format!("{NO_TRIGGERS} update tasks set title = 'closed' where id = '{}'", uuid(1));
        world.project.sql(&drift).await.unwrap();
        let request = AuditRequest { repair: true, collections: vec!["open_tasks".to_owned()] };
        let report = device.tidelock.audit(request).await.unwrap();
        assert_eq!((report.extra, report.repaired, report.collections.len()), (1, 1, 1), "{report:?}");
        assert_eq!(device.records("open_tasks").await.into_keys().collect::<Vec<_>>(), [uuid(2)]);
    }
}

#[tokio::test]
async fn h29_rows_that_the_user_may_no_longer_see_go_and_what_waits_on_them_is_parked() {
    let kit = ProjectOptions { kit: vec![("owned", Some("owner"))], ..ProjectOptions::default() };
    for options in [ProjectOptions::default(), kit] {
        let world = World::with(options).await;
        let user = world.project.any_user().await.unwrap();
        let fill = format!(
            "insert into owned (id, owner, title) select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}',
               case when n <= 3 then 'secret' else 'open' end from generate_series(1, 6) n",
            user.user_id
        );
        world.project.sql(&fill).await.unwrap();
        let text = format!(
            "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\naccess_token = \"{}\"\n[sync]\nauto = false\n[api]\nbind = \"127.0.0.1:0\"\n\
             [storage]\ndata_dir = \"{}\"\n[collections.owned]\nowner = \"owner\"",
            world.network.url,
            world.project.publishable_key,
            user.access_token,
            world.folder("user").display()
        );
        let directory = world.folder("user");
        let device =
            Device { tidelock: Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap(), directory };
        device.sync().await;
        assert_eq!(device.records("owned").await.len(), 6);
        device.save("owned", &uuid(2), r#"{"title":"mine"}"#).await;
        device.tidelock.delete("owned", &uuid(3)).await.unwrap();
        device.save("owned", &uuid(5), r#"{"title":"also mine"}"#).await;

        let policy = "alter policy own_rows_select on owned using (owner = auth.uid() and title <> 'secret')";
        world.project.sql(policy).await.unwrap();
        assert_eq!(counts(&device, true).await, [0, 3, 0, 3]);
        let left: Vec<String> = device.records("owned").await.into_keys().collect();
        assert_eq!(left, [2, 4, 5, 6].map(uuid), "what was not sent is still there to be seen");
        let parked = device.tidelock.queue(QueueFilter { state: Some(OperationState::Parked), ..Default::default() });
        let parked = parked.await.unwrap();
        assert_eq!(parked.iter().map(|one| one.key.to_string()).collect::<Vec<_>>(), [uuid(2)]);
        let cause = parked[0].cause.as_ref().unwrap();
        assert!(cause.message.contains("does not show it to this user"), "{cause:?}");
        assert_eq!(device.tidelock.status().pending, 1);
        assert_eq!(device.tidelock.history("owned", &uuid(1)).await.unwrap().len(), 1, "the last version is kept");
        assert_eq!(counts(&device, false).await, [0, 0, 0, 0]);
        device.assert_healthy().await;
        device.tidelock.discard(vec![parked[0].id]).await.unwrap();
        assert_eq!(device.records("owned").await.into_keys().collect::<Vec<_>>(), [4, 5, 6].map(uuid));
    }
}

#[tokio::test]
async fn h08_an_audit_comes_by_itself_when_it_is_due_and_its_time_outlives_a_restart() {
    let world = World::with_kit().await;
    let Device { tidelock, directory } = stocked(&world, "here").await;
    let drift = |title: &str| format!("{NO_TRIGGERS} update tasks set title = '{title}' where id = '{}'", uuid(3));
    world.project.sql(&drift("drifted")).await.unwrap();
    tidelock.shutdown().await;
    drop(tidelock);
    let file = rusqlite::Connection::open(directory.join("tidelock.db")).unwrap();
    let a_day_ago = "update tl_checkpoints set value = value - 86400001 where name = 'last audited'";
    assert_eq!(file.execute(a_day_ago, []).unwrap(), 1, "the first round began the day");
    drop(file);

    let device = Device { tidelock: open_by_itself(&world, &directory), directory };
    let mut changes = device.tidelock.watch("tasks");
    while device.field("tasks", &uuid(3), "title").await != r#""drifted""# {
        tokio::time::timeout(Duration::from_secs(30), changes.next()).await.expect("an audit by itself");
    }
    device.tidelock.wait_synced().await.unwrap();
    device.tidelock.shutdown().await;
    world.project.sql(&drift("again")).await.unwrap();
    let Device { tidelock, directory } = device;
    drop((tidelock, changes));
    let device = Device { tidelock: open_by_itself(&world, &directory), directory };
    device.tidelock.wait_synced().await.unwrap();
    assert_eq!(device.field("tasks", &uuid(3), "title").await, r#""drifted""#, "the next one is due in a day");
}

fn open_by_itself(world: &World, directory: &std::path::Path) -> Tidelock {
    let text = world.config_text(directory, "interval = \"200ms\"");
    Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap()
}

#[tokio::test]
async fn what_cannot_be_compared_is_named() {
    let world = World::with_kit().await;
    let device = stocked(&world, "here").await;
    let asked = |name: &str| AuditRequest { repair: false, collections: vec![name.to_owned()] };
    let error = device.tidelock.audit(asked("tusks")).await.unwrap_err();
    assert_eq!(error.code(), "unknown_collection");
    world.project.sql("drop table notes; notify pgrst, 'reload schema'").await.unwrap();
    let report = device.tidelock.audit(AuditRequest::default()).await.unwrap();
    assert!(!report.equal && !report.is_settled() && report.paused.contains_key("notes"), "{report:?}");
    assert!(report.collections.contains_key("tasks"), "the others are compared: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_changed_while_an_audit_runs_are_no_difference() {
    for world in World::both().await {
        let device = stocked(&world, "here").await;
        world.project.sql("update tasks set n = 0").await.unwrap();
        let writing = async {
            for round in 1.. {
                let change = format!(
                    "update tasks set n = {round} where id = '{}'; update tasks set n = n + 1 where n % 7 = {}",
                    uuid(1 + round % 40),
                    round % 7
                );
                world.project.sql(&change).await.unwrap();
            }
        };
        let auditing = async {
            for _ in 0..3 {
                assert_eq!(counts(&device, false).await, [0, 0, 0, 0]);
            }
        };
        futures::future::select(std::pin::pin!(writing), std::pin::pin!(auditing)).await;
    }
}
