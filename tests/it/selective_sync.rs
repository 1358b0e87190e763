//! Collections that take only a part of their table.

use crate::support::{World, uuid};

/// A table without versions and one with them, each under a filter.
const OPEN: &str = r#"
[collections.open_notes]
table = "notes"
filter = "body=eq.open"
[collections.open_tasks]
table = "tasks"
filter = "title=eq.open"
"#;

/// The collection, its table, and the field that the filter looks at.
const BOTH: [(&str, &str, &str); 2] = [("open_notes", "notes", "body"), ("open_tasks", "tasks", "title")];

#[tokio::test]
async fn h07_what_is_sent_from_here_stays_here_whether_it_matches_the_filter_or_not() {
    let world = World::new().await;
    let device = world.device_with("here", OPEN);
    let [inside, outside, twice] = [uuid(1), uuid(2), uuid(3)];
    for (collection, table, field) in BOTH {
        // As after an answer that was lost: the server has the row already.
        let sql = format!("insert into public.{table} (id, {field}) values ('{twice}', 'closed')");
        world.project.sql(&sql).await.unwrap();
        device.save(collection, &inside, &format!(r#"{{"{field}":"open"}}"#)).await;
        device.save(collection, &outside, &format!(r#"{{"{field}":"closed"}}"#)).await;
        device.save(collection, &twice, &format!(r#"{{"{field}":"closed"}}"#)).await;
    }
    for _ in 0..3 {
        device.sync().await;
        for (collection, table, _) in BOTH {
            let here: Vec<String> = device.records(collection).await.into_keys().collect();
            assert_eq!(here, [&*inside, &*outside, &*twice], "{collection}");
            assert_eq!(world.rows(table).await.len(), 3, "{table}");
        }
    }
    device.assert_healthy().await;
}

#[tokio::test]
async fn what_is_deleted_or_leaves_the_filter_on_the_server_goes_here() {
    let world = World::new().await;
    let device = world.device_with("here", OPEN);
    let [left, deleted, outside] = [uuid(1), uuid(2), uuid(3)];
    for (collection, _, field) in BOTH {
        device.save(collection, &left, &format!(r#"{{"{field}":"open"}}"#)).await;
        device.save(collection, &deleted, &format!(r#"{{"{field}":"open"}}"#)).await;
        device.save(collection, &outside, &format!(r#"{{"{field}":"closed"}}"#)).await;
    }
    device.sync().await;
    for (_, table, field) in BOTH {
        let leave = format!("update public.{table} set {field} = 'closed' where id = '{left}'");
        world.project.sql(&leave).await.unwrap();
        let delete = format!("delete from public.{table} where id in ('{deleted}', '{outside}')");
        world.project.sql(&delete).await.unwrap();
    }
    device.sync().await;
    for (collection, _, _) in BOTH {
        assert!(device.records(collection).await.is_empty(), "{collection}");
    }
}

#[tokio::test]
async fn what_does_not_match_the_filter_stays_through_a_conflict_too() {
    let world = World::new().await;
    let device = world.device_with("here", &format!("{OPEN}conflict = \"remote-wins\"\n"));
    let outside = uuid(1);
    device.save("open_tasks", &outside, r#"{"title":"closed","n":1}"#).await;
    device.sync().await;
    let theirs = format!("update public.tasks set n = 5 where id = '{outside}'");
    world.project.sql(&theirs).await.unwrap();
    device.save("open_tasks", &outside, r#"{"n":7}"#).await;
    for _ in 0..3 {
        device.sync().await;
        let records = device.records("open_tasks").await;
        assert_eq!(
            records.get(&outside).and_then(|record| record.fields().get("n").map(str::to_owned)).as_deref(),
            Some("5")
        );
    }
    device.assert_healthy().await;
}
