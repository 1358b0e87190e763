//! A document taken apart.

use std::borrow::Cow;

use super::meaning::same_value;
use super::scan::{entries, unquoted};

/// The fields of a document in alphabetical order, each with its JSON text.
#[derive(Debug, Clone, Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Fields<'a> {
    /// Takes the text of an object apart; of a field that stands twice, the last one counts.
    pub(super) fn of(text: &'a str) -> Self {
        Self::sorted(entries(text).collect())
    }

    fn sorted(mut fields: Vec<(Cow<'a, str>, &'a str)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1 = later.1;
            }
            is_same
        });
        Self(fields)
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A field's JSON text.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.binary_search_by(|(field, _)| (**field).cmp(name)).ok().map(|at| self.0[at].1)
    }

    /// The names.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The JSON texts.
    pub fn values(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|(_, value)| *value)
    }

    /// The contents of those that are strings.
    pub fn strings(&self) -> impl Iterator<Item = Cow<'a, str>> {
        self.values().filter(|value| value.starts_with('"')).map(unquoted)
    }

    /// Names and JSON texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Whether every field of `other` has its name here.
    pub fn name_all_of(&self, other: &Fields<'_>) -> bool {
        other.names().all(|name| self.get(name).is_some())
    }

    /// Those that are absent from `base` or mean something else there.
    pub fn changes_from(self, base: &Fields<'_>) -> Self {
        let differs =
            |(name, value): &(Cow<'_, str>, &str)| base.get(name).is_none_or(|before| !same_value(before, value));
        Self(self.0.into_iter().filter(differs).collect())
    }

    /// These with the fields of `patch` laid over them.
    pub fn overlaid(mut self, patch: Self) -> Self {
        self.0.extend(patch.0);
        Self::sorted(self.0)
    }
}
