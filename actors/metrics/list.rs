//! The metrics themselves. Times are seconds since 1970, and 0 where there is none.

use metrics::Unit;

use super::{Kind, Metric};

/// Bounds for what a device's disk does.
const QUICK: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Bounds for what goes over a network.
const NETWORK: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Bounds for what may read everything.
const LONG: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0];

macro_rules! metrics {
    ($($constant:ident, $name:literal, $kind:expr, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: $kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    ROUNDS, "tidelock_rounds_total", Kind::Counter, Count, ["result"],
        "Rounds that ended: done, faulty (a collection or operation was left out) or cut.";
    ROUND_SECONDS, "tidelock_round_seconds", Kind::Histogram(LONG), Seconds, ["result"],
        "How long a round took.";
    RETRIES, "tidelock_retries_total", Kind::Counter, Count, [],
        "Rounds that began because the one before was cut.";
    OPERATIONS, "tidelock_operations_total", Kind::Counter, Count, ["collection", "verdict"],
        "Operations by the server's verdict: applied, conflict, or the kind of the fault.";
    PULLED, "tidelock_pulled_records_total", Kind::Counter, Count, [],
        "Records that changed here because of what the server has.";
    CONFLICTS_MET, "tidelock_conflicts_met_total", Kind::Counter, Count, [],
        "Conflicts that rounds met, whether decided or left open.";
    REQUESTS, "tidelock_requests_total", Kind::Counter, Count, ["result"],
        "Requests to the server: answered (with success), refused (with an error) or lost (without an answer).";
    REQUEST_SECONDS, "tidelock_request_seconds", Kind::Histogram(NETWORK), Seconds, [],
        "How long a request took until its answer was read, or it was given up.";
    SENT_BYTES, "tidelock_sent_bytes_total", Kind::Counter, Bytes, [],
        "Bytes of requests' bodies, as they were sent.";
    RECEIVED_BYTES, "tidelock_received_bytes_total", Kind::Counter, Bytes, [],
        "Bytes of answers' bodies, unpacked.";
    COMMIT_SECONDS, "tidelock_commit_seconds", Kind::Histogram(QUICK), Seconds, [],
        "How long a commit of the local store took, nearly all of it the flush to the disk (fsync).";
    COMMIT_WRITES, "tidelock_commit_writes_total", Kind::Counter, Count, [],
        "Writes that were committed; several share one commit.";
    RESTARTS, "tidelock_restarts_total", Kind::Counter, Count, ["part"],
        "Failures of a part after which it was started again.";
    BACKUPS, "tidelock_backups_total", Kind::Counter, Count, ["result"],
        "Backups: taken, or failed.";
    BACKUP_SECONDS, "tidelock_backup_seconds", Kind::Histogram(LONG), Seconds, [],
        "How long it took to take a backup.";

    RECORDS, "tidelock_records", Kind::Gauge, Count, ["collection"],
        "Documents that the app sees.";
    PENDING, "tidelock_pending_operations", Kind::Gauge, Count, ["collection"],
        "Operations that are to be sent.";
    PENDING_BYTES, "tidelock_pending_bytes", Kind::Gauge, Bytes, ["collection"],
        "Bytes of the fields that those operations set.";
    OLDEST_PENDING, "tidelock_oldest_pending_timestamp_seconds", Kind::Gauge, Seconds, ["collection"],
        "When the oldest operation that is to be sent was made; 0 where none is.";
    PARKED, "tidelock_parked_operations", Kind::Gauge, Count, ["collection"],
        "Operations that were set aside with their cause.";
    CONFLICTS, "tidelock_open_conflicts", Kind::Gauge, Count, ["collection"],
        "Conflicts that wait for a decision.";
    LAST_PUSHED, "tidelock_last_pushed_timestamp_seconds", Kind::Gauge, Seconds, ["collection"],
        "When an operation last took effect on the server.";
    LAST_PULLED, "tidelock_last_pulled_timestamp_seconds", Kind::Gauge, Seconds, ["collection"],
        "When everything that the server had was last here.";
    LAST_SYNCED, "tidelock_last_synced_timestamp_seconds", Kind::Gauge, Seconds, [],
        "When a round last ended well.";
    CAUGHT_UP, "tidelock_caught_up_timestamp_seconds", Kind::Gauge, Seconds, [],
        "When everything that the server had in any collection was last here.";
    PHASE, "tidelock_phase", Kind::Gauge, Count, ["phase"],
        "1 for the phase that it is in, 0 for all others.";
    ONLINE, "tidelock_online", Kind::Gauge, Count, [],
        "1 where the last request reached the server.";
    STALLED, "tidelock_stalled_since_timestamp_seconds", Kind::Gauge, Seconds, [],
        "Since when nothing has moved although something should; 0 where it moves.";
    OPEN_TRANSACTIONS, "tidelock_server_open_transactions", Kind::Gauge, Count, [],
        "Writing transactions that were open on the server when it was last read; 0 without its kit, which alone can tell.";
    OLDEST_TRANSACTION, "tidelock_server_oldest_transaction_seen_timestamp_seconds", Kind::Gauge, Seconds, [],
        "When the oldest of them was first seen open; 0 where there is none.";
    CLOCK_OFFSET, "tidelock_clock_offset_seconds", Kind::Gauge, Seconds, [],
        "The server's clock less this device's.";
    TOKEN_EXPIRES, "tidelock_token_expires_timestamp_seconds", Kind::Gauge, Seconds, [],
        "When the access token expires; 0 without one, or where it does not say.";
    LAST_BACKUP, "tidelock_last_backup_timestamp_seconds", Kind::Gauge, Seconds, [],
        "When the newest backup was taken; 0 before the first.";
    STORAGE_BYTES, "tidelock_storage_bytes", Kind::Gauge, Bytes, [],
        "What the store takes with its backups.";
    QUOTA_BYTES, "tidelock_storage_quota_bytes", Kind::Gauge, Bytes, [],
        "What it may take; 0 without a quota.";
    PART_UP, "tidelock_part_up", Kind::Gauge, Count, ["part"],
        "1 where the part is at work, 0 where it is restarting, degraded, failed or stopped.";
    PART_DEGRADED, "tidelock_part_degraded", Kind::Gauge, Count, ["part"],
        "1 where the part has failed too often and is tried again only now and then, or has failed for good.";
}
