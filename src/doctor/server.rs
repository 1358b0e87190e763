//! The walk to the server: reached, accepted, of which version, with which tables, rights and clock. It ends at the first
//! fault that would meet every further question as well.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use tidelock_actors::limits::{DOCTOR_SERVER, DOCTOR_STEP};
use tidelock_actors::model::{CollectionRules, Direction, Fault, FaultKind};

use super::{Checkup, State, access, fit, reach, session};
use crate::adapters::supabase::{Attempt, Description, Examination};
use crate::config::{Config, Mode};
use crate::handle::way_to;

/// How far the clock may be away before it decides conflicts wrongly.
const CLOCK_AWAY: Duration = Duration::from_secs(60);
/// The oldest PostgREST that tidelock is made for.
const POSTGREST: u32 = 12;
/// The oldest PostgreSQL that the server kit is made for, as its number.
const POSTGRES: u32 = 150_000;
/// What PostgreSQL calls a denial.
const DENIED: &str = "42501";

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
    let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|local| url.starts_with(local));
    if url.starts_with("http://") && !is_local {
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
    let mut walk = Walk { config, url, rules: &rules, token: token_text.as_deref(), known, server, checkup };
    if tokio::time::timeout(DOCTOR_SERVER, walk.go()).await.is_err() {
        let found = format!("the server is slow: after {} s the rest was left unasked", DOCTOR_SERVER.as_secs());
        walk.checkup.warn("connection", found, "ask the doctor again when the network is better");
    }
    walk.checkup
}

struct Walk<'a> {
    config: &'a Config,
    url: &'a str,
    rules: &'a [CollectionRules],
    token: Option<&'a str>,
    known: Known,
    server: Examination,
    checkup: Checkup,
}

/// The way ends here; what was in the way has been told.
struct Ended;

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
        self.checkup.ok("connection", self.url);
        self.checkup.ok("credentials", "accepted");
        self.token();
        self.clock();
        self.version(name).await;
        let described = self.kit().await?;
        self.tables(described.as_ref()).await
    }

    /// Tells of a fault that ends the walk.
    async fn cut(&mut self, fault: Fault) -> Ended {
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

    /// The server kit, where it would be used, and what it says of the tables.
    async fn kit(&mut self) -> Result<Option<Description>, Ended> {
        let mode = self.config.remote.mode;
        if mode == Mode::Plain {
            return Ok(None);
        }
        let tables: Vec<_> = self.rules.iter().map(|rules| rules.table.as_str()).collect();
        let described = match self.server.describe(&tables).await {
            Ok(described) => described,
            Err(fault) if fault.concerns_everything() => return Err(self.cut(fault).await),
            Err(fault) => {
                self.checkup.warn("server kit", fault, "tidelock remote check tells more");
                return Ok(None);
            }
        };
        let kit = fit::kit(described.as_ref().map(|description| description.version));
        match (&described, &self.known.epoch) {
            (None, Some(_)) => {
                let found = "the server had tidelock's kit when this store last met it and has none now";
                let next = "look whether remote.url is the right project; install the kit again with tidelock remote sql, \
                            or set remote.mode = \"plain\"";
                self.checkup.fail("server kit", found, next);
            }
            (Some(description), Some(epoch)) if description.epoch != *epoch => {
                self.checkup.add("server kit", kit.state, kit.message, kit.advice);
                let found = "this is another database than the store was last synced with, or an earlier state of it";
                let next = "look whether remote.url is the right project; if it is, tidelock sync --accept-server";
                self.checkup.fail("server", found, next);
            }
            _ => {
                // Everything works without the kit, only not as exactly, unless it is insisted on.
                let state = if kit.state == State::Failure && mode == Mode::Auto { State::Warning } else { kit.state };
                self.checkup.add("server kit", state, kit.message, kit.advice);
            }
        }
        if let Some(postgres) = described.as_ref().and_then(|description| description.postgres) {
            let found = format!("PostgreSQL {}.{}", postgres / 10_000, postgres % 10_000);
            match postgres < POSTGRES {
                true => {
                    self.checkup.fail("database version", found, "upgrade the project: the kit needs PostgreSQL 15")
                }
                false => self.checkup.ok("database version", found),
            }
        }
        Ok(described)
    }

    /// Every collection's table, and what may be done with it.
    async fn tables(&mut self, described: Option<&Description>) -> Result<(), Ended> {
        let before = self.checkup.checks.len();
        if let Some(description) = described {
            for check in fit::collections(self.config, self.rules, &description.tables) {
                if check.state != State::Ok {
                    let name = if check.name == "row_security" { "row-level security" } else { "schema" };
                    self.checkup.add(name, check.state, check.message, check.advice);
                }
            }
        }
        for (at, rules) in self.rules.iter().enumerate() {
            let table = described.and_then(|description| description.tables.get(at));
            if table.is_some_and(|table| !table.exists) {
                continue;
            }
            if !self.reads(rules).await? {
                continue;
            }
            let role = described.and_then(|description| description.role.as_deref());
            let told = table.zip(role).and_then(|(table, role)| access::of_kit(rules, table, role));
            let said = match told {
                Some(said) => said,
                None => self.dry_run(rules).await?.into_iter().collect(),
            };
            for one in said {
                self.checkup.add("row-level security", one.state, one.found, one.next);
            }
        }
        let is_well =
            |name: &str| !self.checkup.checks[before..].iter().any(|one| one.check == name && one.state != State::Ok);
        let (schema, rights) = (is_well("schema"), is_well("row-level security"));
        if schema {
            self.checkup.ok("schema", format!("{} collections fit the server's tables", self.rules.len()));
        }
        if rights {
            let told = described.and_then(|description| description.role.as_deref());
            self.checkup.ok(
                "row-level security",
                match told {
                    Some(role) => format!("grants and policies let {role} do what the collections need"),
                    None => {
                        "nothing that the collections need is denied by a grant; what policies say only the server \
                             kit can tell"
                            .to_owned()
                    }
                },
            );
        }
        Ok(())
    }

    /// Whether a collection can be read as a pull would.
    async fn reads(&mut self, rules: &CollectionRules) -> Result<bool, Ended> {
        let name = &rules.name;
        match self.server.sees_a_row(name).await {
            Ok(false) if rules.direction.pulls() => {
                let here = self.known.on_server.get(&**name).copied().unwrap_or_default();
                if here > 0 {
                    let found = format!("{name}: {here} rows came from the server once, and it shows none of them now");
                    let next = match self.token {
                        None => "sign in: policies of row-level security hide rows from whoever is not",
                        Some(_) => "look whether policies hide them from this user; tidelock audit tells what differs",
                    };
                    self.checkup.warn("row-level security", found, next);
                }
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(fault) if fault.concerns_everything() => Err(self.cut(fault).await),
            Err(fault) if fault.code.as_deref() == Some(DENIED) => {
                let next = match self.token {
                    None => format!("sign in, or grant select on {} to anon", rules.table),
                    Some(_) => format!("grant select on {} to authenticated", rules.table),
                };
                self.checkup.fail("row-level security", format!("{name}: it may not be read ({fault})"), next);
                Ok(false)
            }
            Err(fault) => {
                let next = match fault.code.as_deref() {
                    Some("PGRST205" | "42P01") => format!(
                        "make the table {}, or mend [collections.{name}] table; if it is there, tell PostgREST: \
                         notify pgrst, 'reload schema'",
                        rules.table
                    ),
                    _ => "make the table and [collections] agree".to_owned(),
                };
                self.checkup.fail("schema", format!("{name}: {fault}"), next);
                Ok(false)
            }
        }
    }

    /// What is denied of what a push needs. What comes of policies is not seen: no row is touched.
    async fn dry_run(&mut self, rules: &CollectionRules) -> Result<Option<access::Said>, Ended> {
        let mut denied = Vec::new();
        if rules.direction.pushes() {
            for attempt in [Attempt::Insert, Attempt::Update, Attempt::Delete] {
                match self.server.attempt(&rules.name, attempt).await {
                    Err(fault) if fault.code.as_deref() == Some(DENIED) => denied.push(attempt.verb()),
                    Err(fault) if fault.concerns_everything() => return Err(self.cut(fault).await),
                    // Anything else says nothing about rights.
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(access::of_dry_run(rules, &denied))
    }
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
    fn a_version_is_found_in_the_servers_name_and_in_its_description() {
        for (told, number) in
            [("postgrest/12.2.3", Some("12.2.3")), ("14.1 (519615d)", Some("14.1")), ("cloudflare", None)]
        {
            assert_eq!(version(told), number, "{told}");
        }
        assert_eq!((major("11.2.2"), major("16"), major("x")), (Some(11), Some(16), None));
    }
}
