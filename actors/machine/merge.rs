//! What becomes of a record that changed on both sides: the strategies, and the three-way merge by field.
//!
//! The base is the server's row that the local changes were made on. A field changed on one side only is
//! taken from that side; `newest-wins` compares the local stamp with the server's version where that is a
//! time, and where it is not, the later arrival, ours, counts as the newer (H38).

use crate::document::{Document, instant, same_value};
use crate::machine::hybrid_clock::clamped_ms;
use crate::model::{Contested, Outcome, RemoteState, Strategy, Version};

/// What the decision depends on beside the record.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The collection's strategy.
    pub strategy: Strategy,
    /// The field that the server stamps, by its local name: a stamp is not a change of the app's.
    pub version_field: &'a str,
    /// The server's time, milliseconds since 1970.
    pub server_now_ms: i64,
}

/// Whether the server already has everything that the local changes ask for.
pub fn is_already_there(contested: &Contested, version_field: &str) -> bool {
    match (&contested.local, &contested.remote) {
        (None, RemoteState::Gone) => true,
        (Some(local), RemoteState::Present { document, .. }) => {
            own_changes(local, contested, version_field).is_within(document)
        }
        (None, RemoteState::Present { .. }) | (Some(_), RemoteState::Gone) => false,
    }
}

/// Decides by strategy.
pub fn decide(contested: &Contested, circumstances: Circumstances<'_>) -> Outcome {
    match circumstances.strategy {
        Strategy::LocalWins => keep_local(contested, circumstances.version_field),
        Strategy::RemoteWins => Outcome::TakeRemote,
        Strategy::NewestWins => newest(contested, circumstances),
        Strategy::Merge => merged(contested, circumstances),
        Strategy::Manual => Outcome::Hold,
    }
}

/// The local document over the server's: columns that only the server has stay. A row that is made again gets a new
/// stamp: under its old one the other devices, which read on from the newest stamp they know, would never see it.
pub fn keep_local(contested: &Contested, version_field: &str) -> Outcome {
    let Some(local) = &contested.local else { return Outcome::Keep(None) };
    let changes = own_changes(local, contested, version_field);
    let kept = local.without(version_field).overlaid(&changes);
    Outcome::Keep(Some(match &contested.remote {
        RemoteState::Present { document: remote, .. } => remote.overlaid(&kept),
        RemoteState::Gone => kept,
    }))
}

fn newest(contested: &Contested, circumstances: Circumstances<'_>) -> Outcome {
    if local_is_newer(contested, circumstances.server_now_ms) {
        keep_local(contested, circumstances.version_field)
    } else {
        Outcome::TakeRemote
    }
}

fn local_is_newer(contested: &Contested, server_now_ms: i64) -> bool {
    let local_ms = clamped_ms(contested.stamp.millis(), server_now_ms);
    match &contested.remote {
        RemoteState::Present { version, .. } => {
            let remote_ms = version.as_ref().and_then(time_of);
            // Equal times: the server's order decides, and ours arrives later.
            remote_ms.is_none_or(|remote_ms| local_ms >= clamped_ms(remote_ms, server_now_ms))
        }
        RemoteState::Gone => true,
    }
}

fn time_of(version: &Version) -> Option<i64> {
    instant(version).map(jiff::Timestamp::as_millisecond)
}

/// Field by field; a deletion on either side is decided as a whole.
fn merged(contested: &Contested, circumstances: Circumstances<'_>) -> Outcome {
    let (Some(local), RemoteState::Present { document: remote, .. }) = (&contested.local, &contested.remote) else {
        return newest(contested, circumstances);
    };
    let empty = Document::empty();
    let base = contested.base.as_ref().unwrap_or(&empty);
    let (ours, theirs) = (own_changes(local, contested, circumstances.version_field), remote.changes_from(base));
    let theirs = theirs.fields();
    let ours_are_newer = local_is_newer(contested, circumstances.server_now_ms);
    let stays = |name: &str, value| ours_are_newer || theirs.get(name).is_none_or(|their| same_value(their, value));
    let ours = ours.fields();
    let kept = ours.iter().filter(|(name, value)| stays(name, value));
    Outcome::Keep(Some(remote.overlaid(&Document::from_fields(kept))))
}

/// What the app changed. The server's stamp counts only if the app set it to something else than it was.
fn own_changes(local: &Document, contested: &Contested, version_field: &str) -> Document {
    match &contested.base {
        Some(base) => local.changes_from(base),
        None => local.without(version_field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RecordId, Stamp};

    const NOW: i64 = 1_800_000_000_000;

    fn document(text: &str) -> Option<Document> {
        (!text.is_empty()).then(|| Document::parse(text).unwrap())
    }

    fn at(ms: i64) -> String {
        jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
    }

    /// An empty text is an absent document.
    fn contested(base: &str, local: &str, remote: &str, local_ms: i64, remote_ms: i64) -> Contested {
        let remote = match document(remote) {
            Some(document) => RemoteState::Present { document, version: Some(at(remote_ms).into()) },
            None => RemoteState::Gone,
        };
        Contested {
            id: RecordId::new("runs", "1"),
            local: document(local),
            base: document(base),
            base_version: None,
            stamp: Stamp(local_ms << 16),
            newest: 1,
            remote,
        }
    }

    fn check(strategy: Strategy, contested: Contested, expected: &str) {
        let circumstances = Circumstances { strategy, version_field: "updated_at", server_now_ms: NOW };
        let outcome = match decide(&contested, circumstances) {
            Outcome::Keep(Some(document)) => document.to_string(),
            Outcome::Keep(None) => "deleted".to_owned(),
            Outcome::TakeRemote => "remote".to_owned(),
            Outcome::Hold => "held".to_owned(),
            Outcome::AlreadyThere => "already there".to_owned(),
        };
        assert_eq!(outcome, expected, "{strategy:?} {contested:?}");
    }

    use Strategy::{LocalWins, Manual, Merge, NewestWins, RemoteWins};

    #[test]
    fn each_strategy_on_an_edit_against_an_edit() {
        let both = |local_ms, remote_ms| {
            contested(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, r#"{"a":3,"b":3,"new":1}"#, local_ms, remote_ms)
        };
        check(LocalWins, both(1, 2), r#"{"a":2,"b":1,"new":1}"#);
        check(RemoteWins, both(2, 1), "remote");
        check(NewestWins, both(2, 1), r#"{"a":2,"b":1,"new":1}"#);
        check(NewestWins, both(1, 2), "remote");
        check(Merge, both(2, 1), r#"{"a":2,"b":3,"new":1}"#);
        check(Merge, both(1, 2), r#"{"a":3,"b":3,"new":1}"#);
        check(Manual, both(1, 2), "held");
    }

    #[test]
    fn changes_of_different_fields_merge_whatever_the_clocks_say() {
        for (local_ms, remote_ms) in [(1, 2), (2, 1)] {
            let both = contested(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, r#"{"a":1,"b":2}"#, local_ms, remote_ms);
            check(Merge, both, r#"{"a":2,"b":2}"#);
        }
    }

    #[test]
    fn deletes_against_edits() {
        let deleted_here = |local_ms, remote_ms| contested(r#"{"a":1}"#, "", r#"{"a":2}"#, local_ms, remote_ms);
        check(LocalWins, deleted_here(1, 2), "deleted");
        check(RemoteWins, deleted_here(1, 2), "remote");
        check(NewestWins, deleted_here(1, 2), "remote");
        check(Merge, deleted_here(2, 1), "deleted");
        let deleted_there = || contested(r#"{"a":1}"#, r#"{"a":2}"#, "", 1, 2);
        check(LocalWins, deleted_there(), r#"{"a":2}"#);
        check(RemoteWins, deleted_there(), "remote");
        check(NewestWins, deleted_there(), r#"{"a":2}"#);
    }

    #[test]
    fn h38_a_clock_days_ahead_does_not_win_over_the_server() {
        let ahead = NOW + 86_400_000 * 365;
        let both = contested(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, ahead, NOW + 400_000);
        check(NewestWins, both, r#"{"a":2}"#);
        let both = contested(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, NOW - 1, ahead);
        check(NewestWins, both, "remote");
    }

    #[test]
    fn the_servers_stamp_is_no_change_of_the_app() {
        let (old, new) = (at(1), at(2));
        let both = contested(
            &format!(r#"{{"a":1,"updated_at":"{old}"}}"#),
            &format!(r#"{{"a":2,"updated_at":"{old}"}}"#),
            &format!(r#"{{"a":1,"updated_at":"{new}"}}"#),
            3,
            2,
        );
        check(LocalWins, both.clone(), &format!(r#"{{"a":2,"updated_at":"{new}"}}"#));
        check(Merge, both, &format!(r#"{{"a":2,"updated_at":"{new}"}}"#));
    }

    #[test]
    fn h38_a_row_that_is_made_again_does_not_keep_its_old_stamp() {
        let (old, new) = (at(1), at(2));
        let base = format!(r#"{{"a":1,"updated_at":"{old}"}}"#);
        let edited = format!(r#"{{"a":2,"updated_at":"{old}"}}"#);
        for strategy in [NewestWins, LocalWins, Merge] {
            check(strategy, contested(&base, &edited, "", 3, 2), r#"{"a":2}"#);
        }
        let stamped_by_the_app = format!(r#"{{"a":2,"updated_at":"{new}"}}"#);
        check(NewestWins, contested(&base, &stamped_by_the_app, "", 3, 2), &stamped_by_the_app);
    }

    #[test]
    fn what_the_server_already_has_is_no_conflict() {
        let there = contested(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, r#"{"a":2.0,"b":7}"#, 1, 2);
        assert!(is_already_there(&there, "updated_at"));
        let not_there = contested(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":1}"#, 1, 2);
        assert!(!is_already_there(&not_there, "updated_at"));
        assert!(is_already_there(&contested(r#"{"a":1}"#, "", "", 1, 2), "updated_at"));
    }
}
