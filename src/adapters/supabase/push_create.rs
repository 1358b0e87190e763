//! Creating rows: bulk inserts that leave alone what is there already. Rows that do not come back are looked at:
//! the same row is an earlier attempt's, another one is a conflict, and none is a denial.

use std::borrow::Cow;
use std::collections::HashMap;

use reqwest::Method;
use tidelock_actors::limits;
use tidelock_actors::model::{Fault, Verdict, Version};

use super::bisect::bisect;
use super::columns::{self, field_names};
use super::fault;
use super::push::{Desk, Job, Verdicts, all_failed};
use super::read_again::{Rows, read_again};
use super::request_line::{Query, identifiers};

/// Rows in one insert. Larger batches go in several at once: the server reads one while it stores another.
const ROWS_IN_ONE_INSERT: usize = 500;
const INSERT: &str = "resolution=ignore-duplicates,return=representation";

/// Creates all of these, and tells of each.
pub(super) async fn create(desk: &Desk<'_>, jobs: &[Job<'_>]) -> Verdicts {
    let rows: Vec<String> = jobs.iter().map(|job| body(desk, job)).collect();
    let mut verdicts = Vec::with_capacity(jobs.len());
    let mut left = insert_all(desk, jobs, &rows, (0..jobs.len()).collect(), &mut verdicts).await;
    // A row that was neither inserted nor seen may have been deleted in between: it is tried once more.
    for is_last in [false, true] {
        if left.is_empty() {
            break;
        }
        let unseen = look_at(desk, jobs, &left, &mut verdicts).await;
        left = if is_last {
            verdicts.extend(unseen.iter().map(|job| (jobs[*job].at, Verdict::Failed(neither_inserted_nor_seen()))));
            Vec::new()
        } else {
            insert_all(desk, jobs, &rows, unseen, &mut verdicts).await
        };
    }
    verdicts
}

fn neither_inserted_nor_seen() -> Fault {
    fault::denied("the row exists but may not be seen, or the insert was denied")
}

/// Inserts these; what neither came back nor failed is left over.
async fn insert_all(
    desk: &Desk<'_>,
    jobs: &[Job<'_>],
    rows: &[String],
    wanted: Vec<usize>,
    verdicts: &mut Verdicts,
) -> Vec<usize> {
    let mut left = Vec::new();
    for (columns, group) in groups(desk, jobs, wanted) {
        let told = bisect(parts(&group, rows), |part| insert(desk, &columns, jobs, rows, part)).await;
        for (part, answer) in told {
            match answer {
                Err(fault) => verdicts.extend(all_failed(part.iter().map(|job| &jobs[*job]), &fault)),
                Ok(mut inserted) => {
                    for &job in part {
                        match inserted.remove(jobs[job].key) {
                            Some(version) => {
                                verdicts.push((jobs[job].at, Verdict::Applied { version, document: None }))
                            }
                            None => left.push(job),
                        }
                    }
                }
            }
        }
    }
    left
}

/// One bulk insert. The rows that were inserted come back with their versions.
async fn insert(
    desk: &Desk<'_>,
    columns: &str,
    jobs: &[Job<'_>],
    rows: &[String],
    part: &[usize],
) -> Result<HashMap<String, Option<Version>>, Fault> {
    let table = desk.table;
    let query = Query::default()
        .with("on_conflict", &identifiers([table.key.as_str()]))
        .with("select", &table.stamps(desk.version));
    // All rows of a part have the same columns, so naming them only spares the server looking.
    let named = format!("columns={columns}");
    let query = if named.len() <= query.room(&table.path) { query.with_filter(&named) } else { query };
    let bytes = part.iter().map(|job| rows[*job].len() + 1).sum::<usize>();
    let mut body = String::with_capacity(bytes + 2);
    for (at, job) in part.iter().enumerate() {
        body.push(if at == 0 { '[' } else { ',' });
        body.push_str(&rows[*job]);
    }
    body.push(']');
    let question = table.write(Method::POST, &query, INSERT, Some(body));
    desk.write(question, part.iter().map(|job| jobs[*job].key)).await
}

/// Tells of rows that were not inserted, by what the server has in their place; those that it does not show are left.
async fn look_at(desk: &Desk<'_>, jobs: &[Job<'_>], left: &[usize], verdicts: &mut Verdicts) -> Vec<usize> {
    match read_in_place(desk, left.iter().map(|job| &jobs[*job])).await {
        Err(fault) => {
            verdicts.extend(all_failed(left.iter().map(|job| &jobs[*job]), &fault));
            Vec::new()
        }
        Ok(mut rows) => {
            let mut unseen = Vec::new();
            for &job in left {
                match rows.remove(jobs[job].key) {
                    None => unseen.push(job),
                    Some(seen) => {
                        let is_ours = desk.table.comparable(jobs[job].patch, desk.version).is_within(&seen.document);
                        let verdict = if is_ours { desk.already(seen) } else { Verdict::Conflict(seen.into()) };
                        verdicts.push((jobs[job].at, verdict));
                    }
                }
            }
            unseen
        }
    }
}

/// The server's rows at these operations' keys, with every column that the operations set or were made on; the
/// collection's filter does not narrow what is there.
pub(super) async fn read_in_place<'a>(
    desk: &Desk<'_>,
    jobs: impl Iterator<Item = &'a Job<'a>> + Clone,
) -> Result<Rows, Fault> {
    let fields: Vec<Cow<'_, str>> = if desk.table.rules.columns.is_empty() {
        Vec::new()
    } else {
        let known = |job: &'a Job<'a>| [Some(job.patch), job.base.as_deref()].into_iter().flatten();
        jobs.clone().flat_map(known).flat_map(field_names).collect()
    };
    let set = fields.iter().map(|field| desk.table.names.column(field));
    let selection = desk.table.selection(desk.version, set);
    let keys: Vec<&str> = jobs.map(|job| job.key).collect();
    read_again(desk.gate, desk.table, &selection, "", &keys).await
}

/// The row as the server is to have it: exactly what was saved, and its key.
fn body(desk: &Desk<'_>, job: &Job<'_>) -> String {
    let table = desk.table;
    let names_its_key = columns::names_field(job.patch, &table.rules.key);
    if names_its_key {
        return table.names.delocalised(job.patch).into_owned();
    }
    table.names.delocalised(&job.patch.with_string(&table.rules.key, job.key)).into_owned()
}

/// Rows by the columns that they name, in order of first appearance; PostgREST wants them alike in one request.
fn groups(desk: &Desk<'_>, jobs: &[Job<'_>], wanted: Vec<usize>) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(Vec<Cow<'_, str>>, Vec<usize>)> = Vec::new();
    for job in wanted {
        let names = field_names(jobs[job].patch);
        match groups.iter_mut().rev().find(|(known, _)| *known == names) {
            Some((_, group)) => group.push(job),
            None => groups.push((names, vec![job])),
        }
    }
    groups.into_iter().map(|(names, group)| (column_list(desk, &names), group)).collect()
}

fn column_list(desk: &Desk<'_>, fields: &[Cow<'_, str>]) -> String {
    let table = desk.table;
    let mut columns: Vec<&str> = fields.iter().map(|field| table.names.column(field)).collect();
    if !columns.contains(&table.key.as_str()) {
        columns.push(&table.key);
    }
    identifiers(columns)
}

/// Cuts a group where one request would grow too large.
fn parts<'g>(group: &'g [usize], rows: &[String]) -> Vec<&'g [usize]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, job) in group.iter().enumerate() {
        let more = rows[*job].len() + 1;
        let is_full = at - start == ROWS_IN_ONE_INSERT || bytes + more > limits::BATCH_BYTES;
        if is_full && at > start {
            parts.push(&group[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    if start < group.len() {
        parts.push(&group[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use tidelock_actors::document::Document;

    use super::super::testing::{rules, table};
    use super::super::{Plain, gate::Gate, table::Table, testing::options};
    use super::*;

    fn told<T>(table: &Table, patches: &[&str], ask: impl Fn(&Desk<'_>, &[Job<'_>]) -> T) -> T {
        let plain = Plain::new(options(vec![])).unwrap();
        let gate = Gate::new(&plain.link);
        let documents: Vec<Document> = patches.iter().map(|patch| Document::parse(patch).unwrap()).collect();
        let jobs: Vec<Job<'_>> = documents
            .iter()
            .enumerate()
            .map(|(at, patch)| Job { at, key: "k", patch, base: None, base_version: None })
            .collect();
        ask(&Desk { gate: &gate, table, version: Some("updated_at") }, &jobs)
    }

    #[test]
    fn h41_a_row_is_sent_as_it_was_saved() {
        let text = r#"{"id":"k","n":9223372036854775807,"m":12345678901234567890123456.0123456789,"t":"é"}"#;
        let body = told(&table(rules("notes")), &[text], |desk, jobs| body(desk, &jobs[0]));
        assert_eq!(body, text);
    }

    #[test]
    fn a_row_that_does_not_name_its_key_gets_it() {
        let mut rules = rules("notes");
        rules.fields = [("id".to_owned(), "note_id".to_owned())].into();
        let (body, groups) =
            told(&table(rules), &[r#"{"a":1.50}"#], |desk, jobs| (body(desk, &jobs[0]), groups(desk, jobs, vec![0])));
        assert_eq!(body, r#"{"a":1.50,"note_id":"k"}"#);
        assert_eq!(groups, [("a,note_id".to_owned(), vec![0])]);
    }

    #[test]
    fn rows_travel_with_those_that_name_the_same_columns() {
        let patches = [r#"{"id":1,"a":1}"#, r#"{"id":2}"#, r#"{"a":2,"id":3}"#, r#"{"id":4}"#];
        let groups = told(&table(rules("notes")), &patches, |desk, jobs| groups(desk, jobs, vec![0, 1, 2, 3]));
        assert_eq!(groups, [("a,id".to_owned(), vec![0, 2]), ("id".to_owned(), vec![1, 3])]);
    }

    #[test]
    fn h20_an_insert_is_cut_by_rows_and_by_bytes() {
        for (count, cut) in [(0, 0), (499, 1), (500, 1), (501, 2), (1_000, 2), (1_001, 3)] {
            let group: Vec<usize> = (0..count).collect();
            let rows = vec!["{}".to_owned(); count];
            let parts = parts(&group, &rows);
            assert_eq!(parts.len(), cut, "{count} rows");
            assert_eq!(parts.concat(), group);
        }
        let rows =
            vec!["x".repeat(limits::BATCH_BYTES / 2), "x".into(), "x".repeat(2 * limits::BATCH_BYTES), "x".into()];
        assert_eq!(parts(&[0, 1, 2, 3], &rows), [&[0, 1][..], &[2], &[3]]);
    }
}
