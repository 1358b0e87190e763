//! How a check came out, and how checks are listed for people: the same for `doctor` and `remote check`.

use serde::Serialize;

use super::output::table;

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and something could be better.
    Warning,
    /// It does not work.
    Failure,
}

/// One line a check: its state, its name, what was found, and what to do about it where something is to be done.
pub fn lines<'a>(checks: impl Iterator<Item = (State, &'a str, &'a str, &'a str)>) -> String {
    let rows = checks.map(|(state, name, found, next)| {
        let next = if next.is_empty() { String::new() } else { format!(" → {next}") };
        [super::overview::name_of(&state), name.to_owned(), format!("{found}{next}")]
    });
    table(["state", "check", "found"], rows.collect())
}
