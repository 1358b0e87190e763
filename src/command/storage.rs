//! `stats` and `compact`: how much the store takes, and how it becomes smaller.

use tidelock::adapters::sqlite::{Fullness, Stats, Usage};
use tidelock::model::Compacted;

use super::access::Access;
use super::arguments;
use super::failure::Failure;
use super::output::{Output, pairs, size, table, waiting_for};

/// `stats`
pub async fn stats(access: &Access, arguments: &arguments::Stats, output: Output) -> Result<(), Failure> {
    let stats = match arguments.exact {
        true => waiting_for("reading the whole store", access.exact_stats()).await?,
        false => access.stats().await?,
    };
    output.print(&stats, stats_words)
}

fn stats_words(stats: &Stats) -> String {
    let sizes = &stats.sizes;
    let about = |bytes: u64| if sizes.exact { size(bytes) } else { format!("about {}", size(bytes)) };
    let collections = stats.collections.iter().map(|(name, counts)| {
        let [records, pending, parked] = [counts.records, counts.pending, counts.parked].map(|count| count.to_string());
        let documents = about(sizes.collections.get(name).copied().unwrap_or_default());
        [name.to_string(), records, counts.on_server.to_string(), pending, parked, documents]
    });
    let all = pairs(&[
        ("records", stats.records.to_string()),
        ("pending", stats.pending.to_string()),
        ("parked", stats.parked.to_string()),
        ("conflicts", format!("{}, {}", stats.conflicts, about(sizes.conflicts))),
        ("history", format!("{}, {}", stats.history, about(sizes.history))),
        ("outbox", about(sizes.outbox)),
        ("database", format!("{}, {} of it free", size(sizes.database), size(sizes.reclaimable))),
        ("log", size(sizes.log)),
        ("log kept for backups", size(sizes.kept_log)),
        ("backups", size(sizes.backups)),
        ("together", taken(usage(stats))),
        ("free on the disk", size(stats.free_bytes)),
    ]);
    let heads = ["collection", "records", "on server", "pending", "parked", "documents"];
    format!("{all}\n\n{}", table(heads, collections.collect()))
}

/// What the store takes of what it may.
pub fn usage(stats: &Stats) -> Usage {
    Usage { bytes: stats.bytes, quota_bytes: stats.quota_bytes, state: stats.quota_state, disk_full: false }
}

/// The same in words.
pub fn taken(usage: Usage) -> String {
    let bytes = size(usage.bytes);
    let Some(quota) = usage.quota_bytes.map(size) else { return bytes };
    match usage.state {
        Fullness::Ok => format!("{bytes} of {quota}"),
        Fullness::Near => format!("{bytes} of {quota}; nearly full"),
        Fullness::Full => format!("{bytes} of {quota}; full: what adds data is refused"),
    }
}

/// `compact`
pub async fn compact(access: &Access, arguments: &arguments::Compact, output: Output) -> Result<(), Failure> {
    let compacted = match arguments.forget_history {
        true => waiting_for("writing the database anew, without its history", access.compact_and_forget()).await?,
        false => waiting_for("writing the database anew", access.compact()).await?,
    };
    output.print(&compacted, |Compacted { before_bytes, after_bytes }| {
        let given_back = size(before_bytes.saturating_sub(*after_bytes));
        format!("{} before, {} after: {given_back} given back", size(*before_bytes), size(*after_bytes))
    })
}
