//! Local field names and remote columns, and rows as the server writes them.
//!
//! A row whose names are the same on both sides becomes a document as it stands: its text is never written anew, so
//! that every digit stays.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::de::Error;
use serde_json::value::RawValue;
use tidelock_actors::document::{Document, entries, unquoted};

/// Which local field is which column. Names that are not declared are the same on both sides.
#[derive(Debug, Default)]
pub(super) struct Names {
    remote: HashMap<String, String>,
    local: HashMap<String, String>,
}

impl Names {
    /// Takes the declared pairs, local name → column.
    pub fn new(declared: &BTreeMap<String, String>) -> Self {
        let differing = || declared.iter().filter(|(local, remote)| local != remote);
        Self {
            remote: differing().map(|(local, remote)| (local.clone(), remote.clone())).collect(),
            local: differing().map(|(local, remote)| (remote.clone(), local.clone())).collect(),
        }
    }

    /// Whether all names are the same on both sides.
    pub fn are_the_same(&self) -> bool {
        self.remote.is_empty()
    }

    /// The column of a local field.
    pub fn column<'a>(&'a self, field: &'a str) -> &'a str {
        self.remote.get(field).map_or(field, String::as_str)
    }

    /// The local field of a column; none where a declared field has taken its name.
    pub fn field<'a>(&'a self, column: &'a str) -> Option<&'a str> {
        match self.local.get(column) {
            Some(field) => Some(field),
            None if self.remote.contains_key(column) => None,
            None => Some(column),
        }
    }

    /// A row under local names.
    pub fn localised(&self, row: &RawValue) -> Document {
        if self.are_the_same() {
            return Document::trusted(row.get().to_owned());
        }
        let fields: Vec<_> = entries(row.get()).collect();
        Document::from_fields(fields.iter().filter_map(|(name, value)| Some((self.field(name)?, *value))))
    }

    /// A document as a JSON object under the server's names.
    pub fn delocalised<'a>(&self, document: &'a Document) -> Cow<'a, str> {
        if self.are_the_same() {
            return Cow::Borrowed(document.as_str());
        }
        let fields: Vec<_> = entries(document.as_str()).collect();
        let renamed = Document::from_fields(fields.iter().map(|(name, value)| (self.column(name), *value)));
        Cow::Owned(renamed.as_str().to_owned())
    }
}

/// A row as it came, with what identifies it.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// The key column's value as text.
    pub key: Cow<'a, str>,
    /// The version column's value as text, if there is such a column and it is not null.
    pub version: Option<Cow<'a, str>>,
    /// All of it.
    pub raw: &'a RawValue,
}

/// Reads an answer's rows; the fault of the text, if it is not an array of rows with keys.
pub(super) fn rows<'a>(body: &'a [u8], key: &str, version: Option<&str>) -> Result<Vec<Row<'a>>, serde_json::Error> {
    let raws: Vec<&'a RawValue> = serde_json::from_slice(body)?;
    raws.into_iter().map(|raw| row(raw, key, version)).collect()
}

pub(super) fn row<'a>(raw: &'a RawValue, key: &str, version: Option<&str>) -> Result<Row<'a>, serde_json::Error> {
    let (mut found_key, mut found_version) = (None, None);
    for (name, value) in entries(raw.get()) {
        if name == key {
            found_key = Some(value);
        }
        if version == Some(&*name) && value != "null" {
            found_version = Some(value);
        }
    }
    let without_key = || serde_json::Error::custom(format_args!("a row has no column {key}"));
    let key = unquoted(found_key.ok_or_else(without_key)?);
    Ok(Row { key, version: found_version.map(unquoted), raw })
}

/// The names of a document's fields, sorted, each once.
pub(super) fn field_names(document: &Document) -> Vec<Cow<'_, str>> {
    let mut names: Vec<_> = entries(document.as_str()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a document has this field.
pub(super) fn names_field(document: &Document, field: &str) -> bool {
    entries(document.as_str()).any(|(name, _)| name == field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pairs: &[(&str, &str)]) -> Names {
        Names::new(&pairs.iter().map(|(local, remote)| ((*local).to_owned(), (*remote).to_owned())).collect())
    }

    #[test]
    fn a_row_is_found_by_key_and_version_of_any_type() {
        let body = br#"[{"id":"a\u0062","n":{"id":1},"at":"2026"}, {"at":9007199254740993,"id":12345678901234567890}]"#;
        let rows = rows(body, "id", Some("at")).unwrap();
        assert_eq!((&*rows[0].key, rows[0].version.as_deref()), ("ab", Some("2026")));
        assert_eq!((&*rows[1].key, rows[1].version.as_deref()), ("12345678901234567890", Some("9007199254740993")));
        assert_eq!(rows[1].raw.get(), r#"{"at":9007199254740993,"id":12345678901234567890}"#);
    }

    #[test]
    fn a_null_or_absent_version_is_none_and_a_row_without_a_key_is_no_row() {
        let told = rows(br#"[{"id":1,"at":null},{"id":2}]"#, "id", Some("at")).unwrap();
        assert!(told.iter().all(|row| row.version.is_none()));
        assert!(rows(br#"[{"at":1}]"#, "id", Some("at")).is_err());
        assert!(rows(b"<html>", "id", None).is_err());
        assert!(rows(br#"{"message":"no array"}"#, "id", None).is_err());
    }

    #[test]
    fn a_row_without_renames_keeps_its_text() {
        let body = br#"[{"id":"1","big":9223372036854775807,"money":12345678901234567890123456.0123456789}]"#;
        let told = rows(body, "id", None).unwrap();
        assert_eq!(names(&[("id", "id")]).localised(told[0].raw).as_str().as_bytes(), &body[1..body.len() - 1]);
    }

    #[test]
    fn renamed_fields_go_there_and_back() {
        let names = names(&[("title", "name"), ("madeAt", "created_at")]);
        let local = Document::parse(r#"{"id":1.50,"title":"x","madeAt":null}"#).unwrap();
        let remote = names.delocalised(&local);
        assert_eq!(remote, r#"{"id":1.50,"name":"x","created_at":null}"#);
        let raw = RawValue::from_string(remote.into_owned()).unwrap();
        assert_eq!(names.localised(&raw), local);
    }

    #[test]
    fn a_column_whose_name_a_declared_field_has_taken_is_left_out() {
        let names = names(&[("title", "name")]);
        let raw = RawValue::from_string(r#"{"title":"hidden","name":"shown"}"#.to_owned()).unwrap();
        assert_eq!(names.localised(&raw).as_str(), r#"{"title":"shown"}"#);
    }

    #[test]
    fn field_names_are_sorted_and_unique() {
        let document = Document::parse(r#"{"b":1,"a":{"c":1},"b":2,"\u0064":3}"#).unwrap();
        assert_eq!(field_names(&document), ["a", "b", "d"]);
    }
}
