//! `tidelock config`: what is set, where, and what is wrong with it.

use serde_json::json;
use tidelock::config::{LoadOptions, Loaded};

use super::arguments::Configuration;
use super::failure::{Failure, USAGE};
use super::output::{Output, line};

/// Performs the command; it needs neither the store nor the process.
pub fn perform(command: &Configuration, options: &LoadOptions, output: Output) -> Result<(), Failure> {
    match command {
        Configuration::Show => {
            let loaded = Loaded::load(options)?;
            output.print(&loaded.config, |_| loaded.to_toml())
        }
        Configuration::Check => check(options, output),
    }
}

fn check(options: &LoadOptions, output: Output) -> Result<(), Failure> {
    let problems = match Loaded::load(options) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().to_vec(),
    };
    let is_ok = problems.is_empty();
    match output {
        Output::Json => output.print(&json!({ "ok": is_ok, "problems": problems }), |_| String::new())?,
        Output::Text if is_ok => line("the configuration is ok")?,
        Output::Text => problems.iter().for_each(|problem| eprintln!("tidelock: {problem}")),
    }
    if is_ok { Ok(()) } else { Err(Failure::silent(USAGE)) }
}
