//! The server as `remote.mode` wants it: through its kit where it is there, or with nothing installed.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tidelock_actors::document::Layout;
use tidelock_actors::limits::BATCHES_AT_ONCE;
use tidelock_actors::model::{Checkpoints, Fault, FaultKind, Outgoing, Reference, Verdict};
use tidelock_actors::ports::{Digesting, Digests, Fetched, Heard, Nature, PullRequest, Pulled, Pushed, Remote};
use tokio::sync::OnceCell;

use super::kit::Kit;
pub use super::kit::Sender;
use super::{Plain, PlainOptions, SetupError};

/// How to use the server beside what the plain mode needs to know.
#[derive(Debug, Clone)]
pub struct KitOptions {
    /// Who sends.
    pub sender: Sender,
    /// Whether the kit has to be there; otherwise the server is asked, and used as it is.
    pub is_required: bool,
    /// How often keys are compared, for what leaves no tombstone.
    pub compare_every: Duration,
}

/// The server, asked once for its kit.
pub struct Chosen {
    plain: Arc<Plain>,
    kit: Kit,
    /// What the kit said when it was asked; nothing where there is none.
    found: OnceCell<Option<Vec<Reference>>>,
    is_required: bool,
    /// Whether the store was synced through a kit before.
    knew_kit: bool,
}

/// H40: without its kit a server that was emptied would look like one whose rows were all deleted.
fn lost() -> Fault {
    let words = "the server had tidelock's kit when this store last met it and has none now; install it again with: \
                 tidelock remote sql, or set remote.mode = \"plain\" to do without";
    Fault::new(FaultKind::Replaced, words)
}

fn missing() -> Fault {
    let words = "remote.mode = \"kit\", but the server has no kit; install it with: tidelock remote sql";
    Fault::new(FaultKind::Schema, words)
}

impl Chosen {
    /// Prepares requests to a project. Nothing is sent.
    pub fn new(options: PlainOptions, kit: KitOptions) -> Result<Self, SetupError> {
        let plain = Arc::new(Plain::new(options)?);
        let knew_kit = kit.sender.server_epoch.is_some();
        let is_required = kit.is_required;
        let kit = Kit::new(plain.clone(), kit.sender, kit.compare_every);
        if is_required {
            kit.take_over();
        }
        Ok(Self { plain, kit, found: OnceCell::new(), is_required, knew_kit })
    }

    async fn kit(&self) -> Result<Option<&Kit>, Fault> {
        match self.is_required {
            true => Ok(Some(&self.kit)),
            false => Ok(self.references().await?.map(|_| &self.kit)),
        }
    }

    /// The references between collections, as the kit tells them; nothing where there is no kit.
    async fn references(&self) -> Result<Option<&[Reference]>, Fault> {
        let look = async || match self.kit.references().await? {
            Some(references) => {
                self.kit.take_over();
                Ok(Some(references))
            }
            None if self.is_required => Err(missing()),
            None if self.knew_kit => Err(lost()),
            None => Ok(None),
        };
        Ok(self.found.get_or_try_init(look).await?.as_deref())
    }

    fn known_kit(&self) -> Option<&Kit> {
        let is_there = self.is_required || self.found.get().is_some_and(Option::is_some);
        is_there.then_some(&self.kit)
    }
}

impl Remote for Chosen {
    fn push(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Pushed> {
        async move {
            match self.kit().await {
                Ok(Some(kit)) => kit.push(&batch).await,
                Ok(None) => self.plain.push(batch).await,
                Err(fault) => Pushed { verdicts: vec![Verdict::Failed(fault); batch.len()] },
            }
        }
        .boxed()
    }

    fn nature(&self) -> BoxFuture<'_, Result<Nature, Fault>> {
        async move {
            Ok(match self.references().await? {
                Some(references) => Nature {
                    keeps_transactions: true,
                    batches_at_once: BATCHES_AT_ONCE,
                    references: references.to_vec(),
                },
                None => Nature::PLAIN,
            })
        }
        .boxed()
    }

    fn pull(&self, have: Checkpoints, request: PullRequest) -> BoxFuture<'_, Result<Pulled, Fault>> {
        async move {
            match self.kit().await? {
                Some(kit) => kit.pull(&have, &request).await,
                None => self.plain.pull(have, request).await,
            }
        }
        .boxed()
    }

    fn fetch(&self, collection: Arc<str>, keys: Vec<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        async move {
            match self.kit().await? {
                Some(kit) => Ok(Fetched { rows: kit.fetch_overlooked(&collection, keys).await? }),
                None => self.plain.fetch(collection, keys).await,
            }
        }
        .boxed()
    }

    fn existing(&self, collection: Arc<str>, keys: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>> {
        self.plain.existing(collection, keys)
    }

    fn count(&self, collection: Arc<str>) -> BoxFuture<'_, Result<u64, Fault>> {
        self.plain.count(collection)
    }

    fn keys(&self, collection: Arc<str>, after: Option<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>> {
        self.plain.keys(collection, after)
    }

    fn rows(&self, collection: Arc<str>, after: Option<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        async move {
            match self.kit().await? {
                Some(kit) => kit.rows(collection, after).await,
                None => self.plain.rows(collection, after).await,
            }
        }
        .boxed()
    }

    fn layouts(&self, collections: Vec<Arc<str>>) -> BoxFuture<'_, Result<Option<Vec<Layout>>, Fault>> {
        async move {
            match self.kit().await? {
                Some(kit) => kit.layouts(&collections).await.map(Some),
                None => self.plain.layouts(collections).await,
            }
        }
        .boxed()
    }

    fn digests(&self, asked: Digesting) -> BoxFuture<'_, Result<Vec<u64>, Fault>> {
        async move { self.kit.digests(&asked).await }.boxed()
    }

    fn digests_within(&self, asked: Digesting, buckets: Vec<usize>) -> BoxFuture<'_, Result<Digests, Fault>> {
        async move { self.kit.digests_within(&asked, &buckets).await }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Fault>> {
        self.plain.probe()
    }

    fn mode(&self) -> &'static str {
        self.known_kit().map_or("plain", |_| "kit")
    }

    fn needs_listing(&self) -> bool {
        self.known_kit().is_none_or(Kit::needs_listing)
    }

    fn listed(&self) {
        if let Some(kit) = self.known_kit() {
            kit.listed();
        }
    }

    fn is_signed_in(&self) -> bool {
        self.plain.is_signed_in()
    }

    fn requests(&self) -> u64 {
        self.plain.requests()
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        self.plain.clock_offset_ms()
    }

    fn heard(&self) -> Heard {
        Heard { open_transactions: self.known_kit().and_then(Kit::open_transactions), ..self.plain.heard() }
    }
}
