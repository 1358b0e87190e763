//! Push and pull through the server kit, against bare loops that do without what the kit promises: on this machine, and
//! over a network on which a request takes its time, as it does from every device.

use std::time::Instant;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidelock_testbed::{FaultPlan, FaultProxy, Project, ProjectOptions};

use crate::figure::{Figure, Options, document, uuid};
use crate::network::{bare_push, pulled, pushed};

/// What the bare loop posts to: set-based, with no ledger and no versions, into a table like the other one before the kit
/// came, with the trigger that the table has of its own.
const BARE: &str = "
    create table public.bare (like public.bench including all);
    create trigger touch before insert or update on public.bare for each row execute function public.touch_updated_at();
    create function public.bare_upsert(batch jsonb) returns void language sql as $$
      insert into public.bare select * from jsonb_populate_recordset(null::public.bare, batch)
      on conflict (id) do update set title = excluded.title, body = excluded.body
    $$";

pub async fn figures(options: &Options) -> Vec<Figure> {
    let rows = if options.quick { 5_000 } else { 20_000 };
    let mut project = tidelock_testbed::project_with(ProjectOptions::default()).await.unwrap();
    project.sql(BARE).await.unwrap();
    project.install_kit(&[("public.bench", None)]).await.unwrap();
    // The server looks at the schema once.
    project.stop_server().unwrap();
    project.start_server().await.unwrap();
    let far =
        FaultProxy::start(&project.url, FaultPlan { delay: 1.0, delay_ms: 40, ..FaultPlan::none() }).await.unwrap();
    let (mut near, mut away, mut pull) = (Pushes::default(), Pushes::default(), Vec::new());
    for _ in 0..options.rounds() {
        away.measure(&project, &far.url, rows).await;
        near.measure(&project, &project.url, rows).await;
        project.sql("vacuum analyze public.bench").await.unwrap();
        pull.push((pulled(&project, rows).await, bare_pages(&project, rows).await));
    }
    vec![
        Figure::against_floor("kit_push_20000_rows", "rows/s", 0.7, &near.against_function),
        Figure::against_floor("kit_push_20000_rows_against_plain_upserts", "rows/s", 1.0, &near.against_upserts),
        Figure::against_floor("kit_push_20000_rows_20ms_away", "rows/s", 0.7, &away.against_function),
        Figure::against_floor(
            "kit_push_20000_rows_20ms_away_against_plain_upserts",
            "rows/s",
            1.0,
            &away.against_upserts,
        ),
        Figure::against_floor("kit_pull_20000_rows", "rows/s", 0.9, &pull),
    ]
}

/// Our rate with that of each floor.
#[derive(Default)]
struct Pushes {
    against_function: Vec<(f64, f64)>,
    against_upserts: Vec<(f64, f64)>,
}

impl Pushes {
    async fn measure(&mut self, project: &Project, url: &str, rows: usize) {
        project.sql("truncate public.bench, public.bare").await.unwrap();
        let ours = pushed(project, url, rows).await;
        self.against_function.push((ours, bare_function(project, url, rows).await));
        project.sql("truncate public.bench").await.unwrap();
        self.against_upserts.push((ours, bare_push(project, url, rows).await));
    }
}

async fn call(project: &Project, url: &str, client: &reqwest::Client, function: &str, body: String) -> String {
    let request = client
        .post(format!("{url}/rest/v1/rpc/{function}"))
        .header("apikey", &project.secret_key)
        .header("authorization", format!("Bearer {}", project.secret_key))
        .header("content-type", "application/json")
        .body(body);
    let answer = request.send().await.unwrap();
    let is_success = answer.status().is_success();
    let text = answer.text().await.unwrap();
    assert!(is_success, "{text}");
    text
}

/// The same rows, 1,000 at a time, one after another over one connection.
async fn bare_function(project: &Project, url: &str, rows: usize) -> f64 {
    let client = reqwest::Client::new();
    let row = |number: &usize| {
        let stamped = document(*number).with_string("id", &uuid(*number));
        stamped.with_string("updated_at", "2026-11-22T10:00:00+00:00").to_string()
    };
    let numbers: Vec<usize> = (0..rows).collect();
    let bodies: Vec<String> = numbers
        .chunks(1_000)
        .map(|part| format!("{{\"batch\":[{}]}}", part.iter().map(row).collect::<Vec<_>>().join(",")))
        .collect();
    let began = Instant::now();
    for body in bodies {
        call(project, url, &client, "bare_upsert", body).await;
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    collections: Vec<Part<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
    #[serde(borrow)]
    more: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Place {
    id: String,
    tidelock_version: String,
}

/// The pages that the kit gives, each stored in SQLite in one durable transaction.
pub async fn bare_pages(project: &Project, rows: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Connection::open(directory.path().join("floor.db")).unwrap();
    store.pragma_update(None, "journal_mode", "WAL").unwrap();
    store.pragma_update(None, "synchronous", "FULL").unwrap();
    store.execute_batch("create table rows (id text primary key, version text, document text) strict").unwrap();
    let client = reqwest::Client::new();
    let (mut entry, mut stored) = (json!({"table": "bench"}), 0);
    let began = Instant::now();
    loop {
        let body = json!({"collections": [entry], "page_rows": 7_000}).to_string();
        let text = call(project, &project.url, &client, "tidelock_changes", body).await;
        let answer: Answer<'_> = serde_json::from_str(&text).unwrap();
        let transaction = store.transaction().unwrap();
        for row in &answer.collections[0].rows {
            let place: Place = serde_json::from_str(row.get()).unwrap();
            let mut insert = transaction.prepare_cached("insert or replace into rows values (?1, ?2, ?3)").unwrap();
            insert.execute(params![place.id, place.tidelock_version, row.get()]).unwrap();
            stored += 1;
        }
        transaction.commit().unwrap();
        match answer.collections[0].more {
            Some(more) => {
                entry = serde_json::from_str(more.get()).unwrap();
                entry["table"] = json!("bench");
            }
            None => break,
        }
    }
    assert_eq!(stored, rows);
    rows as f64 / began.elapsed().as_secs_f64()
}
