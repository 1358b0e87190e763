//! The first half of a round: sends what the outbox leases, several batches at once where the server takes them so.
//!
//! What is on its way when a round is cut short is waited for and settled: its verdicts are worth having.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cut, Motion, Progress, Round, in_time};
use crate::conflict::Take;
use crate::limits::{QUICK_BATCH, RESOLUTION_TRIES};
use crate::machine::flights::Flights;
use crate::model::{Outgoing, Verdict};
use crate::ports::Remote;
use crate::queue::{BeginRound, Lease, Leased, Settle, Settled};
use crate::writes::Observation;

/// A batch with the server's word on each operation.
type Answered = Vec<(Outgoing, Verdict)>;

impl Progress<'_> {
    /// Until the end of the outbox, and again while the last batches left something new behind it: resolved conflicts,
    /// and operations that waited for one that is through now.
    pub(super) async fn push(&mut self, round: Round) -> Result<(), Cut> {
        let nature = in_time(self.crew.remote.nature()).await??;
        let mut sky = Sky::new(nature.batches_at_once);
        self.crew.queue.ask_soon(BeginRound { nature }).await??;
        let mut result = self.send_all(&mut sky, round).await;
        while let Some(landed) = sky.land().await {
            result = result.and(self.settle(landed.answers, round).await);
        }
        result
    }

    async fn send_all(&mut self, sky: &mut Sky, round: Round) -> Result<(), Cut> {
        let (mut limit, mut ends) = (round.batch_size, 0);
        let mut leased = self.lease(limit, sky).await?;
        while ends < RESOLUTION_TRIES {
            if sky.takes(&leased) {
                sky.launch(&self.crew.remote, leased.batch);
                leased = self.lease(limit, sky).await?;
                continue;
            }
            let Some(landed) = sky.land().await else {
                if leased.is_last {
                    return Ok(());
                }
                leased = self.lease(limit, sky).await?;
                continue;
            };
            if landed.took < QUICK_BATCH {
                limit = (limit * 2).min(round.batch_size_max);
            }
            // The server need not wait while verdicts are settled.
            if !landed.ends_the_round() && sky.takes(&leased) {
                sky.launch(&self.crew.remote, std::mem::take(&mut leased.batch));
            }
            self.settle(landed.answers, round).await?;
            if leased.batch.is_empty() {
                ends += usize::from(leased.is_last && sky.is_clear());
                leased = self.lease(limit, sky).await?;
            }
        }
        Ok(())
    }

    async fn lease(&self, limit: usize, sky: &Sky) -> Result<Leased, Cut> {
        Ok(self.crew.queue.ask_soon(Lease { limit, flights: sky.flights.clone() }).await??)
    }

    /// Settles what the server said of a batch, and resolves the conflicts.
    async fn settle(&mut self, answers: Answered, round: Round) -> Result<(), Cut> {
        self.correct_clock();
        let is_applied = |(_, verdict): &&(Outgoing, Verdict)| matches!(verdict, Verdict::Applied { .. });
        let pushed: BTreeSet<_> =
            answers.iter().filter(is_applied).map(|(outgoing, _)| outgoing.id.collection.clone()).collect();
        let settled = self.crew.queue.ask_soon(Settle(answers)).await??;
        let Settled { applied, failed, parked, conflicts, fault, paused } = settled;
        paused.into_iter().for_each(|(collection, fault)| self.pause(collection, fault));
        self.report.pushed += applied;
        self.report.failed += failed;
        self.report.parked += parked;
        if applied + parked > 0 {
            (self.crew.moved)(Motion::Pushed(&pushed));
        }
        if !conflicts.is_empty() {
            let observation =
                Observation { rows: conflicts, round: round.number, by_key: true, ..Observation::default() };
            self.report.conflicts += self.crew.resolver.ask_soon(Take(observation)).await??.conflicts;
            (self.crew.moved)(Motion::Other);
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
}

/// The batches on their way. They go on while others are leased and settled, and are given up with the round.
struct Sky {
    at_once: usize,
    flights: Flights,
    tasks: JoinSet<Landed>,
}

/// A batch that has come back.
struct Landed {
    number: u64,
    took: Duration,
    answers: Answered,
}

impl Landed {
    fn ends_the_round(&self) -> bool {
        self.answers.iter().any(|(_, verdict)| match verdict {
            Verdict::Failed(fault) => fault.concerns_everything(),
            Verdict::Applied { .. } | Verdict::Conflict(_) => false,
        })
    }
}

impl Sky {
    fn new(at_once: usize) -> Self {
        Self { at_once, flights: Flights::default(), tasks: JoinSet::new() }
    }

    fn is_clear(&self) -> bool {
        self.flights.count() == 0
    }

    fn takes(&self, leased: &Leased) -> bool {
        let is_new = leased.batch.iter().all(|outgoing| !outgoing.may_have_been_sent);
        let has_room = is_new && leased.may_overtake && self.flights.count() < self.at_once;
        !leased.batch.is_empty() && (self.is_clear() || has_room)
    }

    fn launch(&mut self, remote: &Arc<dyn Remote>, batch: Vec<Outgoing>) {
        let (number, remote, began) = (self.flights.launch(&batch), remote.clone(), Instant::now());
        self.tasks.spawn(async move {
            let verdicts = match in_time(remote.push(batch.clone())).await {
                Ok(pushed) => pushed.verdicts,
                Err(fault) => vec![Verdict::Failed(fault); batch.len()],
            };
            Landed { number, took: began.elapsed(), answers: batch.into_iter().zip(verdicts).collect() }
        });
    }

    /// The next batch to come back; nothing where none is on its way.
    async fn land(&mut self) -> Option<Landed> {
        match self.tasks.join_next().await? {
            Ok(landed) => {
                self.flights.land(landed.number);
                Some(landed)
            }
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
}
