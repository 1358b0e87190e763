//! A store in one line, for the tests of this adapter: real SQLite in a directory that goes with it.

use std::time::Duration;

use futures::executor::block_on;
use tempfile::TempDir;
use tidelock_actors::document::Document;
use tidelock_actors::model::{
    Action, Change, Checkpoints, CollectionCounts, CollectionRules, Contested, Direction, Fault, FaultKind, Operation,
    Outcome, RecordId, RemoteRow, RemoteState, Resolution, Sequence, Stamp, Strategy,
};
use tidelock_actors::ports::{Reader, Store, StoreError};
use tidelock_actors::queue::KEEPS_TRANSACTIONS;
use tidelock_actors::writes::{
    Fate, LocalTransaction, Observation, RollBack, RollbackTarget, RolledBack, Sent, Settlement, Write, Written,
};

use super::{Durability, QueueFilter, SqliteReads, SqliteStore, StoreOptions, open};

/// When the first write happens, milliseconds since 1970.
pub(super) const BEGINNING: i64 = 1_795_000_000_000;

pub(super) struct World {
    pub(super) store: SqliteStore,
    pub(super) reads: SqliteReads,
    pub(super) directory: TempDir,
    pub(super) now_ms: i64,
}

pub(super) fn rules(name: &str, after: &[&str], direction: Direction) -> CollectionRules {
    CollectionRules {
        name: name.into(),
        table: name.to_owned(),
        key: "id".to_owned(),
        version: "updated_at".to_owned(),
        direction,
        strategy: Strategy::default(),
        fields: Default::default(),
        columns: Vec::new(),
        filter: None,
        after: after.iter().map(|name| (*name).into()).collect(),
        soft_delete: None,
    }
}

/// Projects have tasks, tasks have steps, notes stand alone; drafts stay here, the catalogue only comes.
pub(super) fn options(directory: &std::path::Path) -> StoreOptions {
    StoreOptions {
        directory: directory.to_owned(),
        durability: Durability::Normal,
        readers: 2,
        collections: vec![
            rules("projects", &[], Direction::Both),
            rules("tasks", &["projects"], Direction::Both),
            rules("steps", &["tasks"], Direction::Both),
            rules("notes", &[], Direction::Both),
            rules("drafts", &[], Direction::Local),
            rules("catalogue", &[], Direction::Pull),
        ],
        history_keep: 10,
        history_max_age: Duration::from_secs(30 * 24 * 60 * 60),
        quota: None,
    }
}

pub(super) fn id(place: &str) -> RecordId {
    let (collection, key) = place.split_once('/').unwrap();
    RecordId::new(collection, key)
}

pub(super) fn document(text: &str) -> Document {
    Document::parse(text).unwrap()
}

/// A row as the server has it.
pub(super) fn row(place: &str, text: &str, version: &str) -> RemoteRow {
    let version = (!version.is_empty()).then(|| version.into());
    RemoteRow { id: id(place), state: RemoteState::Present { document: document(text), version } }
}

/// No such row.
pub(super) fn gone(place: &str) -> RemoteRow {
    RemoteRow { id: id(place), state: RemoteState::Gone }
}

pub(super) fn refusal(code: &str) -> Fault {
    Fault { status: Some(400), code: Some(code.to_owned()), ..Fault::new(FaultKind::Refused, "refused") }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut StoreOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        change(&mut options);
        let (store, reads) = open(options).unwrap();
        Self { store, reads, directory, now_ms: BEGINNING }
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(self) -> Self {
        self.reopen_with(|_| {})
    }

    pub(super) fn reopen_with(self, change: impl FnOnce(&mut StoreOptions)) -> Self {
        let Self { store, reads, directory, now_ms } = self;
        drop((store, reads));
        let mut options = options(directory.path());
        change(&mut options);
        let (store, reads) = open(options).unwrap();
        Self { store, reads, directory, now_ms }
    }

    pub(super) fn stamp(&mut self) -> Stamp {
        self.now_ms += 1;
        Stamp(self.now_ms << 16)
    }

    /// The stamp given last.
    pub(super) fn now(&self) -> Stamp {
        Stamp(self.now_ms << 16)
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now_ms += time.as_millis() as i64;
    }

    /// From now on the server applies a transaction whole or not at all.
    pub(super) fn keep_transactions(&mut self) {
        let mut observation = self.observation(Vec::new());
        observation.checkpoints.insert(KEEPS_TRANSACTIONS.to_owned(), "yes".to_owned());
        self.commit(Write::Observe(observation)).unwrap();
    }

    /// Performs and commits writes.
    pub(super) fn group(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let now = self.stamp();
        let written = self.store.perform(writes, now)?;
        self.store.commit()?;
        Ok(written)
    }

    pub(super) fn commit(&mut self, write: Write) -> Result<Written, StoreError> {
        self.group(std::slice::from_ref(&write)).map(|mut written| written.remove(0))
    }

    pub(super) fn change(&mut self, changes: Vec<(RecordId, Change)>) -> Result<Written, StoreError> {
        let stamp = self.stamp();
        self.commit(Write::Local(LocalTransaction { changes, stamp }))
    }

    pub(super) fn try_save(&mut self, place: &str, text: &str) -> Result<Written, StoreError> {
        self.change(vec![(id(place), Change::Save(document(text)))])
    }

    /// Saves; whether anything changed.
    pub(super) fn save(&mut self, place: &str, text: &str) -> bool {
        self.try_save(place, text).unwrap() == (Written::Local { changed: vec![id(place)] })
    }

    /// Deletes; whether there was anything.
    pub(super) fn delete(&mut self, place: &str) -> bool {
        self.change(vec![(id(place), Change::Delete)]).unwrap() == (Written::Local { changed: vec![id(place)] })
    }

    pub(super) fn get(&self, place: &str) -> Option<String> {
        block_on(self.reads.get(id(place))).unwrap().map(|document| document.to_string())
    }

    /// The outbox, a line an operation: sequence, place, action, patch, and the state where it is not pending.
    pub(super) fn outbox(&self) -> Vec<String> {
        let line = |one: super::QueuedOperation| {
            let action = format!("{:?}", one.action).to_lowercase();
            let state = match one.state {
                super::OperationState::Pending => String::new(),
                other => format!(" {}", other.name()),
            };
            let behind = one.depends_on.map(|on| format!(" behind {on}")).unwrap_or_default();
            format!("{} {}/{} {action} {}{state}{behind}", one.id, one.collection, one.key, one.payload)
        };
        self.operations().into_iter().map(line).collect()
    }

    pub(super) fn pending(&self) -> Vec<Operation> {
        block_on(self.reads.pending(0, 1_000)).unwrap()
    }

    /// Records, pending, parked, open conflicts, on the server.
    pub(super) fn counts(&self, collection: &str) -> (u64, u64, u64, u64, u64) {
        let CollectionCounts { records, pending, parked, conflicts, on_server } = self.store.counts()[collection];
        (records, pending, parked, conflicts, on_server)
    }

    pub(super) fn observation(&mut self, rows: Vec<RemoteRow>) -> Observation {
        Observation { rows, round: 7, stamp: self.stamp(), ..Observation::default() }
    }

    pub(super) fn observe(&mut self, rows: Vec<RemoteRow>) -> Written {
        let observation = self.observation(rows);
        self.commit(Write::Observe(observation)).unwrap()
    }

    /// Sees rows that bring no conflict; how many records changed.
    pub(super) fn take(&mut self, rows: Vec<RemoteRow>) -> usize {
        match self.observe(rows) {
            Written::Observed { changed, conflicts: 0 } => changed.len(),
            other => panic!("{other:?}"),
        }
    }

    /// Sees rows that are contested.
    pub(super) fn contest(&mut self, rows: Vec<RemoteRow>) -> Vec<Contested> {
        match self.observe(rows) {
            Written::Contested(contested) => contested,
            other => panic!("{other:?}"),
        }
    }

    /// Sees a row that is contested and decides it so; whether the record changed here, and conflicts recorded.
    pub(super) fn decide(&mut self, seen: RemoteRow, outcome: Outcome) -> (bool, u64) {
        let contested = self.contest(vec![seen.clone()]).remove(0);
        let resolutions = vec![Resolution { contested, outcome, strategy: "newest-wins".to_owned() }];
        let observation = Observation { resolutions, ..self.observation(vec![seen]) };
        match self.commit(Write::Observe(observation)).unwrap() {
            Written::Observed { changed, conflicts } => (!changed.is_empty(), conflicts),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn try_roll_back(&mut self, target: RollbackTarget) -> Result<RolledBack, StoreError> {
        match self.commit(Write::RollBack(RollBack { target, is_trial: false }))? {
            Written::RolledBack(rolled_back) => Ok(rolled_back),
            other => panic!("{other:?}"),
        }
    }

    /// Rolls back what can be.
    pub(super) fn roll_back(&mut self, target: RollbackTarget) -> RolledBack {
        self.try_roll_back(target).unwrap()
    }

    /// Rows that a round of this number brought.
    pub(super) fn pull(&mut self, round: i64, rows: Vec<RemoteRow>) {
        let observation = Observation { round, ..self.observation(rows) };
        let Written::Observed { .. } = self.commit(Write::Observe(observation)).unwrap() else { panic!() };
    }

    pub(super) fn checkpoints(&self) -> Checkpoints {
        block_on(self.reads.checkpoints()).unwrap()
    }

    /// The server's word on these operations of a record; what was sent is what they ask for together.
    pub(super) fn settle(&mut self, place: &str, covers: &[Sequence], fate: Fate) -> Written {
        let operations: Vec<_> = self.operations().into_iter().filter(|one| covers.contains(&one.id)).collect();
        let action = operations.first().map_or(Action::Update, |first| first.action);
        let deletes = operations.last().is_some_and(|last| last.action == Action::Delete);
        let patch = operations.iter().fold(Document::empty(), |patch, one| patch.overlaid(&one.payload));
        let sent =
            if deletes { Sent { action: Action::Delete, patch: Document::empty() } } else { Sent { action, patch } };
        let settlement = Settlement { covers: covers.to_vec(), id: id(place), sent, fate };
        self.commit(Write::Settle(vec![settlement])).unwrap()
    }

    /// The server took them; its row is as was sent.
    pub(super) fn applied(&mut self, place: &str, covers: &[Sequence], version: &str) -> Written {
        let version = (!version.is_empty()).then(|| version.into());
        self.settle(place, covers, Fate::Applied { version, document: None })
    }

    /// The server refused them; how many were set aside.
    pub(super) fn park(&mut self, place: &str, covers: &[Sequence]) -> u64 {
        match self.settle(place, covers, Fate::Parked(refusal("23514"))) {
            Written::Settled { parked, .. } => parked,
            other => panic!("{other:?}"),
        }
    }

    /// The outbox.
    pub(super) fn operations(&self) -> Vec<super::QueuedOperation> {
        block_on(self.reads.operations(QueueFilter::default())).unwrap()
    }

    /// What the server is believed to have under a record, and its version.
    pub(super) fn bases(&self, place: &str) -> (Option<String>, Option<String>) {
        let base = block_on(self.reads.bases(vec![id(place)])).unwrap().remove(0);
        (base.document.map(|document| document.to_string()), base.version.map(|version| version.to_string()))
    }

    /// How many rows a table has.
    pub(super) fn rows(&self, table: &str) -> usize {
        let count = self.sql(&format!("SELECT count(*) AS n FROM {table}")).remove(0);
        count.trim_start_matches(r#"{"n":"#).trim_end_matches('}').parse().unwrap()
    }

    /// Earlier versions of a record, newest first, as text.
    pub(super) fn history(&self, place: &str) -> Vec<String> {
        block_on(self.reads.history(id(place)))
            .unwrap()
            .into_iter()
            .map(|version| version.document.to_string())
            .collect()
    }

    pub(super) fn sql(&self, sql: &str) -> Vec<String> {
        block_on(self.reads.query(sql, Vec::new())).unwrap().into_iter().map(|row| row.to_string()).collect()
    }

    #[track_caller]
    pub(super) fn assert_healthy(&self) {
        let verified = block_on(self.reads.verify()).unwrap();
        assert!(verified.healthy, "{:#?}", verified.issues);
    }
}

/// What an error says.
pub(super) fn said<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().to_string()
}
