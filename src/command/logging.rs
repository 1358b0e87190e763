//! What the program says on standard error while it works. The same goes to the logger, which keeps it and tells the
//! server what matters.

use std::io::{self, IsTerminal, Write};

use tidelock::config::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::{Layer, Registry};

use super::arguments::LogFormat;

/// The subscriber's level, which can be changed.
#[derive(Debug, Clone)]
pub struct Logging {
    targets: Handle<Targets, Registry>,
    verbose: u8,
}

impl Logging {
    /// Starts to write. Each `-v` says one level more.
    pub fn start(level: Level, verbose: u8, format: LogFormat) -> Self {
        let (filter, reloaded) = reload::Layer::new(targets(level, verbose));
        let text = tracing_subscriber::fmt::layer().with_writer(|| Console).with_ansi(io::stderr().is_terminal());
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
            LogFormat::Text => text.with_filter(filter).boxed(),
            LogFormat::Json => text.json().flatten_event(true).with_filter(filter).boxed(),
        };
        let kept = tidelock::tracing_layer().with_filter(targets(Level::Trace, 0).with_default(LevelFilter::WARN));
        // A subscriber that is there already was installed on purpose.
        let _ = tracing::subscriber::set_global_default(Registry::default().with(layer).with(kept));
        Self { targets: reloaded, verbose }
    }

    /// Takes another level from now on.
    pub fn set(&self, level: Level) {
        // It fails only when the subscriber is gone, and then nobody listens.
        let _ = self.targets.reload(targets(level, self.verbose));
    }
}

/// Standard error, without secrets. A message comes as one piece.
struct Console;

impl Write for Console {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let redacted = tidelock::logger::redacted(&String::from_utf8_lossy(message));
        io::stderr().write_all(redacted.as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// tidelock's own messages from this level on, of others only what is wrong, unless everything is wanted.
fn targets(level: Level, verbose: u8) -> Targets {
    let wanted = LevelFilter::from(level.louder(verbose));
    let others = if wanted == LevelFilter::TRACE { wanted } else { wanted.min(LevelFilter::WARN) };
    Targets::new().with_default(others).with_target("tidelock", wanted).with_target("tidelock_actors", wanted)
}
