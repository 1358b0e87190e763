//! Reading by key, counting, listing keys, and asking whether the server is there.

use std::sync::Arc;

use serde_json::value::RawValue;
use tidelock_actors::model::{Fault, FaultKind, RecordId, RemoteRow, RemoteState};
use tidelock_actors::ports::Fetched;

use super::Plain;
use super::columns;
use super::fault;
use super::gate::Gate;
use super::http::Question;
use super::pull;
use super::read_again::read_again;
use super::request_line::{Query, condition, identifiers};
use super::table::Table;

/// Keys asked for in one page, as pages of rows; a server that gives fewer only costs requests.
const KEY_PAGES: usize = 10;

/// Rows by key, within the collection's filter; a key without such a row answers `Gone`.
pub(super) async fn fetch(plain: &Plain, table: &Table, keys: &[Arc<str>]) -> Result<Fetched, Fault> {
    let gate = Gate::new(&plain.link);
    let selection = table.selection(gate.version(table).await?, []);
    let wanted: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let seen = read_again(&gate, table, &selection, &table.filter(), &wanted).await?;
    let rows = keys.iter().map(|key| RemoteRow {
        id: RecordId { collection: table.name.clone(), key: key.clone() },
        state: seen.get(&**key).cloned().map_or(RemoteState::Gone, RemoteState::from),
    });
    Ok(Fetched { rows: rows.collect() })
}

/// Those of these keys that have a row that may be seen, whatever the collection's filter says.
pub(super) async fn existing(plain: &Plain, table: &Table, mut keys: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, Fault> {
    let gate = Gate::new(&plain.link);
    let selection = table.stamps(gate.version(table).await?);
    let wanted: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let seen = read_again(&gate, table, &selection, "", &wanted).await?;
    keys.retain(|key| seen.contains_key(&**key));
    Ok(keys)
}

/// The next keys of a listing; none are the end.
pub(super) async fn keys(plain: &Plain, table: &Table, after: Option<&str>) -> Result<Vec<Arc<str>>, Fault> {
    let key = identifiers([table.key.as_str()]);
    let query = Query::default()
        .with("select", &key)
        .with("order", &format!("{key}.asc"))
        .with("limit", &(plain.stride.page_rows * KEY_PAGES).to_string())
        .with_filter(&table.filter())
        .with_filter(&after.map(|after| condition(&table.key, "gt", after)).unwrap_or_default());
    let answer = plain.link.send(table.read(&query)).await?;
    let rows =
        columns::rows(&answer.body, &table.key, None).map_err(|_| fault::not_json(answer.status, &answer.body))?;
    Ok(rows.into_iter().map(|row| Arc::from(row.key)).collect())
}

/// The next whole rows of a walk in the order of the keys; none are the end. It sees rows without a version, too.
pub(super) async fn rows(plain: &Plain, table: &Table, after: Option<&str>) -> Result<Fetched, Fault> {
    let gate = Gate::new(&plain.link);
    let version = gate.version(table).await?;
    let most = plain.stride.page_rows;
    let query = Query::default()
        .with("select", &table.selection(version, []))
        .with("order", &format!("{}.asc", identifiers([table.key.as_str()])))
        .with("limit", &table.page_rows(most).to_string())
        .with_filter(&table.filter())
        .with_filter(&after.map(|after| condition(&table.key, "gt", after)).unwrap_or_default());
    let answer = plain.link.send(table.read(&query)).await?;
    let rows =
        columns::rows(&answer.body, &table.key, version).map_err(|_| fault::not_json(answer.status, &answer.body))?;
    table.learn_page(rows.len(), answer.body.len(), most);
    Ok(Fetched { rows: pull::observed(table, rows) })
}

/// How many rows the collection has on the server, within its filter.
pub(super) async fn count(plain: &Plain, table: &Table) -> Result<u64, Fault> {
    let key = identifiers([table.key.as_str()]);
    let query = Query::default().with("select", &key).with("limit", "1").with_filter(&table.filter());
    // A HEAD would leave the reason of a fault out.
    let question = Question { prefer: Some("count=exact"), ..table.read(&query) };
    let answer = plain.link.send(question).await?;
    total(answer.content_range.as_deref()).ok_or_else(|| fault::not_json(answer.status, &answer.body))
}

/// The number after the slash of `0-0/3000` or `*/0`.
fn total(content_range: Option<&str>) -> Option<u64> {
    content_range?.rsplit_once('/')?.1.parse().ok()
}

/// Reads nothing from the first collection that is synced: the server is reached and takes the credentials, or not.
/// A fault that is about the collection alone is an answer all the same.
pub(super) async fn probe(plain: &Plain) -> Result<(), Fault> {
    let question = match plain.first_synced() {
        Some(table) => {
            let key = identifiers([table.key.as_str()]);
            table.read(&Query::default().with("select", &key).with("limit", "0"))
        }
        None => Question::get(format!("{}/auth/v1/health", plain.base)),
    };
    let answer = match plain.link.send(question).await {
        Ok(answer) => answer,
        Err(fault) if is_an_answer(&fault) => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let is_json = serde_json::from_slice::<&RawValue>(&answer.body).is_ok();
    if is_json { Ok(()) } else { Err(fault::not_json(answer.status, &answer.body)) }
}

/// Only PostgREST and PostgreSQL have codes; a 404 without one is somebody else's.
fn is_an_answer(fault: &Fault) -> bool {
    !matches!(fault.kind, FaultKind::Transient | FaultKind::Unauthorized) && fault.code.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_stands_after_the_slash() {
        for (range, count) in
            [("0-0/3000", Some(3_000)), ("*/0", Some(0)), ("0-999/*", None), ("", None), ("bytes", None)]
        {
            assert_eq!(total(Some(range)), count, "{range}");
        }
        assert_eq!(total(None), None);
    }
}
