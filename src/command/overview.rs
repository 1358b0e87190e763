//! Commands on the whole: status, sync, verify.

use jiff::SignedDuration;
use tidelock::adapters::sqlite::{Fullness, Verified};
use tidelock::doctor::span;
use tidelock::{Phase, Session, Status, SyncReport, SyncRequest};

use super::access::Access;
use super::arguments;
use super::failure::{FAILED, Failure, IN_PART};
use super::output::{Output, pairs, size, table, waiting_for, yes_or_no};
use super::storage::taken;

/// Clocks that are this near to each other, in milliseconds, are not worth a word.
const CLOCKS_AGREE_MS: i64 = 5_000;
/// From here on the doctor has a word for it.
const CLOCKS_DISAGREE_MS: i64 = 60_000;

/// `status`
pub async fn status(access: &Access, output: Output) -> Result<(), Failure> {
    output.print(&access.status().await?, status_words)
}

fn status_words(status: &Status) -> String {
    let time = |time: &Option<jiff::Timestamp>| time.map_or("never".to_owned(), |time| time.to_string());
    let mut lines = vec![
        ("phase", format!("{}: {}", name_of(&status.phase), status.phase_reason)),
        ("online", yes_or_no(status.online)),
        ("server", status.mode.clone()),
        ("session", session_words(status)),
        ("pending", pending_words(status.pending, status.pending_bytes, status.oldest_pending_at)),
        ("parked", with_way(status.parked, "look at the causes: tidelock queue list --state parked")),
        ("conflicts", with_way(status.conflicts, "decide them: tidelock conflicts list")),
        ("last synced", time(&status.last_synced_at)),
        ("last pushed", time(&status.last_pushed_at)),
        ("last pulled", time(&status.last_pulled_at)),
        ("caught up", time(&status.server.caught_up_at)),
        ("last backup", time(&status.last_backup_at)),
    ];
    lines.extend(status.next_round_at.map(|at| {
        let why = status.next_round_reason.as_ref().map(name_of).unwrap_or_default();
        ("next round", format!("{at} ({why})"))
    }));
    lines.extend(status.server.oldest_open_seen_at.map(|since| {
        let open = status.server.open_transactions.unwrap_or_default();
        ("open there", format!("{open} transactions, the oldest since {since} or longer"))
    }));
    lines.extend(
        status
            .clock_offset_ms
            .filter(|offset| offset.abs() >= CLOCKS_AGREE_MS)
            .map(|offset| ("clock", clock_words(offset))),
    );
    lines.extend(status.last_error.iter().map(|error| ("last error", error.clone())));
    lines.extend(status.backup_error.iter().map(|error| ("backup error", error.clone())));
    lines.extend(status.backups_published_at.iter().map(|at| ("backups told of", at.to_string())));
    lines.extend(status.publish_error.iter().map(|error| ("not told of", error.clone())));
    if status.storage.state != Fullness::Ok {
        lines.push(("storage", taken(status.storage)));
    }
    if status.storage.disk_full {
        lines.push(("disk", "full: the last write found no room, and was refused; free some space".to_owned()));
    }
    let logger = &status.logger;
    if logger.pending + logger.shed + logger.refused > 0 || logger.last_error.is_some() {
        let [pending, shed, refused] = [logger.pending, logger.shed, logger.refused];
        lines.push(("log entries", format!("{pending} to be sent, {shed} shed, {refused} refused")));
    }
    lines.extend(logger.last_error.iter().map(|error| ("log error", error.clone())));
    lines.extend(
        status.stalled_since.iter().map(|since| {
            ("stalled since", format!("{since}: {}", status.stalled_reason.as_deref().unwrap_or_default()))
        }),
    );
    if is_in_trouble(status) {
        lines.push(("next step", "tidelock doctor tells what is wrong and what to do about it".to_owned()));
    }
    let collections = status.collections.iter().map(|(name, collection)| {
        let counts = [collection.records, collection.pending, collection.parked, collection.conflicts];
        let [records, pending, parked, conflicts] = counts.map(|count| count.to_string());
        [name.clone(), records, pending, parked, conflicts, collection.paused.clone().unwrap_or_default()]
    });
    let heads = ["collection", "records", "pending", "parked", "conflicts", "paused"];
    let parts = status.parts.iter().map(|(name, part)| {
        [name.clone(), part.state.clone(), part.restarts.to_string(), part.cause.clone().unwrap_or_default()]
    });
    let blocks = [
        pairs(&lines),
        table(heads, collections.collect()),
        table(["part", "state", "restarts", "cause"], parts.collect()),
    ];
    blocks.into_iter().filter(|block| !block.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// Whether something will not pass, or lasts, unless somebody does something.
fn is_in_trouble(status: &Status) -> bool {
    let is_ill = match status.phase {
        Phase::Offline | Phase::NeedsAuth | Phase::Degraded | Phase::Failed => true,
        Phase::Idle | Phase::Syncing | Phase::Paused => status.last_error.is_some(),
    };
    let is_stuck = status.stalled_since.is_some() || status.parked + status.conflicts > 0;
    let is_paused = status.collections.values().any(|collection| collection.paused.is_some());
    let is_off = status.clock_offset_ms.is_some_and(|offset| offset.abs() >= CLOCKS_DISAGREE_MS);
    is_ill
        || is_stuck
        || is_paused
        || is_off
        || status.backup_error.is_some()
        || status.storage.state != Fullness::Ok
        || status.storage.disk_full
}

/// A number and, where it is not 0, what to do about it.
fn with_way(count: u64, way: &str) -> String {
    if count == 0 { "0".to_owned() } else { format!("{count}; {way}") }
}

fn clock_words(offset_ms: i64) -> String {
    let side = if offset_ms > 0 { "behind" } else { "ahead of" };
    format!("this device's is {} {side} the server's", span(SignedDuration::from_millis(offset_ms)))
}

fn session_words(status: &Status) -> String {
    let Session { state, user, expires_at } = &status.session;
    let user = user.iter().map(|user| format!("as {user}"));
    let expires = expires_at.iter().map(|at| format!("until {at}"));
    [name_of(state)].into_iter().chain(user).chain(expires).collect::<Vec<_>>().join(" ")
}

fn pending_words(pending: u64, bytes: u64, oldest: Option<jiff::Timestamp>) -> String {
    match oldest {
        Some(oldest) => format!("{pending}, {}, the oldest of {oldest}", size(bytes)),
        None => pending.to_string(),
    }
}

/// A value's name as JSON has it.
pub fn name_of(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `sync`: done in part where something failed, does not fit the server, or is parked or in conflict afterwards.
pub async fn sync(access: &Access, arguments: &arguments::Sync, output: Output) -> Result<(), Failure> {
    let whole = !arguments.push && !arguments.pull;
    let request = SyncRequest {
        push: whole || arguments.push,
        pull: whole || arguments.pull,
        accept_server: arguments.accept_server,
    };
    let report = waiting_for("syncing", access.sync(request)).await?;
    let after = access.status().await?;
    output.print(&report, |report| sync_words(report, &after))?;
    let all_done = report.failed == 0 && report.paused.is_empty() && after.parked == 0 && after.conflicts == 0;
    if all_done { Ok(()) } else { Err(Failure::silent(IN_PART)) }
}

fn sync_words(report: &SyncReport, after: &Status) -> String {
    let SyncReport { pushed, pulled, failed, conflicts, requests, paused, .. } = report;
    let mut lines = vec![format!("{pushed} pushed, {pulled} pulled, {conflicts} conflicts, {requests} requests")];
    let mut tell = |count: u64, what: &str| {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    };
    tell(*failed, "failed and are tried again; see `tidelock queue list`");
    tell(after.parked, "parked; see `tidelock queue list --state parked`");
    tell(after.conflicts, "in conflict; see `tidelock conflicts list`");
    lines.extend(paused.iter().map(|(collection, why)| format!("{collection} is paused: {why}")));
    lines.join("\n")
}

/// `verify`
pub async fn verify(access: &Access, output: Output) -> Result<(), Failure> {
    let verified = waiting_for("reading the whole store", access.verify()).await?;
    output.print(
        &verified,
        |Verified { healthy, issues }| {
            if *healthy { "the store is healthy".to_owned() } else { issues.join("\n") }
        },
    )?;
    if verified.healthy { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_in_words_tells_of_backups_what_the_json_does() {
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "phase": "idle", "online": true, "syncing": false, "pending": 0, "parked": 0, "conflicts": 0, "mode": "plain",
            "phase_reason": "", "pending_bytes": 0, "server": {}, "session": { "state": "anonymous" },
            "storage": { "bytes": 0, "quota_bytes": null, "state": "ok" }, "collections": {}, "parts": {},
        }))
        .unwrap();
        let words = status_words(&status);
        assert!(words.contains("last backup") && !words.contains("backup error"), "{words}");
        status.last_backup_at = Some("2026-11-23T12:00:00Z".parse().unwrap());
        status.backup_error = Some("the disk is full".to_owned());
        let words = status_words(&status);
        let told = |line: &&str| line.contains("2026-11-23T12:00:00Z") || line.contains("the disk is full");
        let lines: Vec<&str> = words.lines().filter(told).collect();
        let [last, error] = lines.as_slice() else { panic!("each is said once: {words}") };
        assert!(last.starts_with("last backup") && error.starts_with("backup error"), "{words}");
    }
}
