//! `verify --repair`: what is wrong is mended while the store is opened anew.

use serde::Serialize;
use tidelock::adapters::sqlite::Verified;
use tidelock::{Config, Repair};

use super::access::Access;
use super::failure::{FAILED, Failure};
use super::output::{Output, waiting_for};

/// What came of it.
#[derive(Debug, Serialize)]
struct Repaired {
    /// Whether the store is sound now.
    healthy: bool,
    /// What is still wrong with it.
    issues: Vec<String>,
    /// What was wrong before.
    found: Vec<String>,
    /// What was done about a damaged file.
    repair: Option<Repair>,
}

/// Mends the store and looks at it again.
pub async fn repair(mut config: Config, output: Output) -> Result<(), Failure> {
    // It is asked for now, whatever is wanted otherwise.
    config.storage.self_repair = true;
    let access = Access::open(&config).await?;
    let before = waiting_for("reading the whole store", access.verify()).await;
    let found = match before {
        Ok(Verified { healthy: true, .. }) => {
            access.close().await;
            let repaired = Repaired { healthy: true, issues: Vec::new(), found: Vec::new(), repair: None };
            return output.print(&repaired, words);
        }
        Ok(verified) => verified.issues,
        Err(failure) => failure.message().map(str::to_owned).into_iter().collect(),
    };
    let opened_anew = match access {
        Access::Own(own) => own.open_anew(&config).await?,
        Access::Process(_) => {
            let advice = "the process has the store open and repairs it when it is started again; stop it first";
            return Err(Failure::new(FAILED, format!("{}; {advice}", found.join("; "))));
        }
    };
    let Verified { healthy, issues } = waiting_for("reading the whole store", opened_anew.verify()).await?;
    let repair = opened_anew.last_repair().filter(|_| !found.is_empty());
    opened_anew.close().await;
    output.print(&Repaired { healthy, issues, found, repair }, words)?;
    if healthy { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

fn words(repaired: &Repaired) -> String {
    let mut lines: Vec<String> = repaired.found.iter().map(|issue| format!("found: {issue}")).collect();
    lines.extend(repaired.repair.iter().map(|repair| {
        let backup = repair.backup.as_deref().unwrap_or("no backup: there is none that is good");
        let Repair { kept_aside, salvaged, unplaced, .. } = repair;
        let aside = kept_aside.display();
        format!("the damaged file is in {aside}; replaced by {backup}; {salvaged} changes read from it, {unplaced} of no place")
    }));
    lines.extend(repaired.issues.iter().map(|issue| format!("still: {issue}")));
    if repaired.healthy {
        lines.push("the store is healthy".to_owned());
    }
    lines.join("\n")
}
