//! What is wrong with a configuration: one line a problem, naming place, key, value and what is allowed.

use std::fmt;

/// A configuration that cannot be used. Its text is one line: the first problem, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// Nothing, where there are no problems.
    pub(super) fn unless_none(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    pub(super) fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }

    /// Every problem, one line each; at least one.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problems.first().map_or("the configuration cannot be used", String::as_str))?;
        match self.problems.len() {
            0 | 1 => Ok(()),
            all => write!(f, " (and {} more: see `tidelock config check`)", all - 1),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A value that may not stand there.
pub(super) fn bad_value(place: &str, key: &str, value: &str, allowed: &str) -> String {
    format!("{place}: {key} = {value} is not allowed; allowed: {allowed}")
}

/// How like a known name an unknown one must be to be taken for it, from 0 to 1.
const LIKENESS: f64 = 0.8;

/// Whether somebody who wrote the one may have meant the other.
pub(super) fn is_like(name: &str, meant: &str) -> bool {
    strsim::jaro_winkler(name, meant) > LIKENESS
}

/// A key that nobody reads, with the one that was probably meant.
pub(super) fn unknown<'a>(
    place: &str,
    key: &str,
    value: &str,
    within: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let known: Vec<_> = known.into_iter().collect();
    let last = key.rsplit('.').next().unwrap_or(key);
    let meant = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(last, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, candidate)| format!("did you mean {candidate}? "));
    format!("{place}: unknown key {key} = {value}; {meant}{within} knows: {}", known.join(", "))
}
