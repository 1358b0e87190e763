//! A verdict for every operation, by the rows that came back.

use std::time::Duration;

use tidelock_actors::limits;
use tidelock_actors::model::FaultKind;
use tidelock_testbed::{Fault as Trouble, FaultPlan, FaultProxy, HoldAt};

use super::*;

/// Numbers, times and letters that a JSON library may change.
const EXACT: &str = r#"{"id":"00000000-0000-4000-8000-000000000001","title":"grüße 😀 \"q\"","amount":1234567890123456789012345678.0123456789,"big":9223372036854775807,"at":"2026-11-22T10:00:00.123456+00:00","meta":{"n":1.50,"deep":[9007199254740993,"é"]}}"#;

#[tokio::test]
async fn h41_a_row_arrives_as_it_was_saved_and_comes_back_equal() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks"]);
    let verdict = push_one(&remote, create("tasks", &uuid(1), EXACT)).await;
    let version = applied(&verdict).unwrap().to_owned();
    let told = project
        .value("select big || '|' || amount || '|' || (at at time zone 'utc') || '|' || meta::text || '|' || title from tasks")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        told,
        "9223372036854775807|1234567890123456789012345678.0123456789|2026-11-22 10:00:00.123456|\
         {\"n\": 1.50, \"deep\": [9007199254740993, \"é\"]}|grüße 😀 \"q\""
    );
    let pulled = round(&remote, Checkpoints::new(), 1, false, &["tasks"]).await;
    let (row, stamp) = present(&pulled.rows[0].state);
    assert!(document(EXACT).is_within(row), "{row}");
    assert_eq!(stamp, Some(&*version), "the version that the push told is the one that the pull tells");
}

#[tokio::test]
async fn h23_a_create_whose_answer_was_lost_is_applied_once() {
    let project = tidelock_testbed::project().await.unwrap();
    let network = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
    let remote =
        Plain::new(PlainOptions { url: network.url.clone(), ..options(&project, vec![rules("tasks")]) }).unwrap();
    // Lost so often that the immediate retries are used up: the outcome is unknown, the next push finds it.
    for _ in 0..4 {
        network.next_for("POST", "/rest/v1/tasks", Trouble::LoseResponse);
    }
    let sent = create("tasks", &uuid(1), &format!(r#"{{"id":"{}","title":"once"}}"#, uuid(1)));
    let verdict = push_one(&remote, sent.clone()).await;
    assert_eq!(failed(&verdict).kind, FaultKind::Transient);
    assert_eq!(project.value("select count(*) from tasks").await.unwrap().as_deref(), Some("1"));
    match push_one(&remote, sent).await {
        Verdict::Applied { version: Some(_), document: Some(row) } => {
            assert_eq!(row.string("title").as_deref(), Some("once"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(project.value("select count(*) from tasks").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn h42_a_request_on_a_closed_connection_is_sent_again_at_once() {
    let project = tidelock_testbed::project().await.unwrap();
    let network = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
    let remote =
        Plain::new(PlainOptions { url: network.url.clone(), ..options(&project, vec![rules("tasks")]) }).unwrap();
    applied(&push_one(&remote, create("tasks", &uuid(1), "{}")).await);
    let before = remote.requests();
    network.next_for("POST", "/rest/v1/tasks", Trouble::CutBefore);
    applied(&push_one(&remote, create("tasks", &uuid(2), "{}")).await);
    assert_eq!(remote.requests() - before, 2);
}

#[tokio::test]
async fn a_create_over_another_row_is_a_conflict_with_that_row() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks"]);
    project.sql(&format!("insert into tasks (id, title) values ('{}', 'theirs')", uuid(1))).await.unwrap();
    let batch = vec![
        create("tasks", &uuid(1), r#"{"title":"ours"}"#),
        create("tasks", &uuid(2), r#"{"title":"new"}"#),
        create("tasks", &uuid(3), r#"{"title":"new","n":3}"#),
    ];
    let verdicts = push(&remote, batch).await;
    let (row, version) = present(conflict(&verdicts[0]));
    assert_eq!(row.string("title").as_deref(), Some("theirs"));
    assert!(version.is_some());
    applied(&verdicts[1]);
    applied(&verdicts[2]);
}

#[tokio::test]
async fn h55_a_create_over_a_hidden_row_is_a_denial() {
    let project = tidelock_testbed::project().await.unwrap();
    let (me, other) = (project.any_user().await.unwrap(), project.any_user().await.unwrap());
    project
        .sql(&format!("insert into owned (id, owner, title) values ('{}', '{}', 'theirs')", uuid(1), other.user_id))
        .await
        .unwrap();
    let remote = remote_of(&project, &["owned"], &me.access_token);
    let batch =
        vec![create("owned", &uuid(1), r#"{"title":"mine"}"#), create("owned", &uuid(2), r#"{"title":"mine"}"#)];
    let verdicts = push(&remote, batch).await;
    let fault = failed(&verdicts[0]);
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Refused, Some("42501")));
    applied(&verdicts[1]);
    let foreign = create("owned", &uuid(3), &format!(r#"{{"owner":"{}"}}"#, other.user_id));
    let fault_of = push_one(&remote, foreign).await;
    assert_eq!((failed(&fault_of).kind, failed(&fault_of).status), (FaultKind::Refused, Some(403)));
}

#[tokio::test]
async fn h15_one_bad_row_among_a_thousand_stands_alone() {
    let project = tidelock_testbed::project().await.unwrap();
    project.sql("insert into tasks (id, code) values (gen_random_uuid(), 'taken')").await.unwrap();
    for (bad, code, kind) in [
        (r#"{"n":-1,"code":"free"}"#, "23514", FaultKind::Refused),
        (r#"{"n":1,"code":"taken"}"#, "23505", FaultKind::Refused),
        (r#"{"n":"many","code":"free"}"#, "22P02", FaultKind::Refused),
    ] {
        project.sql("delete from tasks where code <> 'taken' or code is null").await.unwrap();
        let remote = remote(&project, &["tasks"]);
        let batch = (0..1_000).map(|number| {
            let good = format!(r#"{{"n":{number},"code":"c{number}"}}"#);
            create("tasks", &uuid(number), if number == 617 { bad } else { &good })
        });
        let verdicts = push(&remote, batch.collect()).await;
        let fault = failed(&verdicts[617]);
        assert_eq!((fault.kind, fault.code.as_deref()), (kind, Some(code)));
        let others = verdicts.iter().enumerate().filter(|(at, _)| *at != 617);
        assert_eq!(others.filter(|(_, verdict)| applied(verdict).is_some()).count(), 999);
        assert_eq!(project.value("select count(*) from tasks").await.unwrap().as_deref(), Some("1000"));
        assert!(remote.requests() <= 22, "{} requests", remote.requests());
    }
}

#[tokio::test]
async fn h21_a_child_without_its_parent_waits() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["projects", "tasks"]);
    let child = |key, parent| create("tasks", &uuid(key), &format!(r#"{{"project_id":"{}"}}"#, uuid(parent)));
    let batch = vec![child(1, 90), create("projects", &uuid(91), r#"{"name":"p"}"#), child(2, 91)];
    let verdicts = push(&remote, batch).await;
    assert_eq!(failed(&verdicts[0]).kind, FaultKind::Ordering);
    applied(&verdicts[1]);
    applied(&verdicts[2]);
}

#[tokio::test]
async fn h21_rows_that_refer_to_each_other_arrive_however_many_requests_they_take() {
    let project = tidelock_testbed::project().await.unwrap();
    project.sql("alter table tasks add foreign key (title) references tasks (code)").await.unwrap();
    let remote = remote(&project, &["tasks"]);
    let link = |number: usize| {
        let before = number.saturating_sub(1);
        create("tasks", &uuid(number), &format!(r#"{{"code":"c{number}","title":"c{before}"}}"#))
    };
    let verdicts = push(&remote, (0..1_600).map(link).collect()).await;
    assert_eq!(verdicts.iter().filter(|verdict| applied(verdict).is_some()).count(), 1_600);
    assert!(remote.requests() <= 16, "{} requests", remote.requests());
}

#[tokio::test]
async fn an_update_takes_effect_only_on_the_row_that_it_was_made_on() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks"]);
    let row = r#"{"title":"a","n":1}"#;
    let made = push_one(&remote, create("tasks", &uuid(1), row)).await;
    let first = applied(&made).unwrap().to_owned();
    let update =
        |patch: &str, version: &str| on(operation("tasks", &uuid(1), Action::Update, patch), row, Some(version));
    let changed = push_one(&remote, update(r#"{"title":"b"}"#, &first)).await;
    let second = applied(&changed).unwrap().to_owned();
    assert_ne!(first, second);

    let stale = push_one(&remote, update(r#"{"title":"c"}"#, &first)).await;
    let (theirs, version) = present(conflict(&stale));
    assert_eq!((theirs.string("title").as_deref(), version), (Some("b"), Some(&*second)));

    let repeated = push_one(&remote, update(r#"{"title":"b"}"#, &first)).await;
    assert_eq!(applied(&repeated), Some(&*second), "its answer was lost: it is there already");

    project.sql("delete from tasks").await.unwrap();
    let late = push_one(&remote, update(r#"{"title":"d"}"#, &second)).await;
    assert_eq!(conflict(&late), &RemoteState::Gone);
}

#[tokio::test]
async fn h27_an_update_that_row_level_security_swallows_is_a_denial() {
    let project = tidelock_testbed::project().await.unwrap();
    let user = project.any_user().await.unwrap();
    let remote = remote_of(&project, &["readonly_for_users"], &user.access_token);
    let made = push_one(&remote, create("readonly_for_users", &uuid(1), r#"{"title":"a"}"#)).await;
    let version = applied(&made);
    for (action, patch) in [(Action::Update, r#"{"title":"b"}"#), (Action::Delete, "{}")] {
        for version in [version, None] {
            let change = on(operation("readonly_for_users", &uuid(1), action, patch), r#"{"title":"a"}"#, version);
            let verdict = push_one(&remote, change).await;
            assert_eq!(failed(&verdict).kind, FaultKind::Refused, "{action:?} on {version:?}");
            assert_eq!(failed(&verdict).code.as_deref(), Some("42501"));
        }
    }
}

#[tokio::test]
async fn changes_of_one_record_in_one_batch_build_on_each_other() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks", "notes"]);
    for collection in ["tasks", "notes"] {
        let field = if collection == "tasks" { "title" } else { "body" };
        let patch = |value: &str| format!(r#"{{"{field}":"{value}"}}"#);
        let batch = vec![
            create(collection, &uuid(1), &patch("1")),
            operation(collection, &uuid(1), Action::Update, &patch("2")),
            operation(collection, &uuid(1), Action::Update, &patch("3")),
        ];
        for verdict in push(&remote, batch).await {
            applied(&verdict);
        }
        let value = project.value(&format!("select {field} from {collection}")).await.unwrap();
        assert_eq!(value.as_deref(), Some("3"));
        let batch =
            vec![operation(collection, &uuid(1), Action::Delete, "{}"), create(collection, &uuid(1), &patch("again"))];
        for verdict in push(&remote, batch).await {
            applied(&verdict);
        }
    }
}

#[tokio::test]
async fn updates_that_ask_the_same_share_requests_and_each_has_its_verdict() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks"]);
    let batch = (0..300).map(|number| create("tasks", &uuid(number), r#"{"done":false}"#)).collect();
    let versions: Vec<String> =
        push(&remote, batch).await.iter().map(|told| applied(told).unwrap().to_owned()).collect();
    project.sql(&format!("update tasks set title = 'theirs' where id = '{}'", uuid(7))).await.unwrap();
    let before = remote.requests();
    let batch = (0..300).map(|number| {
        let update = operation("tasks", &uuid(number), Action::Update, r#"{"done":true}"#);
        on(update, r#"{"done":false}"#, Some(&versions[number]))
    });
    let verdicts = push(&remote, batch.collect()).await;
    assert!(remote.requests() - before <= 6, "{} requests", remote.requests() - before);
    for (number, verdict) in verdicts.iter().enumerate() {
        if number == 7 {
            conflict(verdict);
        } else {
            applied(verdict);
        }
    }
    assert_eq!(project.value("select count(*) from tasks where done").await.unwrap().as_deref(), Some("299"));
}

#[tokio::test]
async fn h49_two_thousand_deletions_need_no_long_line() {
    let project = tidelock_testbed::project().await.unwrap();
    let network = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
    let remote =
        Plain::new(PlainOptions { url: network.url.clone(), ..options(&project, vec![rules("tasks")]) }).unwrap();
    // Each row in a transaction of its own, so that no two share a version.
    project
        .sql(
            "do $$ begin for n in 1..2000 loop
            insert into tasks (id, title) values (('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'x');
            commit;
        end loop; end $$",
        )
        .await
        .unwrap();
    let rows = round(&remote, Checkpoints::new(), 1, false, &["tasks"]).await.rows;
    assert_eq!(rows.len(), 2_000);
    project.sql(&format!("delete from tasks where id = '{}'", uuid(5))).await.unwrap();
    project.sql(&format!("update tasks set title = 'theirs' where id = '{}'", uuid(6))).await.unwrap();
    let batch = rows.iter().map(|row| {
        let (base, version) = present(&row.state);
        on(operation("tasks", &row.id.key, Action::Delete, "{}"), base.as_str(), version)
    });
    let before = remote.requests();
    let verdicts = push(&remote, batch.collect()).await;
    for (row, verdict) in rows.iter().zip(&verdicts) {
        // What is gone already is done (H17), what has changed is not.
        if *row.id.key == uuid(6) {
            conflict(verdict);
        } else {
            applied(verdict);
        }
    }
    assert_eq!(project.value("select count(*) from tasks").await.unwrap().as_deref(), Some("1"));
    let requests = remote.requests() - before;
    assert!(requests <= 2_000 * 120 / limits::REQUEST_LINE_BYTES as u64, "{requests} requests");
}

#[tokio::test]
async fn a_table_without_versions_is_compared_before_it_is_changed() {
    let project = tidelock_testbed::project().await.unwrap();
    project
        .sql(
            "create table plain_rows (id int primary key, a text, n numeric, j jsonb, o json);
                 grant all on plain_rows to anon, authenticated, service_role; notify pgrst, 'reload schema'",
        )
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let remote = remote(&project, &["plain_rows"]);
    let row = r#"{"a":"x, (y) \"z\"","n":1.50,"j":"text","o":"text"}"#;
    let made = (1..=6).map(|key: usize| create("plain_rows", &key.to_string(), row)).collect();
    for verdict in push(&remote, made).await {
        assert_eq!(applied(&verdict), None);
    }
    project
        .sql(
            "update plain_rows set n = 2 where id = 2; update plain_rows set a = 'theirs' where id = 3;
                 delete from plain_rows where id = 4",
        )
        .await
        .unwrap();
    let update = |key: &str, patch: &str| on(operation("plain_rows", key, Action::Update, patch), row, None);
    let verdicts = push(
        &remote,
        vec![
            update("1", r#"{"a":"ours"}"#),
            update("2", r#"{"a":"ours"}"#),
            update("3", r#"{"a":"ours"}"#),
            update("4", r#"{"a":"ours"}"#),
            update("5", r#"{"j":"changed"}"#),
            update("6", r#"{"o":"changed","a":"ours"}"#),
        ],
    )
    .await;
    applied(&verdicts[0]);
    applied(&verdicts[1]);
    assert_eq!(present(conflict(&verdicts[2])).0.string("a").as_deref(), Some("theirs"));
    assert_eq!(conflict(&verdicts[3]), &RemoteState::Gone);
    applied(&verdicts[4]);
    applied(&verdicts[5]);
    let told =
        project.value("select string_agg(id || a || n || j || o, ';' order by id) from plain_rows").await.unwrap();
    assert_eq!(
        told.as_deref(),
        Some(
            r#"1ours1.50"text""text";2ours2"text""text";3theirs1.50"text""text";5x, (y) "z"1.50"changed""text";6ours1.50"text""changed""#
        )
    );
    // A JSON text that reads as a number is not equal to itself as a condition.
    let odd = r#"{"j":"12"}"#;
    applied(&push_one(&remote, create("plain_rows", "7", odd)).await);
    let change = on(operation("plain_rows", "7", Action::Update, r#"{"j":"13"}"#), odd, None);
    applied(&push_one(&remote, change).await);
    assert_eq!(project.value("select j from plain_rows where id = 7").await.unwrap().as_deref(), Some(r#""13""#));
    let delete = |key: &str, base: &str| on(operation("plain_rows", key, Action::Delete, "{}"), base, None);
    let verdicts = push(
        &remote,
        vec![
            delete("2", row),
            delete("3", r#"{"a":"theirs"}"#),
            delete("4", row),
            operation("plain_rows", "5", Action::Delete, "{}"),
        ],
    )
    .await;
    conflict(&verdicts[0]);
    for verdict in &verdicts[1..] {
        applied(verdict);
    }
}

#[tokio::test]
async fn h54_a_write_that_commits_after_we_gave_up_is_found_and_not_repeated() {
    let project = tidelock_testbed::project().await.unwrap();
    let network = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
    let quick = PlainOptions {
        url: network.url.clone(),
        timeout: Duration::from_millis(400),
        ..options(&project, vec![rules("tasks")])
    };
    let remote = Plain::new(quick).unwrap();
    let made = push_one(&remote, create("tasks", &uuid(1), r#"{"title":"a"}"#)).await;
    let version = applied(&made).unwrap().to_owned();
    let gate = network.pause_next("PATCH", "/rest/v1/tasks", HoldAt::Response);
    let update = on(operation("tasks", &uuid(1), Action::Update, r#"{"title":"b"}"#), "{}", Some(&version));
    let told = push_one(&remote, update.clone()).await;
    assert_eq!(failed(&told).kind, FaultKind::Transient);
    drop(gate);
    match push_one(&remote, update).await {
        Verdict::Applied { document: Some(row), .. } => assert_eq!(row.string("title").as_deref(), Some("b")),
        other => panic!("{other:?}"),
    }
}
