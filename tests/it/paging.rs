//! Pages, caps, equal timestamps, long requests, and edits while something is in flight.

use tidelock_testbed::{HoldAt, ProjectOptions};

use crate::support::{World, assert_equal, uuid};

#[tokio::test]
async fn h04_three_thousand_rows_of_one_timestamp_arrive_through_a_capped_server() {
    let world = World::with(ProjectOptions { max_rows: 400, ..ProjectOptions::default() }).await;
    let rows = "insert into public.projects (id, name) select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n::text from generate_series(1, 3000) n";
    world.project.sql(rows).await.unwrap();
    assert_eq!(world.value("select count(distinct updated_at) from public.projects").await, "1");
    let device = world.device("here");
    let report = device.sync().await;
    assert_eq!(report.pulled, 3_000);
    assert_equal(&device.records("projects").await, &world.rows("projects").await, "projects");
}

#[tokio::test]
async fn h20_page_sizes_around_the_number_of_rows_all_end() {
    for rows in [999_u64, 1_000, 1_001, 2_000] {
        let world = World::new().await;
        let insert = format!(
            "insert into public.projects (id, name) select gen_random_uuid(), 'x' from generate_series(1, {rows})"
        );
        world.project.sql(&insert).await.unwrap();
        let device = world.device("here");
        assert_eq!(device.sync().await.pulled, rows);
        assert_eq!(device.sync().await.pulled, 0);
    }
}

#[tokio::test]
async fn h49_two_thousand_deletions_need_no_long_request_line() {
    let world = World::new().await;
    let (here, there) = (world.device("here"), world.device("there"));
    let documents = (0..2_000).map(|number| (uuid(number), tidelock::Document::parse(r#"{"name":"x"}"#).unwrap()));
    here.tidelock.bulk_save("projects", documents.collect()).await.unwrap();
    here.sync_until_settled().await;
    there.sync_until_settled().await;
    let deletions = here.tidelock.transaction(|transaction| {
        (0..2_000).for_each(|number| transaction.delete("projects", &uuid(number)));
        Ok(())
    });
    assert_eq!(deletions.await.unwrap(), 2_000);
    here.sync_until_settled().await;
    there.sync_until_settled().await;
    assert!(world.rows("projects").await.is_empty());
    assert!(there.records("projects").await.is_empty());
    let longest = world.network.counts().longest_request_line_bytes;
    assert!(longest <= 4_096, "longest request line: {longest} bytes");
}

#[tokio::test]
async fn h50_a_record_edited_while_its_first_version_is_in_flight_keeps_the_edit() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("tasks", &uuid(1), r#"{"title":"first","n":1}"#).await;
    let mut gate = world.network.pause_next("POST", "/rest/v1/tasks", HoldAt::Response);
    let syncing = device.tidelock.sync(Default::default());
    let editing = async {
        assert!(gate.reached().await);
        device.save("tasks", &uuid(1), r#"{"title":"second"}"#).await;
        gate.release();
    };
    let (report, ()) = tokio::join!(syncing, editing);
    report.unwrap();
    assert_eq!(device.field("tasks", &uuid(1), "title").await, r#""second""#);
    device.sync_until_settled().await;
    assert_eq!(world.value("select title || ' ' || n from public.tasks").await, "second 1");
    assert!(device.tidelock.conflicts(true).await.unwrap().is_empty(), "one's own edit is no conflict");
}

#[tokio::test]
async fn h01_a_transaction_that_commits_late_is_found_within_the_overlap() {
    let world = World::new().await;
    let device = world.device("here");
    let database = world.project.database_url.clone().unwrap();
    let (slow, connection) = tokio_postgres::connect(&database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    slow.batch_execute(&format!("begin; insert into public.projects (id, name) values ('{}', 'slow')", uuid(1)))
        .await
        .unwrap();
    world
        .project
        .sql(&format!("insert into public.projects (id, name) values ('{}', 'quick')", uuid(2)))
        .await
        .unwrap();
    let pull_only = tidelock::SyncRequest { push: false, ..Default::default() };
    device.tidelock.sync(pull_only).await.unwrap();
    assert_eq!(device.records("projects").await.len(), 1);
    slow.batch_execute("commit").await.unwrap();
    device.tidelock.sync(pull_only).await.unwrap();
    assert_eq!(device.records("projects").await.len(), 2, "the slow transaction is not lost behind the cursor");
}
