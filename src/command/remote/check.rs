//! `tidelock remote check`: the kit that is installed, beside this build and this configuration.

use std::time::Duration;

use serde::Serialize;
use tidelock::Config;
use tidelock::adapters::supabase::{Description, KIT_LEAST};
use tidelock::doctor::State;
use tidelock::doctor::fit::{self, Check};
use tidelock::model::Direction;

use super::super::checks::lines;
use super::super::failure::{FAILED, Failure};
use super::super::output::{Output, waiting_for};
use super::ask::describe;

/// How long after a kit was not found it is looked for once more.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// What was asked, and what came out.
#[derive(Debug, Serialize)]
struct Report {
    kit: Kit,
    checks: Vec<Check>,
}

/// The kit.
#[derive(Debug, Serialize)]
struct Kit {
    installed: bool,
    version: Option<u32>,
    /// The oldest version that works.
    needed: u32,
}

/// PostgREST notices a moment later what was applied just now.
async fn ask(config: &Config, tables: &[&str]) -> Result<Option<Description>, Failure> {
    match describe(config, tables).await? {
        Some(description) => Ok(Some(description)),
        None => {
            tokio::time::sleep(NOTICED_WITHIN).await;
            describe(config, tables).await
        }
    }
}

/// Asks, compares, and ends with a failure if something does not fit.
pub async fn check(config: &Config, output: Output) -> Result<(), Failure> {
    let rules: Vec<_> = config.rules().into_iter().filter(|rules| rules.direction != Direction::Local).collect();
    let tables: Vec<_> = rules.iter().map(|rules| rules.table.as_str()).collect();
    let description = waiting_for("asking the server", ask(config, &tables)).await?;
    let version = description.as_ref().map(|description| description.version);
    let mut checks = vec![fit::kit(version)];
    if let Some(description) = &description {
        checks.extend(fit::collections(config, &rules, &description.tables));
    }
    let has_failed = checks.iter().any(|check| check.state == State::Failure);
    let report = Report { kit: Kit { installed: version.is_some(), version, needed: KIT_LEAST }, checks };
    output.print(&report, |report| {
        lines(report.checks.iter().map(|check| (check.state, check.name, &*check.message, &*check.advice)))
    })?;
    if has_failed { Err(Failure::silent(FAILED)) } else { Ok(()) }
}
