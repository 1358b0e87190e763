//! The plain mode's `Remote` against the real backend: what the port promises, request by request.

mod faults;
mod names;
mod packing;
mod pull;
mod push;

use std::sync::Arc;
use std::time::Duration;

use tidelock::adapters::supabase::{Plain, PlainOptions};
use tidelock_actors::document::Document;
use tidelock_actors::model::{
    Action, Checkpoints, CollectionRules, Direction, Fault, Outgoing, RecordId, RemoteRow, RemoteState, Strategy,
    Verdict, Version,
};
use tidelock_actors::ports::{PullRequest, Pulled, Remote};
use tidelock_testbed::Project;

/// A collection named as its table, keyed by `id` and stamped in `updated_at`.
fn rules(table: &str) -> CollectionRules {
    CollectionRules {
        name: table.into(),
        table: table.into(),
        key: "id".into(),
        version: "updated_at".into(),
        direction: Direction::Both,
        strategy: Strategy::NewestWins,
        fields: Default::default(),
        columns: vec![],
        filter: None,
        after: vec![],
        soft_delete: None,
    }
}

fn options(project: &Project, collections: Vec<CollectionRules>) -> PlainOptions {
    PlainOptions {
        url: project.url.clone(),
        publishable_key: project.publishable_key.clone(),
        token: Arc::new(|| None),
        timeout: Duration::from_secs(20),
        compress: true,
        compress_requests: false,
        collections,
        overlap: Duration::from_secs(60),
        page_rows: 1_000,
    }
}

/// Options for an address without a project.
fn options_at(url: String) -> PlainOptions {
    PlainOptions {
        url,
        publishable_key: "key".into(),
        token: Arc::new(|| None),
        timeout: Duration::from_secs(5),
        compress: true,
        compress_requests: false,
        collections: vec![rules("tasks"), rules("notes")],
        overlap: Duration::from_secs(60),
        page_rows: 1_000,
    }
}

/// A remote on these tables, with nobody signed in.
fn remote(project: &Project, tables: &[&str]) -> Plain {
    Plain::new(options(project, tables.iter().map(|table| rules(table)).collect())).unwrap()
}

/// As `remote`, for this user.
fn remote_of(project: &Project, tables: &[&str], token: &str) -> Plain {
    let token = token.to_owned();
    let collections = tables.iter().map(|table| rules(table)).collect();
    Plain::new(PlainOptions { token: Arc::new(move || Some(token.clone())), ..options(project, collections) }).unwrap()
}

fn document(text: &str) -> Document {
    Document::parse(text).unwrap()
}

fn uuid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn operation(collection: &str, key: &str, action: Action, patch: &str) -> Outgoing {
    Outgoing {
        covers: vec![1],
        transactions: vec![1],
        id: RecordId::new(collection, key),
        action,
        patch: document(patch),
        base: None,
        base_version: None,
        attempts: 0,
        may_have_been_sent: false,
    }
}

fn create(collection: &str, key: &str, patch: &str) -> Outgoing {
    operation(collection, key, Action::Create, patch)
}

/// An update or deletion made on this row.
fn on(mut operation: Outgoing, base: &str, version: Option<&str>) -> Outgoing {
    operation.base = Some(document(base));
    operation.base_version = version.map(Version::from);
    operation
}

async fn push(remote: &Plain, batch: Vec<Outgoing>) -> Vec<Verdict> {
    let count = batch.len();
    let verdicts = remote.push(batch).await.verdicts;
    assert_eq!(verdicts.len(), count, "a verdict for every operation");
    verdicts
}

async fn push_one(remote: &Plain, operation: Outgoing) -> Verdict {
    push(remote, vec![operation]).await.remove(0)
}

fn applied(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Applied { version, .. } => version.as_deref(),
        other => panic!("not applied: {other:?}"),
    }
}

fn failed(verdict: &Verdict) -> &Fault {
    match verdict {
        Verdict::Failed(fault) => fault,
        other => panic!("not failed: {other:?}"),
    }
}

fn conflict(verdict: &Verdict) -> &RemoteState {
    match verdict {
        Verdict::Conflict(state) => state,
        other => panic!("no conflict: {other:?}"),
    }
}

fn present(state: &RemoteState) -> (&Document, Option<&str>) {
    match state {
        RemoteState::Present { document, version } => (document, version.as_deref()),
        RemoteState::Gone => panic!("the row is gone"),
    }
}

/// Everything that a round brings, and the checkpoints that it leaves.
struct Round {
    rows: Vec<RemoteRow>,
    pages: Vec<usize>,
    have: Checkpoints,
    paused: Vec<(Arc<str>, Fault)>,
}

impl Round {
    fn keys(&self) -> Vec<&str> {
        self.rows.iter().map(|row| &*row.id.key).collect()
    }
}

async fn page(
    remote: &Plain,
    have: &Checkpoints,
    round: i64,
    deep: bool,
    collections: &[&str],
) -> Result<Pulled, Fault> {
    let collections = collections.iter().map(|name| Arc::from(*name)).collect();
    remote.pull(have.clone(), PullRequest { collections, deep, round }).await
}

async fn round(remote: &Plain, mut have: Checkpoints, round: i64, deep: bool, collections: &[&str]) -> Round {
    let (mut rows, mut pages, mut paused) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let pulled = page(remote, &have, round, deep, collections).await.unwrap();
        pages.push(pulled.rows.len());
        rows.extend(pulled.rows);
        paused.extend(pulled.paused);
        have.extend(pulled.checkpoints);
        if !pulled.more {
            return Round { rows, pages, have, paused };
        }
    }
}
