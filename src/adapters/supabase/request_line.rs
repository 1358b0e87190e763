//! The part of a request that travels in its first line: PostgREST's filters, quoted and percent-encoded, and cut so
//! that no line grows longer than gateways take (see `limits::REQUEST_LINE_BYTES`).
//!
//! A value stands bare after `column=eq.`; in lists and in `and(…)`, `or(…)` it is quoted where its characters ask for it.

use tidelock_actors::limits;

/// Keys in one filter, so that a server's `max-rows` seldom cuts the answer.
const KEYS_IN_ONE_FILTER: usize = 500;
/// `DELETE` with its two spaces, and ` HTTP/1.1` with its line end.
const METHOD_AND_PROTOCOL_BYTES: usize = 7 + 11;

/// A query, growing pair by pair.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(String);

impl Query {
    /// Adds a pair whose parts are encoded already.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(value);
        self
    }

    /// Adds conditions that are a piece of query already; none where the text is empty.
    pub fn with_filter(mut self, filter: &str) -> Self {
        if !self.0.is_empty() && !filter.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(filter);
        self
    }

    /// The bytes that may still be added to a line with this path.
    pub fn room(&self, path: &str) -> usize {
        let taken = METHOD_AND_PROTOCOL_BYTES + path.len() + "?&".len() + self.0.len();
        limits::REQUEST_LINE_BYTES.saturating_sub(taken)
    }

    /// The path with this query.
    pub fn on(&self, path: &str) -> String {
        format!("{path}?{}", self.0)
    }
}

/// One condition on a column, the value bare: `column=operator.value`.
pub(crate) fn condition(column: &str, operator: &str, value: &str) -> String {
    format!("{}={operator}.{}", identifier(column), encode(value))
}

/// One condition within `and(…)` or `or(…)`: `column.operator.value`.
pub(super) fn nested(column: &str, operator: &str, value: &str) -> String {
    format!("{}.{operator}.{}", identifier(column), operand(value))
}

/// A list of columns, for `select`, `columns` and `on_conflict`.
pub(super) fn identifiers<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    columns.into_iter().map(identifier).collect::<Vec<_>>().join(",")
}

/// A column's name as a filter takes it: quoted if it has other characters than letters, digits and `_`.
pub(super) fn identifier(column: &str) -> String {
    let is_plain = column.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    if is_plain && !column.is_empty() { encode(column) } else { encode(&quoted(column)) }
}

/// A value as it stands in a list: quoted where it holds anything that could end it.
fn operand(value: &str) -> String {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte));
    if is_plain && !value.is_empty() { encode(value) } else { encode(&quoted(value)) }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Percent-encodes everything that could mean something else in a query; `,` `(` `)` `:` mean what they should.
pub(super) fn encode(text: &str) -> String {
    escaped(text, |byte| byte.is_ascii_alphanumeric() || b"-_.~,():*!$".contains(&byte))
}

/// Percent-encodes what may not stand in a query at all, and leaves what somebody wrote as a query.
pub(super) fn encode_written(filter: &str) -> String {
    escaped(filter, |byte| byte.is_ascii_graphic() && !b"\"<>#\\^`{|}".contains(&byte))
}

fn escaped(text: &str, stays: impl Fn(u8) -> bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// Rows that one request asks for, and the filter that names them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The conditions, encoded.
    pub filter: String,
    /// The places of these rows in what was given.
    pub rows: Vec<usize>,
}

/// Names rows by key, in as few filters of at most `room` bytes as it takes.
pub(super) fn by_key(column: &str, keys: &[&str], room: usize) -> Vec<Chunk> {
    let rows = keys.iter().enumerate().map(|(at, key)| Row { at, key, version: "" }).collect();
    chunks(Columns { key: column, version: None }, rows, room)
}

/// Names rows by key and version, in as few filters of at most `room` bytes as it takes. Rows that share a version,
/// because one statement stamped them, share its text.
pub(super) fn by_key_and_version(key: &str, version: &str, rows: &[(&str, &str)], room: usize) -> Vec<Chunk> {
    let mut rows: Vec<_> = rows.iter().enumerate().map(|(at, &(key, version))| Row { at, key, version }).collect();
    rows.sort_by(|a, b| a.version.cmp(b.version));
    chunks(Columns { key, version: Some(version) }, rows, room)
}

#[derive(Clone, Copy)]
struct Columns<'a> {
    key: &'a str,
    version: Option<&'a str>,
}

#[derive(Clone, Copy)]
struct Row<'a> {
    at: usize,
    key: &'a str,
    version: &'a str,
}

/// Rows of one version, as they stand in one filter.
struct Group<'a> {
    version: &'a str,
    keys: Vec<&'a str>,
}

fn chunks(columns: Columns<'_>, rows: Vec<Row<'_>>, room: usize) -> Vec<Chunk> {
    let mut done = Vec::new();
    let (mut groups, mut taken, mut length, mut is_closed) = (Vec::<Group<'_>>::new(), Vec::new(), 0, false);
    for row in rows {
        // Not every server reads a quotation mark within quotes; bare it is the same everywhere.
        let alone = row.key.contains(['"', '\\']);
        let joins = groups.last().is_some_and(|group| group.version == row.version);
        let (key, group) = (operand(row.key).len() + 1, overhead(columns, row.version));
        let longer = length + key + if joins { 0 } else { group };
        let is_full = alone || is_closed || longer > room || taken.len() == KEYS_IN_ONE_FILTER;
        if is_full && !taken.is_empty() {
            done.push(Chunk { filter: filter(columns, &groups), rows: std::mem::take(&mut taken) });
            groups.clear();
            length = key + group;
        } else {
            length = longer;
        }
        taken.push(row.at);
        match groups.last_mut().filter(|group| group.version == row.version) {
            Some(group) => group.keys.push(row.key),
            None => groups.push(Group { version: row.version, keys: vec![row.key] }),
        }
        is_closed = alone;
    }
    if !taken.is_empty() {
        done.push(Chunk { filter: filter(columns, &groups), rows: taken });
    }
    done
}

/// An upper bound of what a group adds to a filter beside its keys.
fn overhead(columns: Columns<'_>, version: &str) -> usize {
    let version = columns.version.map_or(0, |column| nested(column, "eq", version).len());
    "or=(and(,.in.()),)".len() + identifier(columns.key).len() + version
}

fn filter(columns: Columns<'_>, groups: &[Group<'_>]) -> String {
    match (groups, columns.version) {
        ([only], None) => keys_condition(columns.key, &only.keys),
        ([only], Some(version)) => {
            format!("{}&{}", condition(version, "eq", only.version), keys_condition(columns.key, &only.keys))
        }
        (groups, _) => format!("or=({})", groups.iter().map(|group| arm(columns, group)).collect::<Vec<_>>().join(",")),
    }
}

fn keys_condition(column: &str, keys: &[&str]) -> String {
    match keys {
        [only] => condition(column, "eq", only),
        keys => format!("{}=in.({})", identifier(column), operands(keys)),
    }
}

fn arm(columns: Columns<'_>, group: &Group<'_>) -> String {
    let keys = match group.keys.as_slice() {
        [only] => nested(columns.key, "eq", only),
        keys => format!("{}.in.({})", identifier(columns.key), operands(keys)),
    };
    match columns.version {
        Some(version) => format!("and({},{keys})", nested(version, "eq", group.version)),
        None => keys,
    }
}

fn operands(keys: &[&str]) -> String {
    keys.iter().map(|key| operand(key)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_in_lists_only_where_they_must_be() {
        for (value, bare, listed) in [
            ("3f0c-11", "id=eq.3f0c-11", "id.eq.3f0c-11"),
            (
                "2026-11-22T10:00:00.1+00:00",
                "id=eq.2026-11-22T10:00:00.1%2B00:00",
                "id.eq.2026-11-22T10:00:00.1%2B00:00",
            ),
            ("", "id=eq.", "id.eq.%22%22"),
            ("a,b", "id=eq.a,b", "id.eq.%22a,b%22"),
            ("a.(b)", "id=eq.a.(b)", "id.eq.%22a.(b)%22"),
            (r#"say "hi""#, "id=eq.say%20%22hi%22", "id.eq.%22say%20%5C%22hi%5C%22%22"),
            (r"c:\d", r"id=eq.c:%5Cd", r"id.eq.%22c:%5C%5Cd%22"),
            ("&%+#=?/", "id=eq.%26%25%2B%23%3D%3F%2F", "id.eq.%22%26%25%2B%23%3D%3F%2F%22"),
            ("é😀", "id=eq.%C3%A9%F0%9F%98%80", "id.eq.%22%C3%A9%F0%9F%98%80%22"),
        ] {
            assert_eq!(condition("id", "eq", value), bare);
            assert_eq!(nested("id", "eq", value), listed);
        }
    }

    #[test]
    fn names_with_odd_characters_are_quoted() {
        assert_eq!(
            identifiers(["id", "straße", "a b", "x->y", "a.b"]),
            "id,stra%C3%9Fe,%22a%20b%22,%22x-%3Ey%22,%22a.b%22"
        );
    }

    #[test]
    fn a_written_filter_stays_as_it_was_written() {
        assert_eq!(
            encode_written("a=eq.1%2C2&b=in.(x,\"y z\")&c=like.*é"),
            "a=eq.1%2C2&b=in.(x,%22y%20z%22)&c=like.*%C3%A9"
        );
    }

    #[test]
    fn rows_of_one_version_share_its_text() {
        let rows = [("a", "2"), ("b", "1"), ("c", "2"), ("d", "3")];
        let told = by_key_and_version("id", "at", &rows, 4_000);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].filter, "or=(and(at.eq.1,id.eq.b),and(at.eq.2,id.in.(a,c)),and(at.eq.3,id.eq.d))");
        assert_eq!(told[0].rows, [1, 0, 2, 3]);
        let same = by_key_and_version("id", "at", &[("a", "2"), ("c", "2")], 4_000);
        assert_eq!(same[0].filter, "at=eq.2&id=in.(a,c)");
        assert_eq!(by_key_and_version("id", "at", &[("a", "2")], 4_000)[0].filter, "at=eq.2&id=eq.a");
        assert_eq!(by_key("id", &["a", "b"], 4_000)[0].filter, "id=in.(a,b)");
        assert_eq!(by_key("id", &["a,b"], 4_000)[0].filter, "id=eq.a,b");
    }

    #[test]
    fn a_key_with_a_quotation_mark_travels_alone() {
        let told = by_key("id", &["a", "b\"", "c", "d"], 4_000);
        assert_eq!(
            told.iter().map(|chunk| chunk.filter.as_str()).collect::<Vec<_>>(),
            ["id=eq.a", "id=eq.b%22", "id=in.(c,d)"]
        );
    }

    #[test]
    fn h49_no_filter_is_longer_than_the_room_that_is_left_for_it() {
        let keys: Vec<String> = (0..3_000).map(|n| format!("{n:08}-0000-4000-8000-0123456789ab")).collect();
        let stamps: Vec<String> = (0..3_000).map(|n| format!("2026-11-22T10:00:00.{:06}+00:00", n / 3)).collect();
        let rows: Vec<(&str, &str)> =
            keys.iter().zip(&stamps).map(|(key, stamp)| (key.as_str(), stamp.as_str())).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for room in [0, 60, 700, 3_900] {
            for told in [by_key("id", &keys, room), by_key_and_version("id", "updated_at", &rows, room)] {
                let mut seen: Vec<usize> = told.iter().flat_map(|chunk| chunk.rows.clone()).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..3_000).collect::<Vec<_>>(), "every row once");
                assert!(told.iter().all(|chunk| chunk.filter.len() <= room || chunk.rows.len() == 1));
                assert!(room < 3_900 || told.len() < 100, "{} requests", told.len());
            }
        }
    }

    #[test]
    fn h49_a_whole_line_stays_below_the_limit() {
        let keys: Vec<String> = (0..1_000).map(|n| format!("schlüssel, nummer {n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let query = Query::default().with("select", "id,updated_at");
        for chunk in by_key("id", &keys, query.room("/rest/v1/generations")) {
            let line = query.clone().with_filter(&chunk.filter).on("/rest/v1/generations");
            assert!(format!("DELETE {line} HTTP/1.1\r\n").len() <= limits::REQUEST_LINE_BYTES);
        }
    }
}
