//! Stands before the server while a batch is sent: what one request was told, the next ones need not ask again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tidelock_actors::limits;
use tidelock_actors::model::{Fault, FaultKind};

use super::http::{Answer, Link, Question};
use super::table::Table;
use crate::locks::locked;

/// How long a batch is worked on. What is settled by then is told in time; the rest is left for another batch.
const BATCH_DEADLINE: Duration = Duration::from_secs(limits::REMOTE_DEADLINE.as_secs() / 2);

/// A gate to one server, for one batch.
pub(super) struct Gate<'a> {
    link: &'a Link,
    opened: Instant,
    closed: OnceLock<Fault>,
    misfits: Mutex<BTreeMap<Arc<str>, Fault>>,
}

impl<'a> Gate<'a> {
    pub fn new(link: &'a Link) -> Self {
        Self { link, opened: Instant::now(), closed: OnceLock::new(), misfits: Mutex::default() }
    }

    /// Sends, unless it is known already what would come back: nothing reaches the server, the credentials are not
    /// taken, or the collection does not fit the server's schema.
    pub async fn send(&self, table: &Table, question: Question<'_>) -> Result<Answer, Fault> {
        self.check(table)?;
        let answer = self.link.send(question).await;
        if let Err(fault) = &answer {
            self.note(table, fault);
            table.note(fault).await;
        }
        answer
    }

    /// The version column, if the server has it.
    pub async fn version<'t>(&self, table: &'t Table) -> Result<Option<&'t str>, Fault> {
        self.check(table)?;
        table.version(self.link).await.inspect_err(|fault| self.note(table, fault))
    }

    fn check(&self, table: &Table) -> Result<(), Fault> {
        if let Some(fault) = self.closed.get() {
            return Err(fault.clone());
        }
        if self.opened.elapsed() > BATCH_DEADLINE {
            return Err(Fault::new(FaultKind::Transient, "the server is slow; the rest is left for another batch"));
        }
        let misfits = locked(&self.misfits);
        misfits.get(&table.name).map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Remembers what an answer says about the requests after it.
    pub fn note(&self, table: &Table, fault: &Fault) {
        if fault.concerns_everything() {
            // The first word counts.
            let _ = self.closed.set(fault.clone());
        }
        if fault.kind == FaultKind::Schema {
            let mut misfits = locked(&self.misfits);
            misfits.entry(table.name.clone()).or_insert_with(|| fault.clone());
        }
    }
}
