//! The end of a deep round: what is gone on the server, and what a pull could not see there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Cut, Progress, Round, in_time, take};
use crate::limits::FETCH_KEYS;
use crate::model::{RecordId, RemoteRow, RemoteState};
use crate::ports::Pulled;
use crate::storage::Perform;
use crate::writes::{ListedKeys, Write, Written};

impl Progress<'_> {
    /// Where the counts differ, the keys are listed: the server's side decides what is missing here or there. Whether
    /// all collections could be compared.
    pub(super) async fn find_deletions(&mut self, round: Round) -> Result<bool, Cut> {
        let mut is_all = true;
        let collections: Vec<Arc<str>> = self.pulled_collections().map(|rule| rule.name.clone()).collect();
        for collection in collections {
            let compared = self.count_and_list(&collection, round).await;
            is_all &= self.or_pause(&collection, compared)?.is_some();
        }
        Ok(is_all)
    }

    async fn count_and_list(&mut self, collection: &Arc<str>, round: Round) -> Result<(), Cut> {
        let there = in_time(self.crew.remote.count(collection.clone())).await??;
        let here = self.crew.counts.borrow().get(collection).map_or(0, |counts| counts.on_server);
        if here != there || round.distrusts_counts && there > 0 {
            self.list(collection, round).await?;
        }
        Ok(())
    }

    async fn list(&mut self, collection: &Arc<str>, round: Round) -> Result<(), Cut> {
        let mut extra = self.compare(collection, round).await?;
        if !extra.is_empty() && in_time(self.crew.remote.nature()).await??.keeps_transactions {
            // What was deleted since the last pull goes with the next one, together with its transaction.
            self.pull(round).await?;
            let still: BTreeSet<Arc<str>> = self.compare(collection, round).await?.into_iter().collect();
            extra.retain(|key| still.contains(key));
        }
        let gone = |key| RemoteRow { id: RecordId::new(collection.clone(), key), state: RemoteState::Gone };
        for keys in extra.chunks(FETCH_KEYS) {
            self.take_rows(keys.iter().cloned().map(gone).collect(), round).await?;
        }
        Ok(())
    }

    /// Fetches what is missing here, and tells what is missing there.
    async fn compare(&mut self, collection: &Arc<str>, round: Round) -> Result<Vec<Arc<str>>, Cut> {
        let mut after = None;
        let (mut first, mut last) = (true, false);
        let mut all_extra = Vec::new();
        while !last {
            let keys = in_time(self.crew.remote.keys(collection.clone(), after.take())).await??;
            last = keys.is_empty();
            after = keys.last().cloned();
            let part = Write::Listing(ListedKeys { collection: collection.clone(), keys, first, last });
            first = false;
            let Written::Listed { missing, extra, unseen } = self.crew.storage.ask_soon(Perform(part)).await?? else {
                return Err(Cut::Local("the store answered another question".to_owned()));
            };
            all_extra.extend(extra);
            all_extra.extend(self.absent(collection, unseen).await?);
            for keys in missing.chunks(FETCH_KEYS) {
                let fetched = in_time(self.crew.remote.fetch(collection.clone(), keys.to_vec())).await??;
                self.take_rows(fetched.rows, round).await?;
            }
        }
        Ok(all_extra)
    }

    /// What was sent from here need not match the collection's filter: it is gone only if it is nowhere.
    pub(super) async fn absent(&self, collection: &Arc<str>, mut keys: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, Cut> {
        let mut existing = BTreeSet::new();
        for keys in keys.chunks(FETCH_KEYS) {
            existing.extend(in_time(self.crew.remote.existing(collection.clone(), keys.to_vec())).await??);
        }
        keys.retain(|key| !existing.contains(key));
        Ok(keys)
    }

    async fn take_rows(&mut self, rows: Vec<RemoteRow>, round: Round) -> Result<(), Cut> {
        let page = Pulled { rows, ..Pulled::default() };
        let (changed, conflicts) = take(self.crew, page, round.number).await?;
        self.report.pulled += changed;
        self.report.conflicts += conflicts;
        Ok(())
    }
}
