//! A row as 64 bits, the same here and on the server: of each column's text, and of the key.
//!
//! The text of a value is what PostgreSQL writes for it: a string's content, a number's digits, for an object or array
//! that of type `jsonb`. Two texts that differ may still mean the same, so another digest is a suspicion and no more.

use std::borrow::Cow;
use std::collections::HashMap;

use super::hash::hash;
use super::jsonb;
use super::scan::{entries, unquoted};

/// How the server writes a column's values for their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// A date with a time: a blank stands between them, and UTC is `+00`.
    Instant,
    /// JSON as it was written.
    Verbatim,
    /// Everything else.
    Plain,
}

/// The columns whose texts a digest is made of, in the order that both sides keep to.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    spellings: Vec<Spelling>,
    places: HashMap<String, usize>,
    names: Vec<String>,
}

impl Layout {
    /// Takes the columns by their local names.
    pub fn new(columns: impl IntoIterator<Item = (String, Spelling)>) -> Self {
        let (names, spellings): (Vec<String>, Vec<Spelling>) = columns.into_iter().unzip();
        let places = names.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        Self { spellings, places, names }
    }

    /// The columns' local names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The digest of a document under this key. `hashes` is working space, kept from row to row.
    pub fn digest(&self, key: &str, document: &str, hashes: &mut Vec<u64>) -> u64 {
        hashes.clear();
        hashes.resize(self.names.len(), 0);
        let mut next = 0;
        for (name, value) in entries(document) {
            // Rows mostly have their columns in the table's order.
            let at = match self.names.get(next) {
                Some(expected) if *expected == *name => next,
                _ => match self.places.get(&*name) {
                    Some(at) => *at,
                    None => continue,
                },
            };
            next = at + 1;
            let text = text_of(value, self.spellings[at]);
            hashes[at] = text.map_or(0, |text| hash(text.as_bytes(), at as u64 + 1));
        }
        hash(key.as_bytes(), hashes.iter().fold(0, |all, one| all ^ one))
    }
}

/// Which of so many buckets a key falls into; their number is a power of two.
pub fn bucket(key: &str, buckets: usize) -> usize {
    hash(key.as_bytes(), 0) as usize & (buckets - 1)
}

/// A value's text; none of null.
fn text_of(value: &str, spelling: Spelling) -> Option<Cow<'_, str>> {
    if value == "null" {
        return None;
    }
    Some(match (spelling, value.as_bytes().first()) {
        (Spelling::Verbatim, _) => Cow::Borrowed(value),
        (Spelling::Instant, Some(b'"')) => spaced(unquoted(value)),
        (_, Some(b'{' | b'[')) => Cow::Owned(jsonb::text(value)),
        (_, _) => unquoted(value),
    })
}

/// `2026-11-22T10:00:00.5+00:00` → `2026-11-22 10:00:00.5+00`, whatever zone it is told in.
fn spaced(text: Cow<'_, str>) -> Cow<'_, str> {
    if let Some((date, time)) = text.split_once('T') {
        return Cow::Owned(match time.split_once("+00:00") {
            Some((time, era)) => format!("{date} {time}+00{era}"),
            None => match super::instant(&text) {
                Some(instant) => instant.strftime("%Y-%m-%d %H:%M:%S%.f+00").to_string(),
                // Without a zone.
                None => format!("{date} {time}"),
            },
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(columns: &[(&str, Spelling)], document: &str) -> u64 {
        let layout = Layout::new(columns.iter().map(|(name, spelling)| ((*name).to_owned(), *spelling)));
        layout.digest("k", document, &mut Vec::new())
    }

    #[test]
    fn the_order_of_fields_and_what_is_no_column_make_no_difference_and_null_is_absent() {
        let columns = [("id", Spelling::Plain), ("a", Spelling::Plain), ("b", Spelling::Plain)];
        let expected = digest(&columns, r#"{"id":"k","a":1}"#);
        for same in [r#"{"a":1,"id":"k","b":null}"#, r#"{"x":7,"id":"k","a":1,"y":[]}"#, r#"{"a":2,"id":"k","a":1}"#] {
            assert_eq!(digest(&columns, same), expected, "{same}");
        }
        for other in [r#"{"id":"k","a":2}"#, r#"{"id":"k","b":1}"#, r#"{"id":"k","a":1,"b":""}"#, r#"{"id":1,"a":"k"}"#]
        {
            assert_ne!(digest(&columns, other), expected, "{other}");
        }
    }

    #[test]
    fn values_have_the_servers_text() {
        for (value, spelling, expected) in [
            (r#""a\"b""#, Spelling::Plain, Some("a\"b")),
            ("1.50", Spelling::Plain, Some("1.50")),
            ("true", Spelling::Plain, Some("true")),
            ("null", Spelling::Verbatim, None),
            (r#"{"b":1,"a":[]}"#, Spelling::Plain, Some(r#"{"a": [], "b": 1}"#)),
            (r#"{"b":1,"a":[]}"#, Spelling::Verbatim, Some(r#"{"b":1,"a":[]}"#)),
            (r#""2026-11-22T10:00:00.123456+00:00""#, Spelling::Instant, Some("2026-11-22 10:00:00.123456+00")),
            (r#""2026-11-22T12:00:00.5+02:00""#, Spelling::Instant, Some("2026-11-22 10:00:00.5+00")),
            (r#""2026-11-22T10:00:00Z""#, Spelling::Instant, Some("2026-11-22 10:00:00+00")),
            (r#""2026-11-22T10:00:00.1""#, Spelling::Instant, Some("2026-11-22 10:00:00.1")),
            (r#""0044-03-15T00:00:00+00:00 BC""#, Spelling::Instant, Some("0044-03-15 00:00:00+00 BC")),
            (r#""infinity""#, Spelling::Instant, Some("infinity")),
        ] {
            assert_eq!(text_of(value, spelling).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn keys_spread_over_all_buckets() {
        let mut counts = [0; 16];
        (0..16_000).for_each(|n| counts[bucket(&format!("key {n}"), 16)] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(bucket("any", 1), 0);
    }
}
