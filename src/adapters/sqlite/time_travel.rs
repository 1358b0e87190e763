//! Anything happens to a store, and a model that remembers every state of it says what a rollback must bring back.

use std::collections::BTreeMap;

use tidelock_actors::document::Document;
use tidelock_actors::machine::Chance;
use tidelock_actors::model::{Outcome, RecordId, Resolution, Stamp};
use tidelock_actors::writes::{LeftAlone, Observation, RollbackTarget, Write, Written};

use super::records::same as means_the_same;
use super::world::{World, document, gone, id, row};

/// What the app sees in every collection, after everything that happened: the model that remembers it all.
type Seen = BTreeMap<RecordId, Document>;

fn seen(world: &World) -> Seen {
    let rows = world.sql("SELECT collection, key, document FROM tl_records WHERE document IS NOT NULL");
    let read = |text: &String| {
        let row = document(text);
        let text = |name: &str| row.string(name).unwrap();
        (RecordId::new(text("collection"), text("key")), document(&text("document")))
    };
    rows.iter().map(read).collect()
}

/// As far as a rollback can bring it back: without the server's stamp and without nulls.
fn essence(document: Option<&Document>) -> Option<Document> {
    let kept = |(name, text): &(&str, &str)| *name != "updated_at" && *text != "null";
    document.map(|document| Document::from_fields(document.fields().iter().filter(kept)))
}

struct Play {
    world: World,
    chance: Chance,
    /// Every state that there was, with the last moment of what led to it.
    past: Vec<(Stamp, Seen)>,
    /// The number of each round and rollback, with what was there before and after it.
    rounds: Vec<(i64, Seen, Seen)>,
    versions: u32,
}

const PLACES: [&str; 7] = ["notes/a", "notes/b", "projects/p", "tasks/t", "tasks/u", "drafts/d", "catalogue/c"];

impl Play {
    fn below(&mut self, bound: usize) -> usize {
        (self.chance.fraction() * bound as f64) as usize
    }

    fn place(&mut self) -> &'static str {
        PLACES[self.below(PLACES.len())]
    }

    fn text(&mut self) -> String {
        let (a, b) = (self.below(3), self.below(4));
        let b = if b == 3 { String::new() } else { format!(r#","b":{b}"#) };
        format!(r#"{{"a":{a}{b}}}"#)
    }

    fn step(&mut self) {
        let (place, text) = (self.place(), self.text());
        match self.below(12) {
            0..4 if place != "catalogue/c" => {
                self.world.try_save(place, &text).unwrap();
            }
            4 if place != "catalogue/c" => {
                self.world.delete(place);
            }
            5..8 => self.pull(),
            8 => self.answer(place),
            9 => {
                let versions = self.versions;
                let world = std::mem::replace(&mut self.world, World::new());
                self.world = world.reopen_with(|options| options.history_keep = versions);
            }
            10 => self.roll_back_to_a_time(),
            11 => self.roll_back_a_round(),
            _ => {}
        }
        self.world.assert_healthy();
        self.past.push((self.world.now(), seen(&self.world)));
    }

    /// A round brings some rows; where they are contested the server's are taken.
    fn pull(&mut self) {
        let (number, before) = (2 * self.past.len() as i64, seen(&self.world));
        let mut rows = Vec::new();
        for place in PLACES.into_iter().filter(|place| *place != "drafts/d") {
            match self.below(6) {
                0 | 1 => {
                    let text = document(&self.text()).with_string("updated_at", &format!("t{number}"));
                    let text = text.with_string("id", &id(place).key);
                    rows.push(row(place, text.as_str(), &format!("v{number}")));
                }
                2 => rows.push(gone(place)),
                _ => {}
            }
        }
        let mut observation = Observation { round: number, ..self.world.observation(rows) };
        while let Written::Contested(contested) = self.world.commit(Write::Observe(observation.clone())).unwrap() {
            observation.resolutions.extend(contested.into_iter().map(|contested| Resolution {
                contested,
                outcome: Outcome::TakeRemote,
                strategy: "remote-wins".to_owned(),
            }));
            observation.stamp = self.world.stamp();
        }
        self.rounds.push((number, before, seen(&self.world)));
    }

    /// The server takes or refuses what waits on a record.
    fn answer(&mut self, place: &str) {
        let waits = |one: &tidelock_actors::model::Operation| one.id == id(place);
        let covers: Vec<_> = self.world.pending().iter().filter(|one| waits(one)).map(|one| one.sequence).collect();
        match self.below(3) {
            0 if !covers.is_empty() => {
                self.world.park(place, &covers);
            }
            0 => {
                self.world.commit(Write::Redrive(Vec::new())).unwrap();
            }
            _ if !covers.is_empty() => {
                let version = format!("p{}", self.past.len());
                self.world.applied(place, &covers, &version);
            }
            _ => {}
        }
    }

    fn roll_back_to_a_time(&mut self) {
        let moment = self.below(self.past.len());
        let (at, then) = self.past[moment].clone();
        let names = ["notes", "projects", "tasks", "drafts"];
        self.check(RollbackTarget::Collections { names: names.map(Into::into).to_vec(), at }, |id, _| {
            names.contains(&&*id.collection).then(|| then.get(id).cloned())
        });
    }

    fn roll_back_a_round(&mut self) {
        if self.rounds.is_empty() {
            return;
        }
        let at = self.below(self.rounds.len());
        let (number, before, after) = self.rounds[at].clone();
        let known = self.world.sql(&format!(
            "SELECT 1 FROM tl_history WHERE round = {number} OR ended_round = {number}
                 UNION ALL SELECT 1 FROM tl_records WHERE round = {number}"
        ));
        if known.is_empty() {
            return;
        }
        let target = RollbackTarget::Round { number, collections: Vec::new(), force: false };
        self.check(target, |id, now| {
            let (before, after) = (before.get(id), after.get(id));
            let stamped = |document: Option<&Document>| document.map(|one| one.without("updated_at"));
            let is_still = means_the_same(stamped(now).as_ref(), stamped(after).as_ref());
            let was_touched = !means_the_same(before, after) && &*id.collection != "catalogue";
            (was_touched && is_still).then(|| before.cloned())
        });
    }

    /// Rolls back; each record is what is wanted, or else what it was; and that can be taken back.
    fn check(
        &mut self,
        target: RollbackTarget,
        wanted: impl Fn(&RecordId, Option<&Document>) -> Option<Option<Document>>,
    ) {
        let before = seen(&self.world);
        let done = self.world.roll_back(target.clone());
        let after = seen(&self.world);
        for place in PLACES {
            let id = id(place);
            let (was, is) = (before.get(&id), after.get(&id));
            let is_unknown = done.left_shown.contains(&(id.clone(), LeftAlone::Unknown));
            assert!(!is_unknown || self.versions < 100, "{id} must be known");
            // Where few versions are kept, what a round did to a record may be forgotten altogether.
            let may_be_forgotten = self.versions < 100 && matches!(target, RollbackTarget::Round { .. });
            let expected = match wanted(&id, was) {
                Some(_) if is_unknown || may_be_forgotten && is == was => was.cloned(),
                Some(wanted) => wanted,
                None => was.cloned(),
            };
            let (is, expected) = (essence(is), essence(expected.as_ref()));
            assert!(means_the_same(is.as_ref(), expected.as_ref()), "{id}: {is:?} for {expected:?} by {target:?}");
        }
        if done.count > 0 {
            self.rounds.push((done.number, before, after));
        }
    }
}

fn play(seed: u64, versions: u32) {
    println!("rollback: seed {seed}, {versions} versions");
    let mut world = World::with(|options| options.history_keep = versions);
    if seed.is_multiple_of(2) {
        world.keep_transactions();
    }
    let past = vec![(world.now(), Seen::new())];
    let mut play = Play { world, chance: Chance::from_seed(seed), past, rounds: Vec::new(), versions };
    for _ in 0..120 {
        play.step();
    }
}

#[test]
fn whatever_happened_a_rollback_brings_back_what_was_there_then() {
    let given = std::env::var("TIDELOCK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = given.map_or_else(|| (1..=6).collect(), |seed| vec![seed]);
    for seed in seeds {
        play(seed, 1_000);
        play(seed, 3);
    }
}
