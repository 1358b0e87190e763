//! Two devices work offline and come together through a real Supabase-compatible server.
//!
//! `cargo xtask demo` runs it: it needs nothing but Node, leaves nothing behind, and ends with an error
//! if the two stores and the server are not equal.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tidelock::adapters::sqlite::ListQuery;
use tidelock::{Choice, Config, Document, SyncReport, Tidelock};
use tidelock_testbed::{FaultPlan, FaultProxy, Project, ProjectOptions, Session};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const RUNS: usize = 3_000;
const OFFLINE_EDITS: usize = 300;
const STRATEGIES: [&str; 5] = ["local-wins", "remote-wins", "newest-wins", "merge", "manual"];

#[tokio::main]
async fn main() -> Result<()> {
    tokio::select! {
        done = demo() => done,
        _ = tokio::signal::ctrl_c() => {
            say("interrupted; the server and all files of the demo are gone");
            Ok(())
        }
    }
}

async fn demo() -> Result<()> {
    let began = Instant::now();
    say("starting a Supabase-compatible server (in memory, loopback only) …");
    let project = Project::embedded(ProjectOptions::default()).await?;
    let user = project.sign_up("studio@example.org", "correct horse battery").await?;
    let network = FaultProxy::start(&project.url, FaultPlan::none()).await?;
    let folder = tempfile::tempdir()?;
    say(&format!("   ready after {:.1} s; one user has signed up", began.elapsed().as_secs_f32()));

    let laptop = open(folder.path(), "laptop", &project, &network, &user)?;
    let tablet = open(folder.path(), "tablet", &project, &network, &user)?;

    let step = Instant::now();
    say(&format!("\n1. The laptop imports {RUNS} runs while offline"));
    network.set_offline(true);
    import(&laptop).await?;
    said("saved durably", step, &format!("{} operations pending", laptop.status().pending));

    let step = Instant::now();
    say("\n2. Online: the laptop sends them, the tablet fetches them");
    network.set_offline(false);
    let sent = laptop.sync(Default::default()).await?;
    said("laptop", step, &words(&sent));
    let step = Instant::now();
    said("tablet", step, &words(&tablet.sync(Default::default()).await?));

    let step = Instant::now();
    say(&format!("\n3. Offline again: {OFFLINE_EDITS} edits, new runs and deletions on each device"));
    network.set_offline(true);
    work_offline(&laptop, "laptop", 0).await?;
    work_offline(&tablet, "tablet", RUNS / 2).await?;
    said("both", step, &format!("{} and {} operations pending", laptop.status().pending, tablet.status().pending));
    let step = Instant::now();
    network.set_offline(false);
    said("laptop", step, &words(&laptop.sync(Default::default()).await?));
    said("tablet", step, &words(&tablet.sync(Default::default()).await?));
    said("laptop", step, &words(&laptop.sync(Default::default()).await?));

    say("\n4. The same run edited on both devices, the tablet's edit first on the server");
    for (number, strategy) in STRATEGIES.into_iter().enumerate() {
        show_conflict(&laptop, &tablet, strategy, &key(number + 10)).await?;
    }

    say("\n5. Are they equal?");
    laptop.sync(Default::default()).await?;
    tablet.sync(Default::default()).await?;
    compare(&project, &laptop, &tablet).await?;
    laptop.shutdown().await;
    tablet.shutdown().await;
    say(&format!("\nDone in {:.1} s. The server and all files of the demo are gone.", began.elapsed().as_secs_f32()));
    Ok(())
}

/// A device with the default configuration, which is Raw Studio's.
fn open(folder: &Path, name: &str, project: &Project, network: &FaultProxy, user: &Session) -> Result<Tidelock> {
    let mut config = Config::default();
    config.remote.url = Some(network.url.clone());
    config.remote.anon_key = Some(project.publishable_key.clone().into());
    config.remote.access_token = Some(user.access_token.clone().into());
    config.sync.auto = false;
    config.storage.data_dir = folder.join(name);
    Ok(Tidelock::open(config)?)
}

async fn import(device: &Tidelock) -> Result<()> {
    let runs: Vec<(String, Document)> = (0..RUNS).map(|number| (key(number), run(number))).collect();
    for part in runs.chunks(500) {
        device.bulk_save("runs", part.to_vec()).await?;
    }
    Ok(())
}

/// A run as the studio would store it.
fn run(number: usize) -> Document {
    let subjects = ["a lighthouse at dusk", "tide pools", "a harbour in fog", "waves, long exposure", "a sextant"];
    let (subject, images) = (subjects[number % subjects.len()], 1 + number % 4);
    let text = format!(
        r#"{{"run_id":"run-{number}","prompt":"{subject}, take {number}","model":"imagen-3","image_count":{images},"status":"done","settings_snapshot":{{"seed":{seed},"guidance":7.50,"size":[1024,768]}}}}"#,
        seed = 9_007_199_254_740_993 + number as u64,
    );
    Document::parse(&text).unwrap_or_else(|_| Document::empty())
}

async fn work_offline(device: &Tidelock, name: &str, from: usize) -> Result<()> {
    for number in from + 100..from + 100 + OFFLINE_EDITS {
        match number % 10 {
            0 => device.delete("runs", &key(number)).await.map(|_| ())?,
            1 => device.save("runs", &key(1_000_000 + number), run(number)).await?,
            _ => {
                device
                    .save("runs", &key(number), Document::parse(&format!(r#"{{"status":"edited on the {name}"}}"#))?)
                    .await?
            }
        }
    }
    let settings = format!(r#"{{"settings":{{"theme":"{name}"}},"video_settings":{{"fps":24}}}}"#);
    device.save("settings", &key(2_000_000 + from), Document::parse(&settings)?).await?;
    Ok(())
}

async fn show_conflict(laptop: &Tidelock, tablet: &Tidelock, strategy: &str, key: &str) -> Result<()> {
    let mut config = laptop.config();
    config.sync.conflict = serde_json::from_value(strategy.into())?;
    laptop.reconfigure(config).await?;
    laptop.sync(Default::default()).await?;
    tablet.save("runs", key, Document::parse(r#"{"prompt":"the tablet's","image_count":9}"#)?).await?;
    tablet.sync(Default::default()).await?;
    laptop.save("runs", key, Document::parse(r#"{"prompt":"the laptop's","status":"starred"}"#)?).await?;
    let report = laptop.sync(Default::default()).await?;
    if strategy == "manual" {
        let held = laptop.conflicts(false).await?;
        let open = held.first().ok_or("the manual conflict is not held")?;
        say(&format!("   {strategy:<12} held as conflict {}; decided by hand: merged", open.id));
        let merged = Document::parse(r#"{"prompt":"both agree","image_count":9,"status":"starred"}"#)?;
        laptop.resolve(open.id, Choice::Merged(merged)).await?;
        laptop.sync(Default::default()).await?;
    }
    tablet.sync(Default::default()).await?;
    let result = tablet.get("runs", key).await?.ok_or("the run is gone")?;
    let [prompt, status] = ["prompt", "status"].map(|field| result.string(field).unwrap_or_default());
    say(&format!("   {strategy:<12} {} conflict → prompt {prompt:?}, status {status:?}", report.conflicts));
    Ok(())
}

async fn compare(project: &Project, laptop: &Tidelock, tablet: &Tidelock) -> Result<()> {
    for (collection, table) in [("runs", "generations"), ("settings", "user_settings")] {
        let rows = project.rows_as_json(&format!("select * from public.{table}")).await?;
        let mut server = BTreeMap::new();
        for row in rows {
            let document = Document::parse(&row)?;
            server.insert(document.string("id").unwrap_or_default(), document);
        }
        for (name, device) in [("laptop", laptop), ("tablet", tablet)] {
            let here = all(device, collection).await?;
            let same = here.len() == server.len()
                && here
                    .iter()
                    .all(|(key, document)| server.get(key).is_some_and(|other| document.means_the_same(other)));
            say(&format!(
                "   {collection:<9} {name}: {} records, server: {} rows, {}",
                here.len(),
                server.len(),
                if same { "equal" } else { "DIFFERENT" }
            ));
            if !same {
                return Err(format!("{collection} on the {name} differs from the server").into());
            }
        }
    }
    let verified = laptop.verify_integrity().await?;
    let pending = laptop.status().pending + tablet.status().pending;
    say(&format!(
        "   queues: {pending} pending; the laptop's store is {}",
        if verified.healthy { "sound" } else { "damaged" }
    ));
    if pending > 0 || !verified.healthy {
        return Err("something is left over".into());
    }
    Ok(())
}

async fn all(device: &Tidelock, collection: &str) -> Result<BTreeMap<String, Document>> {
    let mut records = BTreeMap::new();
    let mut query = ListQuery { collection: collection.to_owned(), limit: 1_000, ..ListQuery::default() };
    loop {
        let page = device.list(query.clone()).await?;
        records.extend(page.rows);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(records),
        }
    }
}

fn key(number: usize) -> String {
    format!("5ea51de0-0000-4000-8000-{number:012x}")
}

fn words(report: &SyncReport) -> String {
    let SyncReport { pushed, pulled, conflicts, parked, requests, .. } = report;
    format!("{pushed} sent, {pulled} received, {conflicts} conflicts, {parked} parked, {requests} requests")
}

fn said(who: &str, since: Instant, what: &str) {
    let took: Duration = since.elapsed();
    say(&format!("   {who}: {what} ({:.2} s)", took.as_secs_f32()));
}

#[allow(clippy::print_stdout, reason = "a demo talks")]
fn say(text: &str) {
    println!("{text}");
}
