//! Nothing is missed and nothing comes for ever.

use tidelock_actors::model::FaultKind;
use tidelock_testbed::ProjectOptions;

use super::*;

/// Rows of `bench`, numbered, all in one transaction.
async fn insert(project: &Project, from: usize, to: usize) {
    let sql = format!(
        "insert into bench (id, n, title)
         select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n, 'row ' || n
         from generate_series({from}, {to}) n"
    );
    project.sql(&sql).await.unwrap();
}

/// All rows of `bench` were last changed long before any overlap.
async fn make_old(project: &Project) {
    let sql = "alter table bench disable trigger touch; update bench set updated_at = now() - interval '1 day';
               alter table bench enable trigger touch";
    project.sql(sql).await.unwrap();
}

#[tokio::test]
async fn h03_h04_three_thousand_rows_of_one_timestamp_arrive_once_each() {
    for (cap, page_rows) in [(1_000, 1_000), (1_000, 5_000), (70, 1_000), (10_000, 999)] {
        let project =
            tidelock_testbed::project_with(ProjectOptions { max_rows: cap, ..Default::default() }).await.unwrap();
        insert(&project, 1, 3_000).await;
        let remote = Plain::new(PlainOptions { page_rows, ..options(&project, vec![rules("bench")]) }).unwrap();
        let pulled = round(&remote, Checkpoints::new(), 1, false, &["bench"]).await;
        let mut keys = pulled.keys();
        keys.sort_unstable();
        assert_eq!(keys, (1..=3_000).map(uuid).collect::<Vec<_>>());
        let whole = 3_000_usize.div_ceil(page_rows.min(cap as usize));
        assert_eq!(pulled.pages.len(), whole + 1, "{:?}", pulled.pages);
        let again = round(&remote, pulled.have, 2, false, &["bench"]).await;
        assert_eq!(again.rows.len(), 3_000, "within the overlap they come again");
    }
}

#[tokio::test]
async fn h20_a_number_of_rows_around_the_page_ends_a_walk() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = Plain::new(PlainOptions { page_rows: 10, ..options(&project, vec![rules("bench")]) }).unwrap();
    for count in [9, 10, 11, 20] {
        project.sql("truncate bench").await.unwrap();
        insert(&project, 1, count).await;
        assert_eq!(round(&remote, Checkpoints::new(), 1, false, &["bench"]).await.rows.len(), count);
    }
}

#[tokio::test]
async fn a_second_round_brings_what_came_since_and_an_idle_one_asks_once_a_collection() {
    let project = tidelock_testbed::project().await.unwrap();
    insert(&project, 1, 50).await;
    make_old(&project).await;
    let remote = remote(&project, &["bench", "tasks", "projects"]);
    let collections = ["projects", "tasks", "bench"];
    let first = round(&remote, Checkpoints::new(), 1, false, &collections).await;
    assert_eq!((first.rows.len(), first.pages.as_slice()), (50, &[50, 0][..]));
    let before = remote.requests();
    let idle = round(&remote, first.have, 2, false, &collections).await;
    assert_eq!((idle.rows.len(), remote.requests() - before), (0, 3));
    insert(&project, 51, 60).await;
    let third = round(&remote, idle.have, 3, false, &collections).await;
    assert_eq!(third.rows.len(), 10);
    let done = page(&remote, &third.have, 3, false, &collections).await.unwrap();
    assert!(done.rows.is_empty() && !done.more && done.checkpoints.is_empty(), "the round is over: {done:?}");
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_found_within_the_overlap() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["bench"]);
    // What a transaction that began a minute ago, and commits now, leaves behind.
    insert(&project, 1, 1).await;
    let first = round(&remote, Checkpoints::new(), 1, false, &["bench"]).await;
    insert(&project, 2, 2).await;
    project
        .sql(
            "alter table bench disable trigger touch;
                 update bench set updated_at = now() - interval '50 seconds' where n = 2;
                 alter table bench enable trigger touch",
        )
        .await
        .unwrap();
    let second = round(&remote, first.have, 2, false, &["bench"]).await;
    assert!(second.keys().contains(&&*uuid(2)));
}

#[tokio::test]
async fn h47_a_walk_goes_on_where_it_was_after_a_crash() {
    let project = tidelock_testbed::project().await.unwrap();
    insert(&project, 1, 95).await;
    let collections = ["bench"];
    let new = || Plain::new(PlainOptions { page_rows: 10, ..options(&project, vec![rules("bench")]) }).unwrap();
    let (mut have, mut keys) = (Checkpoints::new(), Vec::new());
    // Each page by another process, in another round.
    for round in 1..=10 {
        let pulled = page(&new(), &have, round, false, &collections).await.unwrap();
        keys.extend(pulled.rows.iter().map(|row| row.id.key.to_string()));
        have.extend(pulled.checkpoints);
    }
    keys.sort_unstable();
    assert_eq!(keys, (1..=95).map(uuid).collect::<Vec<_>>());
    assert!(!page(&new(), &have, 11, false, &collections).await.unwrap().more);
}

#[tokio::test]
async fn a_collection_that_does_not_fit_pauses_alone() {
    let project = tidelock_testbed::project().await.unwrap();
    insert(&project, 1, 5).await;
    let mut misfiltered = rules("projects");
    misfiltered.filter = Some("nothing=eq.1".into());
    let mut miswritten = rules("tasks");
    miswritten.filter = Some("n=eq.many".into());
    let all = vec![rules("missing"), misfiltered, miswritten, rules("bench")];
    let remote = Plain::new(options(&project, all)).unwrap();
    let pulled = round(&remote, Checkpoints::new(), 1, true, &["missing", "projects", "tasks", "bench"]).await;
    assert_eq!(pulled.rows.len(), 5);
    let paused: Vec<_> = pulled.paused.iter().map(|(name, fault)| (&**name, fault.kind)).collect();
    assert_eq!(
        paused,
        [("missing", FaultKind::Schema), ("projects", FaultKind::Schema), ("tasks", FaultKind::Refused)],
        "each once"
    );
    let again = round(&remote, pulled.have, 2, true, &["missing", "projects", "tasks", "bench"]).await;
    assert_eq!(again.paused.len(), 3, "tried again in the next round");
}

#[tokio::test]
async fn a_table_without_versions_is_read_by_deep_rounds_alone() {
    let project = tidelock_testbed::project_with(ProjectOptions { max_rows: 30, ..Default::default() }).await.unwrap();
    project.sql("insert into notes select 'n' || n, 'body' from generate_series(1, 100) n").await.unwrap();
    let remote = remote(&project, &["notes"]);
    let shallow = round(&remote, Checkpoints::new(), 1, false, &["notes"]).await;
    assert_eq!(shallow.rows.len(), 0);
    let deep = round(&remote, shallow.have, 2, true, &["notes"]).await;
    assert_eq!((deep.rows.len(), deep.pages.len()), (100, 5));
    assert!(deep.rows.iter().all(|row| present(&row.state).1.is_none()));
    assert_eq!(round(&remote, deep.have, 3, true, &["notes"]).await.rows.len(), 100);
}

#[tokio::test]
async fn a_version_that_counts_bounds_the_next_walk_too() {
    let project = tidelock_testbed::project().await.unwrap();
    let mut counted = rules("bench");
    counted.version = "grp".into();
    project.sql("insert into bench (id, grp) select gen_random_uuid(), n from generate_series(1, 40) n").await.unwrap();
    let remote =
        Plain::new(PlainOptions { overlap: Duration::ZERO, page_rows: 7, ..options(&project, vec![counted]) }).unwrap();
    let mut have = Checkpoints::new();
    for number in 1..=4 {
        let pulled = round(&remote, have, number, false, &["bench"]).await;
        assert_eq!(pulled.rows.len(), if number <= 2 { 40 } else { 1 }, "round {number}");
        have = pulled.have;
        tokio::time::sleep(Duration::from_millis(2_100)).await;
    }
    project.sql("insert into bench (id, grp) values (gen_random_uuid(), 41)").await.unwrap();
    assert_eq!(round(&remote, have, 5, false, &["bench"]).await.rows.len(), 2);
}

#[tokio::test]
async fn h53_rows_without_a_version_are_left_to_the_key_listing() {
    for max_rows in [40, 1_000] {
        let project = tidelock_testbed::project_with(ProjectOptions { max_rows, ..Default::default() }).await.unwrap();
        find_by_listing(&project).await;
    }
}

async fn find_by_listing(project: &Project) {
    insert(project, 1, 100).await;
    project
        .sql(
            "alter table bench disable trigger touch; alter table bench alter updated_at drop not null;
                 update bench set updated_at = null where n > 90",
        )
        .await
        .unwrap();
    let remote = remote(project, &["bench"]);
    let pulled = round(&remote, Checkpoints::new(), 1, false, &["bench"]).await;
    assert_eq!(pulled.rows.len(), 90);
    let mut listed: Vec<Arc<str>> = Vec::new();
    loop {
        let keys = remote.keys("bench".into(), listed.last().cloned()).await.unwrap();
        if keys.is_empty() {
            break;
        }
        listed.extend(keys);
    }
    assert_eq!(listed.len(), 100);
    let unseen: Vec<Arc<str>> = listed.into_iter().filter(|key| !pulled.keys().contains(&&**key)).collect();
    let fetched = remote.fetch("bench".into(), unseen).await.unwrap().rows;
    assert_eq!(fetched.len(), 10);
    assert!(fetched.iter().all(|row| present(&row.state).1.is_none()));
    assert_eq!(remote.count("bench".into()).await.unwrap(), 100);
}

#[tokio::test]
async fn h07_a_filter_and_chosen_columns_narrow_what_comes_and_another_scope_is_read_anew() {
    let project = tidelock_testbed::project().await.unwrap();
    insert(&project, 1, 100).await;
    make_old(&project).await;
    let narrow = |filter: &str| {
        let mut rules = rules("bench");
        rules.columns = vec!["n".into(), "title".into()];
        rules.filter = Some(filter.into());
        Plain::new(options(&project, vec![rules])).unwrap()
    };
    let remote = narrow("n=gt.10&or=(n.lt.15,n.gte.99)");
    let pulled = round(&remote, Checkpoints::new(), 1, false, &["bench"]).await;
    assert_eq!(pulled.rows.len(), 6);
    let (row, _) = present(&pulled.rows[0].state);
    assert_eq!(row.fields().names().collect::<Vec<_>>(), ["id", "n", "title", "updated_at"]);
    assert_eq!(remote.count("bench".into()).await.unwrap(), 6);
    assert_eq!(remote.keys("bench".into(), Some(uuid(13).into())).await.unwrap().len(), 3);
    let fetched = remote.fetch("bench".into(), vec![uuid(11).into(), uuid(50).into()]).await.unwrap().rows;
    assert!(fetched[0].state != RemoteState::Gone && fetched[1].state == RemoteState::Gone);
    let wider = round(&narrow("n=gt.0"), pulled.have, 2, false, &["bench"]).await;
    assert_eq!(wider.rows.len(), 100);
}

#[tokio::test]
async fn the_servers_clock_is_learnt_from_any_answer() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = remote(&project, &["bench"]);
    assert_eq!(remote.clock_offset_ms(), None);
    remote.probe().await.unwrap();
    assert!(remote.clock_offset_ms().unwrap().abs() <= 2_000);
    assert!(remote.needs_listing());
}
