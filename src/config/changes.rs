//! What differs between two configurations and cannot take effect while running.

use secrecy::{ExposeSecret, SecretString};

use super::Config;

/// Sections and keys that take effect while running. A collection's `conflict` does so too.
const RELOADED: [&str; 5] = ["sync.", "storage.quota", "backup.", "log.", "remote.access_token"];

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

impl Config {
    /// Takes over what takes effect while running; the rest stays as it is in force.
    pub(crate) fn adopt(&mut self, new: Self) {
        let overlap = self.sync.overlap;
        self.sync = new.sync;
        self.sync.overlap = overlap;
        self.storage.quota = new.storage.quota;
        self.backup = new.backup;
        self.log = new.log;
        self.remote.access_token = new.remote.access_token;
        for (name, collection) in &mut self.collections {
            if let Some(new) = new.collections.get(name) {
                collection.conflict = new.conflict;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists above and `adopt` must say the same.
    #[test]
    fn what_is_adopted_is_what_needs_no_restart() {
        let old = Config::from_toml("[collections.a]\ntable = \"a\"").unwrap();
        let text = "[storage]\nquota = \"9GB\"\n[sync]\ninterval = \"7s\"\noverlap = \"9s\"\nmax_retries = 9\n[log]\nlevel = \"debug\"\n\
                    [api]\nbind = \"127.0.0.1:9\"\n[remote]\nurl = \"http://x\"\naccess_token = \"t\"\n\
                    [collections.a]\ntable = \"a\"\nconflict = \"manual\"";
        let new = Config::from_toml(text).unwrap();
        let mut in_force = old.clone();
        in_force.adopt(new.clone());
        assert_eq!(changes_needing_restart(&old, &in_force), [""; 0], "only what reloads was adopted");
        let waiting = ["api.bind", "remote.url", "sync.overlap"];
        assert_eq!(changes_needing_restart(&in_force, &new), waiting);
        assert_eq!(changes_needing_restart(&old, &new), waiting);
    }
}
