//! What records were before: `history`, `diff`, `rounds` and `rollback`.

use serde_json::value::RawValue;
use tidelock::adapters::sqlite::{Difference, FieldChange, RoundView, VersionView};
use tidelock::handle::{ChangeKind, RecordChange};
use tidelock::{RollbackReport, RollbackRequest, RollbackTarget};

use super::access::Access;
use super::arguments::{Diff, Record, Rollback};
use super::failure::{Failure, IN_PART, USAGE};
use super::output::{Output, table, waiting_for};
use super::overview::name_of;

/// `history`
pub async fn history(access: &Access, record: &Record, output: Output) -> Result<(), Failure> {
    let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    output.print(&access.history(&record.collection, &record.id).await?, |versions| {
        let rows = versions.iter().map(|version| {
            let VersionView { id, since, until, origin, replaced_by, round, replaced_in_round, document, .. } = version;
            let (made, replaced) = (number(*round), number(*replaced_in_round));
            let who = [origin.clone(), made, replaced_by.clone(), replaced];
            let [origin, made, replaced_by, replaced] = who;
            [id.to_string(), since.clone(), until.clone(), origin, made, replaced_by, replaced, document.to_string()]
        });
        let heads = ["id", "from", "until", "made by", "in round", "replaced by", "in round", "document"];
        table(heads, rows.collect())
    })
}

/// `diff`
pub async fn diff(access: &Access, arguments: &Diff, output: Output) -> Result<(), Failure> {
    let Diff { collection, id, from, to } = arguments;
    output.print(&access.diff(collection, id, *from, *to).await?, |Difference { fields, .. }| {
        let rows = fields.iter().map(|FieldChange { field, before, after }| [field.clone(), side(before), side(after)]);
        if fields.is_empty() {
            "nothing differs".to_owned()
        } else {
            table(["field", "before", "after"], rows.collect())
        }
    })
}

fn side(value: &Option<Box<RawValue>>) -> String {
    value.as_ref().map_or_else(|| "(absent)".to_owned(), |value| value.get().to_owned())
}

/// `rounds`
pub async fn rounds(access: &Access, output: Output) -> Result<(), Failure> {
    output.print(&access.rounds().await?, |rounds| {
        let rows = rounds.iter().map(|RoundView { number, kind, at, records }| {
            [number.to_string(), name_of(kind), at.clone(), records.to_string()]
        });
        table(["round", "kind", "at", "records"], rows.collect())
    })
}

/// `rollback`: done in part where a record was left alone.
pub async fn roll_back(access: &Access, arguments: &Rollback, output: Output) -> Result<(), Failure> {
    let request = request(arguments)?;
    let report = waiting_for("rolling back", access.roll_back(request)).await?;
    output.print(&report, words)?;
    let is_whole = report.left.is_empty() || report.dry_run;
    if is_whole { Ok(()) } else { Err(Failure::silent(IN_PART)) }
}

fn request(arguments: &Rollback) -> Result<RollbackRequest, Failure> {
    Ok(match arguments {
        Rollback::Record { collection, id, version, to, dry_run } => {
            let (collection, key) = (collection.clone(), id.clone());
            let target = match (version, to) {
                (Some(version), _) => RollbackTarget::Version { collection, key, version: *version },
                (None, Some(to)) => RollbackTarget::Record { collection, key, to: *to },
                (None, None) => return Err(Failure::new(USAGE, "say what to go back to: a version, or --to TIME")),
            };
            RollbackRequest { target, dry_run: *dry_run }
        }
        Rollback::Round { round, collections, force, dry_run } => {
            let (number, collections) = (*round, collections.clone());
            RollbackRequest { target: RollbackTarget::Round { number, collections, force: *force }, dry_run: *dry_run }
        }
        Rollback::Collection { collections, to, dry_run } => RollbackRequest {
            target: RollbackTarget::Collections { names: collections.clone(), to: *to },
            dry_run: *dry_run,
        },
    })
}

fn words(report: &RollbackReport) -> String {
    let RollbackReport { number, dry_run, changed, records, left, .. } = report;
    let mut blocks = vec![match (number, dry_run) {
        (_, true) => format!("{} would change; nothing is written", counted(*changed)),
        (Some(number), false) => {
            format!("{} rolled back; take it back with: tidelock rollback round {number}", counted(*changed))
        }
        (None, false) => "nothing to roll back".to_owned(),
    }];
    let rows = records.iter().map(|RecordChange { collection, key, change, fields }| {
        [collection.clone(), key.clone(), name_of(change), changes(*change, fields)]
    });
    blocks.push(table(["collection", "key", "change", "fields"], rows.collect()));
    let more = changed.saturating_sub(records.len() as u64);
    if more > 0 {
        blocks.push(format!("and {} more", counted(more)));
    }
    if !left.is_empty() {
        let RollbackReport { unknown, changed_since, skipped, .. } = report;
        blocks.push(format!(
            "left alone: {unknown} of which nothing is kept from then, {changed_since} changed since (--force), \
             {skipped} that are only pulled"
        ));
        let rows = left.iter().map(|one| [one.collection.clone(), one.key.clone(), name_of(&one.why)]);
        blocks.push(table(["collection", "key", "why"], rows.collect()));
    }
    blocks.into_iter().filter(|block| !block.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn counted(records: u64) -> String {
    if records == 1 { "1 record".to_owned() } else { format!("{records} records") }
}

fn changes(change: ChangeKind, fields: &[FieldChange]) -> String {
    let told = fields.iter().map(|FieldChange { field, before, after }| match change {
        ChangeKind::Made => format!("{field}: {}", side(after)),
        ChangeKind::Deleted => format!("{field}: {}", side(before)),
        ChangeKind::Changed => format!("{field}: {} -> {}", side(before), side(after)),
    });
    told.collect::<Vec<_>>().join(", ")
}
