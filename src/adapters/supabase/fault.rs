//! What an answer that is no success means: the table from status and code to a [`FaultKind`].
//!
//! Knows nothing of requests; everything here is a function of what came back.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidelock_actors::model::{Fault, FaultKind};

/// Characters of an answer that is not JSON that are worth showing.
const SHOWN_CHARACTERS: usize = 160;
/// What PostgreSQL calls a denial, by row-level security or by a missing grant.
pub(crate) const DENIED: &str = "42501";
/// A value for a column that the server generates.
const GENERATED: &str = "428C9";

/// An answer's parts that tell what went wrong.
pub(super) struct Refusal<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<&'a str>,
    /// The server's time, or this device's where the server did not tell.
    pub now: Timestamp,
    /// The body, whatever it is.
    pub body: &'a [u8],
}

/// The JSON that PostgREST, the gateway and Auth answer errors with; each fills some of it.
#[derive(Deserialize, Default)]
struct Body<'a> {
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    msg: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    hint: Option<&'a RawValue>,
}

/// Reads a refusal.
pub(super) fn read(refusal: &Refusal<'_>) -> Fault {
    let body = serde_json::from_slice::<Body<'_>>(refusal.body).ok();
    let body = body.unwrap_or_default();
    let code = text(body.code).or_else(|| text(body.error_code));
    let message = text(body.message).or_else(|| text(body.msg)).or_else(|| text(body.error));
    let details = [text(body.details), text(body.hint)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let kind = match (code.as_deref(), &message) {
        (Some(code), _) => kind_of_code(code, refusal.status),
        (None, Some(_)) => kind_of_status(refusal.status),
        (None, None) => kind_of_wordless(refusal.status),
    };
    Fault {
        kind,
        status: Some(refusal.status),
        code,
        message: message.unwrap_or_else(|| unexplained(refusal.status, refusal.body)),
        details: (!details.is_empty()).then_some(details),
        retry_after_ms: match kind {
            FaultKind::Transient => refusal.retry_after.and_then(|text| wait_ms(text, refusal.now)),
            FaultKind::Unauthorized
            | FaultKind::Ordering
            | FaultKind::Refused
            | FaultKind::Doubtful
            | FaultKind::Schema
            | FaultKind::Replaced
            | FaultKind::Behind => None,
        },
    }
}

/// A success whose body is not what was asked for: something between here and the server answered in its place.
pub(super) fn not_json(status: u16, body: &[u8]) -> Fault {
    Fault {
        status: Some(status),
        ..Fault::new(FaultKind::Transient, format!("the answer is not the server's: {}", shown(body)))
    }
}

/// A failure on the way: no network, no such host, no answer in time, or an answer that was cut.
pub(super) fn of_transport(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = deeper.source();
    }
    Fault::new(FaultKind::Transient, message)
}

/// A denial that the server did not put into words.
pub(super) fn denied(message: &str) -> Fault {
    Fault { code: Some(DENIED.into()), ..Fault::new(FaultKind::Refused, message) }
}

/// Whether this fault may concern only some of the rows of a request: then the others are worth sending alone.
pub(super) fn may_concern_one_row(fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::Refused => !is_about_the_table(fault),
        FaultKind::Ordering | FaultKind::Doubtful => true,
        // One row's trigger may have kept the whole statement too long.
        FaultKind::Transient => fault.is_of_one_statement(),
        FaultKind::Unauthorized | FaultKind::Schema | FaultKind::Replaced | FaultKind::Behind => false,
    }
}

/// A missing grant and a column that only the server fills meet every row; `new row violates row-level security` meets
/// one.
fn is_about_the_table(fault: &Fault) -> bool {
    match fault.code.as_deref() {
        Some(DENIED) => fault.message.starts_with("permission denied"),
        code => code == Some(GENERATED),
    }
}

fn kind_of_code(code: &str, status: u16) -> FaultKind {
    match code {
        // As anon a denial is 401, but no other credentials were asked for.
        DENIED | GENERATED => FaultKind::Refused,
        // 23001 is a parent that may not go before its children.
        "23503" | "23001" => FaultKind::Ordering,
        // 42P10: the key column is no key.
        "42703" | "42P01" | "42P10" | "3F000" | "PGRST106" | "PGRST202" | "PGRST204" | "PGRST205" => FaultKind::Schema,
        // 25006: a project that ran out of disk is read-only until somebody mends it.
        "25006" | "55P03" | "55006" => FaultKind::Transient,
        "PGRST301" | "PGRST302" | "PGRST303" => FaultKind::Unauthorized,
        _ if code.starts_with("PGRST00") => FaultKind::Transient,
        _ if code.starts_with("PGRST1") => FaultKind::Refused,
        _ if is_sql_state(code) => match &code[..2] {
            "08" | "40" | "53" | "57" | "58" => FaultKind::Transient,
            "22" | "23" => FaultKind::Refused,
            // The database's own word on this statement, whatever status it travels under (`54000`: a row that is
            // too big for its index, is a 500).
            _ if status != 401 => FaultKind::Doubtful,
            _ => FaultKind::Unauthorized,
        },
        // A function chose it, for this row.
        "PT402" => FaultKind::Doubtful,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> FaultKind {
    match status {
        401 => FaultKind::Unauthorized,
        404 => FaultKind::Schema,
        // 402 is the platform's word on the whole project: its quota is used up, or a bill is due.
        402 | 408 | 425 | 429 | 500.. => FaultKind::Transient,
        // A redirection is a network's sign-in page, not the server.
        ..400 => FaultKind::Transient,
        400..=499 => FaultKind::Doubtful,
    }
}

/// An answer that neither PostgREST nor Auth gave: a firewall's or a network's page, which says nothing about the rows
/// that were sent. PostgREST too, after a crash of PostgreSQL, answers once a pooled connection with nothing to say.
fn kind_of_wordless(status: u16) -> FaultKind {
    match status {
        // Too large a body and too long a line are this request's own, whoever says so.
        401 | 404 | 413 | 414 => kind_of_status(status),
        _ => FaultKind::Transient,
    }
}

/// Five characters that PostgreSQL means; `PT…` are statuses that a function chose.
fn is_sql_state(code: &str) -> bool {
    code.len() == 5
        && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && !code.starts_with("PT")
}

/// A JSON string's content or another value's text; nothing for null and for an empty string.
fn text(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw?.get();
    let text = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).ok()?,
        Some(b'n') | None => return None,
        Some(_) => raw.to_owned(),
    };
    (!text.is_empty()).then_some(text)
}

fn unexplained(status: u16, body: &[u8]) -> String {
    let shown = shown(body);
    if shown.is_empty() { format!("the server answered {status} without a reason") } else { shown }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN_CHARACTERS)]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(SHOWN_CHARACTERS).collect()
}

/// `Retry-After` in seconds or as a date, in milliseconds from now.
fn wait_ms(text: &str, now: Timestamp) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return seconds.checked_mul(1_000);
    }
    let until = date(text)?;
    Some(u64::try_from(until.as_millisecond().saturating_sub(now.as_millisecond())).unwrap_or(0))
}

/// An HTTP date.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultKind::*;

    fn refusal(status: u16, body: &str) -> Fault {
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        read(&Refusal { status, retry_after: None, now, body: body.as_bytes() })
    }

    fn with_code(status: u16, code: &str) -> FaultKind {
        refusal(status, &format!(r#"{{"code":"{code}","message":"m","details":null,"hint":null}}"#)).kind
    }

    #[test]
    fn every_status_and_code_has_its_kind() {
        for (status, code, kind) in [
            (500, "40001", Transient),
            (500, "40P01", Transient),
            (500, "57014", Transient),
            (500, "55P03", Transient),
            (503, "57P01", Transient),
            (503, "53300", Transient),
            (503, "08006", Transient),
            (405, "25006", Transient),
            (503, "PGRST000", Transient),
            (503, "PGRST001", Transient),
            (503, "PGRST002", Transient),
            (504, "PGRST003", Transient),
            (500, "SUP", Transient),
            (503, "PT503", Transient),
            (401, "PGRST301", Unauthorized),
            (401, "PGRST302", Unauthorized),
            (401, "PGRST303", Unauthorized),
            (401, "42501", Refused),
            (403, "42501", Refused),
            (409, "23503", Ordering),
            (409, "23001", Ordering),
            (409, "23505", Refused),
            (400, "23502", Refused),
            (400, "23514", Refused),
            (400, "23P01", Refused),
            (400, "22P02", Refused),
            (400, "22003", Refused),
            (400, "PGRST102", Refused),
            (400, "PGRST204", Schema),
            (404, "PGRST205", Schema),
            (404, "PGRST202", Schema),
            (406, "PGRST106", Schema),
            (400, "42703", Schema),
            (404, "42P01", Schema),
            (400, "42P10", Schema),
            (400, "428C9", Refused),
            (400, "P0001", Doubtful),
            (404, "42883", Doubtful),
            (500, "54000", Doubtful),
            (500, "21000", Doubtful),
            (418, "PT418", Doubtful),
            (402, "PT402", Doubtful),
        ] {
            assert_eq!(with_code(status, code), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_status_without_a_code_decides_alone() {
        for (status, kind) in [
            (302, Transient),
            (400, Doubtful),
            (401, Unauthorized),
            (402, Transient),
            (403, Doubtful),
            (404, Schema),
            (408, Transient),
            (413, Doubtful),
            (425, Transient),
            (429, Transient),
            (500, Transient),
            (502, Transient),
            (520, Transient),
        ] {
            assert_eq!(refusal(status, r#"{"message":"no"}"#).kind, kind, "{status}");
        }
    }

    #[test]
    fn a_page_that_is_not_the_servers_parks_nothing() {
        for body in ["<html><b>Forbidden</b></html>", "", "[]", "{}", "\"no\""] {
            for status in [302, 400, 403, 405, 406, 409, 410, 418, 422, 429, 451, 500, 503] {
                assert_eq!(refusal(status, body).kind, Transient, "{status} {body}");
            }
            for (status, kind) in [(401, Unauthorized), (404, Schema), (413, Doubtful), (414, Doubtful)] {
                assert_eq!(refusal(status, body).kind, kind, "{status} {body}");
            }
        }
        assert_eq!(refusal(403, "<html>\n<b>Forbidden</b></html>").message, "<html> <b>Forbidden</b></html>");
    }

    #[test]
    fn h52_an_answer_without_code_and_message_is_transient() {
        assert_eq!(refusal(400, r#"{"code":"","details":null,"hint":null,"message":""}"#).kind, Transient);
        assert_eq!(refusal(400, r#"{"code":"","message":"something"}"#).kind, Doubtful);
    }

    #[test]
    fn the_words_of_the_server_are_kept() {
        let fault = refusal(409, r#"{"code":"23505","message":"duplicate","details":"Key (a)=(1)","hint":"choose"}"#);
        assert_eq!(fault.to_string(), "23505: duplicate (Key (a)=(1); choose)");
        let auth = refusal(401, r#"{"code":401,"error_code":"bad_jwt","msg":"invalid JWT"}"#);
        assert_eq!((auth.kind, auth.message.as_str()), (Unauthorized, "invalid JWT"));
        assert_eq!(refusal(502, "<html>\n  Bad   Gateway</html>").message, "<html> Bad Gateway</html>");
        assert_eq!(refusal(502, "").message, "the server answered 502 without a reason");
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let wait = |status, text| {
            let now = "2026-11-22T10:00:00Z".parse().unwrap();
            read(&Refusal { status, retry_after: Some(text), now, body: br#"{"message":"no"}"# }).retry_after_ms
        };
        assert_eq!(wait(429, "7"), Some(7_000));
        assert_eq!(wait(503, "0"), Some(0));
        assert_eq!(wait(503, "Sun, 22 Nov 2026 10:01:00 GMT"), Some(60_000));
        assert_eq!(wait(503, "Sun, 22 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(wait(503, "soon"), None);
        assert_eq!(wait(400, "7"), None);
    }

    #[test]
    fn only_faults_of_single_rows_are_worth_bisecting() {
        assert!(may_concern_one_row(&refusal(
            403,
            r#"{"code":"42501","message":"new row violates row-level security"}"#
        )));
        assert!(!may_concern_one_row(&refusal(403, r#"{"code":"42501","message":"permission denied for table t"}"#)));
        assert!(may_concern_one_row(&refusal(400, r#"{"code":"23514","message":"check"}"#)));
        assert!(!may_concern_one_row(&refusal(503, "")));
    }

    #[test]
    fn a_lost_race_does_not_stop_what_follows_but_a_dead_server_does() {
        assert!(!refusal(500, r#"{"code":"40001","message":"serialize"}"#).concerns_everything());
        assert!(refusal(503, r#"{"code":"PGRST001","message":"gone"}"#).concerns_everything());
        assert!(refusal(401, "{}").concerns_everything());
        assert!(!refusal(400, r#"{"code":"23514","message":"check"}"#).concerns_everything());
    }
}
