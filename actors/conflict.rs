//! Decides what becomes of rows that changed on both sides, and keeps what loses. It never touches the
//! network; its decisions are in `machine::merge`, or the host's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;

use crate::limits::{ACTOR_MAILBOX, RESOLUTION_TRIES};
use crate::machine::merge::{Circumstances, decide, is_already_there};
use crate::model::{CollectionRules, Contested, Outcome, Resolution, Strategy};
use crate::peer::{PartError, Peer};
use crate::ports::{Ports, Resolver, StoreError};
use crate::storage::{Perform, Storage, Tick};
use crate::supervisor::{Crash, Stop};
use crate::writes::{Choice, Observation, Write, Written};

/// Rows that were seen on the server go into the store, through a decision where they are contested.
#[derive(Message)]
#[rtype(result = "Result<Taken, ConflictError>")]
pub struct Take(pub Observation);

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records that changed here.
    pub changed: u64,
    /// Conflicts recorded, open or resolved.
    pub conflicts: u64,
}

/// Decides an open conflict by hand.
#[derive(Message)]
#[rtype(result = "Result<(), ConflictError>")]
pub struct Decide {
    /// The conflict.
    pub conflict: i64,
    /// What becomes of the record.
    pub choice: Choice,
}

/// Takes a resolution back.
#[derive(Message)]
#[rtype(result = "Result<(), ConflictError>")]
pub struct Undo {
    /// The resolved conflict.
    pub conflict: i64,
}

/// Takes over changed strategies.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure(pub Vec<CollectionRules>);

/// Why it could not be decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConflictError {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage part did not answer.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The app edited the record at every try.
    #[error("a record changed here during each of {RESOLUTION_TRIES} tries to resolve it; the next round tries again")]
    Restless,
}

/// The actor.
pub struct ConflictResolver {
    court: Arc<Court>,
    storage: Peer<Storage>,
}

/// Who decides, by collection.
struct Court {
    rules: BTreeMap<Arc<str>, (Strategy, String)>,
    resolvers: Arc<BTreeMap<Arc<str>, Arc<dyn Resolver>>>,
    ports: Ports,
}

impl ConflictResolver {
    /// Decides by each collection's strategy or the host's own resolver.
    pub fn new(rules: &[CollectionRules], ports: Ports, storage: Peer<Storage>) -> Self {
        let resolvers = ports.resolvers.clone();
        Self { court: Arc::new(Court { rules: strategies(rules), resolvers, ports }), storage }
    }
}

/// Each collection's strategy and version field, by local names.
fn strategies(rules: &[CollectionRules]) -> BTreeMap<Arc<str>, (Strategy, String)> {
    let version_field = |rule: &CollectionRules| rule.field(&rule.version).to_owned();
    rules.iter().map(|rule| (rule.name.clone(), (rule.strategy, version_field(rule)))).collect()
}

impl Court {
    fn resolve(&self, contested: Contested) -> Resolution {
        let default = (Strategy::default(), String::new());
        let (strategy, version_field) = self.rules.get(&contested.id.collection).unwrap_or(&default);
        if is_already_there(&contested, version_field) {
            return Resolution { contested, outcome: Outcome::AlreadyThere, strategy: strategy.name().to_owned() };
        }
        if let Some(resolver) = self.resolvers.get(&contested.id.collection) {
            let outcome = resolver.resolve(&contested);
            return Resolution { contested, outcome, strategy: "custom".to_owned() };
        }
        let offset_ms = self.ports.remote.clock_offset_ms().unwrap_or_default();
        let server_now_ms = self.ports.clock.now_ms() + offset_ms;
        let outcome = decide(&contested, Circumstances { strategy: *strategy, version_field, server_now_ms });
        Resolution { contested, outcome, strategy: strategy.name().to_owned() }
    }
}

/// Observes; what turns out to be contested is decided and observed again, until nothing changes between.
async fn take(court: &Court, storage: &Peer<Storage>, mut observation: Observation) -> Result<Taken, ConflictError> {
    observation.stamp = storage.ask_soon(Tick).await?;
    for _ in 0..RESOLUTION_TRIES {
        match storage.ask_soon(Perform(Write::Observe(observation.clone()))).await?? {
            Written::Observed { changed, conflicts } => return Ok(Taken { changed: changed.len() as u64, conflicts }),
            Written::Contested(contested) => {
                let newly = contested.into_iter().map(|one| court.resolve(one)).collect::<Vec<_>>();
                observation.resolutions.retain(|old| newly.iter().all(|new| new.contested.id != old.contested.id));
                observation.resolutions.extend(newly);
            }
            other => return Err(StoreError::Failed(format!("the store answered another question: {other:?}")).into()),
        }
    }
    Err(ConflictError::Restless)
}

impl Actor for ConflictResolver {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(ACTOR_MAILBOX);
    }
}

/// Nothing is kept in memory that a restart could lose.
impl Supervised for ConflictResolver {}

impl Handler<Take> for ConflictResolver {
    type Result = ResponseFuture<Result<Taken, ConflictError>>;

    fn handle(&mut self, observed: Take, _: &mut Self::Context) -> Self::Result {
        let (court, storage) = (self.court.clone(), self.storage.clone());
        Box::pin(async move { take(&court, &storage, observed.0).await })
    }
}

impl Handler<Decide> for ConflictResolver {
    type Result = ResponseFuture<Result<(), ConflictError>>;

    fn handle(&mut self, decide: Decide, _: &mut Self::Context) -> Self::Result {
        let (conflict, choice) = (decide.conflict, decide.choice);
        perform(self.storage.clone(), Write::Decide { conflict, choice })
    }
}

impl Handler<Undo> for ConflictResolver {
    type Result = ResponseFuture<Result<(), ConflictError>>;

    fn handle(&mut self, undo: Undo, _: &mut Self::Context) -> Self::Result {
        perform(self.storage.clone(), Write::Undo { conflict: undo.conflict })
    }
}

fn perform(storage: Peer<Storage>, write: Write) -> ResponseFuture<Result<(), ConflictError>> {
    Box::pin(async move {
        storage.ask_soon(Perform(write)).await??;
        Ok(())
    })
}

impl Handler<Configure> for ConflictResolver {
    type Result = ();

    fn handle(&mut self, configure: Configure, _: &mut Self::Context) {
        let Court { resolvers, ports, .. } = &*self.court;
        let (resolvers, ports) = (resolvers.clone(), ports.clone());
        self.court = Arc::new(Court { rules: strategies(&configure.0), resolvers, ports });
    }
}

impl Handler<Stop> for ConflictResolver {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Crash> for ConflictResolver {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to crash");
    }
}
