//! Where values come from and which one wins: the built-in file, a profile, the user's file, the environment, the
//! command line. Every value remembers its place, so that messages and `config show` can name it.

use std::path::{Path, PathBuf};

use ::config::{Config, File, FileFormat, Map, Source, Value, ValueKind};
use etcetera::BaseStrategy;

use super::problem::ConfigError;
use super::schema;
use super::watch::Watched;

/// One layer's or all layers' values.
pub(super) type Table = Map<String, Value>;

/// The place of values that nobody has set.
pub(super) const BUILT_IN_PLACE: &str = "built-in";

/// What to load the configuration from, beside the environment.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The user's file; without it `./tidelock.toml` and then the user's configuration folder are tried.
    pub file: Option<PathBuf>,
    /// The profile's name; without it `TIDELOCK_PROFILE` counts.
    pub profile: Option<String>,
    /// The store's folder; goes before every other place.
    pub data_dir: Option<PathBuf>,
}

/// What the machine adds: kept apart so that tests can do without it.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub environment: Vec<(String, String)>,
    pub working_folder: PathBuf,
    pub home: Option<PathBuf>,
    pub config_folder: Option<PathBuf>,
    pub data_folder: Option<PathBuf>,
}

impl Surroundings {
    pub fn of_this_process() -> Self {
        let folders = etcetera::base_strategy::choose_native_strategy().ok();
        Self {
            environment: std::env::vars_os()
                .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
                .collect(),
            working_folder: PathBuf::new(),
            home: folders.as_ref().map(|folders| folders.home_dir().to_owned()),
            config_folder: folders.as_ref().map(|folders| folders.config_dir().join("tidelock")),
            data_folder: folders.as_ref().map(|folders| folders.data_dir().join("tidelock")),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str());
        value.map(str::trim).filter(|value| !value.is_empty())
    }
}

/// Every layer above the built-in one, the weakest first, and the files that were looked for.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub tables: Vec<Table>,
    pub files: Vec<Watched>,
}

impl Layers {
    pub fn gather(options: &LoadOptions, around: &Surroundings) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        let file = user_file(options, around, &mut layers.files);
        if let Some(profile) = options.profile.as_deref().or_else(|| around.variable("TIDELOCK_PROFILE")) {
            let beside = file.as_deref().and_then(Path::parent).unwrap_or(&around.working_folder).to_owned();
            let path = profile_file(profile, &beside)?;
            layers.files.push(Watched::now(&path));
            layers.tables.push(read_file(&path, around)?);
        }
        if let Some(file) = file {
            layers.tables.push(read_file(&file, around)?);
        }
        layers.tables.push(supabase_variables(around));
        layers.tables.push(own_variables(around));
        if let Some(folder) = &options.data_dir {
            let place = "--data-dir".to_owned();
            let folder = Value::new(Some(&place), folder.to_string_lossy().into_owned());
            layers.tables.push(nested(&["storage", "data_dir"], folder));
        }
        Ok(layers)
    }

    /// All layers laid over the built-in one. Its collections are an example application's: they stay only where they
    /// are meant, see `config/default.toml`.
    pub fn merged(&self) -> Table {
        let own = merge(&self.tables);
        let mut built_in = built_in().unwrap_or_default();
        if let Some(ValueKind::Table(examples)) = built_in.get_mut(schema::COLLECTIONS).map(|value| &mut value.kind) {
            keep_meant_examples(examples, own.get(schema::COLLECTIONS));
        }
        merge(&[built_in, own])
    }
}

fn keep_meant_examples(examples: &mut Table, declared: Option<&Value>) {
    let Some(ValueKind::Table(declared)) = declared.map(|value| &value.kind) else { return };
    let gives_table = |value: &Value| matches!(&value.kind, ValueKind::Table(keys) if keys.contains_key("table"));
    let changes_example = |name: &String, value: &Value| examples.contains_key(name) && !gives_table(value);
    let only_changes = declared.iter().all(|(name, value)| changes_example(name, value));
    if !only_changes {
        examples.retain(|name, _| declared.get(name).is_some_and(|value| !gives_table(value)));
    }
}

/// The built-in values.
pub(super) fn built_in() -> Result<Table, ConfigError> {
    parse(schema::BUILT_IN, BUILT_IN_PLACE)
}

/// Parses one layer's text; `place` is what its values are named after.
pub(super) fn parse(text: &str, place: &str) -> Result<Table, ConfigError> {
    if let Err(error) = text.parse::<toml::Table>() {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        let reason = error.message().lines().next().unwrap_or("it cannot be read").to_owned();
        return Err(ConfigError::one(format!("{place}: line {line} is not TOML: {reason}")));
    }
    let source = File::from_str(text, FileFormat::Toml);
    let table = source.collect().map_err(|error| ConfigError::one(format!("{place}: {}", one_line(&error))))?;
    Ok(placed(table, place))
}

fn placed(table: Table, place: &str) -> Table {
    table.into_iter().map(|(name, value)| (name, placed_value(value, place))).collect()
}

fn placed_value(value: Value, place: &str) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => ValueKind::Table(placed(table, place)),
        kind => kind,
    };
    Value::new(Some(&place.to_owned()), kind)
}

/// Later tables win, key by key.
pub(super) fn merge(tables: &[Table]) -> Table {
    let mut builder = Config::builder();
    for table in tables {
        builder = builder.add_source(Layer(table.clone()));
    }
    // Laying tables over one another reads nothing and cannot fail.
    builder.build().and_then(|config| config.collect()).unwrap_or_default()
}

#[derive(Debug, Clone)]
struct Layer(Table);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Table, ::config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The user's file, if there is one; every place that was looked at is added to `looked_at`.
fn user_file(options: &LoadOptions, around: &Surroundings, looked_at: &mut Vec<Watched>) -> Option<PathBuf> {
    if let Some(file) = &options.file {
        looked_at.push(Watched::now(file));
        return Some(file.clone());
    }
    let here = around.working_folder.join("tidelock.toml");
    let users = around.config_folder.as_ref().map(|folder| folder.join("tidelock.toml"));
    for candidate in std::iter::once(here).chain(users) {
        looked_at.push(Watched::now(&candidate));
        if candidate.exists() {
            return Some(candidate);
        }
    }
    None
}

fn profile_file(profile: &str, beside: &Path) -> Result<PathBuf, ConfigError> {
    let name = format!("{profile}.toml");
    let candidates = [beside.join("config").join(&name), beside.join(&name)];
    candidates.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let [first, second] = candidates.each_ref().map(|path| path.display().to_string());
        ConfigError::one(format!(
            "TIDELOCK_PROFILE = {profile:?}: neither {first} nor {second} exists; make one of them"
        ))
    })
}

/// The keys that name folders and files; a relative one in a file counts from that file's folder.
const FOLDERS: [(&str, &str); 3] = [("storage", "data_dir"), ("backup", "dir"), ("backup", "identity")];

fn read_file(path: &Path, around: &Surroundings) -> Result<Table, ConfigError> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::one(format!("{place}: cannot be read ({error}); name another file with --config"))
    })?;
    let mut table = parse(&text, &place)?;
    for (section, key) in FOLDERS {
        if let Some(ValueKind::Table(keys)) = table.get_mut(section).map(|value| &mut value.kind)
            && let Some(ValueKind::String(folder)) = keys.get_mut(key).map(|value| &mut value.kind)
            && !folder.is_empty()
        {
            let from = path.parent().unwrap_or(Path::new(""));
            *folder = from.join(without_tilde(folder, around)).to_string_lossy().into_owned();
        }
    }
    Ok(table)
}

fn without_tilde(folder: &str, around: &Surroundings) -> PathBuf {
    match (folder.strip_prefix("~/"), &around.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(folder),
    }
}

/// Supabase's own names for the address and the key; what `TIDELOCK__REMOTE__…` says goes before them.
fn supabase_variables(around: &Surroundings) -> Table {
    let mut table = Table::new();
    for (key, names) in
        [("url", ["SUPABASE_URL", "VITE_SUPABASE_URL"]), ("anon_key", ["SUPABASE_ANON_KEY", "VITE_SUPABASE_ANON_KEY"])]
    {
        let found = names.iter().find_map(|name| around.variable(name).map(|value| (name, value)));
        if let Some((name, value)) = found {
            table = merge(&[table, nested(&["remote", key], Value::new(Some(&variable_place(name)), value))]);
        }
    }
    table
}

/// `TIDELOCK__SECTION__KEY`: names are lower-cased, values take the type that the key has.
fn own_variables(around: &Surroundings) -> Table {
    let mut table = Table::new();
    for (name, text) in &around.environment {
        let Some(rest) = name.strip_prefix("TIDELOCK__") else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut value = typed(&path, text);
        if FOLDERS.iter().any(|(section, key)| path == [*section, *key]) {
            value = ValueKind::String(without_tilde(text, around).to_string_lossy().into_owned());
        }
        table = merge(&[table, nested(&path, Value::new(Some(&variable_place(name)), value))]);
    }
    table
}

fn variable_place(name: &str) -> String {
    format!("environment variable {name}")
}

/// Text from the environment as the key's type; what does not fit stays text and is refused later with its place.
fn typed(path: &[&str], text: &str) -> ValueKind {
    let key = match path {
        [schema::COLLECTIONS, _, key] => schema::find(schema::COLLECTIONS, key),
        [section, key] => schema::find(section, key),
        _ => None,
    };
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let whole = |kind: Option<ValueKind>| kind.unwrap_or_else(|| ValueKind::String(text.to_owned()));
    match key.map(|key| &key.kind) {
        Some(ValueKind::Boolean(_)) => whole(text.trim().parse().ok().map(ValueKind::Boolean)),
        Some(ValueKind::I64(_)) => whole(text.trim().parse().ok().map(ValueKind::I64)),
        Some(ValueKind::Array(_)) => ValueKind::Array(items().map(Value::from).collect()),
        Some(ValueKind::Table(_)) => whole(
            items()
                .map(|item| {
                    item.split_once('=').map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim())))
                })
                .collect::<Option<Table>>()
                .map(ValueKind::Table),
        ),
        _ => ValueKind::String(text.to_owned()),
    }
}

/// A table that holds one value at this path.
fn nested(path: &[&str], value: Value) -> Table {
    let place = value.origin().map(str::to_owned);
    match path {
        [] => Table::new(),
        [name] => Table::from([((*name).to_owned(), value)]),
        [name, rest @ ..] => {
            Table::from([((*name).to_owned(), Value::new(place.as_ref(), ValueKind::Table(nested(rest, value))))])
        }
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
