//! What is logged arrives on the server, once, whatever happens on the way; and nobody is hammered.

use serde_json::{Value, json};
use tidelock::logs::{LogQuery, Severity};
use tidelock::{Config, Status, Tidelock};
use tidelock_actors::limits::LOG_PENDING_ROWS;
use tidelock_testbed::FaultPlan;
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{Device, World};

const LOGS: &str = "/rest/v1/usage_logs";

/// Hears what this thread says as long as it lives.
fn heard(device: &Device) -> tracing::subscriber::DefaultGuard {
    let subscriber = tracing_subscriber::registry().with(device.tidelock.logger().tracing_layer());
    tracing::subscriber::set_default(subscriber)
}

async fn all_shipped(device: &Device) -> Status {
    // What was said before is in the book then, which the status says already and the stream of them a moment later.
    device.tidelock.logger().entries(LogQuery::default()).await.unwrap();
    device.told(|status| status.logger.pending == 0).await
}

/// The rows on the server, in the order in which they were said.
async fn shipped(world: &World) -> Vec<Value> {
    let rows = world.project.rows_as_json("select * from public.usage_logs order by id").await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

fn asked(world: &World) -> usize {
    world.network.requests().iter().filter(|(_, path)| path == LOGS).count()
}

#[tokio::test]
async fn warnings_errors_and_calls_arrive_with_their_context() {
    let world = World::new().await;
    let device = world.device_with("here", "[log]\nredact = ['prompt']");
    let _heard = heard(&device);
    tracing::info_span!("export", run = 7).in_scope(|| tracing::warn!(ms = 17, "slow"));
    tracing::info!("not for the server");
    tracing::error!(token = "cAnArY", "broken");
    device.tidelock.logger().log_api_call("gemini", "generate", 2.5, json!({"model": "x", "prompt": "cAnArY"}));
    let status = all_shipped(&device).await;
    assert!(status.logger.last_shipped_at.is_some() && status.logger.last_error.is_none(), "{:?}", status.logger);
    let rows = shipped(&world).await;
    let told: Vec<_> = rows.iter().map(|row| (&row["provider"], &row["action"], &row["credits_consumed"])).collect();
    let expected = [json!(["log", "warn", 0]), json!(["log", "error", 0]), json!(["gemini", "generate", 2.5])];
    assert_eq!(told, expected.each_ref().map(|row| (&row[0], &row[1], &row[2])));
    let warning = &rows[0]["metadata"];
    assert_eq!((&warning["message"], &warning["fields"]["ms"]), (&json!("slow"), &json!(17)));
    let context = &warning["tidelock"];
    assert_eq!(context["spans"], json!([{"name": "export", "fields": {"run": 7}}]));
    assert_eq!(context["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(context["device"].as_str().map(str::len), Some(36));
    assert_eq!(rows[2]["metadata"]["model"], "x");
    assert!(!json!(rows).to_string().contains("cAnArY"), "{rows:?}");
    let kept = device.tidelock.logger().entries(LogQuery::default()).await.unwrap();
    let levels: Vec<_> = kept.iter().map(|kept| kept.entry.level).collect();
    assert_eq!(levels, [Severity::Warn, Severity::Info, Severity::Error, Severity::Info]);
}

#[tokio::test]
async fn h48_each_arrives_once_although_answers_are_lost() {
    let world = World::new().await;
    let device = world.device("here");
    let _heard = heard(&device);
    let plan =
        FaultPlan { lose_response: 0.5, cut_before: 0.1, unavailable: 0.1, retry_after_s: 0, ..FaultPlan::none() };
    world.network.set_plan(plan);
    for number in 0..1_500 {
        tracing::warn!(number, "a warning");
    }
    all_shipped(&device).await;
    let rows = shipped(&world).await;
    let mut numbers: Vec<_> = rows.iter().map(|row| row["metadata"]["fields"]["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_to_be_shipped_outlives_a_restart_and_failures_of_the_logger() {
    let world = World::new().await;
    let device = world.device("here");
    world.network.set_offline(true);
    {
        let _heard = heard(&device);
        for number in 0..50 {
            tracing::warn!(number, "before");
        }
        device.tidelock.logger().entries(LogQuery::default()).await.unwrap();
        device.tidelock.drill("logger").await.unwrap();
        // Not written yet when it stops.
        tracing::warn!("the last one");
        tracing::warn!("the last one");
        tracing::warn!("the last one");
    }
    device.tidelock.shutdown().await;
    let again = Tidelock::open(device.tidelock.config()).unwrap();
    let device = Device { tidelock: again, directory: device.directory };
    let status = device.told(|status| status.logger.pending > 0).await;
    assert_eq!((status.logger.pending, status.logger.folded), (52, 1), "the last one, and twice more");
    world.network.set_offline(false);
    all_shipped(&device).await;
    assert_eq!(shipped(&world).await.len(), 52);
    assert_eq!(device.tidelock.logger().entries(LogQuery::default()).await.unwrap().len(), 52);
}

/// H48: the counts are exact, what is kept is bounded, and the newest arrive, each once.
#[tokio::test]
async fn h48_a_hundred_thousand_warnings_while_the_server_is_down() {
    let world = World::new().await;
    let device = world.device("here");
    let _heard = heard(&device);
    world.network.set_offline(true);
    let given = 100_000;
    for number in 0..given {
        tracing::warn!(number, "a warning of the flood");
        if number % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let logger = device.tidelock.logger();
    logger.entries(LogQuery::default()).await.unwrap();
    let counted = |status: &Status| status.logger.pending + status.logger.shed + status.logger.folded;
    let status = device.told(|status| counted(status) >= given).await;
    assert_eq!(counted(&status), given, "{:?}", status.logger);
    assert!(status.logger.pending <= LOG_PENDING_ROWS as u64 && status.logger.folded == 0, "{:?}", status.logger);
    let bytes: u64 = ["logs.db", "logs.db-wal"]
        .iter()
        .filter_map(|name| std::fs::metadata(device.directory.join(name)).ok())
        .map(|file| file.len())
        .sum();
    assert!(bytes < 48 * 1024 * 1024, "{bytes}");
    let kept = status.logger.pending;
    world.network.set_offline(false);
    let status = all_shipped(&device).await;
    assert_eq!((status.logger.shed, status.logger.refused), (given - kept, 0));
    let rows = shipped(&world).await;
    assert_eq!(rows.len() as u64, kept);
    let mut numbers: Vec<_> = rows.iter().map(|row| row["metadata"]["fields"]["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((numbers.len() as u64, numbers.last().copied()), (kept, Some(given - 1)));
}

#[tokio::test]
async fn h48_a_server_that_lets_nobody_in_is_left_alone_until_somebody_signs_in() {
    let world = World::new().await;
    let directory = world.folder("here");
    let text = world.config_text(&directory, "auto = false");
    let text = text.replace(&world.project.secret_key, &world.project.publishable_key);
    let tidelock = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
    let device = Device { tidelock, directory };
    let _heard = heard(&device);
    tracing::error!("nobody is signed in");
    let status = device.told(|status| status.logger.last_error.is_some()).await;
    assert!(status.logger.last_error.as_ref().is_some_and(|error| error.contains("42501")), "{:?}", status.logger);
    for number in 0..10 {
        tracing::error!(number, "still nobody");
        device.tidelock.logger().entries(LogQuery::default()).await.unwrap();
    }
    // What another device says later arrives: by then the next batch would have been due, were the server not left alone.
    let text = world.config_text(&world.folder("there"), "auto = false");
    let text = text.replace(&world.network.url, &world.project.url);
    let other = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
    let other = Device { tidelock: other, directory: world.folder("there") };
    other.tidelock.logger().log_api_call("p", "a", 1.0, Value::Null);
    other.told(|status| status.logger.last_shipped_at.is_some()).await;
    assert_eq!((asked(&world), device.tidelock.status().logger.pending), (1, 11));
    let session = world.project.any_user().await.unwrap();
    device.tidelock.set_access_token(Some(session.access_token.into()));
    let status = all_shipped(&device).await;
    assert_eq!((status.logger.last_error, status.logger.refused), (None, 0));
    let mut rows = shipped(&world).await;
    rows.retain(|row| row["provider"] == "log");
    assert_eq!(rows.len(), 11);
    assert!(rows.iter().all(|row| row["user_id"] == session.user_id.as_str()), "{rows:?}");
}

#[tokio::test]
async fn a_missing_table_is_told_and_an_entry_that_is_refused_holds_nothing_up() {
    let world = World::new().await;
    let device = world.device_with("here", "[log]\ntable = \"no_such_table\"");
    world.project.sql("alter table public.usage_logs add check (action <> 'bad')").await.unwrap();
    let logger = device.tidelock.logger();
    for number in 0..40 {
        logger.log_api_call("p", if number == 23 { "bad" } else { "good" }, 1.0, json!({"number": number}));
    }
    let status = device.told(|status| status.logger.last_error.is_some()).await;
    assert!(status.logger.last_error.is_some_and(|error| error.contains("no_such_table")));
    assert_eq!(status.logger.pending, 40);
    let mut config = device.tidelock.config();
    config.log.table = "public.usage_logs".to_owned();
    assert_eq!(device.tidelock.reconfigure(config).await.unwrap(), [""; 0]);
    let status = all_shipped(&device).await;
    assert_eq!((status.logger.refused, shipped(&world).await.len()), (1, 39));
}

#[tokio::test]
async fn with_shipping_off_nothing_is_asked_of_the_server() {
    let world = World::new().await;
    for (name, log) in [("a", "remote_level = \"off\""), ("b", "table = \"\"")] {
        let device = world.device_with(name, &format!("[log]\n{log}"));
        let _heard = heard(&device);
        tracing::error!("kept here");
        device.tidelock.logger().log_api_call("p", "a", 1.0, Value::Null);
        let kept = device.tidelock.logger().entries(LogQuery::default()).await.unwrap();
        assert_eq!((kept.len(), device.tidelock.status().logger.pending), (2, 0), "{name}");
    }
    assert_eq!(asked(&world), 0);
}
