//! The doctor: everything that tidelock needs, looked at one after the other, each with its state and the next step. It
//! changes nothing, on this device or on the server, and no look takes for ever.
//!
//! - `folder`: who may look into the store's folder;
//! - `store`, `backups`: what the open store says of itself; `cause` tells faults without the server's words;
//! - `server`: the walk to the server; `reach` explains why it is not reached, `session` what key and token say of
//!   themselves;
//! - `tables`: where the walk leads, the server kit and the tables; `fit` holds them against the configuration, `access`
//!   tells what this user may do.

mod access;
mod backups;
mod cause;
pub mod fit;
mod folder;
mod reach;
mod server;
mod session;
mod store;
mod tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidelock_actors::limits::DOCTOR_PART;

use crate::config::Config;
use crate::handle::Backups;
pub use cause::{cause, without_words};
pub(crate) use server::Known;
pub use session::span;
pub(crate) use store::Store;

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and something could be better.
    Warning,
    /// It does not work.
    Failure,
}

impl State {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub next: String,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkup {
    /// Whether no check is a failure.
    pub healthy: bool,
    /// The checks, in the order in which they were made.
    pub checks: Vec<Finding>,
}

impl Default for Checkup {
    /// Nothing was looked at yet.
    fn default() -> Self {
        Self { healthy: true, checks: Vec::new() }
    }
}

impl Checkup {
    /// Adds a check.
    pub fn add(&mut self, check: &str, state: State, found: impl ToString, next: impl ToString) {
        self.healthy &= state != State::Failure;
        let (found, next) = (one_line(&found.to_string()), one_line(&next.to_string()));
        self.checks.push(Finding { check: check.to_owned(), state, found, next });
    }

    /// Adds a check that found everything as it should be.
    pub fn ok(&mut self, check: &str, found: impl ToString) {
        self.add(check, State::Ok, found, "");
    }

    /// Adds a check that found something that could be better.
    pub fn warn(&mut self, check: &str, found: impl ToString, next: impl ToString) {
        self.add(check, State::Warning, found, next);
    }

    /// Adds a check that found something that does not work.
    pub fn fail(&mut self, check: &str, found: impl ToString, next: impl ToString) {
        self.add(check, State::Failure, found, next);
    }

    /// Adds all checks of another one.
    pub fn append(&mut self, mut other: Self) {
        self.healthy &= other.healthy;
        self.checks.append(&mut other.checks);
    }
}

/// Servers and systems put line breaks into their words.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Looks at what can be looked at without the store: its folder, its backups, and the server.
pub async fn without_store(config: &Config) -> Checkup {
    let mut checkup = folder::look(&config.storage.data_dir);
    folder::disk(&mut checkup, &config.storage.data_dir);
    // Where the way to the server cannot be set up, that is told with the server.
    if let Ok(all) = Backups::of(config) {
        let info = match tokio::time::timeout(DOCTOR_PART, all.info()).await {
            Ok(info) => info.map(Some).map_err(|error| error.to_string()),
            Err(_) => Ok(None),
        };
        backups::look(&mut checkup, &info, None, config, jiff::Timestamp::now());
    }
    let token = config.remote.access_token.clone();
    checkup.append(server::look(config, token, Known::default()).await);
    checkup
}

/// Looks at everything, with what the open store has told.
pub(crate) async fn with_store(config: &Config, token: Option<secrecy::SecretString>, mut store: Store) -> Checkup {
    store.status = without_words(store.status);
    let known = store.known();
    let server = server::look(config, token, known).await;
    let mut checkup = store.look(config);
    checkup.append(folder::look(&config.storage.data_dir));
    checkup.append(server);
    checkup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_makes_it_unhealthy_and_a_warning_does_not() {
        let mut checkup = Checkup::default();
        checkup.ok("a", "good");
        checkup.warn("b", "two\n  lines", "do");
        assert!(checkup.healthy && checkup.checks[1].found == "two lines");
        let mut other = Checkup::default();
        other.fail("c", "bad", "do");
        checkup.append(other);
        assert!(!checkup.healthy);
        let text = serde_json::to_string(&checkup).unwrap();
        assert!(text.starts_with(r#"{"healthy":false,"checks":[{"check":"a","state":"ok","found":"good","next":""},"#));
        assert_eq!(serde_json::from_str::<Checkup>(&text).unwrap(), checkup);
    }
}
