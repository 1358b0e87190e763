//! Push and pull of 20,000 rows, against a bare reqwest loop on the same backend.

use std::time::Instant;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidelock::{Config, SyncRequest, Tidelock};
use tidelock_testbed::{Project, ProjectOptions};

use crate::figure::{Figure, Options, document, uuid};

pub async fn figures(options: &Options) -> Vec<Figure> {
    let rows = if options.quick { 5_000 } else { 20_000 };
    let project = tidelock_testbed::project_with(ProjectOptions::default()).await.unwrap();
    let (mut push, mut pull) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        project.sql("truncate public.bench").await.unwrap();
        let ours = pushed(&project, &project.url, rows).await;
        project.sql("truncate public.bench").await.unwrap();
        push.push((ours, bare_push(&project, &project.url, rows).await));
        project.sql("vacuum analyze public.bench").await.unwrap();
        pull.push((pulled(&project, rows).await, bare_pull(&project, rows).await));
    }
    vec![
        Figure::against_floor("push_20000_rows", "rows/s", 0.8, &push),
        Figure::against_floor("pull_20000_rows", "rows/s", 0.8, &pull),
    ]
}

fn open(project: &Project, url: &str, directory: &std::path::Path) -> Tidelock {
    let text = format!(
        "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\n[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n[collections.bench]\ntable = \"bench\"",
        url,
        project.secret_key,
        directory.display()
    );
    Tidelock::open(Config::from_toml(&text).unwrap()).unwrap()
}

/// `url` is the project's own, or a proxy's.
pub async fn pushed(project: &Project, url: &str, rows: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let tidelock = open(project, url, directory.path());
    let documents: Vec<_> = (0..rows).map(|number| (uuid(number), document(number))).collect();
    for part in documents.chunks(1_000) {
        tidelock.bulk_save("bench", part.to_vec()).await.unwrap();
    }
    let began = Instant::now();
    let report = tidelock.sync(SyncRequest { pull: false, ..Default::default() }).await.unwrap();
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    assert_eq!(report.pushed, rows as u64, "{report:?}");
    rate
}

pub async fn pulled(project: &Project, rows: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let tidelock = open(project, &project.url, directory.path());
    let began = Instant::now();
    let report = tidelock.sync(SyncRequest { push: false, ..Default::default() }).await.unwrap();
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    assert_eq!(report.pulled, rows as u64, "{report:?}");
    rate
}

/// Upserts of 500 rows, one after another over one connection.
pub async fn bare_push(project: &Project, url: &str, rows: usize) -> f64 {
    let client = reqwest::Client::new();
    let bodies: Vec<String> = (0..rows)
        .collect::<Vec<_>>()
        .chunks(500)
        .map(|part| {
            let rows = part.iter().map(|number| document(*number).with_string("id", &uuid(*number)).to_string());
            format!("[{}]", rows.collect::<Vec<_>>().join(","))
        })
        .collect();
    let began = Instant::now();
    for body in bodies {
        let request = client
            .post(format!("{url}/rest/v1/bench?on_conflict=id"))
            .header("apikey", &project.secret_key)
            .header("authorization", format!("Bearer {}", project.secret_key))
            .header("content-type", "application/json")
            .header("prefer", "resolution=merge-duplicates,return=minimal")
            .body(body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.bytes().await.unwrap();
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

#[derive(Deserialize)]
struct Place {
    id: String,
    updated_at: String,
}

/// Pages of 1,000 rows by keyset, each stored in SQLite in one durable transaction.
async fn bare_pull(project: &Project, rows: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Connection::open(directory.path().join("floor.db")).unwrap();
    store.pragma_update(None, "journal_mode", "WAL").unwrap();
    store.pragma_update(None, "synchronous", "FULL").unwrap();
    store.execute_batch("create table rows (id text primary key, version text, document text) strict").unwrap();
    let client = reqwest::Client::new();
    let mut last: Option<Place> = None;
    let mut stored = 0;
    let began = Instant::now();
    loop {
        let after = last.as_ref().map_or(String::new(), |Place { id, updated_at }| {
            let at = updated_at.replace('+', "%2B");
            format!("&updated_at=gte.{at}&or=(updated_at.gt.{at},and(updated_at.eq.{at},id.gt.{id}))")
        });
        let request = client
            .get(format!("{}/rest/v1/bench?order=updated_at.asc,id.asc&limit=1000{after}", project.url))
            .header("apikey", &project.secret_key)
            .header("authorization", format!("Bearer {}", project.secret_key));
        let page = request.send().await.unwrap().text().await.unwrap();
        let rows: Vec<&RawValue> = serde_json::from_str(&page).unwrap_or_else(|error| panic!("{error}: {page}"));
        let transaction = store.transaction().unwrap();
        for row in &rows {
            let place: Place = serde_json::from_str(row.get()).unwrap();
            let mut insert = transaction.prepare_cached("insert or replace into rows values (?1, ?2, ?3)").unwrap();
            insert.execute(params![place.id, place.updated_at, row.get()]).unwrap();
            last = Some(place);
            stored += 1;
        }
        transaction.commit().unwrap();
        if rows.is_empty() {
            break;
        }
    }
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    assert_eq!(stored, rows);
    rate
}
