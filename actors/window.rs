//! What the queue reads of the store for one batch: a window of whole transactions, and the server's rows under them.

use std::sync::Arc;

use crate::document::{Document, unquoted};
use crate::limits::TRANSACTION_RECORDS;
use crate::machine::coalesce::Coalesced;
use crate::machine::outbox::whole_transactions;
use crate::model::{Operation, Outgoing, RecordId, Sequence};
use crate::ports::{Base, Reader, StoreError};

/// A leased window of the outbox.
#[derive(Default)]
pub struct Window {
    /// What to send, in order, with what cancelled itself out.
    pub batch: Vec<Coalesced>,
    /// To be written down before anything is sent.
    pub boundaries: Option<String>,
    /// Whether the outbox has been read to its end in this round.
    pub is_last: bool,
    /// Whether it may be sent while others are on their way.
    pub may_overtake: bool,
    /// Whether it may have taken effect already, the answer lost.
    pub may_have_been_sent: bool,
}

/// Reads whole transactions after `after`, up to `limit` operations.
pub async fn read_window(
    reader: Arc<dyn Reader>,
    after: Sequence,
    limit: usize,
) -> Result<(Vec<Operation>, bool), StoreError> {
    let mut window: Vec<Operation> = Vec::new();
    loop {
        let from = window.last().map_or(after, |last| last.sequence);
        let more = reader.pending(from, limit + 1).await?;
        let is_all = more.len() <= limit;
        window.extend(more);
        if let Some(cut) = whole_transactions(&window, limit, is_all) {
            let is_last = is_all && cut == window.len();
            window.truncate(cut);
            return Ok((window, is_last));
        }
    }
}

/// Reads what is left of an earlier batch.
pub async fn read_up_to(
    reader: Arc<dyn Reader>,
    after: Sequence,
    boundary: Sequence,
) -> Result<(Vec<Operation>, bool), StoreError> {
    let mut window: Vec<Operation> = Vec::new();
    loop {
        let from = window.last().map_or(after, |last| last.sequence);
        let more = reader.pending(from, TRANSACTION_RECORDS).await?;
        let is_end = more.len() < TRANSACTION_RECORDS || more.last().is_some_and(|last| last.sequence > boundary);
        window.extend(more.into_iter().take_while(|operation| operation.sequence <= boundary));
        if is_end {
            // Whether anything follows is for the next lease to see.
            return Ok((window, false));
        }
    }
}

/// Adds what the server is believed to have under each operation.
pub async fn outfit(
    reader: Arc<dyn Reader>,
    batch: Vec<Coalesced>,
    may_have_been_sent: bool,
) -> Result<Vec<Outgoing>, StoreError> {
    let ids: Vec<RecordId> = batch.iter().map(|one| one.id.clone()).collect();
    let bases = reader.bases(ids).await?;
    let outgoing = |(one, base): (Coalesced, Base)| {
        one.action.map(|action| Outgoing {
            covers: one.covers,
            transactions: one.transactions,
            id: one.id,
            action,
            patch: one.patch,
            base: base.document,
            base_version: base.version,
            attempts: one.attempts,
            may_have_been_sent,
        })
    };
    Ok(batch.into_iter().zip(bases).filter_map(outgoing).collect())
}

/// What may be a parent's key in a patch: its texts and numbers.
pub fn possible_keys(patch: &Document) -> Vec<String> {
    let fields = patch.fields();
    let may_be_key =
        |value: &&str| value.starts_with(|first: char| first == '"' || first.is_ascii_digit() || first == '-');
    fields.values().filter(may_be_key).map(|value| unquoted(value).into_owned()).collect()
}
