//! How checks are listed for people: the same for `doctor` and `remote check`.

use tidelock::doctor::State;

use super::output::table;

/// One line a check: its state, its name, what was found, and what to do about it where something is to be done.
pub fn lines<'a>(checks: impl Iterator<Item = (State, &'a str, &'a str, &'a str)>) -> String {
    let rows = checks.map(|(state, name, found, next)| {
        let next = if next.is_empty() { String::new() } else { format!(" → {next}") };
        [state.name().to_owned(), name.to_owned(), format!("{found}{next}")]
    });
    table(["state", "check", "found"], rows.collect())
}
