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
    /// Where the counts differ, the keys are listed: the server's side decides what is missing here or there.
    pub(super) async fn find_deletions(&mut self, round: Round) -> Result<(), Cut> {
        let collections: Vec<Arc<str>> = self.pulled_collections().map(|rule| rule.name.clone()).collect();
        for collection in collections {
            let there = match in_time(self.crew.remote.count(collection.clone())).await? {
                Err(fault) if !fault.concerns_everything() => {
                    self.pause(collection, fault);
                    continue;
                }
                counted => counted?,
            };
            let here = self.crew.counts.borrow().get(&collection).map_or(0, |counts| counts.on_server);
            if here != there || round.distrusts_counts && there > 0 {
                self.list(collection, round).await?;
            }
        }
        Ok(())
    }

    async fn list(&mut self, collection: Arc<str>, round: Round) -> Result<(), Cut> {
        let mut after = None;
        let (mut first, mut last) = (true, false);
        while !last {
            let keys = in_time(self.crew.remote.keys(collection.clone(), after.take())).await??;
            last = keys.is_empty();
            after = keys.last().cloned();
            let part = Write::Listing(ListedKeys { collection: collection.clone(), keys, first, last });
            first = false;
            let Written::Listed { missing, mut extra, unseen } = self.crew.storage.ask_soon(Perform(part)).await??
            else {
                return Err(Cut::Local("the store answered another question".to_owned()));
            };
            extra.extend(self.absent(&collection, unseen).await?);
            self.take_differences(&collection, missing, extra, round).await?;
        }
        Ok(())
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

    async fn take_differences(
        &mut self,
        collection: &Arc<str>,
        missing: Vec<Arc<str>>,
        extra: Vec<Arc<str>>,
        round: Round,
    ) -> Result<(), Cut> {
        let gone = |key| RemoteRow { id: RecordId::new(collection.clone(), key), state: RemoteState::Gone };
        for keys in missing.chunks(FETCH_KEYS) {
            let fetched = in_time(self.crew.remote.fetch(collection.clone(), keys.to_vec())).await??;
            self.take_rows(fetched.rows, round).await?;
        }
        for keys in extra.chunks(FETCH_KEYS) {
            self.take_rows(keys.iter().cloned().map(gone).collect(), round).await?;
        }
        Ok(())
    }

    async fn take_rows(&mut self, rows: Vec<RemoteRow>, round: Round) -> Result<(), Cut> {
        let page = Pulled { rows, ..Pulled::default() };
        let (changed, conflicts) = take(self.crew, page, round.number).await?;
        self.report.pulled += changed;
        self.report.conflicts += conflicts;
        Ok(())
    }
}
