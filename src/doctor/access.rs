//! What the user that requests are made as may do with a collection's table, held against what its direction needs. Pure:
//! the server has been asked already.

use tidelock_actors::model::{CollectionRules, Fault};

use super::State;
use super::cause::is_denied;
use crate::adapters::supabase::{Attempt, Rights, TableDescription};

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub state: State,
    pub found: String,
    pub next: String,
}

/// As whom the server was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// The role, where the server kit tells it.
    pub role: Option<&'a str>,
    pub is_signed_in: bool,
}

impl<'a> Asker<'a> {
    fn name(self) -> &'a str {
        match (self.role, self.is_signed_in) {
            (Some(role), _) => role,
            (None, true) => "this user",
            (None, false) => "whoever is not signed in",
        }
    }

    /// Whom a grant would be made to.
    fn grantee(self) -> &'a str {
        self.role.unwrap_or(if self.is_signed_in { "authenticated" } else { "anon" })
    }

    /// What is given to them is given to everybody.
    fn is_everybody(self) -> bool {
        self.grantee() == "anon"
    }
}

/// A denial for want of a grant on the table itself; others are of a column, a schema, a policy's function or a trigger.
pub(super) fn is_of_a_grant(fault: &Fault) -> bool {
    const TABLES: [&str; 3] = ["table", "view", "foreign table"];
    let on = |kind: &&str| fault.message.starts_with(&format!("permission denied for {kind} "));
    is_denied(fault) && TABLES.iter().any(on)
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
pub(super) fn of_kit(rules: &CollectionRules, table: &TableDescription, asker: Asker<'_>) -> Option<Vec<Said>> {
    let grants = table.grants?;
    let needed = needed(rules);
    let (granted, ungranted): (Vec<_>, Vec<_>) = needed.iter().copied().partition(|verb| has(grants, verb));
    let mut said = Vec::new();
    if !ungranted.is_empty() {
        said.push(denied_by_grants(rules, &ungranted, needed.len(), asker));
    }
    if let Some(policies) = table.policies {
        let (allowed, denied): (Vec<_>, Vec<_>) = granted.into_iter().partition(|verb| has(policies.permitted, verb));
        if !denied.is_empty() {
            said.push(denied_by_policies(rules, &allowed, &denied, asker));
        }
    }
    Some(said)
}

/// What a dry run has met.
#[derive(Debug, Default)]
pub(super) struct DryRun {
    /// What there is no grant for.
    denied: Vec<&'static str>,
    /// What else stood in the way, in the server's words, of which nothing follows about grants.
    untold: Vec<(&'static str, String)>,
}

impl DryRun {
    /// Takes in how one of its statements ended.
    pub fn note(&mut self, attempt: Attempt, fault: &Fault) {
        if is_of_a_grant(fault) {
            self.denied.push(attempt.verb());
        } else if is_denied(fault) || fault.is_of_one_statement() {
            self.leave(attempt, fault.to_string());
        }
    }

    /// Leaves a right untold.
    pub fn leave(&mut self, attempt: Attempt, why: String) {
        self.untold.push((attempt.verb(), why));
    }

    /// What there is to say of it.
    pub fn said(&self, rules: &CollectionRules, asker: Asker<'_>) -> Vec<Said> {
        let mut said = Vec::new();
        if !self.denied.is_empty() {
            let mut denied = denied_by_grants(rules, &self.denied, needed(rules).len(), asker);
            if self.denied.contains(&"update") && rules.columns.is_empty() {
                denied.found.push_str("; whether there is one on some of its columns only the server kit can tell");
            }
            said.push(denied);
        }
        if let Some((_, words)) = self.untold.first() {
            let verbs: Vec<_> = self.untold.iter().map(|(verb, _)| *verb).collect();
            let (name, asker) = (&rules.name, asker.name());
            let found = format!(
                "{name}: whether {asker} may {} cannot be told without the kit ({words})",
                spoken(&verbs, "or")
            );
            let next = "install the server kit (tidelock remote sql), or look at what the server names: a column, or a function \
                        of a policy or a trigger";
            said.push(Said { state: State::Warning, found, next: next.to_owned() });
        }
        said
    }
}

/// What to do about a table that may not be read.
pub(super) fn unreadable(rules: &CollectionRules, fault: &Fault, asker: Asker<'_>) -> String {
    if is_of_a_grant(fault) || asker.is_everybody() {
        return mending(rules, &["select"], asker, &format!("grant select on {} to {}", rules.table, asker.grantee()));
    }
    let grantee = asker.grantee();
    format!("let {grantee} use what the server names: a schema, a column, or a function of a policy on {}", rules.table)
}

fn denied_by_grants(rules: &CollectionRules, denied: &[&str], needed: usize, asker: Asker<'_>) -> Said {
    let (name, table) = (&rules.name, &rules.table);
    let state = state(denied, needed);
    let found = format!("{name}: {} has no grant to {} in {table}", asker.name(), spoken(denied, "or"));
    let given = if asker.is_everybody() { "select".to_owned() } else { denied.join(", ") };
    let next = mending(rules, denied, asker, &format!("grant {given} on {table} to {}", asker.grantee()));
    Said { state, found, next }
}

fn denied_by_policies(rules: &CollectionRules, allowed: &[&str], denied: &[&str], asker: Asker<'_>) -> Said {
    let (name, table) = (&rules.name, &rules.table);
    let lets = if allowed.is_empty() {
        "row-level security is on".to_owned()
    } else {
        format!("row-level security lets {} {}", asker.name(), spoken(allowed, "and"))
    };
    let found = format!("{name}: {lets}, and no policy lets it {}", spoken(denied, "or"));
    let verbs = if asker.is_everybody() { "select".to_owned() } else { denied.join(", ") };
    let next = mending(rules, denied, asker, &format!("add a policy on {table} for {verbs}"));
    Said { state: state(denied, allowed.len() + denied.len()), found, next }
}

/// The next step. Whoever is not signed in signs in: what `anon` may write, everybody may write who has the app.
fn mending(rules: &CollectionRules, denied: &[&str], asker: Asker<'_>, given: &str) -> String {
    let only_fetch = format!("set [collections.{}] direction = \"pull\"", rules.name);
    let (reads, writes) = (denied.contains(&"select"), denied.iter().any(|verb| *verb != "select"));
    match (asker.is_everybody(), reads, writes) {
        (true, true, true) => {
            format!("sign in (remote.access_token); if everybody may read it, {given} and {only_fetch}")
        }
        (true, true, false) => format!("sign in (remote.access_token); if everybody may read it, {given}"),
        (true, false, _) => format!("sign in (remote.access_token), or if nobody is to sign in, {only_fetch}"),
        (false, true, _) => given.to_owned(),
        (false, false, _) => format!("{given}, or {only_fetch}"),
    }
}

/// An app may add and never delete; but what it cannot read or write at all does not sync.
fn state(denied: &[&str], needed: usize) -> State {
    let is_useless = denied.contains(&"select") || (needed > 1 && denied.len() + 1 >= needed);
    if is_useless { State::Failure } else { State::Warning }
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
    use crate::adapters::supabase::{DENIED, Policies};
    use crate::config::Config;
    use tidelock_actors::model::FaultKind;

    const ALL: Rights = Rights { select: true, insert: true, update: true, delete: true };
    const READ: Rights = Rights { select: true, insert: false, update: false, delete: false };
    const USER: Asker<'static> = Asker { role: None, is_signed_in: true };
    const NOBODY: Asker<'static> = Asker { role: None, is_signed_in: false };

    fn rules(toml: &str) -> CollectionRules {
        Config::from_toml(&format!("[collections.albums]\n{toml}")).unwrap().rules().remove(0)
    }

    fn lines(said: Vec<Said>) -> Vec<String> {
        said.into_iter().map(|said| format!("{} {} -> {}", said.state.name(), said.found, said.next)).collect()
    }

    fn said_to(role: &str, toml: &str, grants: Rights, policies: Option<Rights>) -> Vec<String> {
        let policies = policies.map(|permitted| Policies { permitted, restrictive: false });
        let table = TableDescription { exists: true, grants: Some(grants), policies, ..TableDescription::default() };
        let asker = Asker { role: Some(role), is_signed_in: role != "anon" };
        lines(of_kit(&rules(toml), &table, asker).unwrap())
    }

    fn said(toml: &str, grants: Rights, policies: Option<Rights>) -> Vec<String> {
        said_to("authenticated", toml, grants, policies)
    }

    fn run(faults: &[(Attempt, &str)]) -> DryRun {
        let mut run = DryRun::default();
        for (attempt, message) in faults {
            run.note(*attempt, &Fault { code: Some(DENIED.into()), ..Fault::new(FaultKind::Refused, *message) });
        }
        run
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
        assert_eq!(of_kit(&rules(""), &TableDescription::default(), USER), None);
        assert_eq!(lines(run(&[]).said(&rules(""), USER)), [""; 0]);
    }

    #[test]
    fn nobody_is_told_to_let_everybody_write() {
        let none = Rights::default();
        let mut all = Vec::new();
        for toml in ["", "direction = \"pull\"", "direction = \"push\""] {
            for (grants, policies) in [(none, None), (READ, None), (ALL, Some(none)), (ALL, Some(READ))] {
                all.extend(said_to("anon", toml, grants, policies));
            }
            let denied = [Attempt::Insert, Attempt::Update, Attempt::Delete];
            let denied = denied.map(|attempt| (attempt, "permission denied for table albums"));
            all.extend(lines(run(&denied).said(&rules(toml), NOBODY)));
        }
        assert!(all.len() > 12);
        for line in all {
            let next = line.split(" -> ").nth(1).unwrap();
            assert!(next.starts_with("sign in (remote.access_token)"), "{line}");
            for verb in ["insert", "update", "delete"] {
                assert!(!next.contains(verb), "{line}");
            }
        }
        assert_eq!(
            lines(run(&[(Attempt::Delete, "permission denied for table albums")]).said(&rules(""), NOBODY)),
            [
                "warning albums: whoever is not signed in has no grant to delete in albums -> sign in (remote.access_token), \
              or if nobody is to sign in, set [collections.albums] direction = \"pull\""
            ]
        );
    }

    #[test]
    fn only_a_denial_of_the_table_itself_is_a_missing_grant() {
        let well = run(&[(Attempt::Delete, "permission denied for table albums")]);
        assert_eq!(
            lines(well.said(&rules(""), USER)),
            [
                "warning albums: this user has no grant to delete in albums -> grant delete on albums to authenticated, or set \
              [collections.albums] direction = \"pull\""
            ]
        );
        let of_columns = run(&[(Attempt::Update, "permission denied for table albums")]);
        assert!(lines(of_columns.said(&rules(""), USER))[0].contains("on some of its columns only the server kit can"));
        let otherwise = run(&[
            (Attempt::Insert, "permission denied for function owns"),
            (Attempt::Update, "new row violates row-level security policy for table \"albums\""),
        ]);
        let said = lines(otherwise.said(&rules(""), USER));
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with(
                "warning albums: whether this user may insert or update cannot be told without the kit (42501: permission"
            ),
            "{said:?}"
        );
    }
}
