//! Keys in another spelling than the server's: PostgreSQL writes a UUID in lower case, however it was sent.
//!
//! What a request asked for finds its row under the spelling that it was asked by. All other keys are exact, so that
//! no two rows of a text column are taken for one.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const UUID_BYTES: usize = 36;

/// The keys that one request is about.
pub(super) struct Asked<'k> {
    exact: HashSet<&'k str>,
    folded: OnceCell<HashMap<String, &'k str>>,
}

impl<'k> Asked<'k> {
    pub fn new(keys: impl IntoIterator<Item = &'k str>) -> Self {
        Self { exact: keys.into_iter().collect(), folded: OnceCell::new() }
    }

    /// The asked key that the server means with this one; the server's own where none is the same.
    pub fn spelling<'t>(&self, told: &'t str) -> &'t str
    where
        'k: 't,
    {
        if self.exact.contains(told) || !is_uuid(told) {
            return told;
        }
        self.folded().get(&told.to_ascii_lowercase()).copied().unwrap_or(told)
    }

    /// Made only where a key came back in another spelling.
    fn folded(&self) -> &HashMap<String, &'k str> {
        self.folded.get_or_init(|| {
            let uuids = self.exact.iter().filter(|key| is_uuid(key));
            uuids.map(|key| (key.to_ascii_lowercase(), *key)).collect()
        })
    }
}

fn is_uuid(key: &str) -> bool {
    key.len() == UUID_BYTES
        && key.bytes().enumerate().all(
            |(at, byte)| {
                if HYPHENS.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() }
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPPER: &str = "ABCDEF00-0000-4000-8000-00000000000A";
    const LOWER: &str = "abcdef00-0000-4000-8000-00000000000a";

    #[test]
    fn a_uuid_is_found_in_the_spelling_that_it_was_asked_by() {
        let asked = Asked::new([UPPER, "k"]);
        assert_eq!(asked.spelling(LOWER), UPPER);
        assert_eq!(asked.spelling(UPPER), UPPER);
        assert_eq!(Asked::new([LOWER]).spelling(UPPER), LOWER);
    }

    #[test]
    fn a_key_that_was_asked_for_as_it_stands_is_itself() {
        let asked = Asked::new([UPPER, LOWER]);
        assert_eq!((asked.spelling(UPPER), asked.spelling(LOWER)), (UPPER, LOWER));
    }

    #[test]
    fn other_keys_are_exact() {
        for (asked, told) in [
            ("ABC", "abc"),
            ("ABCDEF00-0000-4000-8000-00000000000G", "abcdef00-0000-4000-8000-00000000000g"),
            ("ABCDEF00000040008000-00000000000A-AB", "abcdef00000040008000-00000000000a-ab"),
            (UPPER, "abcdef00-0000-4000-8000-00000000000b"),
        ] {
            assert_eq!(Asked::new([asked]).spelling(told), told);
        }
    }
}
