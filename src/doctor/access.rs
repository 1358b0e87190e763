//! What the user that requests are made as may do with a collection's table, held against what its direction needs. Pure:
//! the server has been asked already.

use tidelock_actors::model::CollectionRules;

use super::State;
use crate::adapters::supabase::{Rights, TableDescription};

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub state: State,
    pub found: String,
    pub next: String,
}

/// What a collection needs, in the order in which it is told.
fn needed(rules: &CollectionRules) -> Vec<&'static str> {
    let mut needed = vec!["select"];
    if rules.direction.pushes() {
        needed.extend(["insert", "update"]);
        // A row that is left in place and marked as deleted is updated.
        needed.extend(rules.soft_delete.is_none().then_some("delete"));
    }
    needed
}

fn has(rights: Rights, verb: &str) -> bool {
    match verb {
        "select" => rights.select,
        "insert" => rights.insert,
        "update" => rights.update,
        _ => rights.delete,
    }
}

/// What the server kit has told; nothing where the kit is too old to tell.
pub(super) fn of_kit(rules: &CollectionRules, table: &TableDescription, role: &str) -> Option<Vec<Said>> {
    let grants = table.grants?;
    let needed = needed(rules);
    let (granted, ungranted): (Vec<_>, Vec<_>) = needed.iter().copied().partition(|verb| has(grants, verb));
    let mut said = Vec::new();
    if !ungranted.is_empty() {
        said.push(denied_by_grants(rules, &ungranted, needed.len(), role));
    }
    if let Some(policies) = table.policies {
        let (allowed, denied): (Vec<_>, Vec<_>) = granted.into_iter().partition(|verb| has(policies, verb));
        if !denied.is_empty() {
            said.push(denied_by_policies(rules, &allowed, &denied, role));
        }
    }
    Some(said)
}

/// What a dry run was denied.
pub(super) fn of_dry_run(rules: &CollectionRules, denied: &[&'static str]) -> Option<Said> {
    (!denied.is_empty()).then(|| denied_by_grants(rules, denied, needed(rules).len(), "this user"))
}

fn denied_by_grants(rules: &CollectionRules, denied: &[&str], needed: usize, role: &str) -> Said {
    let (name, table) = (&rules.name, &rules.table);
    let state = state(denied, needed);
    let found = format!("{name}: {role} has no grant to {} in {table}", spoken(denied, "or"));
    let role = if role == "this user" { "authenticated" } else { role };
    let next = format!("grant {} on {table} to {role}{}", denied.join(", "), or_only_fetch(rules, denied));
    Said { state, found, next }
}

fn denied_by_policies(rules: &CollectionRules, allowed: &[&str], denied: &[&str], role: &str) -> Said {
    let (name, table) = (&rules.name, &rules.table);
    let lets = if allowed.is_empty() {
        "row-level security is on".to_owned()
    } else {
        format!("row-level security lets {role} {}", spoken(allowed, "and"))
    };
    let found = format!("{name}: {lets}, and no policy lets it {}", spoken(denied, "or"));
    let next = format!("add a policy on {table} for {}{}", denied.join(", "), or_only_fetch(rules, denied));
    Said { state: state(denied, allowed.len() + denied.len()), found, next }
}

/// An app may add and never delete; but what it cannot read or write at all does not sync.
fn state(denied: &[&str], needed: usize) -> State {
    let is_useless = denied.contains(&"select") || (needed > 1 && denied.len() + 1 >= needed);
    if is_useless { State::Failure } else { State::Warning }
}

fn or_only_fetch(rules: &CollectionRules, denied: &[&str]) -> String {
    if denied.contains(&"select") {
        return String::new();
    }
    format!(", or set [collections.{}] direction = \"pull\"", rules.name)
}

/// `insert, update or delete`; reading is called by its usual name.
fn spoken(verbs: &[&str], last: &str) -> String {
    let words: Vec<_> = verbs.iter().map(|verb| if *verb == "select" { "read" } else { verb }).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const ALL: Rights = Rights { select: true, insert: true, update: true, delete: true };
    const READ: Rights = Rights { select: true, insert: false, update: false, delete: false };

    fn said(toml: &str, grants: Rights, policies: Option<Rights>) -> Vec<String> {
        let rules = Config::from_toml(&format!("[collections.albums]\n{toml}")).unwrap().rules().remove(0);
        let table = TableDescription { exists: true, grants: Some(grants), policies, ..TableDescription::default() };
        let said = of_kit(&rules, &table, "authenticated").unwrap();
        said.into_iter().map(|said| format!("{} {} -> {}", said.state.name(), said.found, said.next)).collect()
    }

    #[test]
    fn what_no_policy_lets_through_is_said_in_plain_words() {
        assert_eq!(said("", ALL, None), [""; 0]);
        assert_eq!(said("", ALL, Some(ALL)), [""; 0]);
        assert_eq!(
            said("", ALL, Some(Rights { insert: false, ..ALL })),
            [
                "warning albums: row-level security lets authenticated read, update and delete, and no policy lets it insert \
              -> add a policy on albums for insert, or set [collections.albums] direction = \"pull\""
            ]
        );
        assert_eq!(
            said("", ALL, Some(Rights::default())),
            ["failure albums: row-level security is on, and no policy lets it read, insert, update or delete \
              -> add a policy on albums for select, insert, update, delete"]
        );
        assert_eq!(
            said("", READ, Some(READ)),
            ["failure albums: authenticated has no grant to insert, update or delete in albums \
              -> grant insert, update, delete on albums to authenticated, or set [collections.albums] direction = \"pull\""]
        );
    }

    #[test]
    fn only_what_the_direction_needs_is_asked_for() {
        assert_eq!(said("direction = \"pull\"", READ, Some(READ)), [""; 0]);
        assert_eq!(said("soft_delete = \"gone\"", ALL, Some(Rights { delete: false, ..ALL })), [""; 0]);
        assert_eq!(said("", ALL, Some(Rights { delete: false, ..ALL })).len(), 1);
    }

    #[test]
    fn a_kit_that_does_not_tell_says_nothing() {
        let rules = Config::from_toml("[collections.albums]").unwrap().rules().remove(0);
        assert_eq!(of_kit(&rules, &TableDescription::default(), "anon"), None);
        assert_eq!(of_dry_run(&rules, &[]), None);
        let said = of_dry_run(&rules, &["update"]).unwrap();
        assert_eq!(said.found, "albums: this user has no grant to update in albums");
    }
}
