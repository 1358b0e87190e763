//! Pushing through the server kit: one request a batch, a verdict an operation, nothing twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, FaultKind, Outgoing, RemoteState, Verdict, Version};
use tidelock_actors::ports::Pushed;

use super::changes::versioned;
use super::{Kit, fault_of};
use crate::adapters::supabase::fault;
use crate::adapters::supabase::table::Table;

/// The kit's answer.
#[derive(Deserialize)]
struct Answer<'a> {
    version: String,
    alone: bool,
    #[serde(borrow)]
    verdicts: Vec<Word<'a>>,
}

/// What became of one operation.
#[derive(Deserialize)]
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

/// Sends a batch.
pub(super) async fn push(kit: &Kit, batch: &[Outgoing]) -> Pushed {
    match send(kit, batch).await {
        Ok(verdicts) => Pushed { verdicts },
        Err(fault) => Pushed { verdicts: vec![Verdict::Failed(fault); batch.len()] },
    }
}

async fn send(kit: &Kit, batch: &[Outgoing]) -> Result<Vec<Verdict>, Fault> {
    let sent = kit.call("tidelock_push", body(kit, batch)?).await?;
    let answer: Answer<'_> = serde_json::from_slice(&sent.body)
        .ok()
        .filter(|answer: &Answer<'_>| answer.verdicts.len() == batch.len())
        .ok_or_else(|| fault::not_json(sent.status, &sent.body))?;
    let is_known_whole = answer.alone && batch.iter().all(|outgoing| kit.tells_all_of(outgoing));
    if is_known_whole && let Ok(transaction) = answer.version.parse() {
        kit.own(transaction);
    }
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut again: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
    for (at, (outgoing, word)) in batch.iter().zip(&answer.verdicts).enumerate() {
        if word.again && outgoing.action != Action::Delete {
            again.entry(outgoing.id.collection.clone()).or_default().push(at);
        }
        verdicts.push(verdict(kit.plain.table(&outgoing.id.collection)?, outgoing, word));
    }
    for (collection, places) in again {
        read_again(kit, batch, &collection, &places, &mut verdicts).await?;
    }
    Ok(verdicts)
}

/// What took effect at an earlier sending whose answer was lost: the row tells what the server made of it.
async fn read_again(
    kit: &Kit,
    batch: &[Outgoing],
    collection: &Arc<str>,
    places: &[usize],
    verdicts: &mut [Verdict],
) -> Result<(), Fault> {
    let keys = places.iter().map(|at| batch[*at].id.key.clone()).collect();
    let rows = kit.fetch_rows(collection, keys).await?;
    for at in places {
        let row = rows.iter().find(|row| row.id == batch[*at].id);
        if let Some(RemoteState::Present { document, version }) = row.map(|row| &row.state) {
            verdicts[*at] = Verdict::Applied { version: version.clone(), document: Some(document.clone()) };
        }
    }
    Ok(())
}

fn verdict(table: &Table, outgoing: &Outgoing, word: &Word<'_>) -> Verdict {
    match word.verdict {
        "applied" => applied(table, outgoing, word),
        "conflict" => Verdict::Conflict(match word.row {
            Some(row) => versioned(RemoteState::Present { document: table.names.localised(row), version: None }),
            None => RemoteState::Gone,
        }),
        // Nothing is wrong with it: it goes with the next round, when its transaction can.
        "waits" => {
            let words = "another operation of its transaction has not taken effect";
            let code = Some("40001".to_owned());
            Verdict::Failed(Fault { code, ..Fault::new(FaultKind::Transient, words) })
        }
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

/// The row is what was sent, laid over what it was made on, and under what the server made different. Under a filter a
/// pull tells it: whether the row belongs to the collection is for the server to say.
fn applied(table: &Table, outgoing: &Outgoing, word: &Word<'_>) -> Verdict {
    let version = word.version.map(Version::from);
    let sent = match outgoing.action {
        Action::Create => Some(outgoing.patch.clone()),
        Action::Update => outgoing.base.as_ref().map(|base| base.overlaid(&outgoing.patch)),
        Action::Delete => None,
    };
    let made = word.made.map(|made| table.names.localised(made));
    let row = |sent: Document| made.as_ref().map_or(sent.clone(), |made| sent.overlaid(made));
    let document = sent.filter(|_| table.rules.filter.is_none() && table.rules.columns.is_empty()).map(row);
    Verdict::Applied { version, document }
}

impl Kit {
    /// Whether the answer tells everything about the row, so that no pull has to bring it.
    fn tells_all_of(&self, outgoing: &Outgoing) -> bool {
        let is_plain = |table: &Table| table.rules.filter.is_none() && table.rules.columns.is_empty();
        self.plain.table(&outgoing.id.collection).is_ok_and(is_plain)
            && (outgoing.action != Action::Update || outgoing.base.is_some())
    }
}

fn body(kit: &Kit, batch: &[Outgoing]) -> Result<String, Fault> {
    let text = |value: &str| json!(value).to_string();
    let mut body = format!(
        r#"{{"client":{},"epoch":{},"server":{},"batch":["#,
        text(&kit.identity.client),
        text(&kit.identity.epoch),
        json!(kit.epoch()),
    );
    for (at, (outgoing, group)) in batch.iter().zip(groups(batch)).enumerate() {
        let table = kit.plain.table(&outgoing.id.collection)?;
        let action = match outgoing.action {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        };
        let _ = write!(
            body,
            r#"{}{{"group":{group},"table":{},"action":"{action}","key":{},"covers":{}"#,
            if at == 0 { "" } else { "," },
            text(&table.rules.table),
            text(&outgoing.id.key),
            json!(outgoing.covers),
        );
        if outgoing.action != Action::Delete {
            let _ = write!(body, r#","set":{}"#, table.names.delocalised(&outgoing.patch));
        }
        // A version of the plain mode's is none here: the server's row decides.
        let base = outgoing.base_version.as_deref().filter(|base| base.bytes().all(|byte| byte.is_ascii_digit()));
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
        }
    }

    #[test]
    fn transactions_that_share_an_operation_go_together() {
        let batch: Vec<_> = [&[1][..], &[2], &[1, 3], &[4], &[5], &[3, 4]].into_iter().map(outgoing).collect();
        assert_eq!(groups(&batch), [0, 1, 0, 0, 4, 0]);
        assert_eq!(groups(&[]), [0; 0]);
    }
}
