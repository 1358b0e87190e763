//! What a configuration must be: known keys with fitting values in every layer, and values that go together.

use ::config::{Value, ValueKind};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;
use std::time::Duration;

use super::layers::{self, Table};
use super::problem::{bad_value, is_like, unknown};
use super::schema::{self, Key};
use super::size::Size;
use super::{Config, collections};
use crate::adapters::archive;
use crate::logger::Redactor;
use tidelock_actors::limits::LOG_HISTORY_MAX;

/// Looks at one layer by itself: every key must be known and every value must fit its key.
pub(super) fn check_layer(layer: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    for (section, value) in layer {
        let known = schema::sections();
        let place = value.origin().unwrap_or(layers::BUILT_IN_PLACE);
        let ValueKind::Table(keys) = &value.kind else {
            problems.push(unknown(place, section, &shown_unknown(section, value), "the file", known));
            continue;
        };
        if !known.contains(&section.as_str()) {
            problems.push(unknown(place, section, "{…}", "the file", known));
        } else if section == schema::COLLECTIONS {
            for (name, value) in keys {
                let path = format!("{section}.{name}");
                if !collections::is_name(name) {
                    problems.push(bad_value(place, &path, &shown(name, value), collections::NAME));
                }
                match &value.kind {
                    ValueKind::Table(keys) => check_keys(section, &path, keys, &mut problems),
                    _ => problems.push(bad_value(place, &path, &shown(name, value), "a table of a collection's keys")),
                }
            }
        } else {
            check_keys(section, section, keys, &mut problems);
        }
    }
    problems.sort();
    problems
}

fn check_keys(section: &str, path: &str, keys: &Table, problems: &mut Vec<String>) {
    for (name, value) in keys {
        let place = value.origin().unwrap_or(layers::BUILT_IN_PLACE);
        let full = format!("{path}.{name}");
        match schema::find(section, name) {
            None => {
                let known = schema::keys_of(section).map(|key| key.name.as_str());
                problems.push(unknown(place, &full, &shown_unknown(name, value), &format!("[{path}]"), known));
            }
            Some(key) if !fits(key, path, value) => {
                problems.push(bad_value(place, &full, &shown(name, value), &key.allowed));
            }
            Some(_) => {}
        }
    }
}

/// Whether the value has its key's type and can be read as such: tried with all other keys as they are built in.
fn fits(key: &Key, path: &str, value: &Value) -> bool {
    let is_text = |value: &Value| matches!(value.kind, ValueKind::String(_));
    let same_type = match (&key.kind, &value.kind) {
        (ValueKind::String(_), ValueKind::String(_)) => true,
        (ValueKind::Boolean(_), ValueKind::Boolean(_)) => true,
        (ValueKind::I64(_), ValueKind::I64(number)) => *number >= 0,
        (ValueKind::Array(_), ValueKind::Array(items)) => items.iter().all(is_text),
        (ValueKind::Table(_), ValueKind::Table(items)) => items.values().all(is_text),
        _ => false,
    };
    let alone = path.rsplit('.').fold(Table::from([(key.name.clone(), value.clone())]), |inner, name| {
        Table::from([(name.to_owned(), inner.into())])
    });
    let tried = layers::merge(&[layers::built_in().unwrap_or_default(), alone]);
    same_type && Value::new(None, ValueKind::Table(tried)).try_deserialize::<Config>().is_ok()
}

/// A value as it is shown in a message: on one line, and never a secret.
pub(super) fn shown(key: &str, value: &Value) -> String {
    if ["key", "token", "secret", "password", "passphrase"].iter().any(|part| key.contains(part)) && key != "key" {
        return "(not shown)".to_owned();
    }
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(|item| shown("", item)).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(_) => "{…}".to_owned(),
        other => other.to_string(),
    }
}

/// The value of a key that nobody knows: whoever mistypes the name of a secret is not to find the secret in a message.
fn shown_unknown(key: &str, value: &Value) -> String {
    match ["anon_key", "access_token", "passphrase", "password", "secret"]
        .iter()
        .any(|secret| is_like(&key.to_ascii_lowercase(), secret))
    {
        true => "(not shown)".to_owned(),
        false => Redactor::default().text(&shown(key, value)).into_owned(),
    }
}

/// Looks at the whole: ranges, and values that must go together. `place_of` tells where a key was set.
pub(super) fn check_whole(config: &Config, place_of: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut check = Check { values: config.flattened(), place_of, problems: Vec::new() };
    check.remote(config);
    check.sync(config);
    check.backup(config);
    check.rest(config);
    collections::check(config, &mut check);
    check.problems
}

/// The problems found so far, and what is needed to word one.
pub(super) struct Check<'a> {
    values: std::collections::BTreeMap<String, serde_json::Value>,
    place_of: &'a dyn Fn(&str) -> String,
    problems: Vec<String>,
}

impl Check<'_> {
    /// Unless it holds, the value of this key is refused with what its key allows.
    pub fn require(&mut self, holds: bool, key: &str) {
        let (section, name) = key.rsplit_once('.').unwrap_or_default();
        let section = section.split('.').next().unwrap_or_default();
        let allowed = schema::find(section, name).map_or("", |key| key.allowed.as_str());
        self.require_that(holds, key, allowed);
    }

    /// Unless it holds, the value of this key is refused with what is allowed here.
    pub fn require_that(&mut self, holds: bool, key: &str, allowed: &str) {
        if !holds {
            let value = self.values.get(key).map_or("{…}".to_owned(), ToString::to_string);
            self.problems.push(bad_value(&(self.place_of)(key), key, &value, allowed));
        }
    }

    /// Unless they are in order, the one of the two values that somebody has set is refused, and the other one named.
    fn ordered(&mut self, holds: bool, lower: &str, upper: &str) {
        let is_set = |key: &str| (self.place_of)(key) != layers::BUILT_IN_PLACE;
        let (refused, other, bound) =
            if is_set(lower) || !is_set(upper) { (lower, upper, "at most") } else { (upper, lower, "at least") };
        let value = self.values.get(other).map(ToString::to_string).unwrap_or_default();
        self.require_that(holds, refused, &format!("{bound} {other}, which is {value}"));
    }

    fn within(&mut self, key: &str, value: Duration, least: Duration, most: Duration) {
        self.require((least..=most).contains(&value), key);
    }

    fn remote(&mut self, config: &Config) {
        let remote = &config.remote;
        let address = remote.url.as_deref().map(url::Url::parse);
        let usable = match &address {
            None => true,
            Some(Ok(url)) => {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && !url.path().ends_with("/rest/v1")
            }
            Some(Err(_)) => false,
        };
        self.require_that(
            usable,
            "remote.url",
            "the project's address alone, such as \"https://abc.supabase.co\", or \"\" for none",
        );
        for (key, secret) in [("anon_key", &remote.anon_key), ("access_token", &remote.access_token)] {
            let sendable =
                secret.as_ref().is_none_or(|secret| secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()));
            self.require_that(sendable, &format!("remote.{key}"), "printable ASCII characters without blanks");
        }
        self.within("remote.timeout", remote.timeout, SECOND, 10 * MINUTE);
    }

    fn sync(&mut self, config: &Config) {
        let sync = &config.sync;
        self.within("sync.interval", sync.interval, Duration::from_millis(100), DAY);
        let most = tidelock_actors::limits::PAGE_ROWS;
        self.require(sync.batch_size > 0, "sync.batch_size");
        self.require((1..=most).contains(&sync.batch_size_max), "sync.batch_size_max");
        self.ordered(sync.batch_size <= sync.batch_size_max, "sync.batch_size", "sync.batch_size_max");
        self.require(sync.max_retries <= 100, "sync.max_retries");
        self.within("sync.retry_delay", sync.retry_delay, Duration::from_millis(10), DAY);
        self.within("sync.retry_delay_max", sync.retry_delay_max, Duration::from_millis(10), DAY);
        self.ordered(sync.retry_delay <= sync.retry_delay_max, "sync.retry_delay", "sync.retry_delay_max");
        self.within("sync.stall_after", sync.stall_after, SECOND, DAY);
        self.within("sync.overlap", sync.overlap, Duration::ZERO, 60 * MINUTE);
        self.within("sync.listing_interval", sync.listing_interval, SECOND, 7 * DAY);
        let is_never = sync.audit_interval.is_zero();
        self.require(is_never || (MINUTE..=365 * DAY).contains(&sync.audit_interval), "sync.audit_interval");
    }

    fn backup(&mut self, config: &Config) {
        let backup = &config.backup;
        self.within("backup.interval", backup.interval, SECOND, 365 * DAY);
        self.within("backup.full_interval", backup.full_interval, SECOND, 365 * DAY);
        self.require((1..=100_000).contains(&backup.keep_last), "backup.keep_last");
        for (key, count) in [
            ("backup.keep_hourly", backup.keep_hourly),
            ("backup.keep_daily", backup.keep_daily),
            ("backup.keep_weekly", backup.keep_weekly),
        ] {
            self.require(count <= 100_000, key);
        }
        let is_never = backup.drill_interval.is_zero();
        self.require(is_never || (MINUTE..=365 * DAY).contains(&backup.drill_interval), "backup.drill_interval");
        let (encrypts, is_built_in) = (!backup.encrypt.is_empty(), cfg!(feature = "encryption"));
        let is_passphrase = backup.encrypt == archive::PASSPHRASE;
        let needs_build = "\"\": this build has no encryption (the cargo feature `encryption`)";
        self.require_that(!encrypts || is_built_in, "backup.encrypt", needs_build);
        let is_known = !encrypts || !is_built_in || is_passphrase || archive::is_recipient(&backup.encrypt);
        self.require(is_known, "backup.encrypt");
        let needs_passphrase = is_passphrase && backup.passphrase.is_none();
        self.require_that(!needs_passphrase, "backup.encrypt", "a passphrase in backup.passphrase beside it");
        let (uploads, upload) = (!backup.upload.is_empty(), backup.upload.as_str());
        let is_name = upload.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        self.require(is_name, "backup.upload");
        let leaves_readable = uploads && backup.encrypt.is_empty();
        self.require_that(
            !leaves_readable,
            "backup.upload",
            "backup.encrypt beside it: only encrypted backups are uploaded",
        );
        self.require_that(!uploads || backup.publish, "backup.upload", "backup.publish = true beside it");
    }

    fn rest(&mut self, config: &Config) {
        self.require(config.storage.history_keep <= 100_000, "storage.history_keep");
        self.within("storage.history_max_age", config.storage.history_max_age, Duration::ZERO, 3650 * DAY);
        self.require(config.storage.quota.is_none_or(|quota| quota >= QUOTA_LEAST), "storage.quota");
        self.require(config.log.history <= LOG_HISTORY_MAX, "log.history");
        self.require(collections::is_table(&config.log.table), "log.table");
        self.require(config.api.bind.ip().is_loopback(), "api.bind");
        self.require(config.api.origins.iter().all(|origin| is_origin(origin)), "api.origins");
        let supervision = &config.supervision;
        self.require(supervision.restarts <= 1_000, "supervision.restarts");
        self.within("supervision.within", supervision.within, SECOND, DAY);
        self.within("supervision.backoff", supervision.backoff, Duration::from_millis(1), 60 * MINUTE);
        self.within("supervision.backoff_max", supervision.backoff_max, Duration::from_millis(1), 60 * MINUTE);
        self.ordered(supervision.backoff <= supervision.backoff_max, "supervision.backoff", "supervision.backoff_max");
    }
}

/// What a browser sends as `Origin`: letter for letter, so nothing that it would spell otherwise.
fn is_origin(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let has_authority = url.host_str().is_some_and(|host| !host.is_empty());
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    has_authority && !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*', ' ']) && *text == text.to_lowercase()
}

/// A store takes some hundred thousand bytes before anything is saved.
const QUOTA_LEAST: Size = Size(1_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Names as a message lists them.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}
