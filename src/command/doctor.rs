//! `tidelock doctor`: everything that tidelock needs, each with its state and the next step.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tidelock::adapters::sqlite::{Fullness, Stats};
use tidelock::api::{ADDRESS_FILE, TOKEN_FILE};
use tidelock::config::{LoadOptions, Loaded, Mode};
use tidelock::{Config, Inspection};

use super::access::Access;
use super::checks::{State, lines};
use super::failure::{FAILED, Failure, UNAUTHORIZED};
use super::output::{Output, size};
use super::storage::{taken, usage};

/// Free bytes below which the disk is as good as full.
const FREE_LEAST: u64 = 50 * 1024 * 1024;
/// Free bytes below which it soon will be.
const FREE_LOW: u64 = 1024 * 1024 * 1024;

/// How far the clock may be away before it decides conflicts wrongly.
const CLOCK_AWAY: Duration = Duration::from_secs(60);

/// One check.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    /// What to do; empty where nothing is to be done.
    next: String,
}

/// All checks.
#[derive(Debug, Serialize)]
struct Findings {
    healthy: bool,
    checks: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, check: &'static str, state: State, found: impl ToString, next: impl ToString) {
        self.healthy &= state != State::Failure;
        self.checks.push(Finding { check, state, found: found.to_string(), next: next.to_string() });
    }

    fn ok(&mut self, check: &'static str, found: impl ToString) {
        self.add(check, State::Ok, found, "");
    }
}

/// Looks at everything, one after the other; what cannot be looked at because of an earlier failure is left out.
pub async fn doctor(options: &LoadOptions, output: Output) -> Result<(), Failure> {
    let mut findings = Findings { healthy: true, checks: Vec::new() };
    if let Some(config) = configuration(options, &mut findings) {
        match Access::open(&config).await {
            Ok(access) => {
                store(&access, &mut findings).await;
                folder(&config.storage.data_dir, &mut findings);
                api(&access, &config, &mut findings);
                server(&access, &config, &mut findings).await;
                access.close().await;
            }
            Err(failure) => {
                findings.add("store", State::Failure, failure, "mend this first; then ask the doctor again");
                folder(&config.storage.data_dir, &mut findings);
            }
        }
    }
    let is_healthy = findings.healthy;
    output.print(&findings, words)?;
    if is_healthy { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

fn words(findings: &Findings) -> String {
    lines(findings.checks.iter().map(|finding| (finding.state, finding.check, &*finding.found, &*finding.next)))
}

fn configuration(options: &LoadOptions, findings: &mut Findings) -> Option<Config> {
    match Loaded::load(options) {
        Ok(loaded) => {
            let read: Vec<_> = loaded.files().iter().map(|file| file.display().to_string()).collect();
            let files = if read.is_empty() {
                "no file; built-in values and the environment".to_owned()
            } else {
                read.join(", ")
            };
            let collections = loaded.config.collections.len();
            findings.ok("configuration", format!("{files}; {collections} collections"));
            Some(loaded.config)
        }
        Err(error) => {
            for problem in error.problems() {
                findings.add(
                    "configuration",
                    State::Failure,
                    problem,
                    "mend it; docs/configuration.md lists every key",
                );
            }
            None
        }
    }
}

async fn store(access: &Access, findings: &mut Findings) {
    match access.verify().await {
        Ok(verified) if verified.healthy => findings.ok("store", "healthy"),
        Ok(verified) => {
            findings.add("store", State::Failure, verified.issues.join("; "), "keep a copy of the data folder")
        }
        Err(failure) => findings.add("store", State::Failure, failure, "keep a copy of the data folder"),
    }
    match access.stats().await {
        Ok(stats) => {
            let (state, next) = match stats.free_bytes {
                free if free < FREE_LEAST => (State::Failure, "free some space: writes will fail"),
                free if free < FREE_LOW => (State::Warning, "free some space soon"),
                _ => (State::Ok, ""),
            };
            let found = format!("{} free, the store takes {}", size(stats.free_bytes), size(stats.bytes));
            findings.add("disk space", state, found, next);
            quota(&stats, findings);
        }
        Err(failure) => findings.add("disk space", State::Failure, failure, ""),
    }
    match access.status().await {
        Ok(status) => {
            work(&status, findings);
            for (name, part) in &status.parts {
                let found = format!("{name} is {} after {} restarts", part.state, part.restarts);
                let state = if part.state == "running" { State::Warning } else { State::Failure };
                findings.add("parts", state, found, part.cause.clone().unwrap_or_default());
            }
        }
        Err(failure) => findings.add("queue", State::Failure, failure, ""),
    }
}

/// How near the store is to what it may take.
fn quota(stats: &Stats, findings: &mut Findings) {
    let next = "delete what is not needed, then tidelock compact --forget-history; or raise storage.quota";
    let found = match stats.quota_bytes {
        Some(_) => taken(usage(stats)),
        None => format!("{}; none is set", taken(usage(stats))),
    };
    match stats.quota_state {
        Fullness::Ok => findings.ok("quota", found),
        Fullness::Near => findings.add("quota", State::Warning, found, next),
        Fullness::Full => findings.add("quota", State::Failure, found, next),
    }
}

/// What waits in the queue, and for what.
fn work(status: &tidelock::Status, findings: &mut Findings) {
    let found = format!("{} pending, {} parked, {} in conflict", status.pending, status.parked, status.conflicts);
    let next = match (status.parked, status.conflicts) {
        (0, 0) => "",
        (0, _) => "decide them: tidelock conflicts list",
        _ => "look at the causes: tidelock queue list --state parked",
    };
    findings.add("queue", if next.is_empty() { State::Ok } else { State::Warning }, found, next);
    if let Some(since) = status.stalled_since {
        let cause = status.stalled_reason.clone().unwrap_or_default();
        findings.add("progress", State::Warning, format!("nothing has moved since {since}"), cause);
    }
    for (name, collection) in &status.collections {
        if let Some(why) = &collection.paused {
            findings.add(
                "schema",
                State::Failure,
                format!("{name} is paused: {why}"),
                "make table and [collections] agree",
            );
        }
    }
}

/// Whether others of this machine can read what should be the user's alone.
#[cfg(unix)]
fn folder(folder: &Path, findings: &mut Findings) {
    use std::os::unix::fs::PermissionsExt;
    let open_to_others = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        (metadata.permissions().mode() & 0o077 != 0).then(|| path.display().to_string())
    };
    let secret = [TOKEN_FILE, ADDRESS_FILE].map(|name| folder.join(name));
    let open: Vec<_> =
        std::iter::once(folder).chain(secret.iter().map(|path| path.as_path())).filter_map(open_to_others).collect();
    match open.as_slice() {
        [] => findings.ok("permissions", format!("{} is for its owner alone", folder.display())),
        paths => {
            let found = format!("other users of this machine may look into {}", paths.join(", "));
            findings.add("permissions", State::Warning, found, format!("chmod -R go= {}", folder.display()));
        }
    }
}

/// Permissions are the system's own matter here.
#[cfg(not(unix))]
fn folder(folder: &Path, findings: &mut Findings) {
    findings.ok("permissions", folder.display());
}

fn api(access: &Access, config: &Config, findings: &mut Findings) {
    match access.process() {
        Some(client) => findings.ok("process", format!("answers at http://{}", client.endpoint().address)),
        None if config.api.enabled => {
            findings.add("process", State::Warning, "none runs on this data folder", "tidelock run keeps it in sync");
        }
        None => findings.add(
            "process",
            State::Warning,
            "none runs, and [api] enabled is false",
            "tidelock run keeps it in sync",
        ),
    }
}

async fn server(access: &Access, config: &Config, findings: &mut Findings) {
    let Some(url) = &config.remote.url else {
        findings.add("server", State::Warning, "none is configured", "set remote.url and remote.anon_key to sync");
        return;
    };
    let is_plain_http = url.starts_with("http://")
        && !["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|local| url.starts_with(local));
    if is_plain_http {
        findings.add("encryption", State::Warning, format!("{url} is not encrypted"), "use https://");
    }
    if config.remote.anon_key.is_none() {
        findings.add("credentials", State::Failure, "no key is configured", "set remote.anon_key or SUPABASE_ANON_KEY");
        return;
    }
    match access.inspect().await {
        Ok(inspection) => {
            findings.ok("connection", url);
            findings.ok("credentials", "accepted");
            schema(&inspection, findings);
            kit(config, findings).await;
            clock(inspection.clock_offset_ms, findings);
        }
        Err(failure) if failure.exit == UNAUTHORIZED => {
            findings.ok("connection", url);
            findings.add("credentials", State::Failure, failure, "copy the key anew from the project's settings");
        }
        Err(failure) => findings.add("connection", State::Failure, failure, "check remote.url and the network"),
    }
}

fn schema(inspection: &Inspection, findings: &mut Findings) {
    let wrong: Vec<_> =
        inspection.collections.iter().filter_map(|(name, fault)| Some((name, fault.as_ref()?))).collect();
    for (name, fault) in &wrong {
        findings.add("schema", State::Failure, format!("{name}: {fault}"), "make the table and [collections] agree");
    }
    if wrong.is_empty() {
        findings.ok("schema", format!("{} collections fit the server's tables", inspection.collections.len()));
    }
}

/// Whether the server kit is there, where it would be used.
async fn kit(config: &Config, findings: &mut Findings) {
    if config.remote.mode == Mode::Plain {
        return;
    }
    match super::remote::describe(config, &[]).await {
        Ok(description) => {
            let check = super::remote::kit(description.map(|description| description.version));
            // Everything works without the kit, only not as exactly, unless it is insisted on.
            let state = match (check.state, config.remote.mode) {
                (State::Failure, Mode::Auto | Mode::Plain) => State::Warning,
                (state, _) => state,
            };
            findings.add("server kit", state, check.message, check.advice);
        }
        Err(failure) => findings.add("server kit", State::Warning, failure, "tidelock remote check tells more"),
    }
}

fn clock(offset_ms: Option<i64>, findings: &mut Findings) {
    match offset_ms.map(i64::unsigned_abs).map(Duration::from_millis) {
        None => findings.add("clock", State::Warning, "the server does not tell its time", ""),
        Some(offset) if offset > CLOCK_AWAY => {
            let found = format!("{} s away from the server's", offset.as_secs());
            findings.add("clock", State::Warning, found, "set this device's clock: newest-wins goes by it");
        }
        Some(offset) => findings.ok("clock", format!("within {} s of the server's", offset.as_secs() + 1)),
    }
}
