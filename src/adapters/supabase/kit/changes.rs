//! Pulling through the server kit: one request for all collections, answered in one snapshot.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidelock_actors::document::unquoted;
use tidelock_actors::model::{Checkpoints, Fault, FaultKind, RecordId, RemoteRow, RemoteState, Version};
use tidelock_actors::ports::{PullRequest, Pulled};

use super::place::{Pages, Place, is_visible};
use super::seen::Seen;
use super::{Kit, SERVER_EPOCH, VERSION, fault_of, filter, stamp};
use crate::adapters::supabase::columns;
use crate::adapters::supabase::fault;
use crate::adapters::supabase::table::Table;

/// Bytes that a page aims at, so that memory stays bounded where rows are large.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Rows that a page asks for at least and at most. What fits in one page arrives as one local transaction.
const PAGE_ROWS: std::ops::RangeInclusive<usize> = 50..=10_000;
/// Rows that the first page asks for, before it is known how large they are.
pub(super) const FIRST_PAGE_ROWS: usize = 2_000;

/// The kit's answer.
#[derive(Deserialize)]
struct Answer<'a> {
    snapshot: String,
    epoch: String,
    purged_before: String,
    #[serde(borrow)]
    collections: Vec<Part<'a>>,
}

/// One collection's part of it.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    rows: Vec<&'a RawValue>,
    #[serde(default)]
    gone: Vec<String>,
    #[serde(default)]
    whole: bool,
    #[serde(default)]
    resets: i64,
    #[serde(default)]
    untold: bool,
    #[serde(default)]
    more: Option<Pages>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Fetches what has changed in all collections since their checkpoints.
pub(super) async fn pull(kit: &Kit, have: &Checkpoints, request: &PullRequest) -> Result<Pulled, Fault> {
    let mut pulled = Pulled::default();
    let mut asked = Vec::new();
    let has_compared = kit.has_compared.swap(false, std::sync::atomic::Ordering::Relaxed);
    for table in request.collections.iter().filter_map(|name| kit.plain.table(name).ok()) {
        let mut place = place(table, have);
        place.is_doubtful &= !has_compared;
        if place.is_doubtful {
            kit.compare();
        }
        match entry(table, &place) {
            Ok(entry) => asked.push((table, place, entry)),
            Err(words) => pulled.paused.push((table.name.clone(), Fault::new(FaultKind::Schema, words))),
        }
    }
    let body = json!({
        "collections": asked.iter().map(|(.., entry)| entry).collect::<Vec<_>>(),
        "page_rows": kit.page_rows(),
        "own": kit.own_transactions(),
    });
    // A page that was too much for the server or the way is asked for in smaller ones.
    let sent = kit.call("tidelock_changes", body.to_string()).await.inspect_err(|_| kit.ask_for_less())?;
    let answer: Answer<'_> =
        serde_json::from_slice(&sent.body).map_err(|_| fault::not_json(sent.status, &sent.body))?;
    match have.get(SERVER_EPOCH) {
        Some(known) if *known == answer.epoch => {}
        Some(known) if !known.is_empty() => return Err(replaced()),
        Some(_) | None => {
            pulled.checkpoints.insert(SERVER_EPOCH.to_owned(), answer.epoch.clone());
        }
    }
    kit.learn_epoch(&answer.epoch);
    let purged_before = answer.purged_before.parse().unwrap_or(0);
    let (mut rows, mut seen) = (0, Seen::default());
    for ((table, mut place, _), part) in asked.into_iter().zip(answer.collections) {
        if let Some(error) = part.error {
            pulled.paused.push((table.name.clone(), fault_of(error)));
            continue;
        }
        let was_paging = place.pages.is_some();
        rows += part.rows.len();
        take(table, &part, &answer.epoch, &mut pulled.rows).map_err(|_| fault::not_json(sent.status, &sent.body))?;
        let begins_anew = place.settle_in(&answer.epoch)
            || place.forget_before(purged_before)
            || place.advance(&answer.snapshot, part.whole, part.resets, part.more);
        place.is_doubtful |= begins_anew;
        if place.is_doubtful || part.untold {
            kit.compare();
        }
        // A walk over several pages ends in an older snapshot than this one: the next answer is of one snapshot again.
        pulled.more |= begins_anew || was_paging || place.pages.is_some();
        seen = seen.and(&place);
        pulled.checkpoints.insert(table.name.to_string(), place.text());
    }
    kit.learn_seen(seen);
    kit.learn_page(rows, sent.body.len());
    if !pulled.more {
        kit.saw(&answer.snapshot);
        kit.forget_own(|transaction| is_visible(transaction, &answer.snapshot));
    }
    Ok(pulled)
}

/// How far a collection has been pulled.
pub(super) fn place(table: &Table, have: &Checkpoints) -> Place {
    Place::read(have.get(&*table.name), &scope(table))
}

/// What is read, in words that change when it does.
fn scope(table: &Table) -> String {
    let rules = &table.rules;
    let filter = rules.filter.as_deref().unwrap_or_default();
    format!("{}:{}:{}?{filter}", rules.table, table.key, rules.columns.join(","))
}

fn entry(table: &Table, place: &Place) -> Result<Value, String> {
    let mut entry = json!({"table": table.rules.table});
    if !table.rules.columns.is_empty() {
        entry["columns"] = json!(table.rules.columns);
    }
    if let Some(filter) = &table.rules.filter {
        entry["filter"] = filter::read(filter)?;
    }
    if let Some(since) = &place.since {
        entry["since"] = json!(since);
    }
    if let Some(Pages { until, after }) = &place.pages {
        entry["until"] = json!(until);
        entry["after"] = after.clone();
    }
    Ok(entry)
}

/// Rows and deletions, as the inside knows them.
fn take(table: &Table, part: &Part<'_>, epoch: &str, rows: &mut Vec<RemoteRow>) -> Result<(), serde_json::Error> {
    let id = |key: &str| RecordId::new(table.name.clone(), key);
    let mut last: Option<(String, Version)> = None;
    for raw in &part.rows {
        let row = columns::row(raw, &table.key, Some(VERSION))?;
        // Rows of one transaction share their version's text.
        if last.as_ref().map(|(transaction, _)| transaction.as_str()) != row.version.as_deref() {
            last = row.version.as_deref().map(|transaction| (transaction.to_owned(), stamp(epoch, transaction)));
        }
        let version = last.as_ref().map(|(_, version)| version.clone());
        let document = table.names.localised(row.raw).without(VERSION);
        rows.push(RemoteRow { id: id(&row.key), state: RemoteState::Present { document, version } });
    }
    rows.extend(part.gone.iter().map(|key| RemoteRow { id: id(key), state: RemoteState::Gone }));
    Ok(())
}

/// H40: nothing is sent and nothing taken before somebody has looked.
pub(super) fn replaced() -> Fault {
    let words = "this is another database than the one that this store knows, or an earlier state of it; look at what it \
                 has, then accept it with: tidelock sync --accept-server";
    Fault::new(FaultKind::Replaced, words)
}

impl Kit {
    fn page_rows(&self) -> usize {
        self.page_rows.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn ask_for_less(&self) {
        let fewer = (self.page_rows() / 2).max(*PAGE_ROWS.start());
        self.page_rows.store(fewer, std::sync::atomic::Ordering::Relaxed);
    }

    fn learn_page(&self, rows: usize, bytes: usize) {
        if let Some(bytes_a_row) = bytes.checked_div(rows) {
            let fitting = (PAGE_BYTES / bytes_a_row.max(1)).clamp(*PAGE_ROWS.start(), *PAGE_ROWS.end());
            self.page_rows.store(fitting, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// The version of a row that was read as any other table's.
pub(super) fn versioned(state: RemoteState, epoch: &str) -> RemoteState {
    match state {
        RemoteState::Present { document, .. } => {
            let version = document.fields().get(VERSION).map(|text| stamp(epoch, &unquoted(text)));
            RemoteState::Present { document: document.without(VERSION), version }
        }
        RemoteState::Gone => RemoteState::Gone,
    }
}
