//! A figure, what it is held against, and how it is shown.

use serde::Serialize;

/// How to measure and show.
pub struct Options {
    pub quick: bool,
    json: bool,
    only: Option<String>,
}

impl Options {
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { quick: false, json: false, only: None };
        for argument in arguments {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                // cargo adds it.
                "--bench" => {}
                name if !name.starts_with('-') => options.only = Some(name.to_owned()),
                other => {
                    eprintln!(
                        "unknown option {other}; there are --quick, --json and one of saves, logs, network, kit, pending, audit, backup, size"
                    );
                    std::process::exit(2);
                }
            }
        }
        options
    }

    pub fn wants(&self, group: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == group)
    }

    /// How often each measurement is made.
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }
}

/// A figure, held against a floor (`target` is the least ratio) or a bound (`target` is the most).
#[derive(Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub floor: Option<f64>,
    pub ratio: Option<f64>,
    pub target: f64,
    pub pass: bool,
}

impl Figure {
    /// Rates measured in turn with their floor: medians, and the median of the ratios.
    pub fn against_floor(name: &'static str, unit: &'static str, target: f64, pairs: &[(f64, f64)]) -> Self {
        let ratio = median(pairs.iter().map(|(value, floor)| value / floor));
        Self {
            name,
            value: median(pairs.iter().map(|pair| pair.0)),
            unit,
            floor: Some(median(pairs.iter().map(|pair| pair.1))),
            ratio: Some(ratio),
            target,
            pass: ratio >= target,
        }
    }

    /// A value that must stay below a bound.
    pub fn below(name: &'static str, unit: &'static str, target: f64, values: impl IntoIterator<Item = f64>) -> Self {
        let value = median(values);
        Self { name, value, unit, floor: None, ratio: None, target, pass: value < target }
    }

    pub fn show(&self, options: &Options) {
        if options.json {
            println!("{}", serde_json::to_string(self).unwrap());
            return;
        }
        let verdict = if self.pass { "ok" } else { "MISSED" };
        let against = match (self.floor, self.ratio) {
            (Some(floor), Some(ratio)) => format!("floor {floor:>10.1}  ratio {ratio:>6.2} (at least {})", self.target),
            _ => format!("at most {}", self.target),
        };
        println!("{:<30} {:>12.1} {:<7} {against}  {verdict}", self.name, self.value, self.unit);
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// A document of about 500 bytes.
pub fn document(number: usize) -> tidelock::Document {
    let text = format!(
        r#"{{"grp":{grp},"title":"row {number} of the bench","body":"{body}","done":false,"n":{number},"meta":{{"seed":{number},"tags":["a","b","c"]}}}}"#,
        grp = number % 10,
        body = "x".repeat(330),
    );
    tidelock::Document::parse(&text).unwrap()
}

pub fn uuid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}
