//! The server dies in the middle of things and comes back, does not answer, or is out of reach from the start.

use std::time::Duration;

use jiff::Timestamp;
use tidelock::{Config, Document, Tidelock};
use tidelock_testbed::{Cluster, FaultPlan, HoldAt, ProjectOptions};

use crate::support::{World, assert_equal, canned, uuid};

/// H52, H54: killed while a push and a pull are under way, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h52_postgres_killed_while_pushing_and_pulling_loses_and_parks_nothing() {
    if tidelock_testbed::is_external() {
        println!("not on an external project: it cannot be crashed from here");
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    let world = World::around(cluster.project(ProjectOptions::default()).await.unwrap()).await;
    let (here, there) = (world.device("here"), world.device("there"));
    for number in 0..1_500 {
        here.save("projects", &uuid(number), &format!(r#"{{"name":"{number}"}}"#)).await;
    }
    world.network.set_plan(FaultPlan { delay: 0.5, delay_ms: 20, ..FaultPlan::none() });
    for (method, device) in [("POST", &here), ("POST", &here), ("GET", &there), ("GET", &there)] {
        let mut gate = world.network.pause_next(method, "/rest/v1/projects", HoldAt::Request);
        let syncing = device.tidelock.sync(Default::default());
        let killing = async {
            assert!(gate.reached().await);
            cluster.crash().await.unwrap();
            gate.release();
        };
        let (result, ()) = tokio::join!(syncing, killing);
        println!("{method}: {:?}", result.map_err(|error| error.to_string()));
        cluster.start_again().await.unwrap();
    }
    here.sync_until_settled().await;
    there.sync_until_settled().await;
    for device in [&here, &there] {
        let status = device.tidelock.status();
        assert_eq!((status.pending, status.parked, status.conflicts), (0, 0, 0), "{status:?}");
        assert_equal(&device.records("projects").await, &world.rows("projects").await, "projects");
    }
    assert_eq!(world.rows("projects").await.len(), 1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h54_a_request_given_up_that_still_commits_has_one_effect() {
    let world = World::new().await;
    let more =
        world.config_text(&world.folder("here"), "auto = false").replace(r#"timeout = "10s""#, r#"timeout = "1s""#);
    let tidelock = Tidelock::open(Config::from_toml(&more).unwrap()).unwrap();
    let device = crate::support::Device { tidelock, directory: world.folder("here") };
    device.save("tasks", &uuid(1), r#"{"n":1,"code":"once"}"#).await;
    let gate = world.network.pause_next("POST", "/rest/v1/tasks", HoldAt::Response);
    let error = device.tidelock.sync(Default::default()).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error}");
    assert_eq!(device.tidelock.status().pending, 1, "an unknown outcome settles nothing");
    gate.release();
    device.sync_until_settled().await;
    assert_eq!(world.rows("tasks").await.len(), 1);
    assert_eq!(device.tidelock.status().parked, 0);
}

/// H13: a server that accepts and never answers. Where requests are given up sooner than a stall is told, their fault is
/// the reason; where they are still waited for, that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h13_a_server_that_never_answers_shows_as_stalled_with_its_reason_and_recovers_by_itself() {
    for (timeout, reason) in [("1s", "no answer within 1 s"), ("5s", "has taken a request and not answered it")] {
        stalls_and_recovers(timeout, reason).await;
    }
}

async fn stalls_and_recovers(timeout: &str, reason: &str) {
    const STALL_AFTER: Duration = Duration::from_secs(2);
    let world = World::new().await;
    world.network.set_plan(FaultPlan { hang: 1.0, hang_ms: 60_000, ..FaultPlan::none() });
    let text = world.config_text(&world.folder("here"), "auto = true\nstall_after = \"2s\"");
    let text = text.replace(r#"timeout = "10s""#, &format!("timeout = {timeout:?}"));
    let tidelock = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
    let device = crate::support::Device { tidelock, directory: world.folder("here") };
    device.save("notes", "n", r#"{"body":"x"}"#).await;
    let status = device.told(|status| status.stalled_since.is_some()).await;
    let since = status.stalled_since.unwrap();
    let told_after = Timestamp::now().duration_since(since).unsigned_abs();
    assert!((STALL_AFTER..STALL_AFTER + Duration::from_secs(1)).contains(&told_after), "{timeout}: {told_after:?}");
    // Between two tries the last one's fault is told, and during one that it is waited for.
    let told = device.told(|status| status.stalled_reason.as_ref().is_some_and(|said| said.contains(reason))).await;
    assert!(told.stalled_since.is_some() && told.pending == 1, "{told:?}");
    if timeout != "5s" {
        device.told(|status| status.phase == tidelock::Phase::Offline && status.phase_reason.contains(reason)).await;
    }
    world.network.set_plan(FaultPlan::none());
    let well = device.told(|status| status.stalled_since.is_none() && status.pending == 0 && !status.syncing).await;
    assert_eq!((well.stalled_reason, well.last_error), (None, None));
    assert_eq!(world.rows("notes").await.len(), 1);
}

/// A device whose clock is two hours behind: it learns that once, and knows it when it starts without a network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h38_what_is_saved_after_a_start_offline_is_stamped_by_the_servers_time() {
    const BEHIND: Duration = Duration::from_secs(2 * 60 * 60);
    let folder = tempfile::tempdir().unwrap();
    let open = |url: &str| {
        let text = format!(
            "[remote]\nmode = \"plain\"\nurl = \"{url}\"\nanon_key = \"key\"\n[sync]\nauto = false\n\
             [storage]\ndata_dir = \"{}\"\n[collections.notes]",
            folder.path().display()
        );
        Tidelock::open(Config::from_toml(&text).unwrap()).unwrap()
    };
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&(Timestamp::now() + BEHIND));
    let head = format!("HTTP/1.1 200 OK\r\ndate: {}\r\ncontent-range: */0\r\nconnection: close\r\n", date.unwrap());
    let online = open(&canned(format!("{head}content-length: 2\r\n\r\n[]")).await);
    online.sync(Default::default()).await.unwrap();
    online.shutdown().await;

    let offline = open("http://127.0.0.1:1");
    offline.save("notes", "n", Document::parse("{}").unwrap()).await.unwrap();
    let rows = offline.query("SELECT stamp >> 16 AS at FROM tl_operations", vec![]).await.unwrap();
    let stamped: i64 = rows[0].fields().get("at").unwrap().parse().unwrap();
    let ahead = stamped - Timestamp::now().as_millisecond();
    let wanted = i64::try_from(BEHIND.as_millis()).unwrap();
    assert!((ahead - wanted).abs() < 60_000, "{ahead} ms ahead of this device's clock");
}
