//! `tidelock doctor --bundle`: one file for a bug report. Everything that helps to understand what went wrong; secrets are
//! taken out, and documents, keys and what a server said in words of its own are not put in. A part that cannot be had
//! says why.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};
use tidelock::adapters::sqlite::{ConflictView, QueueFilter, QueuedOperation};
use tidelock::adapters::supabase::KIT_VERSION;
use tidelock::api::Endpoint;
use tidelock::config::Loaded;
use tidelock::doctor::{cause, without_words};
use tidelock::logger::Redaction;
use tidelock::logs::LogQuery;
use tidelock::{Checkup, Config, Document};
use tidelock_actors::limits::{BUNDLE_PART_BYTES, DOCTOR_ROWS};

use super::access::Access;
use super::failure::{FAILED, Failure, USAGE};
use super::output::{Output, size};
use super::overview::name_of;

/// Keys and texts of documents that are looked for in what others have said of them.
const VALUES: usize = 500;
/// Bytes of a text by whose beginning it is found as well: PostgreSQL quotes no more than 64 of a value.
const BEGINNING_BYTES: usize = 60;
/// Shorter ones would be found in every second word.
const VALUE_LEAST: usize = 8;

/// What was written.
#[derive(Debug, Serialize)]
struct Bundle {
    path: String,
    bytes: usize,
    healthy: bool,
}

/// Nothing that is there is written over.
pub fn refuse_what_is_there(file: &Path) -> Result<(), Failure> {
    match file.exists() {
        true => Err(Failure::new(USAGE, format!("{} is there already; name a new file", file.display()))),
        false => Ok(()),
    }
}

/// Writes the file, readable by its owner alone, and says where it lies.
pub async fn write(
    file: &Path,
    loaded: Option<&Loaded>,
    access: Option<&Access>,
    checkup: &Checkup,
    output: Output,
) -> Result<(), Failure> {
    let bundle = gather(loaded, access, checkup).await;
    let text = serde_json::to_string_pretty(&bundle).map_err(io::Error::from)?;
    put(file, &text)
        .map_err(|error| Failure::new(FAILED, format!("{} cannot be written ({error})", file.display())))?;
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string();
    output.print(&Bundle { path, bytes: text.len(), healthy: checkup.healthy }, |bundle| {
        format!(
            "{}, {}\nSecrets are taken out, and no document is put into it; its log may tell of some. Read it before you send it.",
            bundle.path,
            size(bundle.bytes as u64)
        )
    })
}

/// Whole or not at all, and never over another file.
fn put(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut unfinished = tempfile::Builder::new().prefix(".unfinished-").tempfile_in(folder)?;
    unfinished.write_all(text.as_bytes())?;
    unfinished.as_file().sync_all()?;
    unfinished.persist_noclobber(file).map(drop).map_err(|error| error.error)
}

async fn gather(loaded: Option<&Loaded>, access: Option<&Access>, checkup: &Checkup) -> Value {
    let nothing = Config::default();
    let config = loaded.map_or(&nothing, |loaded| &loaded.config);
    let mut parts = serde_json::Map::new();
    let mut add = |name: &str, part: Value| parts.insert(name.to_owned(), bounded(part, name == "log"));
    add("made_at", json!(jiff::Timestamp::now()));
    add(
        "versions",
        json!({
            "tidelock": env!("CARGO_PKG_VERSION"), "server_kit": KIT_VERSION, "sqlite": rusqlite::version(),
            "system": std::env::consts::OS, "processor": std::env::consts::ARCH,
        }),
    );
    add("configuration", loaded.map_or_else(|| missing("it cannot be used, see doctor"), configuration));
    add("doctor", value(checkup));
    let mut values = BTreeSet::new();
    match access {
        None => add("store", missing("it is not open, see doctor")),
        Some(access) => {
            add("status", part(access.status().await.map(without_words)));
            add("stats", part(access.stats().await));
            add("queue", queue(access, &mut values).await);
            add("conflicts", conflicts(access, &mut values).await);
            add("rounds", part(access.rounds().await));
            add("backups", part(access.backups().await));
            add("metrics", metrics(access).await);
            add("log", part(access.logs(LogQuery::default()).await))
        }
    };
    // What was logged may quote what was sent to a server.
    let values = values.into_iter().map(SecretString::from);
    Redaction::of(config, values.chain(bearer(config, access))).value(Value::Object(parts))
}

/// What opens the door of the process on the store, or what one has left behind.
fn bearer(config: &Config, access: Option<&Access>) -> Option<SecretString> {
    let asked = access.and_then(Access::process).map(|process| process.endpoint().clone());
    asked.or_else(|| Endpoint::find(&config.storage.data_dir)).map(|endpoint| endpoint.token)
}

/// Every value in use with its place, secrets masked, as `config show` has it.
fn configuration(loaded: &Loaded) -> Value {
    let shown = loaded
        .shown()
        .into_iter()
        .map(|one| json!({ "key": format!("{}.{}", one.section, one.name), "value": one.value, "set_in": one.place }));
    shown.collect()
}

async fn metrics(access: &Access) -> Value {
    match access.process() {
        Some(process) => match process.metrics().await {
            Ok(text) => text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect(),
            Err(problem) => missing(problem.detail),
        },
        None => missing("no process runs, so nothing was measured"),
    }
}

/// How many operations stand for what, and the first of them without keys and payloads.
async fn queue(access: &Access, values: &mut BTreeSet<String>) -> Value {
    let operations = match access.queue(QueueFilter::default()).await {
        Ok(operations) => operations,
        Err(failure) => return missing(failure),
    };
    let of = |operation: &QueuedOperation| operation.cause.as_ref().map(cause);
    let mut counts: BTreeMap<(String, String, Option<String>), u64> = BTreeMap::new();
    for operation in &operations {
        let state = name_of(&operation.state);
        *counts.entry((operation.collection.clone(), state, of(operation))).or_default() += 1;
        note_text(values, &operation.key);
        note(values, &operation.payload);
    }
    let counts = counts.into_iter().map(|((collection, state, cause), number)| {
        json!({ "collection": collection, "state": state, "cause": cause, "operations": number })
    });
    let first = operations.iter().take(DOCTOR_ROWS).map(|operation| {
        json!({
            "id": operation.id, "collection": operation.collection, "action": operation.action, "state": operation.state,
            "attempts": operation.attempts, "depends_on": operation.depends_on, "created_at": operation.created_at,
            "cause": of(operation),
        })
    });
    json!({ "counts": counts.collect::<Value>(), "first": first.collect::<Value>() })
}

/// Open conflicts, each with the names of its fields.
async fn conflicts(access: &Access, values: &mut BTreeSet<String>) -> Value {
    let open = match access.conflicts(false).await {
        Ok(open) => open,
        Err(failure) => return missing(failure),
    };
    let shown = open.into_iter().take(DOCTOR_ROWS).map(|conflict| {
        let ConflictView { id, collection, key, base, local, remote, strategy, detected_at, .. } = conflict;
        note_text(values, &key);
        let sides = [base, local, remote];
        sides.iter().flatten().for_each(|side| note(values, side));
        let fields: BTreeSet<String> = sides.iter().flatten().flat_map(names).collect();
        json!({ "id": id, "collection": collection, "strategy": strategy, "detected_at": detected_at, "fields": fields })
    });
    shown.collect()
}

fn names(document: &Document) -> Vec<String> {
    serde_json::from_str::<serde_json::Map<String, Value>>(document.as_str())
        .map(|fields| fields.into_iter().map(|(name, _)| name).collect())
        .unwrap_or_default()
}

/// Remembers a document's texts, as far as they are recognised where they are quoted.
fn note(values: &mut BTreeSet<String>, document: &Document) {
    let mut left: Vec<Value> = serde_json::from_str(document.as_str()).into_iter().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => note_text(values, &text),
            Value::Array(items) => left.extend(items),
            Value::Object(map) => left.extend(map.into_values()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn note_text(values: &mut BTreeSet<String>, text: &str) {
    if text.len() < VALUE_LEAST || values.len() >= VALUES {
        return;
    }
    if text.len() > BEGINNING_BYTES {
        let ends = (0..=BEGINNING_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        values.insert(text[..ends].to_owned());
    }
    values.insert(text.to_owned());
}

fn part<T: Serialize>(told: Result<T, Failure>) -> Value {
    told.map_or_else(missing, |told| value(&told))
}

fn value<T: Serialize>(told: &T) -> Value {
    serde_json::to_value(told).unwrap_or_else(missing)
}

/// Why a part is not there.
fn missing(why: impl ToString) -> Value {
    json!({ "missing": why.to_string() })
}

/// A list gives up what is oldest until it fits: logs begin with the oldest, all else with the newest.
fn bounded(mut part: Value, begins_with_the_oldest: bool) -> Value {
    loop {
        let bytes = part.to_string().len();
        if bytes <= BUNDLE_PART_BYTES {
            return part;
        }
        match part {
            Value::Array(ref mut items) if items.len() > 1 => {
                let half = items.len() / 2;
                if begins_with_the_oldest { drop(items.drain(..half)) } else { items.truncate(half) }
            }
            _ => return missing(format!("it takes {bytes} bytes, more than a bundle has room for")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_too_large_keeps_what_is_newest() {
        let numbers: Value = (0..8).map(|n| Value::from(format!("{n}{}", "x".repeat(BUNDLE_PART_BYTES / 4)))).collect();
        let first = |part: &Value| part[0].as_str().unwrap()[..1].to_owned();
        assert_eq!(first(&bounded(numbers.clone(), false)), "0");
        let newest = bounded(numbers, true);
        assert_eq!(newest.as_array().unwrap().last().unwrap().as_str().unwrap()[..1], *"7");
        assert!(newest.to_string().len() <= BUNDLE_PART_BYTES);
        let whole = Value::from("x".repeat(BUNDLE_PART_BYTES));
        assert!(bounded(whole, false)["missing"].as_str().unwrap().starts_with("it takes"));
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bundle.json");
        put(&file, "{}").unwrap();
        assert!(refuse_what_is_there(&file).is_err());
        assert_eq!(put(&file, "other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn texts_of_documents_are_remembered_however_deep_they_stand() {
        let mut values = BTreeSet::new();
        note(
            &mut values,
            &Document::parse(r#"{"a":"short","b":["a long text"],"c":{"d":"another one"},"n":12345678}"#).unwrap(),
        );
        assert_eq!(values.into_iter().collect::<Vec<_>>(), ["a long text", "another one"]);
    }

    #[test]
    fn a_long_text_is_found_by_its_beginning_and_taken_out_whole() {
        let long = "ü".repeat(50);
        let mut values = BTreeSet::new();
        note_text(&mut values, &long);
        let redaction = Redaction::of(&Config::default(), values.into_iter().map(SecretString::from));
        for (said, left) in
            [(format!("({}...)", "ü".repeat(32)), "([redacted]üü...)"), (format!("({long})"), "([redacted])")]
        {
            assert_eq!(redaction.value(Value::from(said)), left);
        }
    }
}
