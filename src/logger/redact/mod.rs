//! Takes secrets out of what is logged, before anything of it is kept: values by the names they have, the secrets of this
//! configuration wherever they stand, and whatever looks like one. Knows nothing of entries and levels.

mod scan;

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tidelock_actors::limits::{LOG_DEPTH, LOG_FIELDS, LOG_TEXT_BYTES, LOG_TEXT_READ};

use super::cut::{cut, readable};

/// What stands in a secret's place.
pub(crate) const REDACTED: &str = "[redacted]";

/// A field is a secret's if its name, in small letters and without `_`, `-` and `.`, has one of these in it.
const NAMES: [&str; 15] = [
    "authorization",
    "apikey",
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "cookie",
    "credential",
    "privatekey",
    "anonkey",
    "servicekey",
    "servicerole",
    "accesskey",
    "jwt",
];

/// Secrets shorter than this are no secrets: they would be found in every second word.
const SECRET_LEAST: usize = 4;
/// Shorter ones only count where they stand alone.
const SECRET_ANYWHERE: usize = 8;

/// What is taken out.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    names: Vec<String>,
    secrets: Vec<SecretString>,
}

impl Redactor {
    /// Besides what is always taken out: fields with these names, and these secrets wherever they stand.
    pub fn new(names: &[String], secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for secret in secrets {
            let secret = secret.expose_secret();
            // As `Debug` writes it, it may look otherwise.
            all.extend([secret.to_owned(), secret.escape_debug().to_string()]);
        }
        all.retain(|secret| secret.len() >= SECRET_LEAST);
        // One that is part of another one must not leave the rest of that one behind.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        let names = names.iter().map(|name| normal(name)).filter(|name| !name.is_empty()).collect();
        Self { names, secrets: all.into_iter().map(SecretString::from).collect() }
    }

    /// Whether a value of this name is a secret's. What a name that is not read to its end says is not known.
    pub fn hides(&self, name: &str) -> bool {
        if name.len() > LOG_TEXT_READ {
            return true;
        }
        let name = normal(name);
        NAMES.iter().any(|part| name.contains(part)) || self.names.contains(&name)
    }

    /// Whether even a number under this name is a secret. Services count tokens.
    fn hides_number(&self, name: &str) -> bool {
        if name.len() > LOG_TEXT_READ {
            return true;
        }
        let name = normal(name);
        NAMES.iter().any(|part| *part != "token" && name.contains(part)) || self.names.contains(&name)
    }

    /// A text without secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if let Some(without) = scan::without(&text, secret.expose_secret(), SECRET_ANYWHERE) {
                text = Cow::Owned(without);
            }
        }
        match scan::scan(&text, self) {
            Some(without) => Cow::Owned(without),
            None => text,
        }
    }

    /// A text without secrets, and not longer than one of a log may be; no more of it is looked at than may be.
    pub fn short(&self, text: &str) -> String {
        cut(&self.text(&readable(text)), LOG_TEXT_BYTES)
    }

    /// A value under a name, without secrets, and not longer or deeper than a log may be.
    pub fn value(&self, name: &str, value: Value) -> Value {
        self.value_at(name, value, 0)
    }

    /// All values of a map.
    pub fn map(&self, map: Map<String, Value>) -> Map<String, Value> {
        self.map_at(map, 0)
    }

    /// A value without secrets, however long and deep it is. Names that are all small letters stay, as the values of
    /// documents may be among the secrets, and somebody's text may be the name of a part.
    pub fn whole(&self, value: Value) -> Value {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
            Value::String(text) => self.text(&text).into_owned().into(),
            Value::Array(items) => items.into_iter().map(|item| self.whole(item)).collect(),
            Value::Object(map) => {
                let field = |(name, value): (String, Value)| {
                    let is_hidden = self.hides(&name) && matches!(&value, Value::String(_) | Value::Array(_));
                    let value = if is_hidden { REDACTED.into() } else { self.whole(value) };
                    let is_ours = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                    let name = if is_ours { scan::scan(&name, self).unwrap_or(name) } else { self.text(&name).into() };
                    (name, value)
                };
                Value::Object(map.into_iter().map(field).collect())
            }
        }
    }

    fn map_at(&self, map: Map<String, Value>, depth: usize) -> Map<String, Value> {
        let fields = map.into_iter().take(LOG_FIELDS);
        fields.map(|(name, value)| (self.short(&name), self.value_at(&name, value, depth))).collect()
    }

    fn value_at(&self, name: &str, value: Value, depth: usize) -> Value {
        let is_hidden = match &value {
            Value::Null => false,
            Value::Bool(_) | Value::Number(_) => self.hides_number(name),
            Value::String(_) | Value::Array(_) | Value::Object(_) => self.hides(name),
        };
        match value {
            _ if is_hidden => REDACTED.into(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
            Value::String(text) => self.short(&text).into(),
            Value::Array(_) | Value::Object(_) if depth >= LOG_DEPTH => "[too deep]".into(),
            Value::Array(items) => {
                items.into_iter().take(LOG_FIELDS).map(|item| self.value_at("", item, depth + 1)).collect()
            }
            Value::Object(map) => Value::Object(self.map_at(map, depth + 1)),
        }
    }
}

/// It shows how much it knows and nothing of it.
impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("names", &self.names).field("secrets", &self.secrets.len()).finish()
    }
}

fn normal(name: &str) -> String {
    name.chars().filter(|letter| !matches!(letter, '_' | '-' | '.' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
