//! The sections of the configuration, as they are once they have been checked. What each key means and allows stands
//! in `config/default.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidelock_actors::logs::Severity;
use tidelock_actors::model::{Direction, Strategy};
use tracing::level_filters::LevelFilter;

use super::size::{Size, size_or_nothing};

/// `[remote]`: the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSettings {
    /// The project's address without a slash at its end; without it nothing is sent.
    #[serde(deserialize_with = "address", serialize_with = "text_or_nothing")]
    pub url: Option<String>,
    /// The publishable key.
    #[serde(deserialize_with = "secret", serialize_with = "redacted")]
    pub anon_key: Option<SecretString>,
    /// The signed-in user's access token; the publishable key stands in for it.
    #[serde(deserialize_with = "secret", serialize_with = "redacted")]
    pub access_token: Option<SecretString>,
    /// How to talk to the server.
    pub mode: Mode,
    /// How long one request may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Whether answers may come compressed.
    pub compress: bool,
    /// Whether requests go compressed, where the gateway takes them so.
    pub compress_requests: bool,
}

/// How to talk to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The server kit where it is installed, otherwise by the tables alone.
    Auto,
    /// By the server kit's functions, which have to be there.
    Kit,
    /// By the tables alone.
    Plain,
}

/// `[sync]`: when and how changes travel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncSettings {
    /// Whether anything is sent or fetched.
    pub enabled: bool,
    /// Whether rounds start by themselves.
    pub auto: bool,
    /// The wait between rounds.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Operations in the first batch.
    pub batch_size: usize,
    /// Operations in a batch at most.
    pub batch_size_max: usize,
    /// How conflicts are decided where the collection does not say.
    pub conflict: Strategy,
    /// Further tries of an operation that was refused.
    pub max_retries: u32,
    /// The first wait after a failure.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// The longest wait after a failure.
    #[serde(with = "humantime_serde")]
    pub retry_delay_max: Duration,
    /// How long pending work may stand still.
    #[serde(with = "humantime_serde")]
    pub stall_after: Duration,
    /// How far back a round looks.
    #[serde(with = "humantime_serde")]
    pub overlap: Duration,
    /// How often the server's keys are listed.
    #[serde(with = "humantime_serde")]
    pub listing_interval: Duration,
    /// How often everything is compared with the server; zero means never by itself.
    #[serde(with = "humantime_serde")]
    pub audit_interval: Duration,
}

/// `[storage]`: the store on this device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    /// The store's folder; never empty once the configuration is made.
    pub data_dir: PathBuf,
    /// When a write counts as done.
    pub durability: Durability,
    /// Earlier versions kept of each record.
    pub history_keep: u32,
    /// How long they are kept.
    #[serde(with = "humantime_serde")]
    pub history_max_age: Duration,
    /// Whether a damaged store is replaced.
    pub self_repair: bool,
    /// How much the store may take, its backups included; nothing means as much as there is.
    #[serde(deserialize_with = "size_or_nothing", serialize_with = "text_or_nothing")]
    pub quota: Option<Size>,
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once it has reached the disk.
    Full,
    /// Once the system has it: a power cut may take the last writes.
    Normal,
}

/// `[backup]`: backups of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSettings {
    /// Whether they are taken without anybody asking.
    pub enabled: bool,
    /// The wait between them.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Their folder; empty for the one in the store's.
    pub dir: PathBuf,
    /// Whether one may continue the one before it.
    pub incremental: bool,
    /// How old a full one may be.
    #[serde(with = "humantime_serde")]
    pub full_interval: Duration,
    /// Of the newest, so many are kept.
    pub keep_last: usize,
    /// Of so many hours the newest.
    pub keep_hourly: usize,
    /// Of so many days the newest.
    pub keep_daily: usize,
    /// Of so many weeks the newest.
    pub keep_weekly: usize,
    /// For whom they are encrypted: a recipient, `passphrase`, or nobody where it is empty.
    pub encrypt: String,
    /// The passphrase.
    #[serde(deserialize_with = "secret", serialize_with = "redacted")]
    pub passphrase: Option<SecretString>,
    /// The file with the recipient's secret key; empty for none.
    pub identity: PathBuf,
    /// How often the newest is tried; zero means never by itself.
    #[serde(with = "humantime_serde")]
    pub drill_interval: Duration,
    /// Whether the user's other devices are told which there are.
    pub publish: bool,
    /// The bucket in Supabase Storage that they are uploaded to; empty for none.
    pub upload: String,
}

/// `[log]`: what is said on standard error, what is kept of it, and what the server gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The least important messages that are said and kept.
    pub level: Level,
    /// The least important messages that the server gets.
    pub remote_level: Level,
    /// The last so many entries are kept.
    pub history: usize,
    /// The server's table for them; empty for none.
    pub table: String,
    /// Names of further fields whose values are not logged.
    pub redact: Vec<String>,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is said.
    Off,
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl Level {
    /// All of them, the one that says least first.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// The level at which so many more kinds of messages are said.
    #[must_use]
    pub fn louder(self, by: u8) -> Self {
        let from = Self::ALL.into_iter().skip_while(|level| *level != self);
        from.take(usize::from(by) + 1).last().unwrap_or(self)
    }

    /// The name used in configuration.
    pub fn name(self) -> &'static str {
        self.severity().map_or("off", Severity::name)
    }

    /// The level at which entries of this severity are the least important ones; nothing for none.
    pub fn of(severity: Option<Severity>) -> Self {
        match severity {
            None => Self::Off,
            Some(Severity::Error) => Self::Error,
            Some(Severity::Warn) => Self::Warn,
            Some(Severity::Info) => Self::Info,
            Some(Severity::Debug) => Self::Debug,
            Some(Severity::Trace) => Self::Trace,
        }
    }

    /// The least important entries of this level; none for `off`.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Error => Some(Severity::Error),
            Self::Warn => Some(Severity::Warn),
            Self::Info => Some(Severity::Info),
            Self::Debug => Some(Severity::Debug),
            Self::Trace => Some(Severity::Trace),
        }
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::OFF,
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// `[api]`: the local API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    /// Whether the process serves it.
    pub enabled: bool,
    /// Where it listens, on loopback; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Web pages of other addresses that may speak to it.
    pub origins: Vec<String>,
}

/// `[supervision]`: what happens when a part fails.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisionSettings {
    /// Restarts of one part allowed within `within`.
    pub restarts: u32,
    /// The period in which they are counted.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// The wait before the first restart.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// The longest wait before a restart.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
}

/// `[collections.NAME]`: one collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectionSettings {
    /// The server's table; empty means the collection's own name.
    pub table: String,
    /// The field that holds the key, by its local name.
    pub key: String,
    /// The server's stamp on every change, by its remote name; empty where there is none.
    pub version: String,
    /// Which way changes travel.
    pub direction: Direction,
    /// How conflicts are decided; nothing means as in `[sync]`.
    #[serde(deserialize_with = "strategy", serialize_with = "text_or_nothing")]
    pub conflict: Option<Strategy>,
    /// Local field name → remote column, for those that differ.
    pub fields: BTreeMap<String, String>,
    /// The remote columns to fetch; empty means all.
    pub columns: Vec<String>,
    /// The server's rows to fetch, in PostgREST's filter syntax; empty means all.
    pub filter: String,
    /// The collections that these records refer to.
    pub after: Vec<String>,
    /// The remote column that says whose a row is, for the server kit; empty where there is none.
    pub owner: String,
    /// The remote column that marks a row as deleted, for the server kit; empty where rows are really deleted.
    pub soft_delete: String,
}

impl Default for CollectionSettings {
    fn default() -> Self {
        Self {
            table: String::new(),
            key: "id".into(),
            version: "updated_at".into(),
            direction: Direction::Both,
            conflict: None,
            fields: BTreeMap::new(),
            columns: Vec::new(),
            filter: String::new(),
            after: Vec::new(),
            owner: String::new(),
            soft_delete: String::new(),
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let text = text.trim().trim_end_matches('/');
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let secret = SecretString::deserialize(deserializer)?;
    let text = secret.expose_secret().trim();
    Ok((!text.is_empty()).then(|| SecretString::from(text)))
}

fn strategy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Strategy>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    Strategy::deserialize(serde::de::value::StringDeserializer::<D::Error>::new(text)).map(Some)
}

/// Shows whether a secret is set, never what it is.
fn redacted<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.is_some() { super::REDACTED } else { "" })
}

fn text_or_nothing<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}
