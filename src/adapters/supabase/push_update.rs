//! Updating rows: conditional on the version that the change was made on. Where there is none, the row is read first
//! and compared with the base.

use tidelock_actors::document::{Document, same_value, unquoted};
use tidelock_actors::model::{Action, RemoteState, Verdict};

use super::push::{Desk, Job, Verdicts};
use super::push_change::{Attempt, Tie, is_there_already, read_and_compare, send};
use super::read_again::Seen;
use super::request_line::{condition, identifiers};

/// Bytes of a value that is worth a condition.
const SHORT_VALUE_BYTES: usize = 64;
/// Bytes that conditions on values may take of a request line.
const CONDITIONS_BYTES: usize = 1_500;

/// Updates all of these, and tells of each.
pub(super) async fn update(desk: &Desk<'_>, jobs: &[Job<'_>]) -> Verdicts {
    let (mut attempts, mut compared) = (Vec::new(), Vec::new());
    for job in jobs {
        match (desk.version, &job.base_version) {
            (Some(_), Some(version)) => attempts.push(Attempt { job, tie: Tie::Version(version.clone()), seen: None }),
            (Some(_) | None, _) => compared.push(job),
        }
    }
    let mut verdicts = read_and_compare(desk, &compared, &mut attempts, compare).await;
    verdicts.extend(send(desk, Action::Update, &attempts).await);
    verdicts
}

/// Compares the row with what the change was made on: a verdict at once, or what to send.
fn compare<'a>(desk: &Desk<'_>, job: &'a Job<'a>, row: Option<Seen>) -> Result<Attempt<'a>, Verdict> {
    let Some(row) = row else { return Err(Verdict::Conflict(RemoteState::Gone)) };
    if is_there_already(desk, job, &row) {
        return Err(desk.already(row));
    }
    let sent = desk.table.comparable(job.patch, desk.version);
    if job.base.as_ref().is_some_and(|base| is_overtaken(&sent, base, &row.document)) {
        return Err(Verdict::Conflict(row.into()));
    }
    let tie = match &row.version {
        Some(version) => Tie::Version(version.clone()),
        None => field_tie(desk, &sent, &row.document),
    };
    Ok(Attempt { job, tie, seen: Some(row.document) })
}

/// Whether a field that the change sets is no longer what it was made on.
fn is_overtaken(sent: &Document, base: &Document, row: &Document) -> bool {
    let (base, row) = (base.fields(), row.fields());
    sent.fields().names().any(|name| match (base.get(name), row.get(name)) {
        (Some(before), Some(now)) => !same_value(before, now),
        // A field that the base did not have was empty as far as anybody knew.
        (None, Some(now)) => now != "null",
        (_, None) => false,
    })
}

/// Ties to the values just read of the fields that are set, as far as they are short and simple.
fn field_tie(desk: &Desk<'_>, sent: &Document, row: &Document) -> Tie {
    let row = row.fields();
    let mut conditions = String::new();
    for name in sent.fields().names() {
        let Some(more) = row.get(name).and_then(|value| value_is(desk.table.names.column(name), value)) else {
            continue;
        };
        if conditions.len() + more.len() < CONDITIONS_BYTES {
            if !conditions.is_empty() {
                conditions.push('&');
            }
            conditions.push_str(&more);
        }
    }
    if conditions.is_empty() { Tie::Nothing } else { Tie::Fields(conditions) }
}

/// The condition that a column still has this value, if the value is one that a condition can say.
fn value_is(column: &str, value: &str) -> Option<String> {
    match value.as_bytes() {
        [b'n', ..] => Some(format!("{}=is.null", identifiers([column]))),
        [b'{' | b'[', ..] => None,
        text if text.len() > SHORT_VALUE_BYTES => None,
        _ => Some(condition(column, "eq", &unquoted(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Gate;
    use super::super::testing::{options, rules, table};
    use super::super::{Plain, columns};
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text).unwrap()
    }

    /// Compares `patch` on `base` with the server's `row` in a table without versions.
    fn compared(patch: &str, base: Option<&str>, row: Option<&str>) -> Result<Tie, Verdict> {
        let plain = Plain::new(options(vec![])).unwrap();
        let table = table(rules("notes"));
        let gate = Gate::new(&plain.link);
        let desk = Desk { gate: &gate, table: &table, version: None };
        let patch = document(patch);
        let base = base.map(|base| std::borrow::Cow::Owned(document(base)));
        let job = Job { at: 0, key: "k", patch: &patch, base, base_version: None };
        let row = row.map(|row| Seen { version: None, document: document(row) });
        compare(&desk, &job, row).map(|attempt| attempt.tie)
    }

    #[test]
    fn an_update_without_a_version_is_tied_to_the_fields_it_changes() {
        for (row, tie) in [
            (r#"{"a":1.50,"b":2}"#, Tie::Fields("a=eq.1.50".into())),
            (r#"{"a":"x,y \"z\"","b":2}"#, Tie::Fields("a=eq.x,y%20%22z%22".into())),
            (r#"{"a":null}"#, Tie::Fields("a=is.null".into())),
            (r#"{"a":{"deep":1}}"#, Tie::Nothing),
            (&format!(r#"{{"a":"{}"}}"#, "long".repeat(40)), Tie::Nothing),
        ] {
            assert_eq!(compared(r#"{"a":9}"#, Some(row), Some(row)), Ok(tie), "{row}");
            assert!(compared(r#"{"a":9}"#, None, Some(row)).is_ok(), "nothing to compare with");
        }
    }

    #[test]
    fn a_field_that_somebody_else_changed_is_a_conflict_and_another_field_is_not() {
        let base = Some(r#"{"a":1,"b":1}"#);
        assert!(matches!(compared(r#"{"a":9}"#, base, Some(r#"{"a":2,"b":1}"#)), Err(Verdict::Conflict(_))));
        assert!(compared(r#"{"a":9}"#, base, Some(r#"{"a":1,"b":2}"#)).is_ok());
        assert_eq!(compared(r#"{"a":9}"#, base, None), Err(Verdict::Conflict(RemoteState::Gone)));
        assert!(matches!(compared(r#"{"c":9}"#, base, Some(r#"{"a":1,"c":3}"#)), Err(Verdict::Conflict(_))));
        assert!(compared(r#"{"c":9}"#, base, Some(r#"{"a":1,"c":null}"#)).is_ok());
    }

    #[test]
    fn h23_what_is_there_already_is_applied() {
        let told = compared(r#"{"a":9}"#, Some(r#"{"a":1}"#), Some(r#"{"a":9.0,"b":3}"#));
        assert!(matches!(told, Err(Verdict::Applied { document: Some(_), .. })));
    }

    #[test]
    fn a_condition_takes_the_value_as_the_server_wrote_it() {
        let body = br#"[{"id":"a\"b"}]"#;
        let row = columns::rows(body, "id", None).unwrap();
        assert_eq!(condition("id", "eq", &row[0].key), "id=eq.a%22b");
    }
}
