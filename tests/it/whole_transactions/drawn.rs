//! Whatever is drawn from a seed: on the server every transaction is there whole or not at all, at any time (P4).

use tidelock::{Choice, Config, Document, SyncRequest, Tidelock};
use tidelock_testbed::Fault;

use super::{queue, strict};
use crate::support::{Device, Dice, World, assert_equal, uuid};

const STEPS: u64 = 120;
/// Tasks that all transactions fight for.
const TASKS: u64 = 4;
/// Notes that each transaction makes, by which it is known.
const NOTES: u64 = 3;

fn device(world: &World, name: &str, strategy: &str) -> Device {
    let directory = world.folder(name);
    let text = world.config_text(&directory, &format!("auto = false\nconflict = \"{strategy}\""));
    Device { tidelock: Tidelock::open(Config::from_toml(&text).unwrap()).unwrap(), directory }
}

/// Notes of its own and edits of shared tasks, some of which the server refuses.
async fn save(device: &Device, dice: &mut Dice, number: u64) {
    let edits: Vec<_> = (0..dice.below(3))
        .map(|_| (uuid(dice.below(TASKS)), format!(r#"{{"n":{}}}"#, [1, 2, 3, 1_000][dice.below(4) as usize])))
        .collect();
    let saved = device.tidelock.transaction(|transaction| {
        for note in 0..NOTES {
            transaction.save("notes", &format!("{number}-{note}"), &Document::empty())?;
            for (task, text) in edits.iter().filter(|_| note == 1) {
                transaction.save("tasks", task, &Document::parse(text).unwrap())?;
            }
        }
        Ok(())
    });
    saved.await.unwrap();
}

async fn sync(world: &World, device: &Device, dice: &mut Dice) {
    if dice.below(4) == 0 {
        let fault = [Fault::LoseResponse, Fault::Unavailable { retry_after_s: None }][dice.below(2) as usize];
        world.network.next_for("POST", "/rest/v1/rpc/tidelock_push", fault);
    }
    let _ = device.tidelock.sync(SyncRequest::default()).await;
}

/// Somebody's hand on the queue or on a conflict; what cannot be is refused.
async fn by_hand(device: &Device, dice: &mut Dice) {
    let operations = queue(device).await;
    let drawn = (!operations.is_empty()).then(|| operations[dice.below(operations.len() as u64) as usize].id);
    let conflicts = device.tidelock.conflicts(false).await.unwrap();
    match dice.below(4) {
        0 => drop(device.tidelock.redrive(drawn.into_iter().collect()).await),
        1 if dice.below(3) == 0 => drop(device.tidelock.discard(vec![drawn.unwrap_or_default()]).await),
        1 | 2 if !conflicts.is_empty() => {
            let conflict = conflicts[dice.below(conflicts.len() as u64) as usize].id;
            let choice = [Choice::Local, Choice::Remote][dice.below(2) as usize].clone();
            device.tidelock.resolve(conflict, choice).await.unwrap();
        }
        _ => device.save("tasks", &uuid(dice.below(TASKS)), r#"{"n":5}"#).await,
    }
}

async fn assert_whole(world: &World, seed: u64, step: u64) {
    let torn = format!(
        "select string_agg(t || ': ' || c, ', ') from (
           select split_part(id, '-', 1) as t, count(*) as c from notes group by 1 having count(*) <> {NOTES}) torn"
    );
    assert_eq!(world.value(&torn).await, "", "seed {seed}, step {step}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_no_turn_of_the_queue_tears_a_transaction() {
    let (mut dice, seed) = Dice::new("transactions");
    let world = strict().await;
    let devices = [
        device(&world, "patient", "manual"),
        device(&world, "newest", "newest-wins"),
        device(&world, "other", "merge"),
    ];
    for task in 0..TASKS {
        devices[0].save("tasks", &uuid(task), r#"{"n":0}"#).await;
    }
    // Until it has met the server a device does not know that transactions are kept.
    for device in &devices {
        device.sync().await;
    }
    for step in 0..STEPS {
        let device = &devices[dice.below(3) as usize];
        match dice.below(10) {
            0..=3 => save(device, &mut dice, step).await,
            4..=6 => sync(&world, device, &mut dice).await,
            _ => by_hand(device, &mut dice).await,
        }
        assert_whole(&world, seed, step).await;
    }
    super::allow_all(&world).await;
    for _ in 0..3 {
        for device in &devices {
            for conflict in device.tidelock.conflicts(false).await.unwrap() {
                device.tidelock.resolve(conflict.id, Choice::Local).await.unwrap();
            }
            device.tidelock.redrive(vec![]).await.unwrap();
            let _ = device.tidelock.sync(SyncRequest::default()).await;
            assert_whole(&world, seed, STEPS).await;
        }
    }
    for device in devices.iter().rev().chain(&devices) {
        for conflict in device.tidelock.conflicts(false).await.unwrap() {
            device.tidelock.resolve(conflict.id, Choice::Local).await.unwrap();
        }
        device.sync_until_settled().await;
    }
    let notes = world.rows("notes").await;
    println!("{} transactions arrived", notes.len() as u64 / NOTES);
    assert!(notes.len() > 10, "seed {seed}");
    for device in &devices {
        let status = device.tidelock.status();
        assert_eq!(
            (status.pending, status.parked, status.conflicts),
            (0, 0, 0),
            "seed {seed}: {:?}",
            queue(device).await
        );
        assert_equal(&device.records("notes").await, &notes, "notes");
        assert_equal(&device.records("tasks").await, &world.rows("tasks").await, "tasks");
        device.assert_healthy().await;
    }
}
