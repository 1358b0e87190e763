//! What is measured in this process, in Prometheus' text form. A process has one exporter; a host that has installed its
//! own finds everything there instead.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tidelock_actors::limits::METRICS_UPKEEP;
use tidelock_actors::metrics::{ALL, Kind, describe};

/// The form that is served: Prometheus' text exposition format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exporter of this process.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Takes over what is measured from now on; nothing where another exporter does so already.
    pub fn install() -> Option<Self> {
        let handle = builder().ok()?.install_recorder().ok()?;
        describe();
        Some(Self(handle))
    }

    /// Everything as it is now.
    pub(super) fn render(&self) -> String {
        self.0.render()
    }

    /// Puts what was measured into its distributions now and then, so that it takes no room where nobody asks.
    pub(super) async fn keep_small(self) {
        let mut pauses = tokio::time::interval(METRICS_UPKEEP);
        loop {
            pauses.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Distributions over the bounds that the list gives.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    ALL.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(bounds) => builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds),
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What `tidelock_…` names a text holds; a distribution's parts count as the distribution.
    fn names_in(text: &str) -> BTreeSet<&str> {
        let is_of_a_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = text.split(|c| !is_of_a_name(c)).filter(|word| word.starts_with("tidelock_"));
        words
            .map(|word| {
                let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
                part.filter(|name| ALL.iter().any(|metric| metric.name == *name)).unwrap_or(word)
            })
            .collect()
    }

    #[test]
    fn every_metric_is_documented_and_the_dashboard_and_the_alerts_name_no_others() {
        let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names_in(include_str!("../../docs/metrics.md")), known);
        let dashboard = names_in(include_str!("../../ops/grafana-dashboard.json"));
        let alerts = names_in(include_str!("../../ops/prometheus-alerts.yml"));
        assert!(dashboard.len() > 20 && dashboard.is_subset(&known), "{:?}", dashboard.difference(&known));
        assert!(alerts.len() > 6 && alerts.is_subset(&known), "{:?}", alerts.difference(&known));
    }

    #[test]
    fn whoever_is_alerted_finds_what_it_means_and_what_to_do() {
        let rules = include_str!("../../ops/prometheus-alerts.yml").lines();
        let alerts: BTreeSet<&str> = rules.filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        let sections = include_str!("../../docs/production.md").lines();
        let explained: BTreeSet<&str> = sections.filter_map(|line| line.strip_prefix("### ")).collect();
        assert!(alerts.len() > 6, "{alerts:?}");
        assert_eq!(alerts, explained);
    }

    #[test]
    fn the_documentation_says_of_each_metric_what_the_list_says() {
        let documentation = include_str!("../../docs/metrics.md");
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let row = format!("| `{}` | {kind} | {labels} | {} |", metric.name, metric.help.trim_end_matches('.'));
            assert!(documentation.contains(&row), "docs/metrics.md lacks the row\n{row}");
        }
    }

    #[test]
    fn the_dashboard_is_json() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../ops/grafana-dashboard.json")).unwrap();
        assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 8));
    }

    #[test]
    fn what_was_measured_is_told_in_prometheus_own_form() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            tidelock_actors::metrics::COMMIT_SECONDS.observe(0.003, &[]);
            tidelock_actors::metrics::OPERATIONS.add(2, &["notes".into(), "applied".into()]);
        });
        let told = handle.render();
        for line in [
            "# TYPE tidelock_commit_seconds histogram",
            "tidelock_commit_seconds_bucket{le=\"0.0025\"} 0",
            "tidelock_commit_seconds_bucket{le=\"0.005\"} 1",
            "tidelock_commit_seconds_count 1",
            "# TYPE tidelock_operations_total counter",
            "tidelock_operations_total{collection=\"notes\",verdict=\"applied\"} 2",
        ] {
            assert!(told.lines().any(|said| said == line), "{line} is not in\n{told}");
        }
    }
}
