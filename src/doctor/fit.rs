//! Whether the server's tables and kit fit the configured collections. Pure: the server has been asked already.

use std::collections::BTreeSet;

use serde::Serialize;
use tidelock_actors::model::CollectionRules;

use super::State;
use crate::adapters::supabase::{KIT_LEAST, KIT_VERSION, Reference, TableDescription};
use crate::config::{CollectionSettings, Config};

/// One check.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub message: String,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

/// The kit itself, by the version that is installed.
pub fn kit(version: Option<u32>) -> Check {
    let (state, message, advice) = match version {
        None => (
            State::Failure,
            "the server kit is not installed".to_owned(),
            "apply what `tidelock remote sql` prints; if that was done, tell PostgREST: notify pgrst, 'reload schema'",
        ),
        Some(version) if version < KIT_LEAST => (
            State::Failure,
            format!("version {version} is installed, and this build needs {KIT_LEAST}"),
            "apply what `tidelock remote sql` prints: it upgrades the kit in place",
        ),
        Some(version) if version < KIT_VERSION => (
            State::Warning,
            format!("version {version} is installed: it works, and only {KIT_VERSION} can tell what this user may do"),
            "apply what `tidelock remote sql` prints: it upgrades the kit in place",
        ),
        Some(version) if version > KIT_VERSION => (
            State::Warning,
            format!("version {version} is installed, and this build knows {KIT_VERSION}"),
            "upgrade tidelock on this device",
        ),
        Some(version) => (State::Ok, format!("version {version} is installed"), ""),
    };
    Check { name: "kit", state, message, advice: advice.to_owned() }
}

/// Every collection beside its table's description, which stands at the same place.
pub fn collections(config: &Config, rules: &[CollectionRules], tables: &[TableDescription]) -> Vec<Check> {
    let mut checks = Vec::new();
    for (rules, table) in rules.iter().zip(tables) {
        let Some(settings) = config.collections.get(&*rules.name) else { continue };
        let mut fitting = Fitting { config, rules, settings, table, problems: Vec::new() };
        fitting.look();
        checks.append(&mut fitting.problems);
    }
    checks
}

/// One collection and its table, and what has been found so far.
struct Fitting<'a> {
    config: &'a Config,
    rules: &'a CollectionRules,
    settings: &'a CollectionSettings,
    table: &'a TableDescription,
    problems: Vec<Check>,
}

impl Fitting<'_> {
    fn look(&mut self) {
        let Self { rules, table, .. } = *self;
        if !table.exists {
            let found = format!("there is no table {}, or it may not be read with this key", rules.table);
            let advice = format!("make the table or grant select on it; or mend [collections.{}] table", rules.name);
            return self.add("table", State::Failure, found, advice);
        }
        self.key();
        self.columns();
        self.attachment();
        self.references();
        self.row_security();
        if self.problems.is_empty() {
            let owner = table.owner.as_ref().map(|owner| format!(", owner {owner}")).unwrap_or_default();
            self.add("table", State::Ok, format!("{} is attached{owner}", rules.table), "");
        }
    }

    fn add(&mut self, name: &'static str, state: State, found: impl ToString, advice: impl ToString) {
        let message = format!("{}: {}", self.rules.name, found.to_string());
        self.problems.push(Check { name, state, message, advice: advice.to_string() });
    }

    fn key(&mut self) {
        let column = self.rules.fields.get(&self.rules.key).unwrap_or(&self.rules.key);
        if self.table.key == [column.as_str()] {
            return;
        }
        let found = match self.table.key.as_slice() {
            [] => format!("{} has no primary key", self.rules.table),
            key => format!("the primary key of {} is ({}), not {column}", self.rules.table, key.join(", ")),
        };
        let advice =
            format!("make {column} the primary key, or name its field in [collections.{}] key", self.rules.name);
        self.add("key", State::Failure, found, advice);
    }

    /// Everything that the configuration says about columns; the version column may be missing.
    fn columns(&mut self) {
        let Self { rules, settings, table, .. } = *self;
        let mapped = rules.fields.values().map(|column| ("fields", column));
        let fetched = rules.columns.iter().map(|column| ("columns", column));
        let named = [("owner", &settings.owner), ("soft_delete", &settings.soft_delete)];
        let named = named.into_iter().filter(|(_, column)| !column.is_empty());
        let is_there = |name: &String| table.columns.iter().any(|column| column.name == *name);
        for (key, column) in mapped.chain(fetched).chain(named).filter(|(_, column)| !is_there(column)) {
            let found = format!("{} has no column {column}", rules.table);
            let advice = format!("add the column, or mend [collections.{}] {key}", rules.name);
            self.add("columns", State::Failure, found, advice);
        }
    }

    fn attachment(&mut self) {
        let Self { rules, settings, table, .. } = *self;
        let print = format!("tidelock remote sql --collections {}", rules.name);
        if !table.attached {
            let advice = format!("apply what `{print}` prints");
            return self.add("attached", State::Failure, format!("{} is not attached", rules.table), advice);
        }
        for (name, wanted, has) in
            [("owner", &settings.owner, &table.owner), ("soft_delete", &settings.soft_delete, &table.soft)]
        {
            match (wanted.as_str(), has.as_deref()) {
                ("", None) => {}
                ("", Some(has)) => {
                    let found = format!("{} is attached with {name} {has}, which is not configured", rules.table);
                    let advice = format!("set [collections.{}] {name} = \"{has}\"", rules.name);
                    self.add(name, State::Warning, found, advice);
                }
                (wanted, has) if has == Some(wanted) => {}
                (wanted, has) => {
                    let has = has.map_or_else(|| format!("without {name}"), |has| format!("with {name} {has}"));
                    let found = format!("{} is attached {has}, not with {wanted}", rules.table);
                    self.add(name, State::Failure, found, format!("apply what `{print}` prints"));
                }
            }
        }
    }

    fn references(&mut self) {
        let Self { config, rules, table, .. } = *self;
        for reference in &table.references {
            // Several collections may share a table: one of them that goes first is enough.
            let parents: Vec<_> = config.rules().into_iter().filter(|parent| reference.is_to(&parent.table)).collect();
            let is_settled = |parent: &CollectionRules| {
                parent.name == rules.name
                    || goes_before(config, &parent.name, &rules.name)
                    // The other way round is declared: then this way cannot be.
                    || goes_before(config, &rules.name, &parent.name)
            };
            let Some(parent) = parents.first().filter(|_| !parents.iter().any(is_settled)) else { continue };
            let Reference { columns, .. } = reference;
            let found = format!("{} refers to {} by {}", rules.table, parent.table, columns.join(", "));
            let advice =
                format!("add \"{}\" to [collections.{}] after, so that it is sent first", parent.name, rules.name);
            self.add("after", State::Warning, found, advice);
        }
    }

    fn row_security(&mut self) {
        let Self { rules, settings, table, .. } = *self;
        if table.view {
            let found =
                format!("{} is a view or a foreign table: policies of what is behind it are not told", rules.table);
            let advice = "look whether they count for whoever reads it (of a view: security_invoker = on)";
            return self.add("row_security", State::Warning, found, advice);
        }
        if !table.row_security {
            let found = format!(
                "row-level security is off: whoever has the publishable key can read and write {}",
                rules.table
            );
            return self.add("row_security", State::Warning, found, "enable it and add policies, unless that is meant");
        }
        if table.attached && table.shared && table.owner.is_some() {
            let found =
                format!("{} was attached before row-level security was on: everybody learns of deletions", rules.table);
            let advice = format!("apply what `tidelock remote sql --collections {}` prints", rules.name);
            self.add("owner", State::Warning, found, advice);
        }
        let is_told = table.shared || table.owner.is_some() || table.soft.is_some();
        if table.attached && !is_told && settings.owner.is_empty() {
            let found = format!("{} has no owner, so deletions are only found by comparing keys", rules.table);
            let advice =
                format!("set [collections.{}] owner, then apply what `tidelock remote sql` prints", rules.name);
            self.add("owner", State::Warning, found, advice);
        }
    }
}

/// Whether `after` declares, directly or through others, that the one collection goes before the other.
fn goes_before(config: &Config, parent: &str, child: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![child];
    while let Some(name) = left.pop() {
        for before in config.collections.get(name).map(|collection| &collection.after).into_iter().flatten() {
            if before == parent {
                return true;
            }
            if seen.insert(before.as_str()) {
                left.push(before);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;
