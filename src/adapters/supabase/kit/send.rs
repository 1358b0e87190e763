//! Pushing through the server kit: one request a batch, a verdict an operation, nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidelock_actors::document::{Document, entries};
use tidelock_actors::model::{Action, Fault, FaultKind, Outgoing, RemoteState, Verdict};
use tidelock_actors::ports::Pushed;

use super::changes::versioned;
use super::{Kit, VERSION, fault_of, stamp, transaction_of};
use crate::adapters::supabase::fault;
use crate::adapters::supabase::table::Table;

/// The kit's answer.
#[derive(Deserialize)]
struct Answer<'a> {
    epoch: String,
    version: String,
    alone: bool,
    /// A word an operation; a number stands for the one at that place of `shared`.
    #[serde(borrow)]
    verdicts: Vec<&'a RawValue>,
    #[serde(borrow)]
    shared: Vec<&'a RawValue>,
}

impl<'a> Answer<'a> {
    fn words(&self) -> Option<Vec<Word<'a>>> {
        let read = |word: &&'a RawValue| serde_json::from_str::<Word<'a>>(word.get()).ok();
        let shared: Vec<Word<'a>> = self.shared.iter().map(read).collect::<Option<_>>()?;
        let word = |verdict: &&'a RawValue| match verdict.get().parse::<usize>() {
            Ok(place) => shared.get(place).cloned(),
            Err(_) => read(verdict),
        };
        self.verdicts.iter().map(word).collect()
    }
}

/// What became of one operation.
#[derive(Clone, Deserialize)]
struct Word<'a> {
    verdict: &'a str,
    #[serde(default)]
    version: Option<&'a str>,
    #[serde(default)]
    again: bool,
    #[serde(borrow, default)]
    made: Option<&'a RawValue>,
    #[serde(borrow, default)]
    row: Option<&'a RawValue>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

/// Sends a batch. Where the server cannot take all of it at once, for the sake of one operation or of its size, halves
/// of it are sent, each with whole groups.
pub(super) async fn push(kit: &Kit, batch: &[Outgoing]) -> Pushed {
    let groups = groups(batch);
    let mut verdicts: Vec<Verdict> = batch.iter().map(|_| waits()).collect();
    let mut unknown = BTreeSet::new();
    for (at, outgoing) in batch.iter().enumerate() {
        if let Err(fault) = kit.plain.table(&outgoing.id.collection) {
            unknown.insert(groups[at]);
            verdicts[at] = Verdict::Failed(fault);
        }
    }
    let mut parts: Vec<Vec<usize>> = vec![(0..batch.len()).filter(|at| !unknown.contains(&groups[*at])).collect()];
    let mut is_again = batch.iter().any(|outgoing| outgoing.may_have_been_sent);
    while let Some(part) = parts.pop() {
        let some: Vec<_> = part.iter().map(|at| (groups[*at], &batch[*at])).collect();
        let sent = send(kit, &some, is_again).await;
        // What was in a request that failed may have taken effect.
        is_again = true;
        match sent {
            Ok(answered) => part.into_iter().zip(answered).for_each(|(at, verdict)| verdicts[at] = verdict),
            Err(fault) => match halves(&part, &groups).filter(|_| fault::may_concern_one_row(&fault)) {
                Some((first, second)) => parts.extend([second, first]),
                None if fault.concerns_everything() => {
                    let unsent = part.into_iter().chain(parts.drain(..).flatten());
                    unsent.for_each(|at| verdicts[at] = Verdict::Failed(fault.clone()));
                }
                None => part.into_iter().for_each(|at| verdicts[at] = Verdict::Failed(fault.clone())),
            },
        }
    }
    Pushed { verdicts }
}

/// Two parts with whole groups, if there is more than one.
fn halves(part: &[usize], groups: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let names: BTreeSet<usize> = part.iter().map(|at| groups[*at]).collect();
    let middle = *names.iter().nth(names.len() / 2)?;
    let halves = part.iter().partition(|at| groups[**at] < middle);
    (names.len() > 1).then_some(halves)
}

async fn send(kit: &Kit, part: &[(usize, &Outgoing)], again: bool) -> Result<Vec<Verdict>, Fault> {
    if part.is_empty() {
        return Ok(Vec::new());
    }
    let sent = kit.call("tidelock_push", body(kit, part, again)?).await?;
    let answer = serde_json::from_slice::<Answer<'_>>(&sent.body).ok();
    let (answer, words) = answer
        .and_then(|answer| answer.words().map(|words| (answer, words)))
        .filter(|(_, words)| words.len() == part.len())
        .ok_or_else(|| fault::not_json(sent.status, &sent.body))?;
    let is_known_whole = answer.alone && part.iter().all(|(_, outgoing)| kit.tells_all_of(outgoing));
    if is_known_whole && let Ok(transaction) = answer.version.parse() {
        kit.own(transaction);
    }
    let mut verdicts = Vec::with_capacity(part.len());
    let mut again: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
    for (at, ((_, outgoing), word)) in part.iter().zip(&words).enumerate() {
        if word.again && outgoing.action != Action::Delete {
            again.entry(outgoing.id.collection.clone()).or_default().push(at);
        }
        verdicts.push(verdict(kit.plain.table(&outgoing.id.collection)?, outgoing, word, &answer.epoch));
    }
    for (collection, places) in again {
        read_again(kit, part, &collection, &places, &mut verdicts).await;
    }
    Ok(verdicts)
}

/// What took effect at an earlier sending whose answer was lost: the row tells what the server made of it, if it is
/// still the one that came of it. Otherwise a pull tells what it has become since.
async fn read_again(
    kit: &Kit,
    part: &[(usize, &Outgoing)],
    collection: &Arc<str>,
    places: &[usize],
    verdicts: &mut [Verdict],
) {
    let keys = places.iter().map(|at| part[*at].1.id.key.clone()).collect();
    let rows = kit.fetch_rows(collection, keys).await.unwrap_or_default();
    for at in places {
        let Verdict::Applied { version: then, document } = &mut verdicts[*at] else { continue };
        match rows.iter().find(|row| row.id == part[*at].1.id).map(|row| &row.state) {
            Some(RemoteState::Present { document: row, version }) if version == then => *document = Some(row.clone()),
            Some(RemoteState::Present { .. } | RemoteState::Gone) | None => kit.compare(),
        }
    }
}

/// Nothing is wrong with it: it goes with a later round, when its transaction can.
fn waits() -> Verdict {
    let words = "another operation of its transaction has not taken effect";
    let code = Some("40001".to_owned());
    Verdict::Failed(Fault { code, ..Fault::new(FaultKind::Transient, words) })
}

fn verdict(table: &Table, outgoing: &Outgoing, word: &Word<'_>, epoch: &str) -> Verdict {
    match word.verdict {
        "applied" => applied(table, outgoing, word, epoch),
        "conflict" => Verdict::Conflict(match word.row {
            Some(row) => versioned(RemoteState::Present { document: declared(table, row), version: None }, epoch),
            None => RemoteState::Gone,
        }),
        "waits" => waits(),
        _ => {
            let body = json!({"code": word.code, "message": word.message, "details": word.detail, "hint": word.hint});
            Verdict::Failed(fault_of_text(&body.to_string()))
        }
    }
}

fn fault_of_text(text: &str) -> Fault {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => fault_of(raw),
        Err(_) => Fault::new(FaultKind::Doubtful, text),
    }
}

/// A row with no more than the columns that the collection declares.
fn declared(table: &Table, row: &RawValue) -> Document {
    let columns = &table.rules.columns;
    if columns.is_empty() {
        return table.names.localised(row);
    }
    let fields: Vec<_> = entries(row.get()).collect();
    let is_wanted = |name: &str| name == VERSION || name == table.key || columns.iter().any(|column| column == name);
    let wanted = fields.iter().filter(|(name, _)| is_wanted(name));
    Document::from_fields(wanted.filter_map(|(name, value)| Some((table.names.field(name)?, *value))))
}

/// The row is what was sent, laid over what it was made on, and under what the server made different. Under a filter a
/// pull tells it: whether the row belongs to the collection is for the server to say.
fn applied(table: &Table, outgoing: &Outgoing, word: &Word<'_>, epoch: &str) -> Verdict {
    let version = word.version.map(|transaction| stamp(epoch, transaction));
    let sent = match outgoing.action {
        Action::Create => Some(outgoing.patch.clone()),
        Action::Update => outgoing.base.as_ref().map(|base| base.overlaid(&outgoing.patch)),
        Action::Delete => None,
    };
    let made = word.made.map(|made| table.names.localised(made));
    let row = |sent: Document| made.as_ref().map_or(sent.clone(), |made| sent.overlaid(made));
    let document =
        sent.filter(|_| !word.again && table.rules.filter.is_none() && table.rules.columns.is_empty()).map(row);
    Verdict::Applied { version, document }
}

impl Kit {
    /// Whether the answer tells everything about the row, so that no pull has to bring it.
    fn tells_all_of(&self, outgoing: &Outgoing) -> bool {
        let shares = |table: &Table| {
            self.plain.tables.values().filter(|other| other.rules.table == table.rules.table).count() > 1
        };
        let is_plain = |table: &Table| table.rules.filter.is_none() && table.rules.columns.is_empty() && !shares(table);
        self.plain.table(&outgoing.id.collection).is_ok_and(is_plain)
            && (outgoing.action != Action::Update || outgoing.base.is_some())
    }
}

fn body(kit: &Kit, part: &[(usize, &Outgoing)], again: bool) -> Result<String, Fault> {
    let text = |value: &str| json!(value).to_string();
    let mut body = format!(
        r#"{{"client":{},"epoch":{},"server":{},"seen":{},"again":{again},"batch":["#,
        text(&kit.identity.client),
        text(&kit.identity.epoch),
        json!(kit.epoch()),
        json!(kit.seen().map(|transaction| transaction.to_string())),
    );
    let epoch = kit.epoch();
    let mut first_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut first: Option<(&str, Action)> = None;
    for (at, (group, outgoing)) in part.iter().enumerate() {
        let (table, action) = (kit.plain.table(&outgoing.id.collection)?, outgoing.action);
        let separator = if at == 0 { "" } else { "," };
        let _ = write!(body, r#"{separator}{{"key":{},"covers":{}"#, text(&outgoing.id.key), json!(outgoing.covers));
        // What goes without saying is not said.
        let group = *first_of.entry(*group).or_insert(at);
        if group != at {
            let _ = write!(body, r#","group":{group}"#);
        }
        if first.is_none_or(|(name, _)| name != table.rules.table.as_str()) {
            let _ = write!(body, r#","table":{}"#, text(&table.rules.table));
        }
        if first.is_none_or(|(_, usual)| usual != action) {
            let _ = write!(body, r#","action":{}"#, json!(action));
        }
        first.get_or_insert((&table.rules.table, action));
        if action != Action::Delete {
            let _ = write!(body, r#","set":{}"#, table.names.delocalised(&outgoing.patch));
        }
        // A version of the plain mode's, or of another database, is none here: the server's row decides.
        let base = outgoing.base_version.as_deref().and_then(|base| transaction_of(base, epoch.as_deref()?));
        if let Some(base) = base {
            let _ = write!(body, r#","base":{}"#, text(base));
        }
        body.push('}');
    }
    body.push_str("]}");
    Ok(body)
}

/// Operations that have to take effect together have one number: those of a transaction, and those of all transactions
/// that changed one record, since they are sent as one.
fn groups(batch: &[Outgoing]) -> Vec<usize> {
    let mut leader: Vec<usize> = (0..batch.len()).collect();
    let mut first_of: BTreeMap<i64, usize> = BTreeMap::new();
    for (at, outgoing) in batch.iter().enumerate() {
        for transaction in &outgoing.transactions {
            let first = *first_of.entry(*transaction).or_insert(at);
            let (a, b) = (root(&leader, first), root(&leader, at));
            leader[a.max(b)] = a.min(b);
        }
    }
    (0..batch.len()).map(|at| root(&leader, at)).collect()
}

fn root(leader: &[usize], mut at: usize) -> usize {
    while leader[at] != at {
        at = leader[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelock_actors::model::RecordId;

    fn outgoing(transactions: &[i64]) -> Outgoing {
        Outgoing {
            covers: transactions.to_vec(),
            transactions: transactions.to_vec(),
            id: RecordId::new("notes", "a"),
            action: Action::Update,
            patch: Document::empty(),
            base: None,
            base_version: None,
            attempts: 0,
            may_have_been_sent: false,
        }
    }

    #[test]
    fn transactions_that_share_an_operation_go_together() {
        let batch: Vec<_> = [&[1][..], &[2], &[1, 3], &[4], &[5], &[3, 4]].into_iter().map(outgoing).collect();
        assert_eq!(groups(&batch), [0, 1, 0, 0, 4, 0]);
        assert_eq!(groups(&[]), [0; 0]);
    }
}
