//! The status as gauges, set whenever it changes and whenever somebody asks for them. Times, not ages: a gauge that nobody
//! has set for an hour is still true.

use tidelock_actors::metrics::{self, Metric, SharedString};

use crate::Timestamp;
use crate::status::{CollectionStatus, Phase, Status};

/// Every phase, so that each has its gauge.
const PHASES: [(Phase, &str); 7] = [
    (Phase::Idle, "idle"),
    (Phase::Syncing, "syncing"),
    (Phase::Offline, "offline"),
    (Phase::Paused, "paused"),
    (Phase::NeedsAuth, "needs_auth"),
    (Phase::Degraded, "degraded"),
    (Phase::Failed, "failed"),
];

/// Sets all of them. `parts` are the names of all parts, also of those that the status need not mention.
pub(crate) fn set(status: &Status, parts: &[&'static str]) {
    for (phase, name) in PHASES {
        metrics::PHASE.set(flag(status.phase == phase), &[name.into()]);
    }
    for (metric, value) in [
        (metrics::ONLINE, flag(status.online)),
        (metrics::LAST_SYNCED, seconds(status.last_synced_at)),
        (metrics::CAUGHT_UP, seconds(status.server.caught_up_at)),
        (metrics::STALLED, seconds(status.stalled_since)),
        (metrics::OPEN_TRANSACTIONS, status.server.open_transactions.unwrap_or_default() as f64),
        (metrics::OLDEST_TRANSACTION, seconds(status.server.oldest_open_seen_at)),
        (metrics::CLOCK_OFFSET, status.clock_offset_ms.unwrap_or_default() as f64 / 1_000.0),
        (metrics::TOKEN_EXPIRES, seconds(status.session.expires_at)),
        (metrics::LAST_BACKUP, seconds(status.last_backup_at)),
        (metrics::STORAGE_BYTES, status.storage.bytes as f64),
        (metrics::QUOTA_BYTES, status.storage.quota_bytes.unwrap_or_default() as f64),
    ] {
        metric.set(value, &[]);
    }
    for (name, collection) in &status.collections {
        let name = SharedString::from(name.clone());
        for (metric, value) in of_collection(collection) {
            metric.set(value, std::slice::from_ref(&name));
        }
    }
    for part in parts {
        let state = status.parts.get(*part).map_or("running", |part| part.state.as_str());
        metrics::PART_UP.set(flag(state == "running"), &[(*part).into()]);
        metrics::PART_DEGRADED.set(flag(matches!(state, "degraded" | "failed")), &[(*part).into()]);
    }
}

fn of_collection(collection: &CollectionStatus) -> [(Metric, f64); 8] {
    [
        (metrics::RECORDS, collection.records as f64),
        (metrics::PENDING, collection.pending as f64),
        (metrics::PENDING_BYTES, collection.pending_bytes as f64),
        (metrics::OLDEST_PENDING, seconds(collection.oldest_pending_at)),
        (metrics::PARKED, collection.parked as f64),
        (metrics::CONFLICTS, collection.conflicts as f64),
        (metrics::LAST_PUSHED, seconds(collection.last_pushed_at)),
        (metrics::LAST_PULLED, seconds(collection.last_pulled_at)),
    ]
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn seconds(time: Option<Timestamp>) -> f64 {
    time.map_or(0.0, |time| time.as_millisecond() as f64 / 1_000.0)
}
