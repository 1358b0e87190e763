//! What goes wrong has the right name, and nothing is said of what is not known.

use tidelock_actors::model::FaultKind;
use tidelock_testbed::{Fault as Trouble, FaultPlan, FaultProxy};

use super::*;
use crate::support::canned;

#[tokio::test]
async fn h14_a_token_that_is_not_taken_stops_the_batch_and_is_no_refusal() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote_of(&project, &["tasks", "notes"], "not.a.token");
    let batch = vec![create("tasks", &uuid(1), "{}"), create("notes", "n", "{}"), create("tasks", &uuid(2), "{}")];
    for verdict in push(&remote, batch).await {
        assert_eq!(failed(&verdict).kind, FaultKind::Unauthorized);
    }
    assert_eq!(remote.requests(), 1);
    let pulled = page(&remote, &Checkpoints::new(), 1, false, &["tasks"]).await;
    assert_eq!(pulled.unwrap_err().kind, FaultKind::Unauthorized);
    assert_eq!(remote.probe().await.unwrap_err().kind, FaultKind::Unauthorized);

    let wrong_key =
        PlainOptions { publishable_key: "sb_publishable_wrong".into(), ..options(&project, vec![rules("tasks")]) };
    assert_eq!(Plain::new(wrong_key).unwrap().probe().await.unwrap_err().kind, FaultKind::Unauthorized);
}

#[tokio::test]
async fn an_anonymous_denial_is_a_refusal_although_its_status_is_401() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["owned"]);
    let verdicts = push(&remote, (0..20).map(|key| create("owned", &uuid(key), "{}")).collect()).await;
    for verdict in &verdicts {
        assert_eq!(failed(verdict).kind, FaultKind::Refused);
        assert_eq!(failed(verdict).code.as_deref(), Some("42501"));
    }
}

#[tokio::test]
async fn h35_a_schema_fault_pauses_that_collection_and_the_others_go_on() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks", "missing", "notes"]);
    let batch = vec![
        create("tasks", &uuid(1), r#"{"title":"x"}"#),
        create("missing", "1", "{}"),
        create("tasks", &uuid(2), r#"{"unknown_column":1}"#),
        create("tasks", &uuid(3), r#"{"title":"x"}"#),
        create("missing", "2", "{}"),
        create("notes", "n", "{}"),
    ];
    let verdicts = push(&remote, batch).await;
    applied(&verdicts[0]);
    for at in [1, 2, 3, 4] {
        assert_eq!(failed(&verdicts[at]).kind, FaultKind::Schema, "{at}");
    }
    assert_eq!(failed(&verdicts[1]).code.as_deref(), Some("PGRST205"));
    assert_eq!(failed(&verdicts[2]).code.as_deref(), Some("PGRST204"));
    applied(&verdicts[5]);
    remote.probe().await.unwrap();
}

#[tokio::test]
async fn a_version_column_that_goes_or_comes_is_noticed_after_one_fault() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["stamped"]);
    let change = async |sql: &str| {
        project.sql(&format!("{sql}; notify pgrst, 'reload schema'")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let stamped = "create table stamped (id int primary key, updated_at timestamptz default now());
        grant all on stamped to anon, authenticated, service_role";
    change(stamped).await;
    assert!(applied(&push_one(&remote, create("stamped", "1", "{}")).await).is_some());

    change("alter table stamped drop column updated_at").await;
    assert_eq!(failed(&push_one(&remote, create("stamped", "2", "{}")).await).kind, FaultKind::Schema);
    assert_eq!(applied(&push_one(&remote, create("stamped", "2", "{}")).await), None);

    change("drop table stamped").await;
    assert_eq!(round(&remote, Checkpoints::new(), 1, true, &["stamped"]).await.paused.len(), 1);
    change(stamped).await;
    assert!(applied(&push_one(&remote, create("stamped", "3", "{}")).await).is_some());
    let pulled = round(&remote, Checkpoints::new(), 2, false, &["stamped"]).await;
    assert!(pulled.paused.is_empty());
    assert!(present(&pulled.rows[0].state).1.is_some());
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let project = tidelock_testbed::project().await.unwrap();
    let nowhere = PlainOptions { url: "http://127.0.0.1:1".into(), ..options(&project, vec![rules("tasks")]) };
    let remote = Plain::new(nowhere).unwrap();
    for verdict in push(&remote, (0..3).map(|key| create("tasks", &uuid(key), "{}")).collect()).await {
        assert_eq!(failed(&verdict).kind, FaultKind::Transient);
        assert!(failed(&verdict).message.contains("refused"), "{:?}", failed(&verdict));
    }
    assert_eq!(remote.requests(), 1);
    assert_eq!(remote.probe().await.unwrap_err().kind, FaultKind::Transient);
}

#[tokio::test]
async fn h43_an_overloaded_server_is_left_alone_and_its_wish_is_told() {
    let project = tidelock_testbed::project().await.unwrap();
    let network = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
    let through = PlainOptions { url: network.url.clone(), ..options(&project, vec![rules("tasks"), rules("notes")]) };
    let remote = Plain::new(through).unwrap();
    applied(&push_one(&remote, create("tasks", &uuid(9), "{}")).await);
    network.next_for("POST", "/rest/v1/tasks", Trouble::TooManyRequests { retry_after_s: 7 });
    let before = remote.requests();
    let batch = vec![create("tasks", &uuid(1), "{}"), create("notes", "n", "{}"), create("tasks", &uuid(2), "{}")];
    for verdict in push(&remote, batch).await {
        assert_eq!((failed(&verdict).kind, failed(&verdict).retry_after_ms), (FaultKind::Transient, Some(7_000)));
    }
    assert_eq!(remote.requests() - before, 1);
}

/// A remote without a project: nothing of it is reached.
fn remote_at(url: String) -> Plain {
    Plain::new(options_at(url)).unwrap()
}

#[tokio::test]
async fn an_answer_that_is_cut_tells_nothing() {
    let remote = remote_at(canned("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{\"id\"".into()).await);
    assert_eq!(remote.count("tasks".into()).await.unwrap_err().kind, FaultKind::Transient);
    assert_eq!(failed(&push_one(&remote, create("tasks", "k", "{}")).await).kind, FaultKind::Transient);
    let pulled = page(&remote, &Checkpoints::new(), 1, false, &["tasks"]).await;
    assert_eq!(pulled.unwrap_err().kind, FaultKind::Transient);
}

#[tokio::test]
async fn something_else_at_the_address_is_no_server() {
    let page = "<html>Welcome to our wireless network</html>";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", page.len());
    let remote = remote_at(canned(head + page).await);
    let told = remote.probe().await.unwrap_err();
    assert_eq!(told.kind, FaultKind::Transient);
    assert!(told.message.contains("Welcome"), "{told:?}");
    assert_eq!(failed(&push_one(&remote, create("tasks", "k", "{}")).await).kind, FaultKind::Transient);
    assert_eq!(remote.count("tasks".into()).await.unwrap_err().kind, FaultKind::Transient);
}

#[tokio::test]
async fn a_firewalls_page_parks_nothing_and_stops_the_batch() {
    let page = "<html>Forbidden</html>";
    let head = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", page.len());
    let remote = remote_at(canned(head + page).await);
    let batch = vec![create("tasks", "k", "{}"), create("notes", "n", "{}")];
    for verdict in push(&remote, batch).await {
        assert_eq!((failed(&verdict).kind, failed(&verdict).status), (FaultKind::Transient, Some(403)));
    }
    assert_eq!(remote.requests(), 1);
    assert_eq!(remote.probe().await.unwrap_err().kind, FaultKind::Transient);
}

#[tokio::test]
async fn h13_a_server_that_never_answers_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut remote_options = options_at(format!("http://{}", listener.local_addr().unwrap()));
    remote_options.timeout = Duration::from_millis(300);
    let remote = Plain::new(remote_options).unwrap();
    let began = std::time::Instant::now();
    for verdict in push(&remote, (0..20).map(|key| create("tasks", &uuid(key), "{}")).collect()).await {
        assert_eq!(failed(&verdict).kind, FaultKind::Transient);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn h52_after_a_crash_of_the_database_everything_is_transient_and_then_well() {
    if tidelock_testbed::is_external() {
        return;
    }
    let cluster = tidelock_testbed::Cluster::start().await.unwrap();
    let project = cluster.project(Default::default()).await.unwrap();
    let remote = remote(&project, &["tasks"]);
    let batch = |from: usize| (from..from + 300).map(|key| create("tasks", &uuid(key), "{}")).collect::<Vec<_>>();
    for verdict in push(&remote, batch(0)).await {
        applied(&verdict);
    }
    cluster.crash().await.unwrap();
    for verdict in push(&remote, batch(300)).await {
        assert_eq!(failed(&verdict).kind, FaultKind::Transient);
    }
    cluster.start_again().await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let verdicts = push(&remote, batch(300)).await;
        if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Applied { .. })) {
            break;
        }
        for verdict in verdicts {
            assert_eq!(failed(&verdict).kind, FaultKind::Transient);
        }
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(project.value("select count(*) from tasks").await.unwrap().as_deref(), Some("600"));
}
