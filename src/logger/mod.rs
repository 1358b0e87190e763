//! What a host and tidelock itself say: kept on this device, and what matters sent to the server. Here is what is outside
//! of the `RemoteLogger` part: the `tracing` layer, the intake it fills, the taking out of secrets, and the handle.
//!
//! Nothing here waits for a disk or a network, and nothing here is logged by itself.

mod cut;
mod gathering;
mod intake;
mod layer;
mod process;
mod redact;

use std::sync::Arc;

use secrecy::SecretString;
use tidelock_actors::logger::{Noticed, RemoteLogger, WriteDown};
use tidelock_actors::logs::{Kept, LogQuery};
use tidelock_actors::peer::Peer;
use tidelock_actors::ports::LogBook;
use tracing::Subscriber;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, Level};
use crate::error::Error;
use crate::runtime::on;
pub(crate) use intake::{Intake, Levels};
pub(crate) use redact::Redactor;

/// A `tracing` layer that keeps what the process says and sends what matters to the server.
///
/// It may be installed before a store is opened: up to 2,048 warnings and errors (2 MiB) gather for the store that is
/// opened next. Where several stores are open in one process, what it hears becomes entries of the one that was opened
/// first and is still open; for another one there is [`Logger::tracing_layer`].
pub fn tracing_layer<S>() -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
{
    layer::of_process()
}

/// A text without what looks like a secret, and without the secrets of the store that hears the process.
pub fn redacted(text: &str) -> String {
    process::intake().redactor().text(text).into_owned()
}

/// Takes secrets out of what leaves this device by other ways than the logger, as a bundle for a bug report does.
#[derive(Debug, Clone)]
pub struct Redaction(Redactor);

impl Redaction {
    /// What is taken out of log entries under this configuration, and these values wherever they stand.
    pub fn of(config: &Config, values: impl IntoIterator<Item = SecretString>) -> Self {
        Self(Redactor::new(&config.log.redact, secrets(config).chain(values)))
    }

    /// A value without secrets, as long and as deep as it is.
    pub fn value(&self, value: serde_json::Value) -> serde_json::Value {
        self.0.whole(value)
    }
}

/// The logger of one store.
#[derive(Clone)]
pub struct Logger {
    pub(crate) intake: Arc<Intake>,
    pub(crate) book: Arc<dyn LogBook>,
    pub(crate) peer: Peer<RemoteLogger>,
    pub(crate) thread: tokio::runtime::Handle,
}

impl Logger {
    /// Those of the last entries that the query means, the oldest first; what was said before this call is among them.
    pub async fn entries(&self, query: LogQuery) -> Result<Vec<Kept>, Error> {
        let (peer, book) = (self.peer.clone(), self.book.clone());
        let read = async move {
            // A logger that is down writes nothing; what it has written can be read all the same.
            let _ = peer.ask_soon(WriteDown).await;
            book.newest(query).await
        };
        Ok(on(&self.thread, read).await??)
    }

    /// Notes a call of a service and what it took, for the server's table. It never waits and never fails: without a server
    /// it is kept until there is one, within bounds. `metadata` is best an object; secrets are taken out of it.
    pub fn log_api_call(&self, provider: &str, action: &str, credits: f64, metadata: serde_json::Value) {
        self.intake.call(provider, action, credits, metadata);
    }

    /// A `tracing` layer for this store alone, whoever hears the process.
    pub fn tracing_layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
    {
        layer::of_store(self.intake.clone())
    }

    /// The least important messages that are kept on this device.
    pub fn level(&self) -> Level {
        self.intake.levels().local
    }

    /// Keeps messages from another level on, until the configuration is read anew.
    pub fn set_level(&self, level: Level) {
        self.intake.set_levels(Levels { local: level, ..self.intake.levels() });
    }
}

/// The intake of a store that is about to be opened.
pub(crate) fn intake_of(config: &Config, token: Option<SecretString>) -> Arc<Intake> {
    Arc::new(Intake::new(levels(config), redactor(config, token)))
}

/// The intake's part of the configuration.
pub(crate) fn levels(config: &Config) -> Levels {
    Levels {
        local: config.log.level,
        remote: if config.log.table.is_empty() { Level::Off } else { config.log.remote_level },
    }
}

/// What is taken out under this configuration and with this access token.
pub(crate) fn redactor(config: &Config, token: Option<SecretString>) -> Redactor {
    Redactor::new(&config.log.redact, secrets(config).chain(token))
}

/// The secrets that a configuration holds.
fn secrets(config: &Config) -> impl Iterator<Item = SecretString> + '_ {
    let secrets = [&config.remote.anon_key, &config.remote.access_token, &config.backup.passphrase];
    secrets.into_iter().flatten().cloned()
}

/// A store's intake at work: the logger hears of what gathers, and what the process says may be this store's. Dropped, the
/// intake takes nothing more.
pub(crate) struct Hearing(Arc<Intake>);

impl Hearing {
    pub fn begin(intake: Arc<Intake>, logger: Peer<RemoteLogger>) -> Self {
        intake.set_waker(Arc::new(move || logger.hint(Noticed)));
        process::claim(&intake);
        Self(intake)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        process::release(&self.0);
        self.0.close();
    }
}
