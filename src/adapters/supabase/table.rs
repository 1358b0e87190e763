//! One collection's table: where it is, what its columns are called, and whether the server stamps its rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Method;
use reqwest::header::HeaderValue;
use tidelock_actors::document::{Document, instant};
use tidelock_actors::model::{CollectionRules, Fault, FaultKind};
use tokio::sync::Mutex;

use super::columns::{self, Names};
use super::fault;
use super::http::{Link, Question};
use super::kit;
use super::request_line::{self, Query, encode, encode_written};

/// Bytes that a page aims at, so that memory stays bounded where rows are large.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Rows that a page asks for at least.
const PAGE_ROWS_LEAST: usize = 10;

/// A table.
pub(super) struct Table {
    /// The collection's local name.
    pub name: Arc<str>,
    /// The collection's rules.
    pub rules: CollectionRules,
    /// The key column.
    pub key: String,
    /// Local field names and columns.
    pub names: Names,
    /// The encoded path.
    pub path: String,
    /// The schema's header, if it is not `public`.
    pub schema: Option<HeaderValue>,
    /// Whether the server has the version column, once it was asked.
    versioned: Mutex<Option<bool>>,
    page_rows: AtomicUsize,
    /// Whether the server kit is in use: its version comes with rows that are read by key, and rows that it left in
    /// place as deleted are gone.
    with_kit: AtomicBool,
}

impl Table {
    /// `base` is the path that PostgREST's own begins after.
    pub fn new(rules: CollectionRules, base: &str, page_rows: usize) -> Self {
        let (schema, table) = match rules.table.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, rules.table.as_str()),
        };
        let names = Names::new(&rules.fields);
        Self {
            name: rules.name.clone(),
            key: names.column(&rules.key).to_owned(),
            path: format!("{base}/rest/v1/{}", encode(table)),
            schema: schema.and_then(|schema| HeaderValue::from_str(schema).ok()),
            names,
            rules,
            versioned: Mutex::default(),
            page_rows: AtomicUsize::new(page_rows.max(1)),
            with_kit: AtomicBool::new(false),
        }
    }

    /// From now on the server kit is in use.
    pub fn use_kit(&self) {
        self.with_kit.store(true, Ordering::Relaxed);
    }

    fn has_kit(&self) -> bool {
        self.with_kit.load(Ordering::Relaxed)
    }

    /// A read with this query.
    pub fn read(&self, query: &Query) -> Question<'_> {
        Question { schema: self.schema.as_ref(), ..Question::get(query.on(&self.path)) }
    }

    /// A write with this query and body; what it did comes back.
    pub fn write(&self, method: Method, query: &Query, prefer: &'static str, body: Option<String>) -> Question<'_> {
        let line = query.on(&self.path);
        Question { method, line, schema: self.schema.as_ref(), prefer: Some(prefer), body }
    }

    /// The version column, if the server has it. Asked once, and anew after a fault of the schema.
    pub async fn version(&self, link: &Link) -> Result<Option<&str>, Fault> {
        // Held while the server is asked, so that nobody asks beside.
        let mut versioned = self.versioned.lock().await;
        let has_one = match *versioned {
            Some(known) => known,
            None => *versioned.insert(self.ask_for_version(link).await?),
        };
        Ok(has_one.then_some(self.rules.version.as_str()))
    }

    /// Learns from a fault. One of the schema tells that the table is not what it was when it was asked for its version
    /// column: that may be what is missing, and a table that is made again need not have one.
    pub async fn note(&self, fault: &Fault) {
        if fault.kind == FaultKind::Schema {
            *self.versioned.lock().await = None;
        }
    }

    async fn ask_for_version(&self, link: &Link) -> Result<bool, Fault> {
        let ask = async |columns: &[&str]| {
            let select = request_line::identifiers(columns.iter().copied());
            let answer = link.send(self.read(&Query::default().with("select", &select).with("limit", "0"))).await?;
            let rows = columns::rows(&answer.body, &self.key, None);
            rows.map(drop).map_err(|_| fault::not_json(answer.status, &answer.body))
        };
        if self.rules.version.is_empty() || self.rules.version == self.key {
            return ask(&[&self.key]).await.map(|()| false);
        }
        match ask(&[&self.key, &self.rules.version]).await {
            Ok(()) => Ok(true),
            // Either the version or the key is not there; without a key there is nothing to go on with.
            Err(fault) if fault.kind == FaultKind::Schema && fault.code.as_deref() == Some("42703") => {
                ask(&[&self.key]).await.map(|()| false)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The `select` of whole rows, with these columns beside the declared ones.
    pub fn selection<'a>(&'a self, version: Option<&'a str>, besides: impl IntoIterator<Item = &'a str>) -> String {
        if self.rules.columns.is_empty() {
            return "*".to_owned();
        }
        let mut columns: Vec<&str> = self.rules.columns.iter().map(String::as_str).collect();
        let kits_own = self.has_kit().then_some(kit::VERSION);
        for column in [self.key.as_str()].into_iter().chain(version).chain(kits_own).chain(besides) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        request_line::identifiers(columns)
    }

    /// The `select` of a row's key and version alone.
    pub fn stamps(&self, version: Option<&str>) -> String {
        request_line::identifiers([self.key.as_str()].into_iter().chain(version))
    }

    /// The collection's filter as a piece of query; empty where all rows are wanted.
    pub fn filter(&self) -> String {
        let declared = self.rules.filter.as_deref().map(encode_written);
        let alive = self.rules.soft_delete.as_deref().filter(|_| self.has_kit());
        let alive = alive.map(|column| request_line::condition(column, "is", "null"));
        declared.into_iter().chain(alive).collect::<Vec<_>>().join("&")
    }

    /// The fields that are compared with the server's row: the version is the server's own to set.
    pub fn comparable(&self, sent: &Document, version: Option<&str>) -> Document {
        match version.and_then(|column| self.names.field(column)) {
            Some(field) => sent.without(field),
            None => sent.clone(),
        }
    }

    /// Rows to ask for in the next page.
    pub fn page_rows(&self, most: usize) -> usize {
        self.page_rows.load(Ordering::Relaxed).min(most.max(1))
    }

    /// Learns from a page how many rows make a page of a bearable size.
    pub fn learn_page(&self, rows: usize, bytes: usize, most: usize) {
        if let Some(bytes_a_row) = bytes.checked_div(rows) {
            let fitting = PAGE_BYTES / bytes_a_row.max(1);
            self.page_rows.store(fitting.max(PAGE_ROWS_LEAST).min(most.max(1)), Ordering::Relaxed);
        }
    }
}

/// Whether two versions are the same stamp, however they are written.
pub(super) fn same_version(a: &str, b: &str) -> bool {
    a == b || matches!((instant(a), instant(b)), (Some(a), Some(b)) if a == b)
}
