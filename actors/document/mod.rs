//! A document: one JSON object, kept as text so that numbers and timestamps stay exactly as written.
//!
//! Two documents are compared by meaning: the order of fields, white space, `1.50` against `1.5`
//! and `Z` against `+00:00` make no difference; `9007199254740993` against `9007199254740992` does.

mod digest;
mod fields;
mod hash;
mod jsonb;
mod meaning;
mod scan;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use digest::{Layout, Spelling, bucket};
pub use fields::Fields;
pub use hash::hash;
pub use meaning::{instant, same_value};
pub use scan::{entries, unquoted};

/// A JSON object as text. Cheap to move, exact to the last digit.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Box<RawValue>", into = "Box<RawValue>")]
pub struct Document(Box<str>);

/// Why a text is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object: {0}")]
pub struct NotADocument(String);

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "Document".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A record's document: any JSON object.",
            "type": "object",
            "additionalProperties": true,
        })
    }
}

impl Document {
    /// The document without fields.
    pub fn empty() -> Self {
        Self("{}".into())
    }

    /// Checks that `text` is one JSON object and keeps it.
    pub fn parse(text: &str) -> Result<Self, NotADocument> {
        let text = text.trim();
        if !text.starts_with('{') {
            let shown: String = text.chars().take(40).collect();
            return Err(NotADocument(format!("it begins with {shown:?}")));
        }
        serde_json::from_str::<&RawValue>(text).map_err(|error| NotADocument(error.to_string()))?;
        Ok(Self(text.into()))
    }

    /// Takes a text that is known to be one JSON object, because it comes from a document or a parser.
    pub fn trusted(text: String) -> Self {
        debug_assert!(Self::parse(&text).is_ok(), "not a document: {text}");
        Self(text.into())
    }

    /// Turns a value that serialises to a JSON object into a document.
    pub fn from_value(value: &impl Serialize) -> Result<Self, NotADocument> {
        let text = serde_json::to_string(value).map_err(|error| NotADocument(error.to_string()))?;
        Self::parse(&text)
    }

    /// Builds a document from fields.
    pub fn from_fields<'a, N: AsRef<str>>(fields: impl IntoIterator<Item = (N, &'a str)>) -> Self {
        let mut text = String::with_capacity(256);
        text.push('{');
        for (name, value) in fields {
            if text.len() > 1 {
                text.push(',');
            }
            push_quoted(&mut text, name.as_ref());
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The fields with their JSON texts; of a field that stands twice, the last one counts.
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(&self.0)
    }

    /// One field's string value, if the field is there and is a string.
    pub fn string(&self, field: &str) -> Option<String> {
        self.fields().get(field).and_then(|text| serde_json::from_str(text).ok())
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// This document with the fields of `patch` laid over it.
    pub fn overlaid(&self, patch: &Self) -> Self {
        Self::from_fields(self.fields().overlaid(patch.fields()).iter())
    }

    /// The fields of this document that are absent from `base` or mean something else there.
    pub fn changes_from(&self, base: &Self) -> Self {
        Self::from_fields(self.fields().changes_from(&base.fields()).iter())
    }

    /// Whether every field of this document means the same in `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.fields().changes_from(&other.fields()).is_empty()
    }

    /// Whether both documents have the same fields with the same meaning.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let is_like =
            |this: Fields<'_>, that: Fields<'_>| this.len() == that.len() && this.changes_from(&that).is_empty();
        self.0 == other.0 || is_like(self.fields(), other.fields())
    }

    /// This document without one field.
    pub fn without(&self, field: &str) -> Self {
        Self::from_fields(self.fields().iter().filter(|(name, _)| *name != field))
    }

    /// This document with one field set to a JSON text; all other text stays as it is, to the last blank.
    pub fn with_field(&self, field: &str, value: &str) -> Self {
        let text = &*self.0;
        let (mut under, mut is_empty) = (None, true);
        for (name, old) in entries(text) {
            is_empty = false;
            if name == field {
                under = Some(old);
            }
        }
        let (begin, end, mut new) = match under {
            // The value is a part of the text, so its place in it is known.
            Some(old) => {
                let begin = old.as_ptr() as usize - text.as_ptr() as usize;
                (begin, begin + old.len(), String::new())
            }
            None => {
                let end = text.len() - 1;
                let mut new = String::from(if is_empty { "" } else { "," });
                push_quoted(&mut new, field);
                new.push(':');
                (end, end, new)
            }
        };
        new.push_str(value);
        Self([&text[..begin], &new, &text[end..]].concat().into())
    }

    /// This document with one string field set.
    pub fn with_string(&self, field: &str, value: &str) -> Self {
        let mut patch = String::from("{");
        push_quoted(&mut patch, field);
        patch.push(':');
        push_quoted(&mut patch, value);
        patch.push('}');
        self.overlaid(&Self(patch.into()))
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Box<RawValue>> for Document {
    type Error = NotADocument;

    fn try_from(raw: Box<RawValue>) -> Result<Self, NotADocument> {
        Self::parse(raw.get())
    }
}

impl From<Document> for Box<RawValue> {
    fn from(document: Document) -> Self {
        // The text was checked when the document was made; null stands in for the impossible.
        RawValue::from_string(document.0.into()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

fn push_quoted(text: &mut String, value: &str) {
    if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        // Serialising a string cannot fail.
        text.push_str(&serde_json::to_string(value).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text).unwrap()
    }

    #[test]
    fn a_field_that_is_set_leaves_all_other_text_alone() {
        for (before, field, after) in [
            (r#"{ "b": 1,  "a" : [2, 3] }"#, "b", r#"{ "b": 9,  "a" : [2, 3] }"#),
            (r#"{"b":1,"a":"x"}"#, "a", r#"{"b":1,"a":9}"#),
            (r#"{"\u0061":{"a":1}}"#, "a", r#"{"\u0061":9}"#),
            (r#"{"a":1,"a":2}"#, "a", r#"{"a":1,"a":9}"#),
            (r#"{"b":1}"#, "a", r#"{"b":1,"a":9}"#),
            (r#"{ }"#, "a\"b", r#"{ "a\"b":9}"#),
        ] {
            let set = document(before).with_field(field, "9");
            assert_eq!(set.as_str(), after);
            assert!(set.means_the_same(&document(before).overlaid(&Document::from_fields([(field, "9")]))));
        }
    }

    #[test]
    fn documents_are_compared_by_meaning() {
        for (a, b, same) in [
            (r#"{"a":1,"b":2}"#, r#"{ "b":2.0, "a":10e-1 }"#, true),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false),
            (r#"{"a":12345678901234567890123456.0123456789}"#, r#"{"a":12345678901234567890123456.01234567890}"#, true),
            (r#"{"a":0}"#, r#"{"a":-0.0}"#, true),
            (r#"{"a":100}"#, r#"{"a":1e2}"#, true),
            (r#"{"a":10}"#, r#"{"a":1}"#, false),
            (r#"{"a":"2026-11-22T10:00:00Z"}"#, r#"{"a":"2026-11-22T10:00:00+00:00"}"#, true),
            (r#"{"a":"2026-11-22T10:00:00.000001Z"}"#, r#"{"a":"2026-11-22T10:00:00Z"}"#, false),
            (r#"{"a":"\u00e9"}"#, r#"{"a":"é"}"#, true),
            (r#"{"a":"\ud800"}"#, r#"{"a":"\\ud800"}"#, false),
            (r#"{"a":[1,{"x":[]}]}"#, r#"{"a":[1.0,{"x":[ ]}]}"#, true),
            (r#"{"a":null}"#, r#"{}"#, false),
            (r#"{"a":"1"}"#, r#"{"a":1}"#, false),
        ] {
            assert_eq!(document(a).means_the_same(&document(b)), same, "{a} against {b}");
        }
    }

    #[test]
    fn changes_laid_over_the_base_give_the_document_back() {
        let base = document(r#"{"id":"1","n":1,"kept":true}"#);
        let edited = document(r#"{"id":"1","n":2,"new":"x"}"#);
        let patch = edited.changes_from(&base);
        assert_eq!(patch.as_str(), r#"{"n":2,"new":"x"}"#);
        assert!(base.overlaid(&patch).means_the_same(&document(r#"{"id":"1","n":2,"new":"x","kept":true}"#)));
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_a_reason() {
        for text in ["", "[]", "1", "{", r#"{"a":1} x"#, "null"] {
            assert!(Document::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_with_escapes_survive() {
        let odd = document(r#"{"a\"b":1,"c\\d":2,"\u000ae":3,"é":4}"#);
        assert_eq!(odd.fields().names().collect::<Vec<_>>(), ["\ne", "a\"b", "c\\d", "é"]);
        assert!(Document::empty().overlaid(&odd).means_the_same(&odd));
    }

    #[test]
    fn numbers_keep_their_digits_through_an_overlay() {
        let exact = document(r#"{"big":9223372036854775807,"money":12345678901234567890123456.0123456789}"#);
        assert_eq!(Document::empty().overlaid(&exact), exact);
    }
}
