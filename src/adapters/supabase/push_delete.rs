//! Deleting rows: conditional on the version that was seen. What is gone already is done (H17).

use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Verdict};

use super::push::{Desk, Job, Verdicts};
use super::push_change::{Attempt, Tie, read_and_compare, send};
use super::read_again::Seen;

/// Deletes all of these, and tells of each.
pub(super) async fn delete(desk: &Desk<'_>, jobs: &[Job<'_>]) -> Verdicts {
    let (mut attempts, mut compared) = (Vec::new(), Vec::new());
    for job in jobs {
        match (desk.version, &job.base_version, &job.base) {
            (Some(_), Some(version), _) => {
                attempts.push(Attempt { job, tie: Tie::Version(version.clone()), seen: None })
            }
            // Nobody knows what was meant to be deleted beside its key.
            (_, _, None) => attempts.push(Attempt { job, tie: Tie::Nothing, seen: None }),
            (_, _, Some(_)) => compared.push(job),
        }
    }
    let mut verdicts = read_and_compare(desk, &compared, &mut attempts, compare).await;
    verdicts.extend(send(desk, Action::Delete, &attempts).await);
    verdicts
}

/// Compares the row with what was seen when it was deleted here: a verdict at once, or what to send.
fn compare<'a>(desk: &Desk<'_>, job: &'a Job<'a>, row: Option<Seen>) -> Result<Attempt<'a>, Verdict> {
    let Some(row) = row else { return Err(Verdict::Applied { version: None, document: None }) };
    let base = job.base.as_deref().map_or_else(Document::empty, |base| desk.table.comparable(base, desk.version));
    if !base.is_within(&row.document) {
        return Err(Verdict::Conflict(row.into()));
    }
    let tie = row.version.clone().map_or(Tie::Nothing, Tie::Version);
    Ok(Attempt { job, tie, seen: Some(row.document) })
}
