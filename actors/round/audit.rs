//! An audit: what the store has from the server, held against what the server has, by digests where it makes them and
//! row by row where it does not. What was found is put right on the way of every pulled row, so all its gates hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::join;

use super::{Cut, Motion, Progress, Round, in_time};
use crate::conflict::Take;
use crate::limits::{AUDIT_LOOKS, AUDIT_ROWS, BUCKET_ROWS, FETCH_KEYS};
use crate::machine::audit::{Finding, Scope, buckets, compare, differing, is_settled, suspects};
use crate::model::{CollectionRules, Fault, FaultKind, Findings, RecordId, RemoteRow, RemoteState};
use crate::ports::Digesting;
use crate::storage::Perform;
use crate::writes::{ListedKeys, Observation, Write, Written};

/// What looking closer at some rows came to.
#[derive(Default)]
struct Compared {
    differences: Vec<(RemoteRow, Finding)>,
    respelled: Vec<RemoteRow>,
}

impl Progress<'_> {
    /// Compares the collections in scope, after a pull.
    pub(super) async fn audit(&mut self, round: Round, scope: &Scope) -> Result<(), Cut> {
        let rules: Vec<_> = self.pulled_collections().filter(|rule| scope.names(&rule.name)).cloned().collect();
        let suspected = match self.digestings(&rules).await? {
            Some(asked) => self.suspects_by_digest(asked).await?,
            None => self.suspects_by_reading(rules).await?,
        };
        let mut audited = BTreeMap::new();
        for (collection, keys) in suspected {
            let mut findings = Findings::default();
            for keys in keys.chunks(FETCH_KEYS) {
                let compared = self.look_closer(round, &collection, keys.to_vec()).await;
                let Some(compared) = self.or_pause(&collection, compared)? else { break };
                compared.differences.iter().for_each(|(_, finding)| finding.count(&mut findings));
                self.observe(compared.respelled, round).await?;
                if scope.repair {
                    let rows = compared.differences.into_iter().map(|(row, _)| row).collect();
                    findings.repaired += self.repair(&collection, rows, round).await?;
                }
            }
            audited.insert(collection, findings);
        }
        self.report.audit = Some(audited);
        Ok(())
    }

    /// How the digests are to be made; nothing where the server makes none.
    async fn digestings(&self, rules: &[CollectionRules]) -> Result<Option<Vec<Digesting>>, Cut> {
        let names = rules.iter().map(|rule| rule.name.clone()).collect();
        let Some(layouts) = in_time(self.crew.remote.layouts(names)).await?? else { return Ok(None) };
        let digesting = |(rule, layout): (&CollectionRules, _)| Digesting {
            collection: rule.name.clone(),
            layout: Arc::new(layout),
            buckets: buckets(self.records_on_server(&rule.name)),
            with_unconfirmed: rule.filter.is_none(),
        };
        Ok(Some(rules.iter().zip(layouts).map(digesting).collect()))
    }

    fn records_on_server(&self, collection: &str) -> u64 {
        self.crew.counts.borrow().get(collection).map_or(0, |counts| counts.on_server)
    }

    /// Both sides make their digests at the same time.
    async fn suspects_by_digest(&mut self, all: Vec<Digesting>) -> Result<Vec<(Arc<str>, Vec<Arc<str>>)>, Cut> {
        let remote = self.crew.remote.clone();
        let there = async {
            let mut there = Vec::new();
            for asked in &all {
                there.push(in_time(remote.digests(asked.clone())).await.and_then(|digests| digests));
            }
            there
        };
        let (here, there) = join!(self.crew.reader.digests(all.clone()), there);
        let mut suspected = Vec::new();
        for ((asked, here), there) in all.into_iter().zip(here?).zip(there) {
            let Some(there) = self.or_pause(&asked.collection, there.map_err(Cut::from))? else { continue };
            let keys = self.suspects_within(&asked, differing(&here, &there)).await;
            if let Some(keys) = self.or_pause(&asked.collection, keys)? {
                suspected.push((asked.collection, keys));
            }
        }
        Ok(suspected)
    }

    /// Lists what is in the buckets that differ.
    async fn suspects_within(&self, asked: &Digesting, buckets: Vec<usize>) -> Result<Vec<Arc<str>>, Cut> {
        let rows_a_bucket = (self.records_on_server(&asked.collection) as usize / asked.buckets).max(BUCKET_ROWS);
        let mut suspected = Vec::new();
        for part in buckets.chunks((AUDIT_ROWS / rows_a_bucket).max(1)) {
            let here = self.crew.reader.digests_within(asked.clone(), part.to_vec());
            let there = in_time(self.crew.remote.digests_within(asked.clone(), part.to_vec()));
            let (here, there) = join!(here, there);
            suspected.extend(suspects(here?, there??));
        }
        Ok(suspected)
    }

    /// Without digests, all rows are read and compared.
    async fn suspects_by_reading(
        &mut self,
        rules: Vec<CollectionRules>,
    ) -> Result<Vec<(Arc<str>, Vec<Arc<str>>)>, Cut> {
        let mut suspected = Vec::new();
        for rule in rules {
            let keys = self.read_whole(&rule.name).await;
            if let Some(keys) = self.or_pause(&rule.name, keys)? {
                suspected.push((rule.name, keys));
            }
        }
        Ok(suspected)
    }

    async fn read_whole(&self, collection: &Arc<str>) -> Result<Vec<Arc<str>>, Cut> {
        let (mut suspected, mut after, mut is_first) = (Vec::new(), None, true);
        loop {
            let rows = in_time(self.crew.remote.rows(collection.clone(), after.take())).await??.rows;
            (self.crew.moved)(Motion::Other);
            let keys: Vec<_> = rows.iter().map(|row| row.id.key.clone()).collect();
            after = keys.last().cloned();
            let is_last = rows.is_empty();
            let part = ListedKeys { collection: collection.clone(), keys, first: is_first, last: is_last };
            let Written::Listed { extra, unseen, .. } =
                self.crew.storage.ask_soon(Perform(Write::Listing(part))).await??
            else {
                return Err(Cut::Local("the store answered another question".to_owned()));
            };
            let standings = self.crew.reader.standings(ids(&rows)).await?;
            let differs = |(row, standing): &(RemoteRow, _)| compare(standing, &row.state) != Finding::Equal;
            suspected.extend(rows.into_iter().zip(standings).filter(differs).map(|(row, _)| row.id.key));
            suspected.extend(extra.into_iter().chain(unseen));
            if is_last {
                return Ok(suspected);
            }
            is_first = false;
        }
    }

    /// Asks for the rows themselves. Between two looks there is a pull: a row that somebody has just changed is no
    /// difference, one that stays as it was and still does not arrive is.
    async fn look_closer(
        &mut self,
        round: Round,
        collection: &Arc<str>,
        mut keys: Vec<Arc<str>>,
    ) -> Result<Compared, Cut> {
        let (mut compared, mut before) = (Compared::default(), BTreeMap::<Arc<str>, RemoteState>::new());
        for _ in 0..AUDIT_LOOKS {
            if keys.is_empty() {
                break;
            }
            self.pull(round).await?;
            let rows = in_time(self.crew.remote.fetch(collection.clone(), std::mem::take(&mut keys))).await??.rows;
            let standings = self.crew.reader.standings(ids(&rows)).await?;
            let absent =
                rows.iter().zip(&standings).filter(|(row, here)| row.state == RemoteState::Gone && !here.confirmed);
            let absent = self.absent(collection, absent.map(|(row, _)| row.id.key.clone()).collect()).await?;
            for (row, here) in rows.into_iter().zip(&standings) {
                match compare(here, &row.state) {
                    Finding::Equal => {}
                    Finding::Respelled => compared.respelled.push(row),
                    // What was sent from here need not match the collection's filter.
                    Finding::Extra if !here.confirmed && !absent.contains(&row.id.key) => {}
                    finding @ (Finding::Missing | Finding::Extra | Finding::Different) => {
                        let key = row.id.key.clone();
                        match before.remove(&key) {
                            Some(seen) if is_settled(&seen, &row.state) => compared.differences.push((row, finding)),
                            Some(_) | None => {
                                before.insert(key.clone(), row.state);
                                keys.push(key);
                            }
                        }
                    }
                }
            }
        }
        Ok(compared)
    }

    /// How many of these are as the server has them now.
    async fn repair(&mut self, collection: &Arc<str>, rows: Vec<RemoteRow>, round: Round) -> Result<u64, Cut> {
        let ids = ids(&rows);
        self.observe(rows.clone(), round).await?;
        let standings = self.crew.reader.standings(ids).await?;
        let left = rows.iter().zip(&standings).filter(|(row, here)| compare(here, &row.state).is_difference()).count();
        if left > 0 {
            tracing::debug!(%collection, left, "an audit could not put everything right");
        }
        Ok((rows.len() - left) as u64)
    }

    async fn observe(&mut self, rows: Vec<RemoteRow>, round: Round) -> Result<(), Cut> {
        if rows.is_empty() {
            return Ok(());
        }
        let words = "the server has no such row any more, or does not show it to this user";
        let withdrawn = Some(Fault::new(FaultKind::Refused, words));
        let observation =
            Observation { rows, round: round.number, distrusts_versions: true, withdrawn, ..Observation::default() };
        let taken = self.crew.resolver.ask_soon(Take(observation)).await??;
        (self.crew.moved)(Motion::Other);
        self.report.pulled += taken.changed;
        self.report.conflicts += taken.conflicts;
        Ok(())
    }
}

fn ids(rows: &[RemoteRow]) -> Vec<RecordId> {
    rows.iter().map(|row| row.id.clone()).collect()
}
