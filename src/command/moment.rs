//! A moment as the user says it.

use jiff::Timestamp;

/// Reads a time as RFC 3339, or how long ago it was: `2h`, `30 minutes ago`.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.trim().parse() {
        return Ok(time);
    }
    let ago = text.trim().strip_suffix("ago").unwrap_or(text).trim();
    let ago = humantime_serde::re::humantime::parse_duration(ago).map_err(|_| {
        "it is neither a time (2026-11-23T10:00:00Z) nor how long ago that was (2h, 30m, 3days)".to_owned()
    })?;
    Timestamp::now().checked_sub(ago).map_err(|error| format!("that is too long ago: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        assert_eq!(parse("2026-11-23T10:00:00.5Z").unwrap().as_millisecond(), 1_795_428_000_500);
        assert_eq!(parse("2026-11-23T12:00:00+02:00").unwrap(), parse("2026-11-23T10:00:00Z").unwrap());
        for text in ["2h", "2h ago", "1h 60m ago", "120 minutes ago"] {
            let ago = Timestamp::now().as_second() - parse(text).unwrap().as_second();
            assert!((7_200..7_205).contains(&ago), "{text}: {ago}");
        }
        for text in ["", "yesterday", "2026-11-23", "2", "-2h", "1000000000 years"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
