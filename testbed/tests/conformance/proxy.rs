//! The fault proxy does what it says.

use std::time::Duration;

use tidelock_testbed::{Fault, FaultPlan, FaultProxy, HoldAt, Project};

const NOTES: &str = "/rest/v1/notes";

struct Behind {
    project: Project,
    proxy: FaultProxy,
    client: reqwest::Client,
}

async fn behind(plan: FaultPlan) -> Behind {
    let project = tidelock_testbed::project().await.unwrap();
    let proxy = FaultProxy::start(&project.url, plan).await.unwrap();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().unwrap();
    Behind { project, proxy, client }
}

impl Behind {
    /// Adds a note through the proxy; the status, or nothing when the connection failed.
    async fn add(&self, id: &str) -> Option<u16> {
        let request = self.client.post(format!("{}{NOTES}", self.proxy.url)).header("apikey", &self.project.secret_key);
        let request = request.header("prefer", "return=representation");
        let answer = request.json(&serde_json::json!({ "id": id, "body": "x".repeat(10_000) })).send().await.ok()?;
        let status = answer.status().as_u16();
        answer.bytes().await.ok().map(|_| status)
    }

    async fn has(&self, id: &str) -> bool {
        let count = format!("select count(*) from notes where id = '{id}'");
        self.project.value(&count).await.unwrap().as_deref() == Some("1")
    }
}

#[tokio::test]
async fn each_fault_has_its_effect_on_client_and_server() {
    let world = behind(FaultPlan::none()).await;
    assert_eq!(world.add("passes").await, Some(201));
    for (id, fault, seen, is_stored) in [
        ("503", Fault::Unavailable { retry_after_s: Some(3) }, Some(503), false),
        ("429", Fault::TooManyRequests { retry_after_s: 3 }, Some(429), false),
        ("before", Fault::CutBefore, None, false),
        ("after", Fault::LoseResponse, None, true),
        ("body", Fault::CutBody, None, true),
        ("late", Fault::Delay(Duration::from_millis(20)), Some(201), true),
    ] {
        world.proxy.next_for("POST", NOTES, fault);
        assert_eq!(world.add(id).await, seen, "{id}");
        assert_eq!(world.has(id).await, is_stored, "{id}");
    }
    let counts = world.proxy.counts();
    assert_eq!((counts.requests, counts.faults(), counts.lost_responses), (7, 6, 1));
    assert!(counts.longest_request_line_bytes >= "POST /rest/v1/notes HTTP/1.1".len());
    assert_eq!(world.proxy.requests()[0], ("POST".into(), NOTES.into()));
}

#[tokio::test]
async fn a_request_can_be_held_before_and_after_the_server() {
    let world = behind(FaultPlan::none()).await;
    for (at, is_stored) in [(HoldAt::Request, false), (HoldAt::Response, true)] {
        let id = format!("{at:?}");
        let mut gate = world.proxy.pause_next("POST", NOTES, at);
        let (status, ()) = tokio::join!(world.add(&id), async {
            assert!(gate.reached().await);
            assert_eq!(world.has(&id).await, is_stored);
            gate.release();
        });
        assert_eq!(status, Some(201));
    }
}

#[tokio::test]
async fn offline_means_that_nothing_passes() {
    let world = behind(FaultPlan::none()).await;
    assert_eq!(world.add("before").await, Some(201));
    world.proxy.set_offline(true);
    assert_eq!(world.add("offline").await, None);
    assert!(!world.has("offline").await);
    world.proxy.set_offline(false);
    assert_eq!(world.add("after").await, Some(201));
}

#[tokio::test]
async fn a_request_can_arrive_twice() {
    let world = behind(FaultPlan::none()).await;
    world.project.sql("alter table notes drop constraint notes_pkey").await.unwrap();
    world.proxy.next_for("POST", NOTES, Fault::Twice(Duration::from_millis(10)));
    assert_eq!(world.add("twice").await, Some(201));
    let arrived =
        async { while world.project.value("select count(*) from notes").await.unwrap().as_deref() != Some("2") {} };
    tokio::time::timeout(Duration::from_secs(10), arrived).await.expect("it comes again");
    assert_eq!(world.proxy.counts().doubled, 1);
}

#[tokio::test]
async fn drawn_faults_are_counted_as_what_they_are() {
    let world = behind(FaultPlan { hang_ms: 20, ..FaultPlan::mixed(42, 0.7) }).await;
    for n in 0..40 {
        world.add(&format!("n{n}")).await;
    }
    let counts = world.proxy.counts();
    assert!(counts.requests >= 40 && (15..=40).contains(&counts.faults()), "{counts:?}");
}
