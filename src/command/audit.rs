//! `audit`: what came from the server, held against what the server has.

use tidelock::{AuditReport, AuditRequest};

use super::access::Access;
use super::arguments;
use super::failure::{Failure, IN_PART};
use super::output::{Output, table, waiting_for};

/// `audit`: done in part where something differs and is not put right.
pub async fn audit(access: &Access, arguments: &arguments::Audit, output: Output) -> Result<(), Failure> {
    let request = AuditRequest { repair: arguments.repair, collections: arguments.collections.clone() };
    let report = waiting_for("comparing with the server", access.audit(request)).await?;
    output.print(&report, words)?;
    if report.is_settled() { Ok(()) } else { Err(Failure::silent(IN_PART)) }
}

fn words(report: &AuditReport) -> String {
    let mut blocks = Vec::new();
    if report.equal {
        blocks.push("everything that came from the server is as the server has it".to_owned());
    } else {
        let differing = report.collections.iter().filter(|(_, findings)| !findings.is_empty());
        let rows = differing.map(|(name, findings)| {
            let counts = [findings.missing, findings.extra, findings.different, findings.repaired];
            let [missing, extra, different, repaired] = counts.map(|count| count.to_string());
            [name.clone(), missing, extra, different, repaired]
        });
        blocks.push(table(["collection", "missing", "extra", "different", "repaired"], rows.collect()));
    }
    blocks.extend(report.paused.iter().map(|(name, why)| format!("{name} could not be compared: {why}")));
    if report.repaired == 0 && report.missing + report.extra + report.different > 0 {
        blocks.push("put it right with: tidelock audit --repair".to_owned());
    }
    blocks.into_iter().filter(|block| !block.is_empty()).collect::<Vec<_>>().join("\n\n")
}
