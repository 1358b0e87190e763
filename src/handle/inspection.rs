//! What the server says when it is asked whether everything fits; nothing is changed by it, here or there.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::model::{Checkpoints, CollectionRules, Direction, Fault};
use tidelock_actors::ports::{PullRequest, Reader, Remote};

use super::Tidelock;
use crate::error::Error;
use crate::runtime::on;

/// Whether the server's schema and clock fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// The collections that are synced, each with what is wrong with it; null where nothing is.
    pub collections: BTreeMap<String, Option<String>>,
    /// The server's clock less this device's, in milliseconds, if an answer told it.
    pub clock_offset_ms: Option<i64>,
}

/// No round's number: what is read for an inspection belongs to no walk.
const NO_ROUND: i64 = -1;

impl Tidelock {
    /// Asks the server for a page of every collection, as a round would, and keeps nothing of it.
    pub async fn inspect(&self) -> Result<Inspection, Error> {
        self.probe().await?;
        let (remote, rules) = (self.inner.remote.clone(), self.inner.rules.clone());
        let have = self.inner.reads.checkpoints().await?;
        Ok(on(&self.inner.parts.thread, async move { inspect(remote, &rules, have).await }).await??)
    }
}

async fn inspect(remote: Arc<dyn Remote>, rules: &[CollectionRules], have: Checkpoints) -> Result<Inspection, Fault> {
    let mut found = Inspection::default();
    for rule in rules.iter().filter(|rule| rule.direction != Direction::Local) {
        let fault = match fault_of(remote.as_ref(), rule, &have).await {
            Err(fault) if fault.concerns_everything() => return Err(fault),
            Err(fault) => Some(fault.to_string()),
            Ok(()) => None,
        };
        found.collections.insert(rule.name.to_string(), fault);
    }
    found.clock_offset_ms = remote.clock_offset_ms();
    Ok(found)
}

async fn fault_of(remote: &dyn Remote, rule: &CollectionRules, have: &Checkpoints) -> Result<(), Fault> {
    if !rule.direction.pulls() {
        return remote.count(rule.name.clone()).await.map(|_| ());
    }
    let request = PullRequest { collections: vec![rule.name.clone()], deep: true, round: NO_ROUND };
    let page = remote.pull(have.clone(), request).await?;
    page.paused.into_iter().next().map_or(Ok(()), |(_, fault)| Err(fault))
}
