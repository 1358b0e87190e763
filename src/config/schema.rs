//! What may be set, read from the built-in `config/default.toml`: its values give each key's type, its comments what
//! the key means and allows. So that file is the only place where a key is described.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ::config::{Value, ValueKind};

/// The built-in file.
pub(super) const BUILT_IN: &str = include_str!("../../config/default.toml");

/// The section of collections, whose tables have names of the user's own.
pub(super) const COLLECTIONS: &str = "collections";

/// One key that can be set.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its section; `collections.NAME` for a collection's keys.
    pub section: String,
    /// Its name in the section.
    pub name: String,
    /// What it means.
    pub about: String,
    /// What may be written there.
    pub allowed: String,
    /// Its built-in value, as TOML.
    pub default: String,
    pub(super) kind: ValueKind,
}

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(read);

/// Every key, in the order of the built-in file.
pub fn keys() -> &'static [Key] {
    &KEYS
}

/// The names of the sections, each once.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = keys().iter().map(|key| key.section.split('.').next().unwrap_or_default()).collect();
    sections.dedup();
    sections
}

/// The keys of a section; every collection has the same ones.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    keys().iter().filter(move |key| key.section.split('.').next() == Some(section))
}

/// A key by its section and name.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    keys_of(section).find(|key| key.name == name)
}

fn read() -> Vec<Key> {
    let values: BTreeMap<String, Value> = built_in_values().into_iter().collect();
    let mut keys: Vec<Key> = Vec::new();
    let mut section = String::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in BUILT_IN.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            comment.clear();
        } else if let Some((name, default)) = line.split_once(" = ") {
            let (name, default) = (name.trim(), default.trim());
            if let Some(key) = described(&section, name, default, &comment, &values)
                && find_among(&keys, &key).is_none()
            {
                keys.push(key);
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    keys
}

fn find_among<'a>(keys: &'a [Key], wanted: &Key) -> Option<&'a Key> {
    keys.iter().find(|key| key.section == wanted.section && key.name == wanted.name)
}

fn described(
    section: &str,
    name: &str,
    default: &str,
    comment: &[&str],
    values: &BTreeMap<String, Value>,
) -> Option<Key> {
    let value = values.get(&format!("{section}.{name}"))?;
    let allowed_at = comment.iter().position(|line| line.starts_with("Allowed:")).unwrap_or(comment.len());
    let (about, allowed) = comment.split_at(allowed_at);
    let is_collection = section.starts_with(COLLECTIONS);
    Some(Key {
        section: if is_collection { format!("{COLLECTIONS}.NAME") } else { section.to_owned() },
        name: name.to_owned(),
        about: about.join(" "),
        allowed: allowed.join(" ").trim_start_matches("Allowed:").trim().to_owned(),
        // A built-in collection's table and owner are its own; another one begins without.
        default: if is_collection && ["table", "owner"].contains(&name) {
            "\"\"".to_owned()
        } else {
            default.to_owned()
        },
        kind: value.kind.clone(),
    })
}

/// The built-in values by their full names. The file is part of the program and a test parses it.
fn built_in_values() -> Vec<(String, Value)> {
    let table = super::layers::built_in().unwrap_or_default();
    let mut values = Vec::new();
    for (section, value) in table {
        for (name, value) in value.into_table().unwrap_or_default() {
            if section == COLLECTIONS {
                let keys = value.into_table().unwrap_or_default();
                values.extend(keys.into_iter().map(|(key, value)| (format!("{section}.{name}.{key}"), value)));
            } else {
                values.push((format!("{section}.{name}"), value));
            }
        }
    }
    values
}
