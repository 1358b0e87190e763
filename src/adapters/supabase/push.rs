//! Pushing a batch: in order, in as few requests as keep the order, a verdict for every operation.
//!
//! The batch is cut into stretches of one collection and one action, and before a record comes up a second time; a
//! stretch is over before the next one begins.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, FaultKind, Outgoing, RecordId, Verdict, Version};
use tidelock_actors::ports::Pushed;

use super::gate::Gate;
use super::http::Question;
use super::kit::STAMP;
use super::read_again::Seen;
use super::spelling::Asked;
use super::table::Table;
use super::{Plain, columns, fault, push_create, push_delete, push_update};

/// One operation at the moment of sending.
pub(super) struct Job<'a> {
    /// Its place in the batch.
    pub at: usize,
    /// The record's key.
    pub key: &'a str,
    /// The fields it sets.
    pub patch: &'a Document,
    /// The server's row that it was made on, after what this batch did to it already.
    pub base: Option<Cow<'a, Document>>,
    /// That row's version.
    pub base_version: Option<Version>,
}

/// What a stretch is sent with.
pub(super) struct Desk<'a> {
    pub gate: &'a Gate<'a>,
    pub table: &'a Table,
    /// The version column, where the server has it.
    pub version: Option<&'a str>,
}

impl Desk<'_> {
    /// Sends a write. The rows that it met come back by key, in the spelling that is asked for, with their versions.
    pub async fn write<'k>(
        &self,
        question: Question<'_>,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<HashMap<String, Option<Version>>, Fault> {
        let answer = self.gate.send(self.table, question).await?;
        let rows = columns::rows(&answer.body, &self.table.key, self.version)
            .map_err(|_| fault::not_json(answer.status, &answer.body))?;
        let asked = Asked::new(keys);
        let met = rows.into_iter().map(|row| (asked.spelling(&row.key).to_owned(), row.version.map(Version::from)));
        Ok(met.collect())
    }

    /// The verdict on a change that the row already has. Whether the row matches the collection's filter is not known:
    /// where there is one, the row itself is left for a pull to tell, and its version with it: somebody else's change
    /// may be part of it.
    pub fn already(&self, seen: Seen) -> Verdict {
        match &self.table.rules.filter {
            None => Verdict::Applied { version: seen.version, document: Some(seen.document) },
            Some(_) => Verdict::Applied { version: None, document: None },
        }
    }
}

/// The verdicts of a stretch, each with its operation's place in the batch.
pub(super) type Verdicts = Vec<(usize, Verdict)>;

/// Sends a batch.
pub(super) async fn push(plain: &Plain, batch: &[Outgoing]) -> Pushed {
    let gate = Gate::new(&plain.link);
    let mut verdicts: Vec<Option<Verdict>> = vec![None; batch.len()];
    let mut newest: HashMap<&RecordId, usize> = HashMap::new();
    for stretch in stretches(batch) {
        let mut jobs = Vec::with_capacity(stretch.len());
        for at in stretch.clone() {
            match job(batch, at, newest.insert(&batch[at].id, at), &verdicts) {
                Ok(job) => jobs.push(job),
                Err(fault) => verdicts[at] = Some(Verdict::Failed(fault)),
            }
        }
        let first = &batch[stretch.start];
        for (at, verdict) in send(plain, &gate, &first.id.collection, first.action, &jobs).await {
            verdicts[at] = Some(verdict);
        }
    }
    let unknown = || Verdict::Failed(Fault::new(FaultKind::Transient, "the outcome is not known"));
    Pushed { verdicts: verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(unknown)).collect() }
}

async fn send(plain: &Plain, gate: &Gate<'_>, collection: &str, action: Action, jobs: &[Job<'_>]) -> Verdicts {
    let desk = async {
        let table = plain.table(collection)?;
        Ok(Desk { gate, table, version: gate.version(table).await? })
    };
    match desk.await {
        Err(fault) => all_failed(jobs.iter(), &fault),
        Ok(desk) => match action {
            Action::Create => push_create::create(&desk, jobs).await,
            Action::Update => push_update::update(&desk, jobs).await,
            Action::Delete => push_delete::delete(&desk, jobs).await,
        },
    }
}

/// The same fault for all of these.
pub(super) fn all_failed<'a>(jobs: impl IntoIterator<Item = &'a Job<'a>>, fault: &Fault) -> Verdicts {
    jobs.into_iter().map(|job| (job.at, Verdict::Failed(fault.clone()))).collect()
}

/// Cuts the batch where the collection or the action changes, and before a record comes up again.
fn stretches(batch: &[Outgoing]) -> Vec<Range<usize>> {
    let mut cut = Vec::new();
    let mut start = 0;
    let mut seen = HashSet::new();
    for (at, operation) in batch.iter().enumerate() {
        let first = &batch[start];
        let fits = first.id.collection == operation.id.collection && first.action == operation.action;
        if !fits || seen.contains(&operation.id.key) {
            cut.push(start..at);
            start = at;
            seen.clear();
        }
        seen.insert(&operation.id.key);
    }
    if start < batch.len() {
        cut.push(start..batch.len());
    }
    cut
}

/// What is to be sent. An operation whose record came up earlier in this batch stands on what that one left behind,
/// and waits where that one has not taken effect.
fn job<'a>(
    batch: &'a [Outgoing],
    at: usize,
    earlier: Option<usize>,
    verdicts: &[Option<Verdict>],
) -> Result<Job<'a>, Fault> {
    let operation = &batch[at];
    let (base, base_version) = match earlier {
        None => {
            // A version that the server kit gave says nothing here: the fields decide.
            let version = operation.base_version.clone().filter(|version| !version.starts_with(STAMP));
            (operation.base.as_ref().map(Cow::Borrowed), version)
        }
        Some(earlier) => match &verdicts[earlier] {
            Some(Verdict::Applied { version, document }) => {
                let before = &batch[earlier];
                let base = document.clone().unwrap_or_else(|| match &before.base {
                    Some(base) => base.overlaid(&before.patch),
                    None => before.patch.clone(),
                });
                (Some(Cow::Owned(base)), version.clone())
            }
            Some(Verdict::Failed(fault)) if matches!(fault.kind, FaultKind::Transient | FaultKind::Unauthorized) => {
                return Err(fault.clone());
            }
            Some(Verdict::Conflict(_) | Verdict::Failed(_)) | None => {
                return Err(Fault::new(FaultKind::Ordering, "an earlier change of this record has not taken effect"));
            }
        },
    };
    Ok(Job { at, key: &operation.id.key, patch: &operation.patch, base, base_version })
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn operation(collection: &str, key: &str, action: Action) -> Outgoing {
        Outgoing {
            covers: vec![],
            transactions: vec![],
            id: RecordId::new(collection, key),
            action,
            patch: Document::parse(r#"{"a":2}"#).unwrap(),
            base: Some(Document::parse(r#"{"a":1,"b":1}"#).unwrap()),
            base_version: Some("v1".into()),
            attempts: 0,
            may_have_been_sent: false,
        }
    }

    #[test]
    fn a_stretch_ends_where_collection_action_or_record_asks_for_it() {
        let batch = [
            operation("a", "1", Action::Create),
            operation("a", "2", Action::Create),
            operation("b", "1", Action::Create),
            operation("a", "3", Action::Create),
            operation("a", "1", Action::Update),
            operation("a", "2", Action::Update),
            operation("a", "1", Action::Update),
        ];
        assert_eq!(stretches(&batch), [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert!(stretches(&[]).is_empty());
    }

    #[test]
    fn under_a_filter_a_row_that_is_there_already_tells_neither_its_fields_nor_its_version() {
        let plain = Plain::new(testing::options(vec![])).unwrap();
        let gate = Gate::new(&plain.link);
        let told = |filter: Option<&str>| {
            let mut rules = testing::rules("notes");
            rules.filter = filter.map(str::to_owned);
            let table = testing::table(rules);
            let document = Document::parse(r#"{"a":2,"theirs":5}"#).unwrap();
            let seen = Seen { version: Some("v3".into()), document };
            match (Desk { gate: &gate, table: &table, version: Some("updated_at") }).already(seen) {
                Verdict::Applied { version, document } => (version.is_some(), document.is_some()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(None), (true, true));
        assert_eq!(told(Some("a=eq.1")), (false, false), "what another device changed meanwhile would be overwritten");
    }

    #[test]
    fn a_second_change_stands_on_what_the_first_left_behind() {
        let batch = [operation("a", "1", Action::Update), operation("a", "1", Action::Update)];
        let applied = Some(Verdict::Applied { version: Some("v2".into()), document: None });
        let told = job(&batch, 1, Some(0), &[applied, None]).unwrap();
        assert_eq!(told.base_version.as_deref(), Some("v2"));
        assert_eq!(told.base.unwrap().as_str(), r#"{"a":2,"b":1}"#);
    }

    #[test]
    fn a_second_change_waits_for_a_first_that_has_no_effect() {
        let batch = [operation("a", "1", Action::Update), operation("a", "1", Action::Update)];
        for (kind, expected) in [
            (FaultKind::Refused, FaultKind::Ordering),
            (FaultKind::Transient, FaultKind::Transient),
            (FaultKind::Unauthorized, FaultKind::Unauthorized),
        ] {
            let failed = Some(Verdict::Failed(Fault::new(kind, "no")));
            assert_eq!(job(&batch, 1, Some(0), &[failed, None]).err().unwrap().kind, expected);
        }
    }
}
