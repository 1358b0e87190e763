//! The walk to the server: reached, accepted, of which version, with which tables, rights and clock. It ends at the first
//! fault that would meet every further question as well.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tidelock_actors::limits::{DOCTOR_SERVER, DOCTOR_STEP};
use tidelock_actors::model::{CollectionRules, Direction, Fault, FaultKind};

use super::{Checkup, reach, session};
use crate::adapters::supabase::Examination;
use crate::config::Config;
use crate::handle::way_to;

/// How far the clock may be away before it decides conflicts wrongly.
const CLOCK_AWAY: Duration = Duration::from_secs(60);
/// The oldest PostgREST that tidelock is made for.
const POSTGREST: u32 = 12;

/// What the store knows of the server.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Records of each collection that the server is known to have.
    pub on_server: BTreeMap<String, u64>,
    /// Which database it is, where the store was synced through the kit.
    pub epoch: Option<String>,
}

/// Walks to the server, within a bounded time.
pub(super) async fn look(config: &Config, token: Option<SecretString>, known: Known) -> Checkup {
    let mut checkup = Checkup::default();
    let Some(url) = &config.remote.url else {
        checkup.warn("server", "none is configured", "set remote.url and remote.anon_key to sync");
        return checkup;
    };
    if is_open_to_others(url) {
        checkup.warn("encryption", format!("{url} is not encrypted"), "use https://");
    }
    let Some(key) = &config.remote.anon_key else {
        checkup.fail("credentials", "no key is configured", "set remote.anon_key or SUPABASE_ANON_KEY");
        return checkup;
    };
    session::key(&mut checkup, key.expose_secret(), url);
    let rules: Vec<_> = config.rules().into_iter().filter(|rules| rules.direction != Direction::Local).collect();
    let token_text = token.as_ref().map(|token| token.expose_secret().to_owned());
    let server = match way_to(config, &rules, token).map(Examination::new) {
        Some(Ok(server)) => server,
        Some(Err(error)) => {
            checkup.fail("connection", error, "mend remote.url or remote.anon_key");
            return checkup;
        }
        None => return checkup,
    };
    let token = token_text.as_deref();
    let mut walk = Walk { config, url, rules: &rules, token, known, server, has_answered: false, checkup };
    if tokio::time::timeout(DOCTOR_SERVER, walk.go()).await.is_err() {
        let found = format!("the server is slow: after {} s the rest was left unasked", DOCTOR_SERVER.as_secs());
        walk.checkup.warn("connection", found, "ask the doctor again when the network is better");
    }
    walk.checkup
}

pub(super) struct Walk<'a> {
    pub config: &'a Config,
    url: &'a str,
    pub rules: &'a [CollectionRules],
    pub token: Option<&'a str>,
    pub known: Known,
    pub server: Examination,
    /// From then on a silence is no more about the way.
    has_answered: bool,
    pub checkup: Checkup,
}

/// The way ends here; what was in the way has been told.
pub(super) struct Ended;

impl Walk<'_> {
    async fn go(&mut self) {
        // What was in the way is in the checkup.
        let _ = self.steps().await;
    }

    async fn steps(&mut self) -> Result<(), Ended> {
        let name = match self.server.greet().await {
            Ok(name) => name,
            Err(fault) if reach::is_an_answer(&fault) => None,
            Err(fault) => return Err(self.cut(fault).await),
        };
        self.has_answered = true;
        self.checkup.ok("connection", self.url);
        self.checkup.ok("credentials", "accepted");
        self.token();
        self.clock();
        self.version(name).await;
        let described = self.kit().await?;
        self.tables(described.as_ref()).await
    }

    /// Tells of a fault that ends the walk.
    pub async fn cut(&mut self, fault: Fault) -> Ended {
        if self.has_answered && fault.status.is_none() {
            let found = format!("the server answered, and then the connection broke off ({fault})");
            self.checkup.warn("connection", found, "ask the doctor again; if it stays so, look at the network");
            return Ended;
        }
        if fault.kind != FaultKind::Unauthorized {
            reach::explain(&mut self.checkup, self.url, &fault, DOCTOR_STEP.min(self.config.remote.timeout)).await;
            return Ended;
        }
        self.checkup.ok("connection", self.url);
        self.clock();
        let (found, next) = match (fault.code.as_deref(), self.token) {
            // PostgREST speaks of the token; the gateway of the key.
            (Some("PGRST301" | "PGRST302" | "PGRST303"), Some(_)) => {
                (format!("the access token is refused ({fault})"), session::SIGN_IN)
            }
            (_, Some(_)) => (
                format!("the server refuses the key or the access token ({fault})"),
                "copy the key anew from the project's settings into remote.anon_key, then restart the process; if it is right, \
                 sign in again and put the new access token into remote.access_token",
            ),
            (_, None) => (
                format!("the server does not accept the credentials ({fault})"),
                "copy the key anew from the project's settings into remote.anon_key, then restart the process",
            ),
        };
        self.checkup.fail("credentials", found, next);
        self.token();
        Ended
    }

    /// By the server's clock, which decides.
    fn token(&mut self) {
        let offset = SignedDuration::from_millis(self.server.clock_offset_ms().unwrap_or(0));
        let now = Timestamp::now().checked_add(offset).unwrap_or_else(|_| Timestamp::now());
        session::token(&mut self.checkup, self.token, self.url, now);
    }

    fn clock(&mut self) {
        match self.server.clock_offset_ms().map(i64::unsigned_abs).map(Duration::from_millis) {
            None => {
                self.checkup.warn("clock", "the server does not tell its time", "compare this device's clock by hand")
            }
            Some(offset) if offset > CLOCK_AWAY => {
                let away = session::span(SignedDuration::try_from(offset).unwrap_or_default());
                let side =
                    if self.server.clock_offset_ms().is_some_and(i64::is_positive) { "behind" } else { "ahead of" };
                let found = format!("this device's is {away} {side} the server's");
                let next = "set this device's clock: newest-wins, and how long tokens and certificates hold, go by it";
                self.checkup.warn("clock", found, next);
            }
            Some(offset) => self.checkup.ok("clock", format!("within {} s of the server's", offset.as_secs() + 1)),
        }
    }

    async fn version(&mut self, name: Option<String>) {
        let told = match name.filter(|name| name.to_lowercase().starts_with("postgrest")) {
            Some(name) => Some(name),
            None => self.server.version().await,
        };
        let Some(version) = told.as_deref().and_then(version) else {
            return self.checkup.ok("server version", "not told");
        };
        let found = format!("PostgREST {version}");
        if major(version).is_some_and(|major| major < POSTGREST) {
            let next = format!("upgrade the project: tidelock is made for PostgREST {POSTGREST} and newer");
            return self.checkup.warn("server version", found, next);
        }
        self.checkup.ok("server version", found);
    }
}

/// Whether what goes to this address can be read on its way: it is not encrypted, and not of this machine.
fn is_open_to_others(url: &str) -> bool {
    let Some(url) = Url::parse(url).ok().filter(|url| url.scheme() == "http") else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The version in `postgrest/12.2.3` and in `12.2.3 (519615d)`.
fn version(told: &str) -> Option<&str> {
    let version = told.rsplit('/').next()?.split_whitespace().next()?;
    version.starts_with(|first: char| first.is_ascii_digit()).then_some(version)
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_goes_without_encryption() {
        for local in ["http://127.0.0.1:54321", "http://LOCALHOST", "http://[::1]:9/x", "https://a.example"] {
            assert!(!is_open_to_others(local), "{local}");
        }
        for open in
            ["http://localhost.evil.example", "http://127.0.0.1.evil.example", "HTTP://a.example", "http://10.0.0.1"]
        {
            assert!(is_open_to_others(open), "{open}");
        }
    }

    #[test]
    fn a_version_is_found_in_the_servers_name_and_in_its_description() {
        for (told, number) in
            [("postgrest/12.2.3", Some("12.2.3")), ("14.1 (519615d)", Some("14.1")), ("cloudflare", None)]
        {
            assert_eq!(version(told), number, "{told}");
        }
        assert_eq!((major("11.2.2"), major("16"), major("x")), (Some(11), Some(16), None));
    }
}
