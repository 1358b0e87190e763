//! What differs between two configurations and cannot take effect while running.

use secrecy::{ExposeSecret, SecretString};

use super::Config;

/// Sections and keys that take effect while running. A collection's `conflict` does so too.
const RELOADED: [&str; 3] = ["sync.", "log.", "remote.access_token"];

/// Keys in reloaded sections that do not: the way to the server is made once.
const NOT_RELOADED: [&str; 1] = ["sync.overlap"];

/// The changed keys that take effect only after a restart, by their full names.
pub fn changes_needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (old.flattened(), new.flattened());
    let mut changed: Vec<String> = before
        .keys()
        .chain(after.keys().filter(|key| !before.contains_key(*key)))
        .filter(|key| before.get(*key) != after.get(*key))
        .cloned()
        .collect();
    for (key, old, new) in [
        ("remote.anon_key", &old.remote.anon_key, &new.remote.anon_key),
        ("remote.access_token", &old.remote.access_token, &new.remote.access_token),
    ] {
        if exposed(old) != exposed(new) && !changed.iter().any(|changed| changed == key) {
            changed.push(key.to_owned());
        }
    }
    changed.retain(|key| !is_reloaded(key, old, new));
    changed.sort();
    changed
}

fn exposed(secret: &Option<SecretString>) -> Option<&str> {
    secret.as_ref().map(ExposeSecret::expose_secret)
}

fn is_reloaded(key: &str, old: &Config, new: &Config) -> bool {
    let is_strategy = key
        .strip_prefix("collections.")
        .and_then(|rest| rest.strip_suffix(".conflict"))
        .is_some_and(|name| old.collections.contains_key(name) && new.collections.contains_key(name));
    let is_reloaded = RELOADED.iter().any(|reloaded| key.starts_with(reloaded)) && !NOT_RELOADED.contains(&key);
    is_strategy || is_reloaded
}
