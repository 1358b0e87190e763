//! The server of somebody who has configured none: everything local works, and a round says what is missing.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tidelock_actors::document::Layout;
use tidelock_actors::logs::{Entry, TableName};
use tidelock_actors::model::{Checkpoints, Fault, FaultKind, Outgoing, Verdict};
use tidelock_actors::ports::{
    Digesting, Digests, Fetched, Heard, LogSink, Nature, PullRequest, Pulled, Pushed, Remote,
};

/// No server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

fn fault() -> Fault {
    Fault::new(FaultKind::Transient, "no server is configured: set remote.url and remote.anon_key")
}

fn answer<T: Send + 'static>() -> BoxFuture<'static, Result<T, Fault>> {
    ready(Err(fault())).boxed()
}

impl LogSink for Nowhere {
    fn send(&self, _: TableName, _: Vec<Entry>) -> BoxFuture<'static, Result<(), Fault>> {
        answer()
    }
}

impl Remote for Nowhere {
    fn push(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Pushed> {
        ready(Pushed { verdicts: vec![Verdict::Failed(fault()); batch.len()] }).boxed()
    }

    fn nature(&self) -> BoxFuture<'_, Result<Nature, Fault>> {
        answer()
    }

    fn pull(&self, _: Checkpoints, _: PullRequest) -> BoxFuture<'_, Result<Pulled, Fault>> {
        answer()
    }

    fn fetch(&self, _: Arc<str>, _: Vec<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        answer()
    }

    fn existing(&self, _: Arc<str>, _: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>> {
        answer()
    }

    fn count(&self, _: Arc<str>) -> BoxFuture<'_, Result<u64, Fault>> {
        answer()
    }

    fn keys(&self, _: Arc<str>, _: Option<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>> {
        answer()
    }

    fn rows(&self, _: Arc<str>, _: Option<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        answer()
    }

    fn layouts(&self, _: Vec<Arc<str>>) -> BoxFuture<'_, Result<Option<Vec<Layout>>, Fault>> {
        answer()
    }

    fn digests(&self, _: Digesting) -> BoxFuture<'_, Result<Vec<u64>, Fault>> {
        answer()
    }

    fn digests_within(&self, _: Digesting, _: Vec<usize>) -> BoxFuture<'_, Result<Digests, Fault>> {
        answer()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Fault>> {
        answer()
    }

    fn mode(&self) -> &'static str {
        "plain"
    }

    fn needs_listing(&self) -> bool {
        false
    }

    fn listed(&self) {}

    fn is_signed_in(&self) -> bool {
        false
    }

    fn requests(&self) -> u64 {
        0
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        None
    }

    fn heard(&self) -> Heard {
        Heard::default()
    }
}
