//! Reads rows by key: what the server has, whatever was asked before.

use std::collections::BTreeMap;

use futures::stream::{StreamExt, TryStreamExt};
use tidelock_actors::document::Document;
use tidelock_actors::model::{Fault, RemoteState, Version};

use super::columns;
use super::fault;
use super::gate::Gate;
use super::request_line::{self, Query};
use super::spelling::Asked;
use super::table::Table;

/// Requests under way at once.
const WIDTH: usize = 4;

/// Rows by key, in the spelling that was asked for; what was not seen is absent.
pub(super) type Rows = BTreeMap<String, Seen>;

/// A row that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub version: Option<Version>,
    pub document: Document,
}

impl From<Seen> for RemoteState {
    fn from(seen: Seen) -> Self {
        Self::Present { document: seen.document, version: seen.version }
    }
}

/// Reads these rows, with the columns of `selection`, in as many requests as it takes. `filter` narrows what counts as
/// there; it may be empty.
pub(super) async fn read_again(
    gate: &Gate<'_>,
    table: &Table,
    selection: &str,
    filter: &str,
    keys: &[&str],
) -> Result<Rows, Fault> {
    let version = gate.version(table).await?;
    let query = Query::default().with("select", selection).with_filter(filter);
    let chunks = request_line::by_key(&table.key, keys, query.room(&table.path));
    let read = chunks.into_iter().map(|chunk| {
        let wanted: Vec<&str> = chunk.rows.iter().map(|at| keys[*at]).collect();
        let query = query.clone();
        async move { read_all(gate, table, version, &query, wanted).await }
    });
    let rows: Vec<Rows> = futures::stream::iter(read).buffer_unordered(WIDTH).try_collect().await?;
    Ok(rows.into_iter().flatten().collect())
}

/// Asks for what is still missing until an answer brings nothing: a server may give fewer rows than it has.
async fn read_all(
    gate: &Gate<'_>,
    table: &Table,
    version: Option<&str>,
    query: &Query,
    mut missing: Vec<&str>,
) -> Result<Rows, Fault> {
    let mut found = Rows::new();
    while !missing.is_empty() {
        // What is missing fitted into one filter before, so it does now.
        let Some(filter) = request_line::by_key(&table.key, &missing, usize::MAX).into_iter().next() else { break };
        let answer = gate.send(table, table.read(&query.clone().with_filter(&filter.filter))).await?;
        let rows = columns::rows(&answer.body, &table.key, version)
            .map_err(|_| fault::not_json(answer.status, &answer.body))?;
        if rows.is_empty() {
            break;
        }
        let asked = Asked::new(missing.iter().copied());
        for row in rows {
            let seen = Seen { version: row.version.map(Version::from), document: table.names.localised(row.raw) };
            found.insert(asked.spelling(&row.key).to_owned(), seen);
        }
        let before = missing.len();
        missing.retain(|key| !found.contains_key(*key));
        if missing.len() == before {
            break;
        }
    }
    Ok(found)
}
