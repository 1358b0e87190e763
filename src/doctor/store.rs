//! What the open store says of itself: sound or not, how much room it has, what waits and for what.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tidelock_actors::limits::DOCTOR_STORE;

use super::server::Known;
use super::{Checkup, backups, cause, folder};
use crate::adapters::archive::BackupInfo;
use crate::adapters::sqlite::{Fullness, QueuedOperation, Stats, Verified};
use crate::config::Config;
use crate::status::{Phase, Status};

/// Different causes of parked operations that are told.
const CAUSES: usize = 5;

/// What to do about what nobody takes while the server takes nothing.
pub(super) const AFTER: &str = "mend what the next checks say of the server; then it is sent by itself";

/// What the store has told; the words of what it could not tell.
pub(crate) struct Store {
    /// Nothing where reading all of it takes too long.
    pub verified: Result<Option<Verified>, String>,
    pub stats: Result<Stats, String>,
    pub status: Status,
    /// Parked operations, the first ones.
    pub parked: Vec<QueuedOperation>,
    /// Nothing where a backup is at work.
    pub backups: Result<Option<BackupInfo>, String>,
    /// The database that the store was synced with, where that has the kit.
    pub epoch: Option<String>,
}

impl Store {
    /// What it knows of the server.
    pub fn known(&self) -> Known {
        let collections = self.stats.iter().flat_map(|stats| &stats.collections);
        let on_server = collections.map(|(name, counts)| (name.to_string(), counts.on_server)).collect();
        Known { on_server, epoch: self.epoch.clone() }
    }

    pub fn look(&self, config: &Config) -> Checkup {
        let mut checkup = Checkup::default();
        let copy = "keep a copy of the data folder, then tidelock verify --repair";
        match &self.verified {
            Ok(Some(verified)) if verified.healthy => checkup.ok("store", "healthy"),
            // Their words name records and quote what is damaged.
            Ok(Some(verified)) => {
                let found = format!("{} things in it are not as they should be", verified.issues.len());
                checkup.fail("store", found, format!("tidelock verify names them; {copy}"));
            }
            Ok(None) => {
                let found = format!("it is large: reading all of it takes longer than {} s", DOCTOR_STORE.as_secs());
                checkup.warn("store", found, "tidelock verify looks at all of it, however long that takes");
            }
            Err(words) => checkup.fail("store", words, copy),
        }
        match &self.stats {
            Ok(stats) => {
                let taken = format!(", the store takes {}", size(stats.bytes));
                folder::room(&mut checkup, stats.free_bytes, &taken);
                quota(&mut checkup, stats);
            }
            Err(words) => checkup.fail("disk space", words, copy),
        }
        self.work(&mut checkup);
        for (name, part) in &self.status.parts {
            let found = format!("{name} is {} after {} restarts", part.state, part.restarts);
            let cause = part.cause.as_deref().unwrap_or("no cause is known");
            match part.state.as_str() {
                "running" => checkup.warn("parts", found, format!("look at tidelock logs ({cause})")),
                _ => {
                    checkup.fail("parts", format!("{found}: {cause}"), "restart the process; tidelock logs tells more")
                }
            }
        }
        backups::look(&mut checkup, &self.backups, Some(&self.status), config, Timestamp::now());
        self.logger(&mut checkup, config);
        checkup
    }

    /// What waits in the queue, and for what.
    fn work(&self, checkup: &mut Checkup) {
        let Status { pending, parked, conflicts, .. } = self.status;
        let found = format!("{pending} pending, {parked} parked, {conflicts} in conflict");
        match (parked, conflicts) {
            (0, 0) => checkup.ok("queue", found),
            (0, _) => {
                checkup.warn("queue", found, "decide them: tidelock conflicts list, then tidelock conflicts resolve")
            }
            _ => checkup.warn("queue", found, "look at the causes: tidelock queue list --state parked"),
        }
        let seen = self.parked.len();
        let is_part = u64::try_from(seen).is_ok_and(|seen| seen < parked);
        let of = if is_part { format!(" of the first {seen}") } else { String::new() };
        for cause in causes(&self.parked).into_iter().take(CAUSES) {
            checkup.warn("parked", format!("{}{of} for: {}", cause.number, cause.told), cause.way_out());
        }
        if let Some(since) = self.status.stalled_since {
            let reason = self.status.stalled_reason.as_deref().unwrap_or("no reason is known");
            let next = "mend what is a failure in the next checks; tidelock sync tries at once";
            checkup.warn("progress", format!("nothing has moved since {since}: {reason}"), next);
        }
        for (name, collection) in &self.status.collections {
            if let Some(why) = &collection.paused {
                let next = "mend what the next checks say of the server and its tables; tidelock sync tries at once";
                checkup.fail("schema", format!("{name} is paused: {why}"), next);
            }
        }
    }

    fn logger(&self, checkup: &mut Checkup, config: &Config) {
        let logger = &self.status.logger;
        let found = format!("{} entries to be sent, {} shed, {} refused", logger.pending, logger.shed, logger.refused);
        match &logger.last_error {
            Some(error) => {
                let next = match is_shut_out(&self.status) {
                    true => AFTER.to_owned(),
                    false => format!(
                        "let this user insert into {}, or set log.table = \"\" to keep what is logged on this device",
                        config.log.table
                    ),
                };
                checkup.warn("logger", format!("{found}: {error}"), next);
            }
            None => checkup.ok("logger", found),
        }
    }
}

/// Whether the server takes nothing from this device at all, so that there is only one thing to mend.
pub(super) fn is_shut_out(status: &Status) -> bool {
    matches!(status.phase, Phase::Offline | Phase::NeedsAuth)
}

/// How near the store is to what it may take.
fn quota(checkup: &mut Checkup, stats: &Stats) {
    let bytes = size(stats.bytes);
    let Some(quota) = stats.quota_bytes.map(size) else { return checkup.ok("quota", format!("{bytes}; none is set")) };
    let next = "delete what is not needed, then tidelock compact --forget-history; or raise storage.quota";
    match stats.quota_state {
        Fullness::Ok => checkup.ok("quota", format!("{bytes} of {quota}")),
        Fullness::Near => checkup.warn("quota", format!("{bytes} of {quota}; nearly full"), next),
        Fullness::Full => checkup.fail("quota", format!("{bytes} of {quota}; full: what adds data is refused"), next),
    }
}

/// Why operations are parked.
struct Cause {
    told: String,
    is_denied: bool,
    number: usize,
    /// The first of them.
    id: i64,
}

/// The causes of parked operations, the most frequent first.
fn causes(parked: &[QueuedOperation]) -> Vec<Cause> {
    let mut causes: BTreeMap<String, Cause> = BTreeMap::new();
    for operation in parked {
        let fault = operation.cause.as_ref();
        let told = fault.map_or_else(|| "no cause is known".to_owned(), cause::cause);
        let told = format!("{}: {told}", operation.collection);
        let is_denied = fault.is_some_and(cause::is_denied);
        let known = causes.entry(told.clone()).or_insert(Cause { told, is_denied, number: 0, id: operation.id });
        known.number += 1;
    }
    let mut causes: Vec<_> = causes.into_values().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.number));
    causes
}

impl Cause {
    /// What to do about it.
    fn way_out(&self) -> String {
        if self.is_denied {
            return "let a policy or a grant allow it, then tidelock queue redrive --all; or give them up: tidelock queue \
                    discard"
                .to_owned();
        }
        let id = self.id;
        format!(
            "tidelock queue show {id} tells what it holds and the server's words: save the record so that the server takes \
             it, which sends it again, or tidelock queue discard {id}"
        )
    }
}

/// A size for people: `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (1 << 40, "1.0 TiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
