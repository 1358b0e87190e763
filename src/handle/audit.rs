//! Audits on request: is what came from the server still what the server has?

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::machine::audit::Scope;
use tidelock_actors::model::Findings;
use tidelock_actors::sync;

use super::Tidelock;
use super::rounds::done;
use crate::error::Error;

/// What to audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditRequest {
    /// Whether differences are put right by taking what the server has. What waits here to be sent is kept: it meets the
    /// server's row as it would in any pull, and where the server has no such row any more it is parked.
    pub repair: bool,
    /// The collections; none named means all that are fetched.
    pub collections: Vec<String>,
}

/// What an audit found, as counts of records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditReport {
    /// Whether everything could be compared and nothing differed.
    pub equal: bool,
    /// Rows that the server has and the store lacked.
    pub missing: u64,
    /// Records that the store had from the server, and the server lacks or does not show.
    pub extra: u64,
    /// Rows that mean something else here and there.
    pub different: u64,
    /// Those of all these that are put right.
    pub repaired: u64,
    /// The same by collection.
    pub collections: BTreeMap<String, Findings>,
    /// Collections that could not be compared, with the server's word.
    pub paused: BTreeMap<String, String>,
}

impl AuditReport {
    /// Whether nothing is left that differs.
    pub fn is_settled(&self) -> bool {
        self.paused.is_empty() && self.repaired == self.missing + self.extra + self.different
    }
}

impl Tidelock {
    /// Pulls, then compares what came from the server with what it has, by what it means and whatever its versions say.
    /// With the server kit that costs digests, about 65 kB for a million rows, and a little more for each row that differs;
    /// without it all rows are read. Nothing is sent.
    pub async fn audit(&self, request: AuditRequest) -> Result<AuditReport, Error> {
        self.demand_sync()?;
        let collections = request.collections.iter().map(|name| self.audited(name)).collect::<Result<Vec<_>, _>>()?;
        let scope = Scope { repair: request.repair, collections };
        let round = done(self.inner.parts.sync.ask(sync::Audit(scope.clone())).await?)?;
        let mut report = AuditReport::default();
        for (name, findings) in round.audit.into_iter().flatten().filter(|(name, _)| scope.names(name)) {
            report.missing += findings.missing;
            report.extra += findings.extra;
            report.different += findings.different;
            report.repaired += findings.repaired;
            report.collections.insert(name.to_string(), findings);
        }
        let paused = round.paused.into_iter().filter(|(name, _)| scope.names(name));
        report.paused = paused.map(|(name, fault)| (name.to_string(), fault.to_string())).collect();
        report.equal = report.paused.is_empty() && report.missing + report.extra + report.different == 0;
        Ok(report)
    }

    fn audited(&self, name: &str) -> Result<Arc<str>, Error> {
        let rule = self.rule(name)?;
        match rule.direction.pulls() {
            true => Ok(rule.name.clone()),
            false => {
                Err(Error::Invalid(format!("collection {name:?} takes nothing from the server: nothing to compare")))
            }
        }
    }
}
