//! PostgreSQL dies under the server, and comes back.

use std::time::{Duration, Instant};

use tidelock_testbed::{Cluster, ProjectOptions};

use crate::support::*;

#[tokio::test]
async fn requests_end_when_postgresql_dies_and_pass_again_when_it_is_back() {
    if tidelock_testbed::is_external() {
        return eprintln!("skipped: an external project's PostgreSQL cannot be crashed");
    }
    let cluster = Cluster::start().await.unwrap();
    let project = cluster.project(ProjectOptions::default()).await.unwrap();
    assert_eq!(post(&project, "notes", "", r#"{"id":"kept"}"#).await.status, 201);

    let started = Instant::now();
    let (in_flight, ()) = tokio::join!(call(&project, "sleep_ms", r#"{"ms":30000}"#), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.crash().await.unwrap();
    });
    assert_eq!(in_flight.error(), (503, "PGRST001".into()), "a request in flight ends at once");
    assert!(started.elapsed() < Duration::from_secs(15));

    let down = loop {
        let answer = get(&project, "notes").await;
        if answer.status == 503 {
            break answer;
        }
        assert_eq!(answer.error(), (400, String::new()), "a pooled connection that died while idle answers once");
    };
    assert!(matches!(down.error().1.as_str(), "PGRST000" | "PGRST001"), "{down:?}");
    assert_eq!(down.header("retry-after"), Some("0"));

    cluster.start_again().await.unwrap();
    let back = Instant::now();
    while get(&project, "notes").await.status != 200 {
        assert!(back.elapsed() < Duration::from_secs(10), "the server did not find its database again");
    }
    assert_eq!(get(&project, "notes").await.rows()[0]["id"], "kept");
}

#[tokio::test]
async fn idle_connections_that_died_answer_once_with_an_empty_code() {
    if tidelock_testbed::is_external() {
        return eprintln!("skipped: an external project's PostgreSQL cannot be crashed");
    }
    let cluster = Cluster::start().await.unwrap();
    let project = cluster.project(ProjectOptions::default()).await.unwrap();
    assert_eq!(get(&project, "notes").await.status, 200);
    cluster.crash().await.unwrap();
    cluster.start_again().await.unwrap();
    assert_eq!(get(&project, "notes").await.error(), (400, String::new()));
    for _ in 0..10 {
        if get(&project, "notes").await.status == 200 {
            return;
        }
    }
    panic!("the server did not recover");
}
