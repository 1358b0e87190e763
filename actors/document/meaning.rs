//! Whether two JSON texts mean the same, digit by digit and instant by instant.

use super::fields::Fields;
use super::scan::{decoded, elements};
use crate::limits::COMPARED_DEPTH;

/// Whether two JSON texts mean the same. Below a depth that no table holds, only equal texts do.
pub fn same_value(a: &str, b: &str) -> bool {
    same_to(COMPARED_DEPTH, a, b)
}

fn same_to(depth: usize, a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let Some(deeper) = depth.checked_sub(1) else { return false };
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (a, b) = (Fields::of(a), Fields::of(b));
            a.len() == b.len()
                && a.iter().zip(b.iter()).all(|((x, one), (y, other))| x == y && same_to(deeper, one, other))
        }
        (Some(b'['), Some(b'[')) => {
            let (a, b): (Vec<_>, Vec<_>) = (elements(a).collect(), elements(b).collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(one, other)| same_to(deeper, one, other))
        }
        (Some(b'"'), Some(b'"')) => same_string(a, b),
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => same_number(a, b),
        _ => false,
    }
}

/// Strings are the same by their characters, or as two spellings of one instant.
fn same_string(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (decoded(a), decoded(b)) else { return false };
    a == b || matches!((instant(&a), instant(&b)), (Some(a), Some(b)) if a == b)
}

/// The instant that an RFC 3339 timestamp names, if the text is one.
pub fn instant(text: &str) -> Option<jiff::Timestamp> {
    let looks_like_one = text.len() >= 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    looks_like_one.then(|| text.parse().ok()).flatten()
}

/// Whole numbers, by far the most of all, are the same only if their texts are.
fn same_number(a: &str, b: &str) -> bool {
    let is_whole = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !(is_whole(a) && is_whole(b)) && Decimal::of(a) == Decimal::of(b)
}

/// A number as sign, digits without leading or trailing zeros, and the exponent of the last digit.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let negative = mantissa.starts_with('-');
        let (whole, fraction) =
            mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa.trim_start_matches('-'), ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0').trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        let trailing_zeros = all.len() - all.trim_end_matches('0').len();
        let beyond = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let exponent = exponent.trim_start_matches('+').parse::<i64>().unwrap_or(beyond);
        Self {
            negative,
            digits,
            exponent: exponent.saturating_sub(fraction.len() as i64).saturating_add(trailing_zeros as i64),
        }
    }
}
