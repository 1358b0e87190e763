//! What a process tells Prometheus, held against what has happened.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::command_line::Desk;
use crate::support::{World, uuid};

/// The samples of one scrape, by name and labels as they were written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// As Prometheus does it: with the token's file as it is, less the white space around it.
    async fn of(desk: &Desk) -> Self {
        let read = |name: &str| std::fs::read_to_string(desk.path("data").join(name)).unwrap();
        let url = format!("http://{}/v1/metrics", read("api.address").trim());
        let request = reqwest::Client::new().get(url).bearer_auth(read("api.token").trim());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        Self::parse(&answer.text().await.unwrap())
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
        });
        let samples = Self(samples.collect());
        for name in samples.0.keys() {
            let described = name.split('{').next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| described.strip_suffix(part));
            let is_typed = |name: &str| text.contains(&format!("# TYPE {name} "));
            assert!(is_typed(described) || base.is_some_and(is_typed), "{name} has no type");
        }
        samples
    }

    /// One sample; what never happened has none.
    fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The sum of all samples of a metric.
    fn sum(&self, metric: &str) -> f64 {
        let is_of = |name: &str| name == metric || name.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'));
        self.0.iter().filter(|(name, _)| is_of(name)).map(|(_, value)| value).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_tells_is_what_has_happened() {
    for world in World::both().await {
        let desk = Desk::with(&world.config_text(std::path::Path::new("data"), "auto = false"));
        let _process = desk.process();
        let began = Timestamp::now().as_second() as f64;
        desk.ok(&["put", "notes", "a", r#"{"body":"one"}"#]);
        desk.ok(&["put", "notes", "b", r#"{"body":"two"}"#]);
        desk.ok(&["put", "tasks", &uuid(1), r#"{"title":"bad","n":-1}"#]);
        world.project.sql("insert into public.notes (id, body) values ('c', 'from there')").await.unwrap();

        // What waits is looked at once a second at the most, and nobody outside is told when.
        let waiting = async {
            loop {
                let scrape = Scrape::of(&desk).await;
                if scrape.value(r#"tidelock_oldest_pending_timestamp_seconds{collection="tasks"}"#) > 0.0 {
                    return scrape;
                }
            }
        };
        let before = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
        assert_eq!(before.value(r#"tidelock_pending_operations{collection="notes"}"#), 2.0);
        assert_eq!(before.sum("tidelock_pending_operations"), 3.0);
        let oldest = before.value(r#"tidelock_oldest_pending_timestamp_seconds{collection="notes"}"#);
        assert!((began - 2.0..began + 20.0).contains(&oldest), "{oldest} and {began}");
        let bytes = [r#"{"body":"one","id":"a"}"#, r#"{"body":"two","id":"b"}"#].map(str::len).iter().sum::<usize>();
        assert_eq!(before.value(r#"tidelock_pending_bytes{collection="notes"}"#), bytes as f64);
        assert_eq!(before.value(r#"tidelock_phase{phase="paused"}"#), 1.0);
        assert_eq!(before.sum("tidelock_phase"), 1.0);
        assert_eq!((before.sum("tidelock_rounds_total"), before.sum("tidelock_operations_total")), (0.0, 0.0));

        let done = desk.run(&["sync", "--json"]);
        assert_eq!(done.exit, 3, "{}", done.complained);
        let report: Value = serde_json::from_str(&done.said).unwrap();
        assert_eq!((&report["pushed"], &report["parked"]), (&json!(2), &json!(1)), "{report}");

        let after = Scrape::of(&desk).await;
        let told = |name: &str| after.value(name);
        assert_eq!(told(r#"tidelock_operations_total{collection="notes",verdict="applied"}"#), 2.0);
        assert_eq!(told(r#"tidelock_operations_total{collection="tasks",verdict="refused"}"#), 1.0);
        assert_eq!(after.sum("tidelock_operations_total"), 3.0);
        assert_eq!(told("tidelock_pulled_records_total"), report["pulled"].as_u64().unwrap() as f64);
        assert_eq!((after.sum("tidelock_rounds_total"), after.sum("tidelock_round_seconds_count")), (1.0, 1.0));
        assert!(after.sum("tidelock_requests_total") >= report["requests"].as_u64().unwrap() as f64);
        assert!(told("tidelock_sent_bytes_total") > 0.0 && told("tidelock_received_bytes_total") > 0.0);
        assert_eq!(after.sum("tidelock_pending_operations"), 0.0);
        assert_eq!(after.sum("tidelock_oldest_pending_timestamp_seconds"), 0.0);
        assert_eq!(told(r#"tidelock_parked_operations{collection="tasks"}"#), 1.0);
        assert_eq!(told(r#"tidelock_records{collection="notes"}"#), 3.0);
        for time in [
            r#"tidelock_last_pushed_timestamp_seconds{collection="notes"}"#,
            r#"tidelock_last_pulled_timestamp_seconds{collection="projects"}"#,
            "tidelock_last_synced_timestamp_seconds",
            "tidelock_caught_up_timestamp_seconds",
        ] {
            assert!(told(time) >= began, "{time}: {}", told(time));
        }
        assert_eq!(told(r#"tidelock_last_pushed_timestamp_seconds{collection="tasks"}"#), 0.0);
        let (commits, fastest) =
            (told("tidelock_commit_seconds_count"), told(r#"tidelock_commit_seconds_bucket{le="0.00005"}"#));
        assert!(commits >= 4.0 && fastest <= commits, "{fastest} of {commits}");
        assert_eq!(told(r#"tidelock_commit_seconds_bucket{le="+Inf"}"#), commits);
        assert_eq!((after.sum("tidelock_part_up"), after.sum("tidelock_part_degraded")), (6.0, 0.0));
        assert!(told("tidelock_storage_bytes") > 0.0);
    }
}
