//! JSON as PostgreSQL writes a `jsonb`: names by length and then by their bytes, each once, numbers without exponents.

use super::push_quoted;
use super::scan::{decoded, elements, entries};
use crate::limits::COMPARED_DEPTH;

/// Digits that an exponent may stand for before a number is left as it is.
const WRITTEN_OUT: i64 = 1_000;

/// The text of the same value as a `jsonb`. Below a depth that no table holds, values stay as they are.
pub(super) fn text(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + value.len() / 4);
    write(value, COMPARED_DEPTH, &mut text);
    text
}

fn write(value: &str, depth: usize, text: &mut String) {
    match (value.as_bytes().first(), depth.checked_sub(1)) {
        (Some(b'{'), Some(deeper)) => {
            let mut fields: Vec<_> = entries(value).collect();
            fields.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            // Of a field that stands twice, the last one counts.
            let count = fields.len();
            let is_last = |at: usize| at + 1 == count || fields[at].0 != fields[at + 1].0;
            let kept = (0..count).filter(|at| is_last(*at)).map(|at| &fields[at]);
            text.push('{');
            for (at, (name, value)) in kept.enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                push_quoted(text, name);
                text.push_str(": ");
                write(value, deeper, text);
            }
            text.push('}');
        }
        (Some(b'['), Some(deeper)) => {
            text.push('[');
            for (at, value) in elements(value).enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                write(value, deeper, text);
            }
            text.push(']');
        }
        (Some(b'"'), _) => match decoded(value) {
            Some(content) => push_quoted(text, &content),
            None => text.push_str(value),
        },
        (Some(b'-' | b'0'..=b'9'), _) => text.push_str(&written_out(value).unwrap_or_else(|| value.to_owned())),
        _ => text.push_str(value),
    }
}

/// A number as `numeric` writes it: `1.5e3` is `1500`, `1e-3` is `0.001`, and zero has no sign.
fn written_out(number: &str) -> Option<String> {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|exponent: &i64| exponent.abs() <= WRITTEN_OUT)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let sign = if digits.bytes().all(|digit| digit == b'0') { "" } else { sign };
    let mut point = whole.len() as i64 + exponent;
    if point <= 0 {
        digits.insert_str(0, &"0".repeat((1 - point) as usize));
        point = 1;
    }
    if point > digits.len() as i64 {
        digits.push_str(&"0".repeat((point - digits.len() as i64) as usize));
    }
    let (whole, fraction) = digits.split_at(point as usize);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{dot}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::text;

    /// As PostgreSQL 15 answers `'…'::jsonb::text`.
    #[test]
    fn values_are_written_as_postgresql_writes_them() {
        for (value, expected) in [
            (
                r#"{"bb":1,"a":[1,{"z":null,"y":true}],"":"x"}"#,
                r#"{"": "x", "a": [1, {"y": true, "z": null}], "bb": 1}"#,
            ),
            (r#"{"a":1, "a":2}"#, r#"{"a": 2}"#),
            (r#"[ ]"#, "[]"),
            (r#"["\u00e9\n\u0001\/\"\\", "é"]"#, r#"["é\n\u0001/\"\\", "é"]"#),
            (
                "[1e2, 1.50, -0.0, 1.5e3, 1E-3, 12.5e-3, 1e+0, -1.20e1]",
                "[100, 1.50, 0.0, 1500, 0.001, 0.0125, 1, -12.0]",
            ),
            (
                "[9223372036854775807, 12345678901234567890.0123456789]",
                "[9223372036854775807, 12345678901234567890.0123456789]",
            ),
            ("[0e5, 0.000, 100e-2]", "[0, 0.000, 1.00]"),
        ] {
            assert_eq!(text(value), expected, "{value}");
        }
    }
}
