//! The `tidelock` command: reads its words, finds the way to the store, performs, and ends with an exit code.

mod access;
mod arguments;
mod audit;
mod backup;
mod bundle;
mod checks;
mod conditions;
mod configuration;
mod conflicts;
mod doctor;
mod failure;
mod history;
mod import;
mod input;
mod logging;
mod logs;
mod moment;
mod output;
mod overview;
mod queue;
mod records;
mod remote;
mod repair;
mod run;
mod signals;
mod storage;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tidelock::Config;
use tidelock::config::{Level, LoadOptions};

use access::Access;
use arguments::{Command, CommandLine, Global, LogFormat, Verify};
use failure::{FAILED, Failure, USAGE};
use logging::Logging;
use output::Output;

/// Performs what the command line says.
pub fn main() -> ExitCode {
    let CommandLine { global, command } = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return misread(&error),
    };
    match actix_web::rt::System::new().block_on(perform(&global, &command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("tidelock: {message}");
            }
            ExitCode::from(failure.exit)
        }
    }
}

/// Help is printed as it is; a mistake becomes one line, as every error.
fn misread(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_help = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Some(ExitCode::SUCCESS),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Some(ExitCode::from(USAGE)),
        _ => None,
    };
    if let Some(exit) = is_help {
        // Whoever closes the pipe has read enough.
        let _ = error.print();
        return exit;
    }
    let text = error.to_string();
    let mistake =
        text.split("Usage:").next().unwrap_or_default().split("For more information").next().unwrap_or_default();
    let mistake: Vec<_> = mistake.trim_start_matches("error:").split_whitespace().collect();
    eprintln!("tidelock: {}; see `tidelock --help`", mistake.join(" ").trim_end_matches('.'));
    ExitCode::from(USAGE)
}

async fn perform(global: &Global, command: &Command) -> Result<(), Failure> {
    let output = if global.json { Output::Json } else { Output::Text };
    let options = LoadOptions { file: global.config.clone(), profile: None, data_dir: global.data_dir.clone() };
    if let Command::Run(arguments) = command {
        return run::run(options, arguments, global.verbose, output).await;
    }
    // A command's own words are enough, unless more are asked for.
    Logging::start(Level::Off, global.verbose.saturating_mul(2), LogFormat::Text);
    match command {
        Command::Config(command) => configuration::perform(command, &options, output),
        Command::Remote(command) => remote::perform(command, &Config::load(&options)?, output).await,
        Command::Doctor(arguments) => doctor::doctor(&options, arguments, output).await,
        Command::Verify(Verify { repair: true }) => repair::repair(Config::load(&options)?, output).await,
        Command::Backup(command) => backup::perform(command, &Config::load(&options)?, output).await,
        Command::Openapi => output::line(&format!("{:#}", tidelock::api::document())),
        Command::Completions { shell } => {
            completions(*shell);
            Ok(())
        }
        _ => {
            let config = Config::load(&options)?;
            let access = Access::open(&config).await?;
            let ended = with_store(&access, &config, command, output).await;
            access.close().await;
            ended
        }
    }
}

/// The commands that need the store.
async fn with_store(access: &Access, config: &Config, command: &Command, output: Output) -> Result<(), Failure> {
    let key_field =
        |collection: &str| config.collections.get(collection).map_or("id", |settings| settings.key.as_str());
    match command {
        Command::Status => overview::status(access, output).await,
        Command::Sync(arguments) => overview::sync(access, arguments, output).await,
        Command::Put(arguments) => records::put(access, arguments, key_field(&arguments.collection), output).await,
        Command::Get(record) => records::get(access, record).await,
        Command::List(arguments) => records::list(access, arguments, output).await,
        Command::Delete(record) => records::delete(access, record, output).await,
        Command::Import(arguments) => import::import(access, arguments, key_field(&arguments.collection), output).await,
        Command::Export(collection) => records::export(access, collection).await,
        Command::Queue(command) => queue::perform(access, command, output).await,
        Command::Conflicts(command) => conflicts::perform(access, command, output).await,
        Command::History(record) => history::history(access, record, output).await,
        Command::Diff(arguments) => history::diff(access, arguments, output).await,
        Command::Rounds => history::rounds(access, output).await,
        Command::Rollback(arguments) => history::roll_back(access, arguments, output).await,
        Command::Audit(arguments) => audit::audit(access, arguments, output).await,
        Command::Verify(_) => overview::verify(access, output).await,
        Command::Logs(arguments) => logs::logs(access, arguments, output).await,
        Command::Stats(arguments) => storage::stats(access, arguments, output).await,
        Command::Compact(arguments) => storage::compact(access, arguments, output).await,
        Command::Run(_)
        | Command::Backup(_)
        | Command::Remote(_)
        | Command::Config(_)
        | Command::Doctor(_)
        | Command::Openapi
        | Command::Completions { .. } => Err(Failure::new(FAILED, "this command needs no store")),
    }
}

fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut CommandLine::command(), "tidelock", &mut std::io::stdout());
}
