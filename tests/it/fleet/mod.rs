//! The proof of the server kit: devices write transactions over three tables, an app with supabase-js and psql write to
//! the same tables, answers are lost after the commit, requests come twice, processes are killed and stores opened anew.
//! In the end every device equals the server, every operation took effect once, and nobody ever saw half a transaction.
//!
//! The gate runs a slice; `cargo xtask fleet` runs the full size.

mod check;
mod device;
mod model;
mod outsiders;
mod process;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use tidelock::SyncRequest;
use tidelock_testbed::FaultPlan;
use tokio::sync::watch;

use crate::support::{Device, Dice};
use world::Fleet;

struct Size {
    devices: u64,
    processes: u64,
    transactions: u64,
}

impl Size {
    fn from_environment() -> Self {
        match std::env::var("TIDELOCK_FLEET").as_deref() {
            Ok("full") => Self { devices: 8, processes: 2, transactions: 2_000 },
            _ => Self { devices: 3, processes: 1, transactions: 150 },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_equals_the_server_every_operation_took_effect_once_and_nobody_saw_half_a_transaction() {
    if tidelock_testbed::is_external() {
        return println!("not run on an external Supabase: it makes tables of its own");
    }
    let (_, seed) = Dice::new("fleet");
    let size = Size::from_environment();
    let fleet = Arc::new(Fleet::start(seed).await);
    let plan = FaultPlan { hang_ms: 300, delay_ms: 200, twice: 0.1, ..FaultPlan::mixed(seed, 0.15) };
    fleet.world.network.set_plan(plan);

    let (end, is_over) = watch::channel(false);
    let open = outsiders::Open::begin(&fleet).await;
    let psql = tokio::spawn(outsiders::write_by_psql(fleet.clone(), is_over.clone()));
    let reader = tokio::spawn(outsiders::read_by_psql(fleet.clone(), is_over.clone()));
    let app = tokio::spawn(outsiders::write_by_supabase_js(fleet.clone(), is_over));
    let each = size.transactions / (size.devices + size.processes);
    let devices: Vec<_> = (1..=size.devices).map(|n| tokio::spawn(device::work(fleet.clone(), n, each))).collect();
    let numbers = size.devices + 1..=size.devices + size.processes;
    let processes: Vec<_> = numbers.clone().map(|n| tokio::spawn(process::work(fleet.clone(), n, each))).collect();

    let mut worked: Vec<_> = join_all(devices).await.into_iter().map(Result::unwrap).collect();
    let mut kills = 0;
    for process in processes {
        let (of_process, of_it) = process.await.unwrap();
        worked.push(of_process);
        kills += of_it;
    }
    end.send_replace(true);
    let psql_reads = reader.await.unwrap();
    println!("faults: {:?}; {kills} kills; psql looked {psql_reads} times", fleet.world.network.counts());
    println!("shared groups seen half on a device: {}", fleet.shared_halves.load(Ordering::Relaxed));
    fleet.world.network.set_plan(FaultPlan::none());

    let (mut settled, mut reads) = (BTreeSet::new(), 0);
    let mut authors = vec![psql.await.unwrap(), app.await.unwrap(), open.commit().await];
    for of_one in worked {
        assert!(of_one.reads > 0, "nobody looked on device {}", of_one.author.number);
        reads += of_one.reads;
        settled.extend(of_one.settled);
        authors.push(of_one.author);
    }
    let names = (1..=size.devices).map(device::name).chain(numbers.map(process::name));
    let devices: Vec<Device> = names.map(|name| fleet.open(&name, false)).collect();
    until_quiet(&devices).await;
    for device in &devices {
        check::assert_device_equals_server(&fleet, device).await;
    }
    check::assert_server_has_what_was_written(&fleet, &authors).await;
    check::assert_effects(&fleet, &settled, &authors).await;
    let noted = fleet.world.value("select count(*) from noted").await;
    println!("effects: {noted}; marks that are certain: {}; devices looked {reads} times", settled.len());
}

/// Rounds on all devices until none has anything to send or to fetch.
async fn until_quiet(devices: &[Device]) {
    const MOST_ROUNDS: usize = 20;
    for _ in 0..MOST_ROUNDS {
        let mut moved = 0;
        for device in devices {
            let report = device.tidelock.sync(SyncRequest::default()).await.unwrap();
            moved += report.pulled + report.pushed + report.failed + device.tidelock.status().pending;
        }
        if moved == 0 {
            return;
        }
    }
    panic!("still not quiet after {MOST_ROUNDS} rounds of each");
}
