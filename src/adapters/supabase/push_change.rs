//! What updates and deletes share: each is tied to the row that it was made on, several travel in one request where
//! they ask the same, and rows that do not come back are looked at before anything is said of them.

use std::collections::HashMap;

use futures::stream::StreamExt;
use reqwest::Method;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Fault, RemoteState, Verdict, Version};

use super::bisect::bisect;
use super::fault;
use super::push::{Desk, Job, Verdicts, all_failed};
use super::push_create::read_in_place;
use super::read_again::Seen;
use super::request_line::{self, Query};
use super::table::same_version;

/// Requests under way at once; all of them are about different records.
const WIDTH: usize = 6;
const RETURN: &str = "return=representation";

/// What must still be so for a change to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tie {
    /// The row has this version.
    Version(Version),
    /// The row meets these conditions, encoded: fields still have the values that were just read.
    Fields(String),
    /// The row is there.
    Nothing,
}

/// A change that is ready to be sent.
pub(super) struct Attempt<'a> {
    pub job: &'a Job<'a>,
    pub tie: Tie,
    /// The row as it was just read, where it was.
    pub seen: Option<Document>,
}

/// Reads the rows of these changes and compares each with what it was made on: a verdict at once, or another attempt.
pub(super) async fn read_and_compare<'a>(
    desk: &Desk<'_>,
    jobs: &[&'a Job<'a>],
    attempts: &mut Vec<Attempt<'a>>,
    compare: impl Fn(&Desk<'_>, &'a Job<'a>, Option<Seen>) -> Result<Attempt<'a>, Verdict>,
) -> Verdicts {
    if jobs.is_empty() {
        return Vec::new();
    }
    let mut rows = match read_in_place(desk, jobs.iter().copied()).await {
        Err(fault) => return all_failed(jobs.iter().copied(), &fault),
        Ok(rows) => rows,
    };
    let mut verdicts = Vec::new();
    for job in jobs {
        match compare(desk, job, rows.remove(job.key)) {
            Ok(attempt) => attempts.push(attempt),
            Err(verdict) => verdicts.push((job.at, verdict)),
        }
    }
    verdicts
}

/// Sends all of these, and tells of each.
pub(super) async fn send(desk: &Desk<'_>, action: Action, attempts: &[Attempt<'_>]) -> Verdicts {
    let requests = requests(desk, action, attempts).into_iter();
    let told = requests.map(|request| async move { perform(desk, action, attempts, &request).await });
    futures::stream::iter(told).buffer_unordered(WIDTH).concat().await
}

/// Changes that one request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Together {
    attempts: Vec<usize>,
}

async fn perform(desk: &Desk<'_>, action: Action, attempts: &[Attempt<'_>], together: &Together) -> Verdicts {
    let mut verdicts = Vec::with_capacity(together.attempts.len());
    let mut unmoved = Vec::new();
    for (part, answer) in bisect(vec![&together.attempts], |part| change(desk, action, attempts, part)).await {
        match answer {
            Err(fault) => verdicts.extend(all_failed(part.iter().map(|at| attempts[*at].job), &fault)),
            Ok(mut changed) => {
                for &at in part {
                    match changed.remove(attempts[at].job.key) {
                        Some(version) => {
                            verdicts.push((attempts[at].job.at, Verdict::Applied { version, document: None }))
                        }
                        None => unmoved.push(at),
                    }
                }
            }
        }
    }
    if !unmoved.is_empty() {
        verdicts.extend(look_at(desk, action, attempts, &unmoved).await);
    }
    verdicts
}

/// One request. The rows that it changed come back with their versions.
async fn change(
    desk: &Desk<'_>,
    action: Action,
    attempts: &[Attempt<'_>],
    part: &[usize],
) -> Result<HashMap<String, Option<Version>>, Fault> {
    let first = &attempts[part[0]];
    let filter = match &first.tie {
        Tie::Fields(conditions) => format!("{}&{conditions}", key_is(desk, first)),
        // A part of what fitted into one filter fits.
        Tie::Version(_) | Tie::Nothing => filters(desk, attempts, part, usize::MAX).remove(0).0,
    };
    let keys = || part.iter().map(|at| attempts[*at].job.key);
    match ask(desk, action, first, &filter, keys()).await {
        // A field whose type cannot be compared with a text (a JSON column): the row was read just now, that must do.
        Err(fault) if matches!(first.tie, Tie::Fields(_)) && cannot_compare(&fault) => {
            ask(desk, action, first, &key_is(desk, first), keys()).await
        }
        answer => answer,
    }
}

async fn ask<'k>(
    desk: &Desk<'_>,
    action: Action,
    attempt: &Attempt<'_>,
    filter: &str,
    keys: impl Iterator<Item = &'k str>,
) -> Result<HashMap<String, Option<Version>>, Fault> {
    let table = desk.table;
    let (method, body) = match action {
        Action::Delete => (Method::DELETE, None),
        Action::Create | Action::Update => {
            (Method::PATCH, Some(table.names.delocalised(attempt.job.patch).into_owned()))
        }
    };
    let query = query(desk).with_filter(filter);
    desk.write(table.write(method, &query, RETURN, body), keys).await
}

fn query(desk: &Desk<'_>) -> Query {
    Query::default().with("select", &desk.table.stamps(desk.version))
}

fn key_is(desk: &Desk<'_>, attempt: &Attempt<'_>) -> String {
    request_line::condition(&desk.table.key, "eq", attempt.job.key)
}

fn cannot_compare(fault: &Fault) -> bool {
    fault.code.as_deref().is_some_and(|code| code.starts_with("22") || code == "42883")
}

/// Tells of changes that met no row, by what the server has in its place.
async fn look_at(desk: &Desk<'_>, action: Action, attempts: &[Attempt<'_>], unmoved: &[usize]) -> Verdicts {
    let jobs = unmoved.iter().map(|at| attempts[*at].job);
    let mut rows = match read_in_place(desk, jobs.clone()).await {
        Err(fault) => return all_failed(jobs, &fault),
        Ok(rows) => rows,
    };
    let mut verdicts = Vec::with_capacity(unmoved.len());
    for attempt in unmoved.iter().map(|at| &attempts[*at]) {
        let row = rows.remove(attempt.job.key);
        let verdict = match &attempt.tie {
            Tie::Fields(_) if row.as_ref().is_some_and(|row| is_the_same_row(attempt, row)) => {
                insist(desk, action, attempt, row).await
            }
            Tie::Version(_) | Tie::Fields(_) | Tie::Nothing => judge(desk, action, attempt, row),
        };
        verdicts.push((attempt.job.at, verdict));
    }
    verdicts
}

/// The row is as it was read, and yet did not meet its own values: some types are not equal to their own text. It is
/// changed by its key alone; if even that meets nothing, it was a denial.
async fn insist(desk: &Desk<'_>, action: Action, attempt: &Attempt<'_>, row: Option<Seen>) -> Verdict {
    let key = attempt.job.key;
    match ask(desk, action, attempt, &key_is(desk, attempt), std::iter::once(key)).await {
        Err(fault) => Verdict::Failed(fault),
        Ok(mut changed) => match changed.remove(key) {
            Some(version) => Verdict::Applied { version, document: None },
            None => judge(desk, action, attempt, row),
        },
    }
}

/// What a change that met no row came to.
fn judge(desk: &Desk<'_>, action: Action, attempt: &Attempt<'_>, row: Option<Seen>) -> Verdict {
    match (action, row) {
        (Action::Delete, None) => Verdict::Applied { version: None, document: None },
        (Action::Create | Action::Update, None) => Verdict::Conflict(RemoteState::Gone),
        (Action::Create | Action::Update, Some(row)) if is_there_already(desk, attempt.job, &row) => desk.already(row),
        (_, Some(row)) if is_the_same_row(attempt, &row) => {
            Verdict::Failed(fault::denied("row-level security let no row be changed"))
        }
        (_, Some(row)) => Verdict::Conflict(row.into()),
    }
}

/// Whether the row has all that an update asks for.
pub(super) fn is_there_already(desk: &Desk<'_>, job: &Job<'_>, row: &Seen) -> bool {
    desk.table.comparable(job.patch, desk.version).is_within(&row.document)
}

fn is_the_same_row(attempt: &Attempt<'_>, row: &Seen) -> bool {
    match &attempt.tie {
        Tie::Version(tied) => row.version.as_deref().is_some_and(|version| same_version(tied, version)),
        Tie::Fields(_) | Tie::Nothing => attempt.seen.as_ref().is_none_or(|seen| seen.means_the_same(&row.document)),
    }
}

/// Puts together what asks the same: one patch, or deletion, under one kind of tie, as far as a line has room.
fn requests(desk: &Desk<'_>, action: Action, attempts: &[Attempt<'_>]) -> Vec<Together> {
    let mut alike: Vec<Vec<usize>> = Vec::new();
    let mut places: HashMap<(&str, bool), usize> = HashMap::new();
    for (at, attempt) in attempts.iter().enumerate() {
        let patch = if action == Action::Delete { "" } else { attempt.job.patch.as_str() };
        match attempt.tie {
            Tie::Fields(_) => alike.push(vec![at]),
            Tie::Version(_) | Tie::Nothing => {
                let place = *places.entry((patch, attempt.tie == Tie::Nothing)).or_insert(alike.len());
                match alike.get_mut(place) {
                    Some(group) => group.push(at),
                    None => alike.push(vec![at]),
                }
            }
        }
    }
    let room = query(desk).room(&desk.table.path);
    alike.into_iter().flat_map(|group| cut(desk, attempts, group, room)).collect()
}

fn cut(desk: &Desk<'_>, attempts: &[Attempt<'_>], group: Vec<usize>, room: usize) -> Vec<Together> {
    match attempts[group[0]].tie {
        Tie::Fields(_) => vec![Together { attempts: group }],
        Tie::Version(_) | Tie::Nothing => {
            filters(desk, attempts, &group, room).into_iter().map(|(_, attempts)| Together { attempts }).collect()
        }
    }
}

/// The filters that name these, each with the attempts that it names. All have the same kind of tie.
fn filters(desk: &Desk<'_>, attempts: &[Attempt<'_>], part: &[usize], room: usize) -> Vec<(String, Vec<usize>)> {
    let keys: Vec<&str> = part.iter().map(|at| attempts[*at].job.key).collect();
    let versions: Option<Vec<(&str, &str)>> = part
        .iter()
        .map(|at| match &attempts[*at].tie {
            Tie::Version(version) => Some((attempts[*at].job.key, &**version)),
            Tie::Fields(_) | Tie::Nothing => None,
        })
        .collect();
    let chunks = match (desk.version, versions) {
        (Some(column), Some(rows)) => request_line::by_key_and_version(&desk.table.key, column, &rows, room),
        (_, _) => request_line::by_key(&desk.table.key, &keys, room),
    };
    chunks.into_iter().map(|chunk| (chunk.filter, chunk.rows.into_iter().map(|at| part[at]).collect())).collect()
}
