//! Every metric of ours in one list: its name, what it counts, its unit and its labels. What happens is counted through
//! the `metrics` facade, so it lands in whatever exporter the host has installed, and costs next to nothing without one.
//!
//! Nothing is measured here, and nobody reads a metric back. Labels have few values: a collection, a part, a word.

mod list;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

pub use list::*;
pub use metrics::SharedString;

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name, as Prometheus has it.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it is measured in.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// It is a distribution over these bounds.
    Histogram(&'static [f64]),
}

impl Metric {
    /// Counts.
    pub fn add(&self, by: u64, values: &[SharedString]) {
        counter!(self.name, self.labelled(values)).increment(by);
    }

    /// Tells how it is now.
    pub fn set(&self, value: f64, values: &[SharedString]) {
        gauge!(self.name, self.labelled(values)).set(value);
    }

    /// Adds one to the distribution.
    pub fn observe(&self, value: f64, values: &[SharedString]) {
        histogram!(self.name, self.labelled(values)).record(value);
    }

    fn labelled(&self, values: &[SharedString]) -> Vec<Label> {
        self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.clone())).collect()
    }
}

/// Tells the exporter what the metrics mean. One that is installed later does not hear of it.
pub fn describe() {
    for Metric { name, kind, unit, help, .. } in ALL {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *help),
            Kind::Gauge => describe_gauge!(*name, *unit, *help),
            Kind::Histogram(_) => describe_histogram!(*name, *unit, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_customs_of_prometheus() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "each stands once");
        for Metric { name, kind, unit, help, .. } in ALL {
            assert!(name.starts_with("tidelock_") && help.ends_with('.'), "{name}: {help}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let is_in = |unit: &str| name.trim_end_matches("_total").ends_with(unit);
            assert_eq!(is_in("_seconds"), *unit == Unit::Seconds, "{name}");
            assert_eq!(is_in("_bytes"), *unit == Unit::Bytes, "{name}");
            if let Kind::Histogram(bounds) = kind {
                assert!(bounds.is_sorted() && bounds.len() >= 5, "{name}");
            }
        }
    }
}
