//! What went wrong, told without the words of whoever said so: they may quote a row, whatever their code. A trigger raises
//! every code with words of its own. `tidelock queue list` and `tidelock status` have the words.

use tidelock_actors::model::{Fault, FaultKind};

use crate::adapters::supabase::DENIED;
use crate::status::Status;

/// Codes of PostgreSQL's and PostgREST's, and what each means.
const MEANINGS: [(&str, &str); 37] = [
    ("21000", "one statement meets a row twice"),
    ("22001", "a text is too long for its column"),
    ("22003", "a number is too large for its column"),
    ("22007", "a date or time is not written as one"),
    ("22008", "a date or time is out of range"),
    ("22023", "a value is not allowed"),
    ("22P02", "a value does not fit its column's type"),
    ("22P05", "a text has a character that the database cannot hold"),
    ("23001", "something refers to it"),
    ("23502", "a field that must be set is not"),
    ("23503", "what it refers to is not there"),
    ("23505", "a unique value is there already"),
    ("23514", "a check of the table refuses it"),
    ("23P01", "it overlaps with another row where none may"),
    ("25006", "the database is read-only"),
    ("3F000", "there is no such schema"),
    ("40001", "it met another transaction"),
    ("40P01", "it met another transaction"),
    (DENIED, "row-level security or a missing grant refuses it"),
    ("42703", "there is no such column"),
    ("42804", "a value is of another type than its column"),
    ("42883", "there is no such function"),
    ("428C9", "only the server fills this column"),
    ("42P01", "there is no such table"),
    ("42P10", "the key column has no unique constraint"),
    ("53100", "the server's disk is full"),
    ("53300", "the database has too many connections"),
    ("54000", "it is larger than the database allows"),
    ("55P03", "somebody holds a lock on it"),
    ("57014", "it took longer than the server allows"),
    ("P0001", "a trigger or a function of the server refuses it"),
    ("PGRST202", "the server knows no such function"),
    ("PGRST204", "the server knows no such column"),
    ("PGRST205", "the server knows no such table"),
    ("PGRST301", "the access token is not accepted"),
    ("PGRST302", "signing in is required"),
    ("PGRST303", "the access token does not hold, or no longer"),
];

/// What a fault was: its code and what that means, and no words of the server's.
pub fn cause(fault: &Fault) -> String {
    match (&fault.code, fault.status) {
        (Some(code), _) => meaning(code),
        (None, Some(status)) => format!("HTTP {status}"),
        (None, None) => format!("{}: {}", fault.kind.name(), of_kind(fault.kind)),
    }
}

/// Whether the server does not let this user do it.
pub(super) fn is_denied(fault: &Fault) -> bool {
    fault.code.as_deref() == Some(DENIED)
}

/// The status without what a server said in words of its own.
pub fn without_words(mut status: Status) -> Status {
    let Status { phase_reason, last_error, stalled_reason, backup_error, publish_error, logger, collections, .. } =
        &mut status;
    let sentences = [last_error, stalled_reason, backup_error, publish_error, &mut logger.last_error];
    let paused = collections.values_mut().map(|collection| &mut collection.paused);
    for sentence in sentences.into_iter().chain(paused).flatten().chain([phase_reason]) {
        *sentence = shortened(sentence);
    }
    status
}

/// A sentence up to the code in it, with what that means. What follows a code are the words of whoever gave it.
fn shortened(sentence: &str) -> String {
    let mut begins = 0;
    for (at, mark) in sentence.match_indices([':', ';']) {
        if !sentence[at + 1..].starts_with(' ') {
            continue;
        }
        if mark == ":" && may_be_a_code(&sentence[begins..at]) {
            return format!("{}{}", &sentence[..begins], meaning(&sentence[begins..at]));
        }
        begins = at + 2;
    }
    sentence.to_owned()
}

/// One word, or a status of HTTP. A server may give codes of its own.
fn may_be_a_code(text: &str) -> bool {
    let word = text.strip_prefix("HTTP ").unwrap_or(text);
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn meaning(code: &str) -> String {
    match MEANINGS.iter().find(|(known, _)| *known == code) {
        Some((_, meaning)) => format!("{code}: {meaning}"),
        None if is_shaped(code) => code.to_owned(),
        None => "a code of the server's own".to_owned(),
    }
}

/// A code that has the form of PostgreSQL's, PostgREST's or HTTP's; anything else may be somebody's text.
fn is_shaped(code: &str) -> bool {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    match (code.strip_prefix("PGRST"), code.strip_prefix("HTTP ")) {
        (Some(number), _) | (_, Some(number)) => number.len() == 3 && is_plain(number),
        (None, None) => code.len() == 5 && is_plain(code),
    }
}

/// Faults of the way to the server and of tidelock's own; their words may name a record.
fn of_kind(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Transient => "it is tried again",
        FaultKind::Unauthorized => "the credentials are not accepted",
        FaultKind::Ordering => "it waits for another operation",
        FaultKind::Refused => "it is refused",
        FaultKind::Doubtful => "it is refused, and may be taken at another attempt",
        FaultKind::Schema => "the collection does not fit the server's table",
        FaultKind::Replaced => "the server is another one",
        FaultKind::Behind => "this device was away for too long",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str, message: &str, status: Option<u16>) -> Fault {
        let details = Some("Key (email)=(ada@example.org)".to_owned());
        Fault { status, code: Some(code.into()), details, ..Fault::new(FaultKind::Refused, message) }
    }

    #[test]
    fn h48_a_cause_quotes_nothing_of_a_row_whoever_says_it() {
        for status in [Some(400), None] {
            for (code, message, told) in [
                ("23505", "duplicate key value: 4711", "23505: a unique value is there already"),
                ("22P02", "invalid input syntax: \"ada\"", "22P02: a value does not fit its column's type"),
                ("P0001", "no room for ada", "P0001: a trigger or a function of the server refuses it"),
                ("23514", "no room for ada, 4711", "23514: a check of the table refuses it"),
                ("42501", "ada may not", "42501: row-level security or a missing grant refuses it"),
                ("PGRST116", "ada", "PGRST116"),
                ("0A000", "ada", "0A000"),
                ("ada@example.org", "ada", "a code of the server's own"),
                ("PGRST of ada", "ada", "a code of the server's own"),
            ] {
                assert_eq!(cause(&fault(code, message, status)), told, "{code} {status:?}");
            }
        }
        assert_eq!(cause(&Fault { status: Some(413), ..Fault::new(FaultKind::Doubtful, "ada") }), "HTTP 413");
        let waits = Fault::new(FaultKind::Ordering, "waits for operation 7 on notes/ada");
        assert_eq!(cause(&waits), "ordering: it waits for another operation");
    }

    #[test]
    fn h48_a_sentence_ends_with_its_code() {
        for (sentence, told) in [
            ("22P02: invalid input: \"ada\" (ada)", "22P02: a value does not fit its column's type"),
            (
                "the last round was cut: 57014: no time for ada",
                "the last round was cut: 57014: it took longer than the server allows",
            ),
            ("HTTP 503: no room for ada", "HTTP 503"),
            ("not written; 23514: ada; again", "not written; 23514: a check of the table refuses it"),
            ("it is so: quota: no room for ada", "it is so: a code of the server's own"),
            (
                "cannot connect to http://127.0.0.1:1: refused (os error 111)",
                "cannot connect to http://127.0.0.1:1: refused (os error 111)",
            ),
            ("no answer within 30 s", "no answer within 30 s"),
        ] {
            assert_eq!(shortened(sentence), told);
        }
    }

    #[test]
    fn every_code_has_one_meaning() {
        assert!(MEANINGS.is_sorted_by(|(one, _), (next, _)| one < next));
    }
}
