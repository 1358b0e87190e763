//! Scenarios on the real backend: one binary, a module a scenario.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may stop and talk"
)]

mod audit;
mod backups;
mod canary;
mod clones;
mod command_line;
mod command_line_backup;
mod command_line_process;
mod command_line_synced;
mod conflicts;
mod doctor;
mod doctor_bundle;
mod doctor_changes_nothing;
mod doctor_rights;
mod elsewhere;
mod events;
mod fleet;
#[cfg(target_os = "linux")]
mod full_disk;
mod history;
mod kill;
mod kit;
mod kit_sql;
mod logger;
mod logger_process;
mod lost_answers;
mod metrics;
mod outages;
mod paging;
mod plain_remote;
mod quota;
mod refusals;
mod remote_kit;
mod restores;
mod selective_sync;
mod status;
mod storm;
mod support;
mod troubleshooting;
mod two_devices;
mod upheaval;
mod whole_transactions;
