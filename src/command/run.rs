//! `tidelock run`: the process. It opens the store, serves the local API, follows the configuration, and stops in
//! order when it is told to. When the store fails for good it ends, so that its own supervisor starts it anew.

use std::time::Duration;

use futures::future::{Either, select};
use serde::Serialize;
use tidelock::api::{Announced, Endpoint, Exporter, Server};
use tidelock::config::{ConfigError, ConfigWatch, Level, LoadOptions, Loaded};
use tidelock::{Config, Phase, Tidelock};

use super::access::open_own;
use super::arguments::Run;
use super::failure::{FAILED, Failure};
use super::logging::Logging;
use super::output::Output;
use super::signals::{Signal, Signals};

/// How often files and the store's health are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the ordered stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What is printed once the process is up.
#[derive(Debug, Serialize)]
struct Up {
    pid: u32,
    data_dir: String,
    api: Option<String>,
}

/// Runs until it is told to stop, or cannot go on.
pub async fn run(options: LoadOptions, arguments: &Run, verbose: u8, output: Output) -> Result<(), Failure> {
    let loaded = Loaded::load(&options)?;
    let logging = Logging::start(loaded.config.log.level, verbose, arguments.log_format);
    // From here on signals stop it in order.
    let mut signals = Signals::listen()?;
    let exporter = if loaded.config.api.enabled { Exporter::install() } else { None };
    let tidelock = open_own(loaded.config.clone()).await?;
    let door = Door::open(&tidelock, &loaded.config, exporter)?;
    let up = Up {
        pid: std::process::id(),
        data_dir: loaded.config.storage.data_dir.display().to_string(),
        api: door.as_ref().map(|door| format!("http://{}", door.server.address())),
    };
    match &up.api {
        Some(address) => tracing::info!(pid = up.pid, data_dir = up.data_dir, "tidelock is up, listening on {address}"),
        None => tracing::info!(pid = up.pid, data_dir = up.data_dir, "tidelock is up, without a local API"),
    }
    if output == Output::Json {
        output.print(&up, |_| String::new())?;
    }
    notify(&[sd_notify::NotifyState::Ready]);

    let level = loaded.config.log.level;
    let mut process = Process { tidelock, logging, level, watch: ConfigWatch::new(options, &loaded) };
    let end = process.live(&mut signals).await;
    notify(&[sd_notify::NotifyState::Stopping]);
    stop(process.tidelock, door, &mut signals).await;
    end
}

struct Process {
    tidelock: Tidelock,
    logging: Logging,
    /// From which level on it speaks.
    level: Level,
    watch: ConfigWatch,
}

impl Process {
    async fn live(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let is_watched = sd_notify::watchdog_enabled().is_some();
        loop {
            let pause = std::pin::pin!(tokio::time::sleep(LOOK_INTERVAL));
            let news = match select(std::pin::pin!(signals.next()), pause).await {
                Either::Left((Signal::Stop, _)) => {
                    tracing::info!("stopping");
                    return Ok(());
                }
                Either::Left((Signal::Reload, _)) => Some(self.watch.reload()),
                Either::Right(_) => self.watch.look(),
            };
            if let Some(news) = news {
                self.take_over(news).await;
            }
            let level = self.tidelock.logger().level();
            if level != self.level {
                // Somebody wants another one, by the configuration or over the API.
                self.level = level;
                self.logging.set(level);
            }
            if is_watched && takes_turns(&self.tidelock).await {
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
            let status = self.tidelock.status();
            if status.phase == Phase::Failed {
                let cause = status.parts.values().find_map(|part| part.cause.clone()).or(status.last_error);
                let cause = cause.unwrap_or_else(|| "a part that nothing works without has failed".to_owned());
                return Err(Failure::new(FAILED, format!("the store failed for good ({cause}); start tidelock again")));
            }
        }
    }

    /// A configuration that cannot be used changes nothing.
    async fn take_over(&self, news: Result<Loaded, ConfigError>) {
        notify(&[sd_notify::NotifyState::Reloading]);
        match news {
            Ok(loaded) => match self.tidelock.reconfigure(loaded.config).await {
                Ok(waiting) if waiting.is_empty() => tracing::info!("the configuration was read anew"),
                Ok(waiting) => {
                    tracing::warn!("the configuration was read anew; a restart is needed for {}", waiting.join(", "));
                }
                Err(error) => {
                    tracing::error!(%error, "the configuration was read anew and could not be taken over")
                }
            },
            Err(error) => {
                for problem in error.problems() {
                    tracing::error!("{problem}; the former configuration stays in force");
                }
            }
        }
        notify(&[sd_notify::NotifyState::Ready]);
    }
}

/// The local API with its announcement.
struct Door {
    server: Server,
    _announced: Announced,
}

impl Door {
    fn open(tidelock: &Tidelock, config: &Config, exporter: Option<Exporter>) -> Result<Option<Self>, Failure> {
        if !config.api.enabled {
            return Ok(None);
        }
        let token = Endpoint::new_token();
        let server = Server::start(tidelock.clone(), config.api.bind, token.clone(), exporter)?;
        let endpoint = Endpoint { address: server.address(), token };
        let folder = &config.storage.data_dir;
        let announced = endpoint.announce(folder).map_err(|error| {
            Failure::new(FAILED, format!("the API's address cannot be written to {} ({error})", folder.display()))
        })?;
        Ok(Some(Self { server, _announced: announced }))
    }
}

/// Ends in order within the deadline; a second signal ends it at once.
async fn stop(tidelock: Tidelock, door: Option<Door>, signals: &mut Signals) {
    let in_order = std::pin::pin!(async {
        if let Some(Door { server, _announced }) = door {
            server.stop().await;
        }
        tidelock.shutdown().await;
    });
    let again = std::pin::pin!(async { while signals.next().await != Signal::Stop {} });
    match tokio::time::timeout(STOP_DEADLINE, select(in_order, again)).await {
        Ok(Either::Left(_)) => tracing::info!("stopped; what was not sent is kept"),
        Ok(Either::Right(_)) | Err(_) => tracing::warn!("stopped without waiting; every acknowledged write is kept"),
    }
}

/// Whether the thread on which the parts live still takes turns.
async fn takes_turns(tidelock: &Tidelock) -> bool {
    tokio::time::timeout(LOOK_INTERVAL, tidelock.take_a_turn()).await.is_ok()
}

/// Tells systemd, if it started this process.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::LogFormat;
    use super::*;

    #[tokio::test]
    async fn a_store_that_fails_for_good_ends_the_process_with_one_clear_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidelock.toml");
        let text = "[supervision]\nrestarts = 0\n[collections.notes]";
        std::fs::write(&file, text).unwrap();
        let data_dir = Some(folder.path().join("data"));
        let options = LoadOptions { file: Some(file), data_dir, ..LoadOptions::default() };
        let loaded = Loaded::load(&options).unwrap();
        let tidelock = Tidelock::open(loaded.config.clone()).unwrap();
        let logging = Logging::start(Level::Off, 0, LogFormat::Text);
        let watch = ConfigWatch::new(options, &loaded);
        let mut process = Process { tidelock: tidelock.clone(), logging, level: Level::Off, watch };
        tidelock.drill("storage").await.unwrap();
        let mut signals = Signals::listen().unwrap();
        let end = tokio::time::timeout(STOP_DEADLINE, process.live(&mut signals)).await.expect("it ends by itself");
        let line = "the store failed for good (asked to crash); start tidelock again";
        assert_eq!(end, Err(Failure::new(FAILED, line)));
        assert_eq!(FAILED, 1);
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[storage]\ndata_dir = \"{}\"\n[collections.notes]", folder.path().display());
        let tidelock = Tidelock::open(Config::from_toml(&text).unwrap()).unwrap();
        assert!(takes_turns(&tidelock).await);
        let (hangs, go_on) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
        let (is_hanging, wait) = (hangs.0, std::sync::Mutex::new(go_on.1));
        // A host's callback that never returns holds the thread.
        let held = tidelock.subscribe(move |_| {
            let _ = is_hanging.send(());
            let _ = wait.lock().unwrap().recv();
        });
        hangs.1.recv().unwrap();
        assert!(!takes_turns(&tidelock).await);
        drop(go_on.0);
        drop(held);
        assert!(takes_turns(&tidelock).await);
    }
}
