//! The configuration in use, as a person or a script reads it: every value with its place, never a secret.

use std::fmt::Write;

use serde_json::Value;

use super::{Loaded, schema};

/// One value in use.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its section: `remote`, or `collections.runs`.
    pub section: String,
    /// Its name in the section.
    pub name: String,
    /// The value; a secret is replaced by words.
    pub value: Value,
    /// Where it was set: a file, an environment variable, an option, or `built-in`.
    pub place: String,
}

impl Loaded {
    /// Every value in use, sections in the order of the built-in file, collections by name.
    pub fn shown(&self) -> Vec<Shown> {
        let values = self.config.flattened();
        let one = |section: &str, name: &str| {
            let key = format!("{section}.{name}");
            values.get(&key).map(|value| Shown {
                section: section.to_owned(),
                name: name.to_owned(),
                value: value.clone(),
                place: self.place_of(&key),
            })
        };
        let settings = schema::keys().iter().filter_map(|key| one(&key.section, &key.name));
        let collections = self.config.collections.keys().flat_map(|collection| {
            let section = format!("{}.{collection}", schema::COLLECTIONS);
            schema::keys_of(schema::COLLECTIONS).filter_map(move |key| one(&section, &key.name))
        });
        settings.chain(collections).collect()
    }

    /// The values in use as TOML, each with its place in a comment.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = String::new();
        for shown in self.shown() {
            if shown.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = shown.section;
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let line = format!("{} = {}", shown.name, as_toml(&shown.value));
            let _ = writeln!(text, "{line:<44} # {}", shown.place);
        }
        text
    }
}

fn as_toml(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", ")),
        Value::Object(items) if items.is_empty() => "{}".to_owned(),
        Value::Object(items) => {
            let items: Vec<_> =
                items.iter().map(|(name, value)| format!("{} = {}", quoted(name), as_toml(value))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
