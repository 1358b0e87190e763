//! `tidelock conflicts`: records that changed on both sides.

use tidelock::adapters::sqlite::ConflictView;
use tidelock::api::Decided;
use tidelock::{Choice, Document};

use super::access::Access;
use super::arguments::{Conflicts, Side};
use super::failure::{Failure, USAGE};
use super::input;
use super::output::{Output, pairs, table};
use super::overview::name_of;

/// Performs the command.
pub async fn perform(access: &Access, command: &Conflicts, output: Output) -> Result<(), Failure> {
    match command {
        Conflicts::List { all } => output.print(&access.conflicts(*all).await?, |conflicts| list_words(conflicts)),
        Conflicts::Show { id } => output.print(&access.conflict(*id).await?, conflict_words),
        Conflicts::Resolve { id, take, merged } => {
            access.resolve(*id, choice(*take, merged.as_deref())?).await?;
            output.print(&Decided { id: *id }, |_| format!("conflict {id} is decided"))
        }
        Conflicts::Undo { id } => {
            access.undo(*id).await?;
            output.print(&Decided { id: *id }, |_| {
                format!("conflict {id} is undone: the side that lost is a new local change")
            })
        }
    }
}

fn choice(take: Option<Side>, merged: Option<&str>) -> Result<Choice, Failure> {
    match (take, merged) {
        (Some(Side::Local), _) => Ok(Choice::Local),
        (Some(Side::Remote), _) => Ok(Choice::Remote),
        (None, Some(document)) => Ok(Choice::Merged(input::document(document)?)),
        (None, None) => Err(Failure::new(USAGE, "say what is taken: --take local, --take remote or --merged JSON")),
    }
}

fn list_words(conflicts: &[ConflictView]) -> String {
    let rows = conflicts.iter().map(|conflict| {
        let ConflictView { id, collection, key, state, strategy, cause, .. } = conflict;
        [id.to_string(), name_of(state), collection.clone(), key.clone(), strategy.clone(), cause.message.clone()]
    });
    table(["id", "state", "collection", "key", "strategy", "cause"], rows.collect())
}

fn conflict_words(conflict: &ConflictView) -> String {
    let side = |document: &Option<Document>| document.as_ref().map_or("(absent)".to_owned(), ToString::to_string);
    let mut lines = vec![
        ("id", conflict.id.to_string()),
        ("collection", conflict.collection.clone()),
        ("key", conflict.key.clone()),
        ("state", name_of(&conflict.state)),
        ("strategy", conflict.strategy.clone()),
        ("cause", conflict.cause.message.clone()),
        ("found", conflict.detected_at.clone()),
        ("base", side(&conflict.base)),
        ("local", side(&conflict.local)),
        ("remote", side(&conflict.remote)),
    ];
    if let Some(resolved) = &conflict.resolved_at {
        lines.push(("decided", resolved.clone()));
        lines.push(("winner", conflict.winner.clone().unwrap_or_default()));
        lines.push(("result", side(&conflict.result)));
    }
    pairs(&lines)
}
