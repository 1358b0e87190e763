//! Thousands of operations made offline on two devices, through a network that goes wrong all the time.

use std::sync::Arc;

use tidelock::Document;
use tidelock_testbed::FaultPlan;

use crate::support::{Device, Dice, World, assert_equal, uuid};

const OPERATIONS: u64 = 5_000;

/// Creates, updates and deletes over three collections; tasks refer to projects. Each device has its own
/// records, so that every effect can be told apart, and edits a few that both know.
async fn work_offline(device: &Device, number: u64, dice: &mut Dice) {
    let mut projects: Vec<String> = Vec::new();
    let mut tasks: Vec<String> = Vec::new();
    for operation in 0..OPERATIONS {
        let fresh = uuid(number * 1_000_000 + operation);
        match dice.below(100) {
            0..15 => {
                device.save("projects", &fresh, &format!(r#"{{"name":"p{operation}"}}"#)).await;
                projects.push(fresh);
            }
            15..55 if !projects.is_empty() => {
                let project = &projects[dice.below(projects.len() as u64) as usize];
                let task = format!(r#"{{"project_id":"{project}","title":"t","n":0,"code":"{number}-{operation}"}}"#);
                device.save("tasks", &fresh, &task).await;
                tasks.push(fresh);
            }
            55..80 if !tasks.is_empty() => {
                let task = &tasks[dice.below(tasks.len() as u64) as usize];
                device.save("tasks", task, &format!(r#"{{"n":{operation}}}"#)).await;
            }
            80..85 if !tasks.is_empty() => {
                let task = tasks.swap_remove(dice.below(tasks.len() as u64) as usize);
                device.tidelock.delete("tasks", &task).await.unwrap();
            }
            85..90 => {
                let shared = format!("shared{}", dice.below(50));
                device.save("notes", &shared, &format!(r#"{{"body":"{number}-{operation}"}}"#)).await;
            }
            _ => {
                device.save("notes", &format!("{number}-{operation}"), r#"{"body":"mine"}"#).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_offline_operations_on_each_of_two_devices_come_together() {
    come_together(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_offline_operations_on_each_of_two_devices_come_together_through_the_kit() {
    come_together(World::with_kit().await).await;
}

async fn come_together(world: World) {
    let (mut dice, seed) = Dice::new("storm");
    let (here, there) = (world.device("here"), world.device("there"));
    work_offline(&here, 1, &mut dice).await;
    work_offline(&there, 2, &mut dice).await;
    let expected_tasks = here.records("tasks").await.len() + there.records("tasks").await.len();

    world.network.set_plan(FaultPlan { hang_ms: 1_000, ..FaultPlan::mixed(seed, 0.15) });
    tokio::join!(here.sync_until_settled(), there.sync_until_settled());
    println!("faults: {:?}", world.network.counts());
    world.network.set_plan(FaultPlan::none());
    // Whoever was first has not seen the other's last rows yet.
    for _ in 0..2 {
        here.sync_until_settled().await;
        there.sync_until_settled().await;
    }

    for device in [&here, &there] {
        let status = device.tidelock.status();
        assert_eq!((status.pending, status.parked, status.conflicts), (0, 0, 0), "{status:?}");
        device.assert_healthy().await;
        for collection in ["projects", "tasks", "notes"] {
            assert_equal(&device.records(collection).await, &world.rows(collection).await, collection);
        }
    }
    assert_eq!(world.rows("tasks").await.len(), expected_tasks, "each create took effect once, each delete too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_after_the_commit_has_no_second_effect() {
    let world = World::new().await;
    let device = world.device("here");
    // Counts what the server really did, per statement.
    world
        .project
        .sql(
            "create table effects (verb text, id uuid); alter table effects disable row level security;
             create function note_effect() returns trigger language plpgsql security definer as
             $$ begin insert into public.effects values (tg_op, coalesce(new.id, old.id)); return null; end $$;
             create trigger note_effect after insert or update or delete on public.tasks
             for each row execute function note_effect();",
        )
        .await
        .unwrap();
    let lose = |method: &str| world.network.next_for(method, "/rest/v1/tasks", tidelock_testbed::Fault::LoseResponse);
    device.save("tasks", &uuid(1), r#"{"n":1}"#).await;
    lose("POST");
    device.sync_until_settled().await;
    device.save("tasks", &uuid(1), r#"{"n":2}"#).await;
    lose("PATCH");
    device.sync_until_settled().await;
    device.tidelock.delete("tasks", &uuid(1)).await.unwrap();
    lose("DELETE");
    device.sync_until_settled().await;
    assert_eq!(world.value("select string_agg(verb, ' ') from public.effects").await, "INSERT UPDATE DELETE");
    assert!(device.tidelock.conflicts(true).await.unwrap().is_empty());
    assert_eq!(device.tidelock.status().parked, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h12_a_network_that_comes_back_empties_the_queue_without_anybody_asking() {
    let world = World::new().await;
    world.network.set_offline(true);
    let text = world.config_text(&world.folder("here"), "auto = true");
    let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
    let device = Device { tidelock, directory: world.folder("here") };
    device.save("notes", "n", r#"{"body":"x"}"#).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let _subscription = device.tidelock.subscribe(move |status| {
        let _ = tell.send(status.clone());
    });
    let mut wait_for = async |is: fn(&tidelock::Status) -> bool| {
        let wait = async { while !told.recv().await.is_some_and(|status| is(&status)) {} };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("the status says so in time");
    };
    wait_for(|status| status.phase == tidelock::Phase::Offline && !status.online && status.pending == 1).await;
    world.network.set_offline(false);
    wait_for(|status| status.phase == tidelock::Phase::Idle && status.online && status.pending == 0).await;
    assert_eq!(world.rows("notes").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_panics_under_load_and_nothing_is_lost() {
    let world = World::new().await;
    let text = world.config_text(&world.folder("here"), "auto = true");
    let text = format!("{text}\n[supervision]\nrestarts = 100\nbackoff = \"5ms\"\nbackoff_max = \"20ms\"");
    let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
    let saved = Arc::new(std::sync::Mutex::new(Vec::new()));
    let savers = (0..8).map(|saver| {
        let (tidelock, saved) = (tidelock.clone(), saved.clone());
        tokio::spawn(async move {
            for number in 0..100 {
                let key = format!("{saver}-{number}");
                let document = Document::parse(r#"{"body":"x"}"#).unwrap();
                if tidelock.save("notes", &key, document).await.is_ok() {
                    saved.lock().unwrap().push(key);
                }
            }
        })
    });
    let savers: Vec<_> = savers.collect();
    for part in ["storage", "queue", "conflict", "sync"].iter().cycle().take(20) {
        tidelock.drill(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    for saver in savers {
        saver.await.unwrap();
    }
    let status = tidelock.status();
    assert!(status.parts.values().map(|part| part.restarts).sum::<u32>() >= 4, "the status tells: {:?}", status.parts);
    let device = Device { tidelock, directory: world.folder("here") };
    device.sync_until_settled().await;
    let on_server = world.rows("notes").await;
    let saved = saved.lock().unwrap().clone();
    assert!(saved.len() > 400, "most saves went through: {}", saved.len());
    let lost: Vec<_> = saved.iter().filter(|key| !on_server.contains_key(*key)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    device.assert_healthy().await;
}
