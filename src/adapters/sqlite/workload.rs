//! Thousands of mixed writes from a seed, and the store's own promises after them: exact counters, and every
//! document the server's with its operations laid over it.

use futures::executor::block_on;
use tidelock_actors::document::Document;
use tidelock_actors::model::{Action, Change, Outcome, RecordId, RemoteRow, RemoteState, Resolution};
use tidelock_actors::ports::{Reader, Store};
use tidelock_actors::writes::{Choice, Fate, ListedKeys, Observation, Sent, Settlement, Write, Written};

use super::world::{World, document, refusal};
use super::{OperationState, QueueFilter, QueuedOperation};

const STEPS: usize = 700;

/// Chance from a seed (SplitMix64, Steele and others 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.below(from.len())])
    }
}

struct Run {
    world: World,
    /// Whether the server keeps transactions.
    is_whole: bool,
    chance: Chance,
    version: u64,
}

impl Run {
    fn new(seed: u64, is_whole: bool) -> Self {
        let mut world = World::new();
        if is_whole {
            world.keep_transactions();
        }
        Self { world, is_whole, chance: Chance(seed), version: 0 }
    }

    /// A transaction is sent whole or not at all.
    fn assert_whole(&self, seed: u64, step: usize) {
        let torn = "SELECT group_concat(seq || ' ' || state) AS torn FROM tl_operations GROUP BY transaction_id
                    HAVING sum(state = 'pending') NOT IN (0, count(*))";
        let torn = self.world.sql(if self.is_whole { torn } else { "SELECT 1 WHERE false" });
        assert!(torn.is_empty(), "seed {seed}, step {step}: {torn:?}");
    }

    fn place(&mut self) -> RecordId {
        let collection = ["projects", "tasks", "steps", "notes", "drafts"][self.chance.below(5)];
        RecordId::new(collection, format!("k{}", self.chance.below(4)))
    }

    /// A few fields; some refer to records of other collections.
    fn document(&mut self) -> Document {
        let mut fields = Vec::new();
        for name in ["a", "b", "parent"] {
            if self.chance.below(2) == 0 {
                let value = match name {
                    "parent" => format!(r#""k{}""#, self.chance.below(4)),
                    _ => format!("{}", self.chance.below(4)),
                };
                fields.push(format!(r#""{name}":{value}"#));
            }
        }
        document(&format!("{{{}}}", fields.join(",")))
    }

    fn version(&mut self) -> Option<std::sync::Arc<str>> {
        self.version += 1;
        (self.chance.below(5) > 0).then(|| format!("v{}", self.version).into())
    }

    fn operations(&self) -> Vec<QueuedOperation> {
        block_on(self.world.reads.operations(QueueFilter::default())).unwrap()
    }

    fn change(&mut self) {
        let changes = (0..=self.chance.below(3))
            .map(|_| {
                let change = match self.chance.below(4) {
                    0 => Change::Delete,
                    _ => Change::Save(self.document()),
                };
                (self.place(), change)
            })
            .collect();
        self.world.change(changes).unwrap();
    }

    /// The server's word on the first operations of some record, in flight whatever was done here meanwhile.
    fn settle(&mut self) {
        let pending = block_on(self.world.reads.pending(0, 1_000)).unwrap();
        let Some(first) = self.chance.pick(&pending).map(|one| one.id.clone()) else { return };
        let mut of_record: Vec<_> = pending.into_iter().filter(|one| one.id == first).collect();
        of_record.truncate(1 + self.chance.below(of_record.len()));
        let action = match (of_record[0].action, of_record.last().map(|last| last.action)) {
            (_, Some(Action::Delete)) => Action::Delete,
            (first, _) => first,
        };
        let patch = of_record.iter().fold(Document::empty(), |patch, one| patch.overlaid(&one.patch));
        let sent = Sent { action, patch: if action == Action::Delete { Document::empty() } else { patch.clone() } };
        let cancels = action == Action::Delete && of_record[0].action == Action::Create;
        let fate = match self.chance.below(8) {
            0 | 4 if !cancels => Fate::Parked(refusal("23514")),
            1 if !cancels => Fate::Charged(refusal("57014")),
            2 if !cancels => {
                let parked: Vec<_> =
                    self.operations().into_iter().filter(|one| one.state == OperationState::Parked).collect();
                Fate::Dependent(refusal("23503"), self.chance.pick(&parked).map_or(999_999, |one| one.id))
            }
            3 if action != Action::Delete => {
                let base = block_on(self.world.reads.bases(vec![first.clone()])).unwrap().remove(0).document;
                let row = base.unwrap_or_else(Document::empty).overlaid(&patch).overlaid(&document(r#"{"trigger":1}"#));
                Fate::Applied { version: self.version(), document: Some(row) }
            }
            _ => Fate::Applied { version: if cancels { None } else { self.version() }, document: None },
        };
        let covers = of_record.iter().map(|one| one.sequence).collect();
        self.world.commit(Write::Settle(vec![Settlement { covers, id: first, sent, fate }])).unwrap();
    }

    /// Rows of the server; whatever is contested is decided by chance until all is taken.
    fn observe(&mut self) {
        let rows = (0..=self.chance.below(4))
            .map(|_| {
                let id = self.place();
                let state = match self.chance.below(4) {
                    0 => RemoteState::Gone,
                    _ => {
                        let document = self.document().with_string("id", &id.key);
                        RemoteState::Present { document, version: self.version() }
                    }
                };
                RemoteRow { id, state }
            })
            .collect();
        let mut observation = self.world.observation(rows);
        observation.checkpoints.insert("pull".to_owned(), self.version.to_string());
        loop {
            match self.world.commit(Write::Observe(observation.clone())).unwrap() {
                Written::Contested(contested) => {
                    if self.chance.below(3) == 0 {
                        self.change();
                    }
                    let decided: Vec<_> = contested.into_iter().map(|one| self.resolution(one)).collect();
                    observation = Observation { resolutions: decided, ..observation };
                }
                _ => return,
            }
        }
    }

    fn resolution(&mut self, contested: tidelock_actors::model::Contested) -> Resolution {
        let outcome = match self.chance.below(4) {
            0 => Outcome::AlreadyThere,
            1 => Outcome::TakeRemote,
            2 => Outcome::Hold,
            3 => Outcome::Keep(Some(self.document().with_string("id", &contested.id.key))),
            _ => Outcome::Keep(contested.local.clone()),
        };
        Resolution { contested, outcome, strategy: "custom".to_owned() }
    }

    /// Somebody's hand on the queue and on conflicts. What cannot be is refused, and nothing else happens.
    fn by_hand(&mut self) {
        let mut operations = self.operations();
        if self.chance.below(4) > 0 {
            operations.retain(|one| one.state == OperationState::Parked);
        }
        let conflicts = block_on(self.world.reads.conflicts(true)).unwrap();
        let operation = self.chance.pick(&operations).map_or(1, |one| one.id);
        let conflict = self.chance.pick(&conflicts).map_or(1, |one| one.id);
        let write = match self.chance.below(7) {
            0 => Write::Redrive(vec![]),
            1 => Write::Redrive(vec![operation]),
            2 => Write::Discard(vec![operation]),
            3 if self.chance.below(4) == 0 => Write::Discard(vec![]),
            3 | 4 => {
                let merged = Choice::Merged(self.document());
                let choice = [Choice::Local, Choice::Remote, merged][self.chance.below(3)].clone();
                Write::Decide { conflict, choice }
            }
            5 => Write::Undo { conflict },
            _ => {
                let keys = ["k1".into(), "k2".into(), "k9".into()].to_vec();
                Write::Listing(ListedKeys { collection: "notes".into(), keys, first: true, last: true })
            }
        };
        let _ = self.world.commit(write);
    }

    fn step(&mut self) {
        match self.chance.below(10) {
            0..=3 => self.change(),
            4 | 5 => self.settle(),
            6 | 7 => self.observe(),
            _ => self.by_hand(),
        }
    }
}

/// What is in memory is what is in the file, and every promise holds.
fn assert_sound(run: &Run, seed: u64, step: usize) {
    let verified = block_on(run.world.reads.verify()).unwrap();
    assert!(verified.healthy, "seed {seed}, step {step}: {:#?}", verified.issues);
    let counts = block_on(run.world.reads.counts()).unwrap();
    assert_eq!(counts, *run.world.store.counts(), "seed {seed}, step {step}");
}

#[test]
fn the_store_keeps_its_promises_whatever_is_written() {
    for seed in 0..8 {
        let mut run = Run::new(seed, seed % 2 == 1);
        for step in 0..STEPS {
            run.step();
            run.assert_whole(seed, step);
            if step % 50 == 0 {
                assert_sound(&run, seed, step);
            }
            if step % 200 == 199 {
                run.world = run.world.reopen();
            }
        }
        assert_sound(&run, seed, STEPS);
    }
}

/// When all is sent and seen, nothing is left to send, and every record is what the server has.
#[test]
fn a_queue_that_is_emptied_leaves_only_what_the_server_has() {
    for seed in 100..104 {
        let mut run = Run::new(seed, seed % 2 == 1);
        for _ in 0..STEPS / 2 {
            run.step();
        }
        for conflict in block_on(run.world.reads.conflicts(false)).unwrap() {
            let choice = Choice::Remote;
            run.world.commit(Write::Decide { conflict: conflict.id, choice }).unwrap();
        }
        run.world.commit(Write::Discard(vec![])).unwrap();
        while let Some(first) = block_on(run.world.reads.pending(0, 1)).unwrap().pop() {
            let sent = Sent { action: first.action, patch: first.patch };
            let fate = Fate::Applied { version: run.version(), document: None };
            let settlement = Settlement { covers: vec![first.sequence], id: first.id, sent, fate };
            run.world.commit(Write::Settle(vec![settlement])).unwrap();
        }
        assert_sound(&run, seed, STEPS);
        for (name, counts) in run.world.store.counts() {
            let waiting = (counts.pending, counts.parked, counts.conflicts);
            assert_eq!(waiting, (0, 0, 0), "seed {seed}: {name}");
            if **name != *"drafts" {
                assert_eq!(counts.records, counts.on_server, "seed {seed}: {name}");
            }
        }
    }
}
