//! What the walk looks at once the server answers: the server kit, and every collection's table with what may be done
//! there.

use tidelock_actors::model::CollectionRules;

use super::access::{Asker, DryRun};
use super::server::{Ended, Walk};
use super::{State, access, cause, fit};
use crate::adapters::supabase::{Attempt, Description, Trouble};
use crate::config::Mode;

/// The oldest PostgreSQL that the server kit is made for, as its number.
const POSTGRES: u32 = 150_000;

/// Whether a collection can be read.
enum Reading {
    Possible,
    Impossible,
    /// Not in time: nothing follows about it.
    Slow,
}

impl Walk<'_> {
    /// The server kit, where it would be used, and what it says of the tables.
    pub async fn kit(&mut self) -> Result<Option<Description>, Ended> {
        let mode = self.config.remote.mode;
        if mode == Mode::Plain {
            return Ok(None);
        }
        let tables: Vec<_> = self.rules.iter().map(|rules| rules.table.as_str()).collect();
        let described = match self.server.describe(&tables).await {
            Ok(described) => described,
            Err(Trouble::Fault(fault)) if fault.concerns_everything() => return Err(self.cut(fault).await),
            Err(Trouble::Fault(fault)) => {
                self.checkup.warn("server kit", fault, "tidelock remote check tells more");
                return Ok(None);
            }
            Err(Trouble::Late) => {
                let found = format!("it does not answer within {}", self.server.step());
                self.checkup.warn("server kit", found, "tidelock remote check asks it again, and waits for longer");
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
    pub async fn tables(&mut self, described: Option<&Description>) -> Result<(), Ended> {
        let before = self.checkup.checks.len();
        if let Some(description) = described {
            for check in fit::collections(self.config, self.rules, &description.tables) {
                if check.state != State::Ok {
                    let name = if check.name == "row_security" { "row-level security" } else { "schema" };
                    self.checkup.add(name, check.state, check.message, check.advice);
                }
            }
        }
        let asker = Asker {
            role: described.and_then(|description| description.role.as_deref()),
            is_signed_in: self.token.is_some(),
        };
        let mut are_all_seen = true;
        for (at, rules) in self.rules.iter().enumerate() {
            let table = described.and_then(|description| description.tables.get(at));
            if table.is_some_and(|table| !table.exists) {
                continue;
            }
            match self.reads(rules, asker).await? {
                Reading::Possible => {}
                Reading::Impossible => continue,
                Reading::Slow => {
                    are_all_seen = false;
                    continue;
                }
            }
            let said = match table.and_then(|table| access::of_kit(rules, table, asker)) {
                Some(said) => said,
                None => self.dry_run(rules).await?.said(rules, asker),
            };
            for one in said {
                self.checkup.add("row-level security", one.state, one.found, one.next);
            }
        }
        let is_well = |name: &str| {
            are_all_seen && !self.checkup.checks[before..].iter().any(|one| one.check == name && one.state != State::Ok)
        };
        let (schema, rights) = (is_well("schema"), is_well("row-level security"));
        if schema {
            self.checkup.ok("schema", format!("{} collections fit the server's tables", self.rules.len()));
        }
        if rights {
            self.checkup.ok("row-level security", self.rights_in_words(described));
        }
        Ok(())
    }

    /// What is known where nothing is missing: that something is permitted does not mean every row.
    fn rights_in_words(&self, described: Option<&Description>) -> String {
        let told = described.and_then(|description| Some((description, description.role.as_deref()?)));
        let Some((description, role)) = told else {
            let words = "nothing that the collections need is denied by a grant; what policies say only the server kit can tell";
            return words.to_owned();
        };
        let tables = self.rules.iter().zip(&description.tables);
        let narrowed = tables.filter(|(_, table)| table.policies.is_some_and(|policies| policies.restrictive));
        let narrowed: Vec<_> = narrowed.map(|(rules, _)| &*rules.name).collect();
        let restrictive = match narrowed.as_slice() {
            [] => String::new(),
            names => format!(" (restrictive policies narrow {})", names.join(", ")),
        };
        format!(
            "there is a grant and a policy for everything that the collections need as {role}; what a policy says of single \
             rows only a sync shows{restrictive}"
        )
    }

    /// Whether a collection can be read as a pull would.
    async fn reads(&mut self, rules: &CollectionRules, asker: Asker<'_>) -> Result<Reading, Ended> {
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
                Ok(Reading::Possible)
            }
            Ok(_) => Ok(Reading::Possible),
            Err(Trouble::Late) => {
                let found = format!("{name}: reading a row takes longer than {}", self.server.step());
                Ok(self.slow(rules, found))
            }
            Err(Trouble::Fault(fault)) if fault.is_of_one_statement() => {
                Ok(self.slow(rules, format!("{name}: the server gave up reading a row ({fault})")))
            }
            Err(Trouble::Fault(fault)) if fault.concerns_everything() => Err(self.cut(fault).await),
            Err(Trouble::Fault(fault)) if cause::is_denied(&fault) => {
                let next = access::unreadable(rules, &fault, asker);
                self.checkup.fail("row-level security", format!("{name}: it may not be read ({fault})"), next);
                Ok(Reading::Impossible)
            }
            Err(Trouble::Fault(fault)) => {
                let next = match fault.code.as_deref() {
                    Some("PGRST205" | "42P01") => format!(
                        "make the table {}, or mend [collections.{name}] table; if it is there, tell PostgREST: \
                         notify pgrst, 'reload schema'",
                        rules.table
                    ),
                    _ => "make the table and [collections] agree".to_owned(),
                };
                self.checkup.fail("schema", format!("{name}: {fault}"), next);
                Ok(Reading::Impossible)
            }
        }
    }

    /// A table that takes long says nothing about the others.
    fn slow(&mut self, rules: &CollectionRules, found: String) -> Reading {
        let table = &rules.table;
        let next = format!(
            "look at the policies and indexes of {table}, and whether somebody holds a lock on it; tidelock tries again by itself"
        );
        self.checkup.warn("reading", found, next);
        Reading::Slow
    }

    /// What is denied of what a push needs. What comes of policies is not seen: no row is touched.
    async fn dry_run(&mut self, rules: &CollectionRules) -> Result<DryRun, Ended> {
        let mut run = DryRun::default();
        if rules.direction.pushes() {
            for attempt in [Attempt::Insert, Attempt::Update, Attempt::Delete] {
                match self.server.attempt(&rules.name, attempt).await {
                    Err(Trouble::Fault(fault)) if fault.concerns_everything() => return Err(self.cut(fault).await),
                    Err(Trouble::Fault(fault)) => run.note(attempt, &fault),
                    // Somebody may hold a lock.
                    Err(Trouble::Late) => run.leave(attempt, format!("no answer within {}", self.server.step())),
                    Ok(()) => {}
                }
            }
        }
        Ok(run)
    }
}
