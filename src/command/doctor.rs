//! `tidelock doctor`: everything that tidelock needs, each with its state and the next step. What it looks at stands in the
//! library; here is what only a command knows: the configuration's files, and whether a process runs.

use tidelock::adapters::sqlite::{has_none, is_owned};
use tidelock::api::{Client, Endpoint};
use tidelock::config::{LoadOptions, Loaded};
use tidelock::doctor::without_store;
use tidelock::{Checkup, Config};

use super::access::{Access, Purpose, process_on};
use super::arguments;
use super::bundle;
use super::checks::lines;
use super::failure::{FAILED, Failure};
use super::output::{Output, waiting_for};

/// Looks at everything; what cannot be looked at because of an earlier failure is left out.
pub async fn doctor(options: &LoadOptions, arguments: &arguments::Doctor, output: Output) -> Result<(), Failure> {
    if let Some(file) = &arguments.bundle {
        bundle::refuse_what_is_there(file)?;
    }
    let mut checkup = Checkup::default();
    let loaded = configuration(options, &mut checkup);
    let access = match &loaded {
        Some(loaded) => waiting_for("looking at everything", look(&loaded.config, &mut checkup)).await,
        None => None,
    };
    let told = match &arguments.bundle {
        Some(file) => bundle::write(file, loaded.as_ref(), access.as_ref(), &checkup, output).await,
        None => print(&checkup, output),
    };
    if let Some(access) = access {
        access.close().await;
    }
    told
}

fn print(checkup: &Checkup, output: Output) -> Result<(), Failure> {
    output.print(checkup, |checkup| {
        lines(checkup.checks.iter().map(|one| (one.state, &*one.check, &*one.found, &*one.next)))
    })?;
    if checkup.healthy { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

fn configuration(options: &LoadOptions, checkup: &mut Checkup) -> Option<Loaded> {
    match Loaded::load(options) {
        Ok(loaded) => {
            let read: Vec<_> = loaded.files().iter().map(|file| file.display().to_string()).collect();
            let files = if read.is_empty() {
                "no file; built-in values and the environment".to_owned()
            } else {
                read.join(", ")
            };
            checkup.ok("configuration", format!("{files}; {} collections", loaded.config.collections.len()));
            Some(loaded)
        }
        Err(error) => {
            for problem in error.problems() {
                checkup.fail("configuration", problem, "mend it; docs/configuration.md lists every key");
            }
            None
        }
    }
}

/// The store, the process and the server; the way to the store, if there is one.
async fn look(config: &Config, checkup: &mut Checkup) -> Option<Access> {
    let folder = &config.storage.data_dir;
    if has_none(folder) && !is_owned(folder) {
        // Opening would make one.
        process(None, config, checkup);
        let next =
            "tidelock run, or any command that saves, makes it; if there should be one, look at storage.data_dir";
        checkup.warn("store", format!("there is none yet in {}", folder.display()), next);
        checkup.append(without_store(config).await);
        return None;
    }
    match Access::open_to(Purpose::Look, config).await {
        Ok(access) => {
            process(access.process(), config, checkup);
            match access.doctor().await {
                Ok(told) => checkup.append(told),
                Err(failure) => {
                    checkup.fail("store", failure, "restart the process; it may be of another version");
                    checkup.append(without_store(config).await);
                }
            }
            Some(access)
        }
        Err(failure) => {
            if is_owned(folder) {
                owner(&failure, config, checkup).await;
            } else {
                let next = "mend this first, a damaged store with tidelock verify --repair after a copy of the folder; then ask the \
                            doctor again";
                checkup.fail("store", failure, next);
            }
            checkup.append(without_store(config).await);
            None
        }
    }
}

fn process(client: Option<&Client>, config: &Config, checkup: &mut Checkup) {
    match client {
        Some(client) => checkup.ok("process", format!("answers at http://{}", client.endpoint().address)),
        None => {
            let left = Endpoint::find(&config.storage.data_dir)
                .map(|endpoint| {
                    format!("; what one left behind names http://{}, where it no longer is", endpoint.address)
                })
                .unwrap_or_default();
            let off = if config.api.enabled { "" } else { ", and [api] enabled is false" };
            checkup.warn(
                "process",
                format!("none runs on this data folder{off}{left}"),
                "tidelock run keeps it in sync",
            );
        }
    }
}

/// Somebody has the store and is not to be talked to.
async fn owner(failure: &Failure, config: &Config, checkup: &mut Checkup) {
    let folder = &config.storage.data_dir;
    let next = match Endpoint::find(folder) {
        // It may have come up meanwhile.
        Some(_) if process_on(folder).await.is_some() => "ask the doctor again: the process answers by now".to_owned(),
        Some(endpoint) => format!("it says that it answers at http://{} and does not: restart it", endpoint.address),
        None => "stop it, or run it with [api] enabled = true, so that it can be asked".to_owned(),
    };
    checkup.fail("process", failure, next);
}
