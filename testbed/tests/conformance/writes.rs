//! Statuses and bodies of inserts, upserts, updates and deletions.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn inserts_are_201_with_or_without_rows_in_the_answer() {
    let project = tidelock_testbed::project().await.unwrap();
    let rows = r#"[{"id":"a","body":"1"},{"id":"b","body":null}]"#;
    let answer = post(&project, "notes", REPRESENTATION, rows).await;
    assert_eq!((answer.status, compact(&answer.body).as_str()), (201, rows));
    let answer = post(&project, "notes", "return=minimal", r#"{"id":"c"}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (201, ""));
    let answer = post(&project, "notes", REPRESENTATION, "[]").await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "[]"));
}

#[tokio::test]
async fn an_upsert_is_201_when_something_is_new_and_200_otherwise() {
    let project = tidelock_testbed::project().await.unwrap();
    let [merge, minimal] = ["resolution=merge-duplicates,return=representation", "resolution=merge-duplicates"];
    let both = r#"[{"id":"a","body":"1"},{"id":"b","body":"1"}]"#;
    assert_eq!(post(&project, "notes?on_conflict=id", merge, both).await.status, 201);
    assert_eq!(post(&project, "notes?on_conflict=id", merge, both).await.status, 200);
    assert_eq!(post(&project, "notes?on_conflict=id", minimal, both).await.status, 200);
    let mixed = r#"[{"id":"a","body":"2"},{"id":"c","body":"2"}]"#;
    let answer = post(&project, "notes?on_conflict=id", merge, mixed).await;
    assert_eq!((answer.status, answer.rows().len()), (201, 2));
    assert_eq!(project.value("select string_agg(body, ',' order by id) from notes").await.unwrap().unwrap(), "2,1,2");
}

#[tokio::test]
async fn ignored_duplicates_are_missing_from_the_answer() {
    let project = tidelock_testbed::project().await.unwrap();
    project.sql("insert into notes values ('a', 'old')").await.unwrap();
    let ignore = "resolution=ignore-duplicates,return=representation";
    let answer = post(&project, "notes?on_conflict=id", ignore, r#"[{"id":"a","body":"new"}]"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "[]"));
    let answer = post(&project, "notes", ignore, r#"[{"id":"a","body":"new"},{"id":"b","body":"new"}]"#).await;
    assert_eq!((answer.status, answer.rows()), (201, vec![json!({"id": "b", "body": "new"})]));
    assert_eq!(project.value("select body from notes where id = 'a'").await.unwrap().unwrap(), "old");
}

#[tokio::test]
async fn updates_and_deletions_of_nothing_are_empty_successes() {
    let project = tidelock_testbed::project().await.unwrap();
    let nobody = format!("tasks?id=eq.{A}");
    let answer = patch(&project, &nobody, REPRESENTATION, r#"{"n":1}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    assert_eq!(patch(&project, &nobody, "", r#"{"n":1}"#).await.status, 204);
    let answer = delete(&project, &nobody, REPRESENTATION).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    assert_eq!(delete(&project, &nobody, "").await.status, 204);
}

#[tokio::test]
async fn an_update_on_a_condition_returns_what_it_changed() {
    let project = tidelock_testbed::project().await.unwrap();
    project.sql(&format!("insert into tasks (id, n) values ('{A}', 1)")).await.unwrap();
    let read = get(&project, "tasks?select=updated_at").await.rows();
    let stamp = read[0]["updated_at"].as_str().unwrap().replace('+', "%2B");
    let path = format!("tasks?id=eq.{A}&updated_at=eq.{stamp}&select=n,updated_at");
    let answer = patch(&project, &path, REPRESENTATION, r#"{"n":2}"#).await;
    assert_eq!(answer.rows()[0]["n"], 2, "{answer:?}");
    let again = patch(&project, &path, REPRESENTATION, r#"{"n":3}"#).await;
    assert_eq!((again.status, again.body.as_str()), (200, "[]"), "the base has moved");
    let gone = delete(&project, &format!("tasks?id=in.({A},{B})&select=id"), REPRESENTATION).await;
    assert_eq!((gone.status, gone.rows()), (200, vec![json!({"id": A})]));
}

#[tokio::test]
async fn columns_not_named_take_their_defaults_only_when_asked() {
    let project = tidelock_testbed::project().await.unwrap();
    let rows = format!(r#"[{{"id":"{A}","done":true}},{{"id":"{B}"}}]"#);
    let path = "tasks?columns=id,done&select=done,updated_at";
    let answer = post(&project, path, "return=representation,missing=default", rows.clone()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let done: Vec<_> = answer.rows().iter().map(|row| row["done"].clone()).collect();
    assert_eq!(done, [json!(true), json!(false)]);
    project.sql("truncate tasks").await.unwrap();
    let answer = post(&project, path, REPRESENTATION, rows).await;
    assert_eq!(answer.rows()[1]["done"], json!(null));
}

#[tokio::test]
async fn one_bad_row_fails_the_whole_batch() {
    let project = tidelock_testbed::project().await.unwrap();
    let rows = format!(r#"[{{"id":"{A}","n":1}},{{"id":"{B}","n":-1}}]"#);
    assert_eq!(post(&project, "tasks", "", rows).await.error(), (400, "23514".into()));
    assert_eq!(project.value("select count(*) from tasks").await.unwrap().unwrap(), "0");
}

#[tokio::test]
async fn a_large_batch_passes_and_its_answer_is_not_clamped() {
    let project = tidelock_testbed::project().await.unwrap();
    let rows: Vec<_> = (0..12_000).map(|n| json!({"id": format!("n{n:05}"), "body": "x"})).collect();
    let answer = post(&project, "notes?select=id", REPRESENTATION, json!(rows).to_string()).await;
    assert_eq!((answer.status, answer.rows().len()), (201, 12_000));
    let clamped = get(&project, "notes?select=id&limit=5000").await;
    assert_eq!(clamped.rows().len(), 1000);
    let called = call(&project, "count_to", r#"{"top":1500}"#).await;
    assert_eq!(called.rows().len(), 1000);
}
