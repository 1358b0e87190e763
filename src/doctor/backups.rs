//! Whether backups are taken, good, and told of.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidelock_actors::limits::DOCTOR_PART;

use super::{Checkup, session, store};
use crate::adapters::archive::BackupInfo;
use crate::config::Config;
use crate::status::Status;

/// Intervals after which a backup of what has changed is late.
const LATE: u32 = 3;

/// Looks at the backups, where no store is open without a status.
pub(super) fn look(
    checkup: &mut Checkup,
    backups: &Result<Option<BackupInfo>, String>,
    status: Option<&Status>,
    config: &Config,
    now: Timestamp,
) {
    let backup = &config.backup;
    let info = match backups {
        Ok(Some(info)) => info,
        Ok(None) => {
            let found = format!(
                "a backup is at work (or one is tried or restored): {} s were not enough to look",
                DOCTOR_PART.as_secs()
            );
            return checkup.warn("backups", found, "ask the doctor again when it is done");
        }
        Err(words) => return checkup.fail("backups", words, "look at backup.dir: it must be there and be writable"),
    };
    if !info.damaged.is_empty() {
        let files: Vec<_> = info.damaged.iter().map(|path| path.display().to_string()).collect();
        let found = format!("{} files cannot be read as backups: {}", files.len(), files.join(", "));
        checkup.warn(
            "backups",
            found,
            "look at the disk, take a new one with tidelock backup create, then delete these",
        );
    }
    if let Some(error) = status.and_then(|status| status.backup_error.as_ref()) {
        checkup.fail("backups", format!("the last one failed: {error}"), "mend that, then tidelock backup create");
    }
    if let Some(error) = status.and_then(|status| status.publish_error.as_ref()) {
        let next = match status.is_some_and(store::is_shut_out) {
            true => store::AFTER,
            false => "install the server kit (tidelock remote sql), or set backup.publish = false",
        };
        checkup.warn("backups", format!("the server could not be told of them: {error}"), next);
    }
    let off = if backup.enabled { "" } else { "; by themselves none are taken (backup.enabled = false)" };
    let Some(taken) = info.timestamp.filter(|_| info.exists) else {
        let records: u64 =
            status.iter().flat_map(|status| status.collections.values()).map(|collection| collection.records).sum();
        return match records {
            0 => checkup.ok("backups", format!("none yet{off}")),
            _ => checkup.warn(
                "backups",
                format!("there is none yet{off}"),
                "tidelock backup create, or keep tidelock run running",
            ),
        };
    };
    let age = now.duration_since(taken);
    let tried = if info.verified { "tried and found good" } else { "not tried yet" };
    let found = format!("{}, the newest {} old, {tried}{off}", info.count, session::span(age));
    // One is due only when something has changed since.
    let changed =
        status.and_then(|status| [status.last_pushed_at, status.oldest_pending_at].into_iter().flatten().max());
    let is_late = changed.is_some_and(|at| at > taken) && age > signed(backup.interval.saturating_mul(LATE));
    let is_untried =
        !info.verified && !backup.drill_interval.is_zero() && age > signed(backup.drill_interval.saturating_mul(2));
    match (is_late, is_untried) {
        (true, _) => checkup.warn("backups", found, "tidelock backup create; tidelock run takes them by itself"),
        (false, true) => checkup.warn("backups", found, "tidelock backup verify"),
        (false, false) => checkup.ok("backups", found),
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";

    fn status(more: serde_json::Value) -> Status {
        let mut status = serde_json::json!({
            "phase": "idle", "online": true, "syncing": false, "pending": 0, "parked": 0, "conflicts": 0, "mode": "plain",
            "phase_reason": "", "pending_bytes": 0, "server": {}, "session": { "state": "anonymous" },
            "storage": { "bytes": 0, "quota_bytes": null, "state": "ok" }, "collections": {}, "parts": {},
        });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(status).unwrap()
    }

    fn said(info: BackupInfo, more: serde_json::Value) -> Vec<String> {
        let (mut checkup, config) = (Checkup::default(), Config::from_toml("[collections.notes]").unwrap());
        look(&mut checkup, &Ok(Some(info)), Some(&status(more)), &config, NOW.parse().unwrap());
        checkup.checks.iter().map(|one| format!("{} {}", one.state.name(), one.found)).collect()
    }

    fn taken(at: &str, verified: bool) -> BackupInfo {
        BackupInfo { exists: true, timestamp: Some(at.parse().unwrap()), verified, count: 2, ..BackupInfo::default() }
    }

    #[test]
    fn a_backup_is_late_only_where_something_has_changed_since() {
        let old = || taken("2026-11-22T12:00:00Z", true);
        assert_eq!(said(old(), serde_json::json!({})), ["ok 2, the newest 24 h old, tried and found good"]);
        let pushed = |at: &str| said(old(), serde_json::json!({ "last_pushed_at": at })).remove(0);
        assert!(pushed("2026-11-22T11:00:00Z").starts_with("ok"));
        assert!(pushed("2026-11-22T13:00:00Z").starts_with("warning 2, the newest 24 h old"));
    }

    #[test]
    fn a_backup_that_is_at_work_is_no_failure() {
        let (mut checkup, config) = (Checkup::default(), Config::from_toml("[collections.notes]").unwrap());
        look(&mut checkup, &Ok(None), None, &config, NOW.parse().unwrap());
        assert!(checkup.healthy && checkup.checks[0].found.starts_with("a backup is at work"), "{checkup:?}");
    }

    #[test]
    fn what_went_wrong_is_told_with_what_there_is() {
        assert_eq!(said(BackupInfo::default(), serde_json::json!({})), ["ok none yet"]);
        let records = serde_json::json!({ "collections": { "notes": {
            "records": 1, "pending": 0, "pending_bytes": 0, "parked": 0, "conflicts": 0 } } });
        assert_eq!(said(BackupInfo::default(), records), ["warning there is none yet"]);
        let untried = said(taken("2026-11-01T12:00:00Z", false), serde_json::json!({}));
        assert_eq!(untried, ["warning 2, the newest 22 days old, not tried yet"]);
        let wrong = BackupInfo { damaged: vec!["b.tlb".into()], ..taken("2026-11-23T11:59:00Z", true) };
        let said = said(wrong, serde_json::json!({ "backup_error": "no room", "publish_error": "no table" }));
        assert_eq!(said[0], "warning 1 files cannot be read as backups: b.tlb");
        assert_eq!(said[1], "failure the last one failed: no room");
        assert!(said[2].starts_with("warning the server could not be told") && said[3].starts_with("ok 2"));
    }

    #[test]
    fn a_server_that_takes_nothing_is_no_reason_to_install_something() {
        let next = |phase: &str| {
            let (mut checkup, config) = (Checkup::default(), Config::from_toml("[collections.notes]").unwrap());
            let status = status(serde_json::json!({ "phase": phase, "publish_error": "JWT expired" }));
            look(&mut checkup, &Ok(Some(BackupInfo::default())), Some(&status), &config, NOW.parse().unwrap());
            checkup.checks.remove(0).next
        };
        assert!(next("idle").starts_with("install the server kit"));
        assert_eq!((next("needs_auth").as_str(), next("offline").as_str()), (store::AFTER, store::AFTER));
    }
}
