//! Which error is answered how.

use crate::support::*;

#[tokio::test]
async fn a_raised_sqlstate_has_the_status_of_its_class() {
    let project = tidelock_testbed::project().await.unwrap();
    for (code, status) in [
        ("23514", 400),
        ("23502", 400),
        ("22P02", 400),
        ("42703", 400),
        ("P0001", 400),
        ("23503", 409),
        ("23505", 409),
        ("42501", 403),
        ("40001", 500),
        ("40P01", 500),
        ("57014", 500),
        ("21000", 500),
        ("53300", 503),
        ("57P01", 503),
        ("PT418", 418),
    ] {
        let answer = call(&project, "raise_error", format!(r#"{{"code":"{code}","message":"why"}}"#)).await;
        let body = answer.json();
        let told = (answer.status, body["code"].as_str(), body["message"].as_str(), body["details"].as_str());
        assert_eq!(told, (status, Some(code), Some("why"), Some("the detail")), "{answer:?}");
        assert_eq!(body["hint"], "the hint");
    }
}

#[tokio::test]
async fn a_refused_row_says_why() {
    let project = tidelock_testbed::project().await.unwrap();
    project.sql(&format!("insert into tasks (id, code) values ('{A}', 'taken')")).await.unwrap();
    for (row, error) in [
        (format!(r#"{{"id":"{B}","n":-1}}"#), (400, "23514")),
        (r#"{"n":1}"#.to_owned(), (400, "23502")),
        (r#"{}"#.to_owned(), (400, "23502")),
        (r#"{"id":"not a uuid"}"#.to_owned(), (400, "22P02")),
        (format!(r#"{{"id":"{B}","n":"abc"}}"#), (400, "22P02")),
        (format!(r#"{{"id":"{B}","big":9223372036854775808}}"#), (400, "22003")),
        (format!(r#"{{"id":"{B}","code":"taken"}}"#), (409, "23505")),
        (format!(r#"{{"id":"{B}","project_id":"{C}"}}"#), (409, "23503")),
        (format!(r#"{{"id":"{B}","nonsense":1}}"#), (400, "PGRST204")),
        (format!(r#"[{{"id":"{B}"}},{{"id":"{C}","n":1}}]"#), (400, "PGRST102")),
        ("{not json".to_owned(), (400, "PGRST102")),
    ] {
        let answer = post(&project, "tasks", "", row.clone()).await;
        assert_eq!(answer.error(), (error.0, error.1.to_owned()), "{row}");
    }
    let taken = post(&project, "tasks", "", format!(r#"{{"id":"{B}","code":"taken"}}"#)).await.json();
    assert_eq!(taken["details"], "Key (code)=(taken) already exists.");
}

#[tokio::test]
async fn a_row_twice_in_one_upsert_is_an_error() {
    let project = tidelock_testbed::project().await.unwrap();
    let twice = r#"[{"id":"a","body":"1"},{"id":"a","body":"2"}]"#;
    let answer = post(&project, "notes?on_conflict=id", "resolution=merge-duplicates", twice).await;
    assert_eq!(answer.error(), (500, "21000".into()));
    let answer =
        post(&project, "notes?on_conflict=body", "resolution=merge-duplicates", r#"{"id":"a","body":"1"}"#).await;
    assert_eq!(answer.error(), (400, "42P10".into()));
}

#[tokio::test]
async fn unknown_tables_columns_and_functions_are_told_apart() {
    let project = tidelock_testbed::project().await.unwrap();
    assert_eq!(get(&project, "nonsense").await.error(), (404, "PGRST205".into()));
    assert_eq!(post(&project, "nonsense", "", "{}").await.error(), (404, "PGRST205".into()));
    assert_eq!(get(&project, "tasks?nonsense=eq.1").await.error(), (400, "42703".into()));
    assert_eq!(get(&project, "tasks?select=nonsense").await.error(), (400, "42703".into()));
    assert_eq!(get(&project, "tasks?id=nonsense.1").await.error(), (400, "PGRST100".into()));
    assert_eq!(call(&project, "nonsense", "{}").await.error(), (404, "PGRST202".into()));
}
