//! The configuration: one value, checked as a whole, whatever places it was put together from.
//!
//! What can be set, what it means and which place wins is written in `config/default.toml` and nowhere else. This
//! part reads files and the environment; it knows nothing of the store, the server or the actors.

mod changes;
mod check;
mod collections;
mod layers;
mod problem;
mod schema;
mod settings;
mod show;
mod size;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{Value, ValueKind};
use serde::{Deserialize, Serialize};
use tidelock_actors::model::CollectionRules;

pub use changes::changes_needing_restart;
pub use layers::LoadOptions;
pub use problem::ConfigError;
pub use schema::{Key, keys};
pub use settings::{
    ApiSettings, BackupSettings, CollectionSettings, Durability, Level, LogSettings, Mode, RemoteSettings,
    StorageSettings, SupervisionSettings, SyncSettings,
};
pub use show::Shown;
pub use size::Size;
pub use watch::ConfigWatch;
use watch::Watched;

use layers::{Layers, Surroundings, Table};

/// What stands for a secret wherever one would be shown.
const REDACTED: &str = "(set, not shown)";

/// Everything that can be set. Public fields may be changed before it is given to `Tidelock::open`, which checks it
/// again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The server.
    pub remote: RemoteSettings,
    /// When and how changes travel.
    pub sync: SyncSettings,
    /// The store on this device.
    pub storage: StorageSettings,
    /// Backups of the store.
    pub backup: BackupSettings,
    /// What is said on standard error.
    pub log: LogSettings,
    /// The local API.
    pub api: ApiSettings,
    /// What happens when a part fails.
    pub supervision: SupervisionSettings,
    /// The collections by their local names.
    #[serde(default)]
    pub collections: BTreeMap<String, CollectionSettings>,
}

impl Config {
    /// Puts the configuration together from the built-in values, the profile, the user's file, the environment and
    /// `options`.
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigError> {
        Loaded::load(options).map(|loaded| loaded.config)
    }

    /// Lays a text in TOML over the built-in values, without files or environment.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let layers = Layers { tables: vec![layers::parse(text, "configuration")?], files: Vec::new() };
        Loaded::from_layers(layers, &Surroundings::of_this_process()).map(|loaded| loaded.config)
    }

    /// Checks ranges and what must go together, as after loading.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless_none(check::check_whole(self, &|_| "configuration".to_owned()))
    }

    /// What each collection is, parents before children.
    pub fn rules(&self) -> Vec<CollectionRules> {
        collections::rules(self)
    }

    /// Every value by its full name; secrets are redacted.
    fn flattened(&self) -> BTreeMap<String, serde_json::Value> {
        let mut flat = BTreeMap::new();
        // A configuration is made of texts, numbers and tables of texts: it always serialises.
        for (section, value) in
            serde_json::to_value(self).ok().as_ref().and_then(|value| value.as_object()).into_iter().flatten()
        {
            for (name, value) in value.as_object().into_iter().flatten() {
                let keys = value.as_object().filter(|_| section == schema::COLLECTIONS);
                match keys {
                    Some(keys) => {
                        flat.extend(keys.iter().map(|(key, value)| (format!("{section}.{name}.{key}"), value.clone())));
                    }
                    None => {
                        flat.insert(format!("{section}.{name}"), value.clone());
                    }
                }
            }
        }
        flat
    }
}

impl Default for Config {
    #[expect(clippy::expect_used, reason = "the built-in file is part of the program, and a test reads it")]
    fn default() -> Self {
        Self::from_toml("").expect("the built-in configuration can be used")
    }
}

/// A configuration with the place of every value.
#[derive(Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The files it was looked for in, whether they exist or not.
    files: Vec<Watched>,
    values: Table,
}

/// Leaves out the values as they were read: there are secrets among them.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).field("files", &self.files).finish_non_exhaustive()
    }
}

impl Loaded {
    /// Like [`Config::load`].
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigError> {
        Self::load_within(options, &Surroundings::of_this_process())
    }

    fn load_within(options: &LoadOptions, around: &Surroundings) -> Result<Self, ConfigError> {
        Self::from_layers(Layers::gather(options, around)?, around)
    }

    fn from_layers(layers: Layers, around: &Surroundings) -> Result<Self, ConfigError> {
        ConfigError::unless_none(layers.tables.iter().flat_map(check::check_layer).collect())?;
        let values = layers.merged();
        let mut config: Config = Value::new(None, ValueKind::Table(values.clone()))
            .try_deserialize()
            .map_err(|error| ConfigError::one(format!("configuration: {error}")))?;
        if config.storage.data_dir.as_os_str().is_empty() {
            config.storage.data_dir = around.data_folder.clone().unwrap_or_else(|| PathBuf::from("tidelock-data"));
        }
        let loaded = Self { config, files: layers.files, values };
        ConfigError::unless_none(check::check_whole(&loaded.config, &|key| loaded.place_of(key)))?;
        Ok(loaded)
    }

    /// The files that it was read from, the strongest last.
    pub fn files(&self) -> Vec<&Path> {
        self.files.iter().filter(|file| file.exists()).map(|file| file.path.as_path()).collect()
    }

    /// Where a key was set: a file, an environment variable, an option, or `built-in`.
    pub fn place_of(&self, key: &str) -> String {
        let mut found = None;
        let mut table = Some(&self.values);
        for name in key.split('.') {
            let value = table.and_then(|table| table.get(name));
            found = value.and_then(Value::origin).or(found);
            table = match value.map(|value| &value.kind) {
                Some(ValueKind::Table(inner)) => Some(inner),
                _ => None,
            };
            if value.is_none() {
                break;
            }
        }
        found.unwrap_or(layers::BUILT_IN_PLACE).to_owned()
    }
}

#[cfg(test)]
mod tests;
