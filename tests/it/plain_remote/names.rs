//! Keys and names that the server writes otherwise.

use super::*;

#[tokio::test]
async fn odd_keys_go_there_and_back() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["notes"]);
    let keys =
        ["a,b", "(c)", "q\"uote", "back\\slash", "a&b=c%20+d", "null", "é😀", "#/?", "with space", "*", "in.(x)"];
    let made = keys.iter().map(|key| create("notes", key, r#"{"body":"x"}"#)).collect();
    for verdict in push(&remote, made).await {
        applied(&verdict);
    }
    let fetched = remote.fetch("notes".into(), keys.iter().map(|key| Arc::from(*key)).collect()).await.unwrap();
    assert!(fetched.rows.iter().all(|row| row.state != RemoteState::Gone), "{fetched:?}");
    let listed = remote.keys("notes".into(), None).await.unwrap();
    assert_eq!(listed.len(), keys.len());
    let changed =
        keys.iter().map(|key| on(operation("notes", key, Action::Update, r#"{"body":"y"}"#), r#"{"body":"x"}"#, None));
    for (key, verdict) in keys.iter().zip(push(&remote, changed.collect()).await) {
        assert!(matches!(verdict, Verdict::Applied { .. }), "{key}: {verdict:?}");
    }
    let gone = keys.iter().map(|key| on(operation("notes", key, Action::Delete, "{}"), r#"{"body":"y"}"#, None));
    for verdict in push(&remote, gone.collect()).await {
        applied(&verdict);
    }
    assert_eq!(project.value("select count(*) from notes").await.unwrap().as_deref(), Some("0"));
}

#[tokio::test]
async fn a_key_that_the_server_writes_otherwise_is_the_same_key() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["tasks"]);
    let key = "ABCDEF00-0000-4000-8000-00000000000A";
    let made = create("tasks", key, r#"{"title":"a"}"#);
    let verdict = push_one(&remote, made.clone()).await;
    let version = applied(&verdict).unwrap().to_owned();
    // Its answer was lost: the row is there already.
    assert_eq!(applied(&push_one(&remote, made).await), Some(&*version));
    let other = push_one(&remote, create("tasks", key, r#"{"title":"b"}"#)).await;
    assert_eq!(present(conflict(&other)).1, Some(&*version));

    let update = |title: &str, version: &str| {
        let patch = format!(r#"{{"title":"{title}"}}"#);
        on(operation("tasks", key, Action::Update, &patch), r#"{"title":"a"}"#, Some(version))
    };
    let changed = push_one(&remote, update("b", &version)).await;
    let second = applied(&changed).unwrap().to_owned();
    assert_eq!(applied(&push_one(&remote, update("b", &version)).await), Some(&*second));
    assert_eq!(present(conflict(&push_one(&remote, update("c", &version)).await)).1, Some(&*second));
    let delete = on(operation("tasks", key, Action::Delete, "{}"), r#"{"title":"b"}"#, None);
    applied(&push_one(&remote, delete).await);
    assert_eq!(project.value("select count(*) from tasks").await.unwrap().as_deref(), Some("0"));
}

#[tokio::test]
async fn declared_names_are_the_servers_names_there_and_local_names_here() {
    let project = tidelock_testbed::project().await.unwrap();
    let mut renamed = rules("tasks");
    renamed.name = "todos".into();
    renamed.key = "todoId".into();
    renamed.fields =
        [("todoId", "id"), ("label", "title"), ("changedAt", "updated_at")].map(|(a, b)| (a.into(), b.into())).into();
    let remote = Plain::new(options(&project, vec![renamed])).unwrap();
    let verdict = push_one(&remote, create("todos", &uuid(1), r#"{"label":"named","n":1}"#)).await;
    let version = applied(&verdict).unwrap().to_owned();
    assert_eq!(project.value("select title from tasks").await.unwrap().as_deref(), Some("named"));
    let update = on(operation("todos", &uuid(1), Action::Update, r#"{"label":"again"}"#), "{}", Some(&version));
    applied(&push_one(&remote, update).await);
    let rows = round(&remote, Checkpoints::new(), 1, false, &["todos"]).await.rows;
    let (row, version) = present(&rows[0].state);
    assert_eq!(row.string("label").as_deref(), Some("again"));
    assert_eq!(row.string("todoId").as_deref(), Some(&*uuid(1)));
    assert_eq!(row.string("changedAt").as_deref(), version);
    assert_eq!(row.string("title"), None);
}
