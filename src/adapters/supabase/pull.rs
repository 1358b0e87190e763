//! Pulling: one page a call, collection after collection, each read in the order of (version, key) until a page is
//! empty. Rows whose version is null are not seen by a walk; listing the keys finds them.

use std::sync::Arc;
use std::time::Duration;

use tidelock_actors::model::{Checkpoints, Fault, FaultKind, RecordId, RemoteRow, RemoteState, Version};
use tidelock_actors::ports::{PullRequest, Pulled};

use super::Plain;
use super::columns::{self, Row};
use super::fault;
use super::place::{Place, Times};
use super::request_line::{Query, condition, identifiers, nested};
use super::table::Table;

/// What a walk reads with, beside the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stride {
    /// How far before the last walk's beginning the next one begins.
    pub overlap: Duration,
    /// Rows in a page at most.
    pub page_rows: usize,
}

/// The next page of the first collection that has one. Collections that have none are done with on the way, without
/// a call each.
pub(super) async fn pull(plain: &Plain, have: &Checkpoints, request: &PullRequest) -> Result<Pulled, Fault> {
    let mut pulled = Pulled::default();
    for table in request.collections.iter().filter_map(|name| plain.table(name).ok()) {
        let mut place = Place::read(have.get(&*table.name), &scope(table));
        if !table.rules.direction.pulls() || place.is_done_in(request.round) {
            continue;
        }
        match page(plain, table, &mut place, request).await {
            Ok(rows) => pulled.rows = rows,
            // A missing table, a filter with a mistake in it, no grant: the other collections go on.
            Err(fault) if !fault.concerns_everything() => {
                table.note(&fault).await;
                place.leave(request.round);
                pulled.paused.push((table.name.clone(), fault));
            }
            // What was done with before stays done with; the next call meets the fault again, or does not.
            Err(_) if !pulled.checkpoints.is_empty() => {
                pulled.more = true;
                return Ok(pulled);
            }
            Err(fault) => return Err(fault),
        }
        pulled.checkpoints.insert(table.name.to_string(), place.text());
        if !pulled.rows.is_empty() {
            pulled.more = true;
            return Ok(pulled);
        }
    }
    Ok(pulled)
}

/// What is read, in words that change when it does.
fn scope(table: &Table) -> String {
    let rules = &table.rules;
    let filter = rules.filter.as_deref().unwrap_or_default();
    format!("{}:{}:{}:{}?{filter}", rules.table, table.key, rules.version, rules.columns.join(","))
}

/// Reads one page and moves the place; no rows mean that the collection is done with for this round.
async fn page(plain: &Plain, table: &Table, place: &mut Place, request: &PullRequest) -> Result<Vec<RemoteRow>, Fault> {
    let version = table.version(&plain.link).await?;
    if version.is_none() && !request.deep {
        place.leave(request.round);
        return Ok(Vec::new());
    }
    let most = plain.stride.page_rows;
    let answer = plain.link.send(table.read(&query(table, version, place, table.page_rows(most)))).await?;
    let rows =
        columns::rows(&answer.body, &table.key, version).map_err(|_| fault::not_json(answer.status, &answer.body))?;
    let times = Times { began: answer.began, ended: answer.ended };
    match rows.last() {
        Some(last) if place.last() == Some((last.version.as_deref(), &last.key)) => return Err(the_same_page_again()),
        Some(last) => place.advance(last.version.as_deref(), &last.key, times),
        None => place.finish(request.round, times, plain.stride.overlap),
    }
    table.learn_page(rows.len(), answer.body.len(), most);
    Ok(observed(table, rows))
}

/// Without this a server that reads the conditions otherwise than meant would be asked for ever.
fn the_same_page_again() -> Fault {
    Fault::new(FaultKind::Doubtful, "the server gave the same page again; does the collection's filter order or limit?")
}

fn query(table: &Table, version: Option<&str>, place: &Place, limit: usize) -> Query {
    let order = match version {
        Some(version) => format!("{}.asc,{}.asc", identifiers([version]), identifiers([table.key.as_str()])),
        None => format!("{}.asc", identifiers([table.key.as_str()])),
    };
    Query::default()
        .with("select", &table.selection(version, []))
        .with("order", &order)
        .with("limit", &limit.to_string())
        .with_filter(&table.filter())
        .with_filter(&after(table, version, place))
}

/// The conditions for what comes after the place. The plain bound beside `or(…)` lets the index begin there (H53).
fn after(table: &Table, version: Option<&str>, place: &Place) -> String {
    let key = table.key.as_str();
    match (version, place.last()) {
        (Some(version), Some((Some(last), last_key))) => {
            let later = nested(version, "gt", last);
            let same = format!("and({},{})", nested(version, "eq", last), nested(key, "gt", last_key));
            // Named differently from an `or` of the collection's filter: not every server reads both.
            format!("{}&and=(or({later},{same}))", condition(version, "gte", last))
        }
        // A place from before the table had this column, or from the end of the walk before.
        (Some(version), Some((None, _)) | None) => match place.bound() {
            Some(bound) => condition(version, "gte", bound),
            None => condition(version, "not.is", "null"),
        },
        (None, Some((None, last_key))) => condition(key, "gt", last_key),
        // From before the table lost its version column.
        (None, Some((Some(_), _)) | None) => String::new(),
    }
}

pub(super) fn observed(table: &Table, rows: Vec<Row<'_>>) -> Vec<RemoteRow> {
    let mut stamp: Option<Version> = None;
    rows.into_iter()
        .map(|row| {
            // Rows that one statement stamped share their version's text.
            if stamp.as_deref() != row.version.as_deref() {
                stamp = row.version.as_deref().map(Version::from);
            }
            let document = table.names.localised(row.raw);
            RemoteRow {
                id: RecordId { collection: table.name.clone(), key: Arc::from(row.key) },
                state: RemoteState::Present { document, version: stamp.clone() },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rules, table};
    use super::*;

    fn times() -> Times {
        Times { began: Some(1_000), ended: Some(1_001) }
    }

    #[test]
    fn h03_a_page_begins_after_version_and_key_of_the_last_row() {
        let table = table(rules("public.notes"));
        let mut place = Place::read(None, "s");
        assert_eq!(
            query(&table, Some("updated_at"), &place, 10).on(&table.path),
            "/rest/v1/notes?select=*&order=updated_at.asc,id.asc&limit=10&updated_at=not.is.null"
        );
        place.advance(Some("2026-11-22T10:00:00.000001+00:00"), "a,(b", times());
        assert_eq!(
            after(&table, Some("updated_at"), &place),
            "updated_at=gte.2026-11-22T10:00:00.000001%2B00:00&and=(or(updated_at.gt.2026-11-22T10:00:00.000001%2B00:00,\
             and(updated_at.eq.2026-11-22T10:00:00.000001%2B00:00,id.gt.%22a,(b%22)))"
        );
        place.finish(1, times(), Duration::from_secs(60));
        assert_eq!(after(&table, Some("updated_at"), &place), "updated_at=gte.1970-01-01T00:15:40Z");
    }

    #[test]
    fn a_table_without_versions_is_read_by_key() {
        let table = table(rules("notes"));
        let mut place = Place::read(None, "s");
        place.advance(None, "a+b", times());
        assert_eq!(
            query(&table, None, &place, 10).on(&table.path),
            "/rest/v1/notes?select=*&order=id.asc&limit=10&id=gt.a%2Bb"
        );
    }

    #[test]
    fn chosen_columns_come_with_key_and_version_and_the_filter_as_written() {
        let mut rules = rules("private.notes");
        rules.columns = vec!["body".into(), "id".into()];
        rules.filter = Some("status=eq.done&or=(a.is.null,b.gt.1)".into());
        let table = table(rules);
        assert_eq!(
            query(&table, Some("updated_at"), &Place::read(None, "s"), 10).on(&table.path),
            "/rest/v1/notes?select=body,id,updated_at&order=updated_at.asc,id.asc&limit=10\
             &status=eq.done&or=(a.is.null,b.gt.1)&updated_at=not.is.null"
        );
    }

    #[test]
    fn rows_of_one_stamp_share_it() {
        let table = table(rules("notes"));
        let body = br#"[{"id":1,"updated_at":"x"},{"id":2,"updated_at":"x"}]"#;
        let rows = observed(&table, columns::rows(body, "id", Some("updated_at")).unwrap());
        let version = |row: &RemoteRow| match &row.state {
            RemoteState::Present { version: Some(version), .. } => version.clone(),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&version(&rows[0]), &version(&rows[1])));
        assert_eq!(&*rows[1].id.key, "2");
    }
}
