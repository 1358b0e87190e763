//! `tidelock queue`: what is still to be sent, and what was set aside.

use tidelock::adapters::sqlite::{OperationState, QueueFilter, QueuedOperation};
use tidelock::api::{Discarded, Redriven};

use super::access::Access;
use super::arguments::{Chosen, Queue, State};
use super::failure::{FAILED, Failure};
use super::output::{Output, pairs, table};
use super::overview::name_of;

/// Operations read at once.
const PAGE: usize = 1_000;

/// Performs the command.
pub async fn perform(access: &Access, command: &Queue, output: Output) -> Result<(), Failure> {
    match command {
        Queue::List { state, collection, limit } => {
            let filter =
                QueueFilter { state: state.map(stored), collection: collection.clone(), ..QueueFilter::default() };
            output.print(&list(access, filter, *limit).await?, |operations| list_words(operations))
        }
        Queue::Show { id } => {
            let filter = QueueFilter { after: id - 1, limit: 1, ..QueueFilter::default() };
            let found = access.queue(filter).await?.into_iter().find(|operation| operation.id == *id);
            let Some(operation) = found else {
                return Err(Failure::new(FAILED, format!("there is no operation {id}; see `tidelock queue list`")));
            };
            output.print(&operation, operation_words)
        }
        Queue::Redrive(Chosen { ids, .. }) => {
            let redriven = access.redrive(ids.clone()).await?;
            output.print(&Redriven { redriven }, |_| format!("{redriven} operations are back in the queue"))
        }
        Queue::Discard { chosen: Chosen { ids, .. }, only } => {
            let discarded = match only {
                true => access.discard_alone(ids.clone()).await?,
                false => access.discard(ids.clone()).await?,
            };
            output.print(&Discarded { discarded }, |_| format!("{discarded} operations are given up"))
        }
    }
}

fn stored(state: State) -> OperationState {
    match state {
        State::Pending => OperationState::Pending,
        State::Parked => OperationState::Parked,
        State::Held => OperationState::Held,
    }
}

async fn list(access: &Access, mut filter: QueueFilter, limit: usize) -> Result<Vec<QueuedOperation>, Failure> {
    let mut all: Vec<QueuedOperation> = Vec::new();
    while all.len() < limit {
        filter.limit = (limit - all.len()).min(PAGE);
        let page = access.queue(filter.clone()).await?;
        let is_last = page.len() < filter.limit;
        filter.after = page.last().map_or(filter.after, |operation| operation.id);
        all.extend(page);
        if is_last {
            break;
        }
    }
    Ok(all)
}

fn list_words(operations: &[QueuedOperation]) -> String {
    let rows = operations.iter().map(|operation| {
        let cause = operation.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        let QueuedOperation { id, collection, key, action, state, .. } = operation;
        [id.to_string(), name_of(state), name_of(action), collection.clone(), key.clone(), cause]
    });
    table(["id", "state", "action", "collection", "key", "cause"], rows.collect())
}

fn operation_words(operation: &QueuedOperation) -> String {
    let mut lines = vec![
        ("id", operation.id.to_string()),
        ("collection", operation.collection.clone()),
        ("key", operation.key.clone()),
        ("action", name_of(&operation.action)),
        ("state", name_of(&operation.state)),
        ("made", operation.created_at.clone()),
        ("attempts", operation.attempts.to_string()),
    ];
    lines.extend(operation.depends_on.map(|other| ("waits for", other.to_string())));
    lines.extend(operation.cause.iter().map(|cause| ("cause", cause.to_string())));
    lines.push(("payload", operation.payload.to_string()));
    pairs(&lines)
}
