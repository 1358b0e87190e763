//! One round: push until the outbox is empty, pull until nothing is left, look for deletions when due.
//!
//! Every step is safe to repeat and leaves the store consistent, so a round may be dropped at any await.
//! It decides nothing about when; it only reports how far it came.

mod audit;
mod deletions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use crate::conflict::{ConflictError, ConflictResolver, Take};
use crate::limits::{QUICK_BATCH, REMOTE_DEADLINE, RESOLUTION_TRIES};
use crate::machine::audit::Scope;
use crate::machine::schedule::Task;
use crate::model::{CollectionRules, Counts, Fault, FaultKind, Findings, Outgoing, RecordId, Verdict};
use crate::peer::{PartError, Peer};
use crate::ports::{PullRequest, Pulled, Reader, Remote, StoreError};
use crate::queue::{BeginRound, Lease, Leased, Queue, QueueError, Settle, Settled};
use crate::storage::{CorrectClock, Perform, Storage};
use crate::writes::{Observation, Write};

/// The checkpoint that says that rows were read with an access token. No collection has such a name.
const SIGNED_IN: &str = "signed in";

/// How a round went.
#[derive(Debug, Clone, Default)]
pub struct RoundReport {
    /// Sent operations that took effect.
    pub pushed: u64,
    /// Records that changed here.
    pub pulled: u64,
    /// Sent operations that did not take effect and are tried again.
    pub failed: u64,
    /// Operations set aside, dependants included.
    pub parked: u64,
    /// Conflicts met, open or resolved.
    pub conflicts: u64,
    /// Requests sent.
    pub requests: u64,
    /// Collections that do not fit the server's schema.
    pub paused: Vec<(Arc<str>, Fault)>,
    /// What cut the round short, or the last fault of one collection or operation.
    pub fault: Option<Fault>,
    /// What cut the round short on this device: a full disk, a part that was restarted.
    pub local_trouble: Option<String>,
    /// What an audit found in each collection that it could compare.
    pub audit: Option<BTreeMap<Arc<str>, Findings>>,
}

impl RoundReport {
    /// What kept the round from its end, for the schedule: trouble of our own passes as the network's does.
    pub fn cut(&self) -> Option<Fault> {
        let local = || self.local_trouble.as_ref().map(|trouble| Fault::new(FaultKind::Transient, trouble));
        self.fault.clone().filter(Fault::concerns_everything).or_else(local)
    }

    /// What went wrong, in words.
    pub fn trouble(&self) -> Option<String> {
        self.local_trouble.clone().or_else(|| self.fault.as_ref().map(ToString::to_string))
    }
}

/// Everything that a round needs.
#[derive(Clone)]
pub struct Crew {
    /// The outbox.
    pub queue: Peer<Queue>,
    /// The resolver.
    pub resolver: Peer<ConflictResolver>,
    /// The store's writer.
    pub storage: Peer<Storage>,
    /// The store's readers.
    pub reader: Arc<dyn Reader>,
    /// The server.
    pub remote: Arc<dyn Remote>,
    /// The collections, parents first.
    pub rules: Arc<[CollectionRules]>,
    /// The exact counts.
    pub counts: tokio::sync::watch::Receiver<Counts>,
    /// Told whenever something moved.
    pub moved: Arc<dyn Fn() + Send + Sync>,
}

/// What this round is.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Its number.
    pub number: i64,
    /// What to do.
    pub task: Task,
    /// Whether to list all keys even where the counts agree.
    pub distrusts_counts: bool,
    /// Operations in the first batch.
    pub batch_size: usize,
    /// Operations in the largest batch.
    pub batch_size_max: usize,
}

/// Runs the round, with the audit that is asked for, to its end or to the first fault that concerns all of it.
pub async fn run(crew: Crew, round: Round, audited: Option<Scope>) -> RoundReport {
    let requests_before = crew.remote.requests();
    let mut report = RoundReport::default();
    let mut progress = Progress { crew: &crew, walk: 0, report: &mut report };
    let result = progress.all(round, audited.as_ref()).await;
    match result {
        Ok(()) => {}
        Err(Cut::Remote(fault)) => report.fault = Some(fault),
        Err(Cut::Local(trouble)) => report.local_trouble = Some(trouble),
    }
    report.requests = crew.remote.requests() - requests_before;
    report
}

/// What cuts a round short.
enum Cut {
    Remote(Fault),
    Local(String),
}

impl From<Fault> for Cut {
    fn from(fault: Fault) -> Self {
        Self::Remote(fault)
    }
}

macro_rules! local_cut {
    ($($error:ty),*) => {$(
        impl From<$error> for Cut {
            fn from(error: $error) -> Self {
                Self::Local(error.to_string())
            }
        }
    )*};
}
local_cut!(StoreError, PartError, QueueError, ConflictError);

struct Progress<'a> {
    crew: &'a Crew,
    /// The number of the last walk.
    walk: i64,
    report: &'a mut RoundReport,
}

impl Progress<'_> {
    async fn all(&mut self, round: Round, audited: Option<&Scope>) -> Result<(), Cut> {
        self.check_identity().await?;
        if round.task.probe {
            in_time(self.crew.remote.probe()).await??;
        }
        if round.task.push {
            self.push(round).await?;
        }
        let conflicts_before = self.report.conflicts;
        if round.task.pull {
            self.pull(round).await?;
        }
        if let Some(scope) = audited {
            self.audit(round, scope).await?;
        } else if round.task.pull && round.task.deep && self.crew.remote.needs_listing() {
            self.find_deletions(round).await?;
            self.crew.remote.listed();
        }
        // What the pull made the resolver decide may have to be sent.
        if round.task.push && self.report.conflicts > conflicts_before {
            self.push(round).await?;
        }
        Ok(())
    }

    /// Somebody who is not signed in sees fewer rows, and fewer rows look like deletions: a store that was filled
    /// with a token waits for one (H25).
    async fn check_identity(&self) -> Result<(), Cut> {
        let checkpoints = self.crew.reader.checkpoints().await?;
        match (self.crew.remote.is_signed_in(), checkpoints.contains_key(SIGNED_IN)) {
            (true, false) => {
                let checkpoints = [(SIGNED_IN.to_owned(), "yes".to_owned())].into();
                let remember = Observation { checkpoints, ..Observation::default() };
                self.crew.storage.ask_soon(Perform(Write::Observe(remember))).await??;
                Ok(())
            }
            (false, true) => {
                let why = "this store was filled with an access token and there is none now";
                Err(Fault::new(FaultKind::Unauthorized, why).into())
            }
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// Until the end of the outbox, and again while the last batch left something new behind it: resolved
    /// conflicts, and operations that waited for one that is through now. While a batch is on its way, the one
    /// before it is settled and the next one is leased; batches themselves go one after another.
    async fn push(&mut self, round: Round) -> Result<(), Cut> {
        let keeps_transactions = in_time(self.crew.remote.keeps_transactions()).await??;
        self.crew.queue.ask_soon(BeginRound { keeps_transactions }).await?;
        let (mut limit, mut ends) = (round.batch_size, 0);
        let mut answered: Answered = Vec::new();
        let mut leased = self.lease(limit, BTreeSet::new()).await?;
        while ends < RESOLUTION_TRIES {
            if leased.batch.is_empty() {
                if leased.is_last && answered.is_empty() {
                    return Ok(());
                }
                ends += usize::from(leased.is_last);
                self.settle(std::mem::take(&mut answered), round).await?;
                leased = self.lease(limit, BTreeSet::new()).await?;
                continue;
            }
            let began = Instant::now();
            let (before, batch) = (std::mem::take(&mut answered), leased.batch);
            let (crew, unsettled) = (self.crew, batch.iter().map(|outgoing| outgoing.id.clone()).collect());
            let meanwhile = async {
                self.settle(before, round).await?;
                self.lease(limit, unsettled).await
            };
            let (answers, following) = futures::join!(send(crew, batch), meanwhile);
            if following.is_err() || answers.iter().any(|(_, verdict)| ends_the_round(verdict)) {
                let last = self.settle(answers, round).await;
                return following.and(last);
            }
            (answered, leased) = (answers, following?);
            if began.elapsed() < QUICK_BATCH {
                limit = (limit * 2).min(round.batch_size_max);
            }
        }
        self.settle(answered, round).await
    }

    async fn lease(&self, limit: usize, unsettled: BTreeSet<RecordId>) -> Result<Leased, Cut> {
        Ok(self.crew.queue.ask_soon(Lease { limit, unsettled }).await??)
    }

    /// Settles what the server said of a batch, and resolves the conflicts.
    async fn settle(&mut self, answered: Answered, round: Round) -> Result<(), Cut> {
        if answered.is_empty() {
            return Ok(());
        }
        self.correct_clock();
        let settled = self.crew.queue.ask_soon(Settle(answered)).await??;
        let Settled { applied, failed, parked, conflicts, fault, paused } = settled;
        paused.into_iter().for_each(|(collection, fault)| self.pause(collection, fault));
        self.report.pushed += applied;
        self.report.failed += failed;
        self.report.parked += parked;
        if applied + parked > 0 {
            (self.crew.moved)();
        }
        if !conflicts.is_empty() {
            let observation =
                Observation { rows: conflicts, round: round.number, by_key: true, ..Observation::default() };
            self.report.conflicts += self.crew.resolver.ask_soon(Take(observation)).await??.conflicts;
            (self.crew.moved)();
        }
        match fault {
            Some(fault) if fault.concerns_everything() => Err(fault.into()),
            Some(fault) => {
                self.report.fault.get_or_insert(fault);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Fetches page after page; the next one is on its way while the last one is stored. A round that pulls
    /// more than once gives each walk another number than the one before.
    async fn pull(&mut self, round: Round) -> Result<(), Cut> {
        self.walk = if self.walk == round.number { -round.number } else { round.number };
        let collections = self.pulled_collections().map(|rule| rule.name.clone()).collect();
        let request = PullRequest { collections, deep: round.task.deep, round: self.walk };
        let mut have = self.crew.reader.checkpoints().await?;
        let mut page = self.next_page(have.clone(), &request).await?;
        loop {
            self.correct_clock();
            have.extend(page.checkpoints.clone());
            std::mem::take(&mut page.paused).into_iter().for_each(|(collection, fault)| self.pause(collection, fault));
            let more = page.more;
            let following =
                async { if more { self.next_page(have.clone(), &request).await.map(Some) } else { Ok(None) } };
            let (taken, following) = futures::join!(take(self.crew, page, round.number), following);
            let (changed, conflicts) = taken?;
            self.report.pulled += changed;
            self.report.conflicts += conflicts;
            match following? {
                Some(following) => page = following,
                None => break,
            }
        }
        if let Some((_, fault)) = self.report.paused.first() {
            self.report.fault.get_or_insert(fault.clone());
        }
        Ok(())
    }

    async fn next_page(&self, have: crate::model::Checkpoints, request: &PullRequest) -> Result<Pulled, Cut> {
        Ok(in_time(self.crew.remote.pull(have, request.clone())).await??)
    }

    fn pulled_collections(&self) -> impl Iterator<Item = &CollectionRules> {
        self.crew.rules.iter().filter(|rule| rule.direction.pulls())
    }

    /// The others go on.
    fn pause(&mut self, collection: Arc<str>, fault: Fault) {
        if self.report.paused.iter().all(|(paused, _)| *paused != collection) {
            self.report.paused.push((collection, fault));
        }
    }

    fn correct_clock(&self) {
        if let Some(offset_ms) = self.crew.remote.clock_offset_ms() {
            self.crew.storage.hint(CorrectClock { offset_ms });
        }
    }
}

/// A batch with the server's word on each operation.
type Answered = Vec<(Outgoing, Verdict)>;

async fn send(crew: &Crew, batch: Vec<Outgoing>) -> Answered {
    let verdicts = match in_time(crew.remote.push(batch.clone())).await {
        Ok(pushed) => pushed.verdicts,
        Err(fault) => vec![Verdict::Failed(fault); batch.len()],
    };
    batch.into_iter().zip(verdicts).collect()
}

fn ends_the_round(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Failed(fault) => fault.concerns_everything(),
        Verdict::Applied { .. } | Verdict::Conflict(_) => false,
    }
}

/// Rows and checkpoints go into the store together (H06).
async fn take(crew: &Crew, page: Pulled, round: i64) -> Result<(u64, u64), Cut> {
    let observation = Observation { rows: page.rows, checkpoints: page.checkpoints, round, ..Observation::default() };
    let taken = crew.resolver.ask_soon(Take(observation)).await??;
    (crew.moved)();
    Ok((taken.changed, taken.conflicts))
}

/// No request may keep a round for ever (H13); what a write came to is then unknown (H54).
async fn in_time<T>(request: impl Future<Output = T>) -> Result<T, Fault> {
    let late = || format!("the server did not answer within {} s", REMOTE_DEADLINE.as_secs());
    timeout(REMOTE_DEADLINE, request).await.map_err(|_| Fault::new(FaultKind::Transient, late()))
}
