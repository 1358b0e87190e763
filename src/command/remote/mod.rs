//! `tidelock remote`: the server kit's SQL, and whether what is installed fits the configuration.

mod ask;
mod check;
mod sql;

use tidelock::Config;

use super::arguments::Remote;
use super::failure::Failure;
use super::output::{Output, line};

/// Performs the command; it needs neither the store nor the process.
pub async fn perform(command: &Remote, config: &Config, output: Output) -> Result<(), Failure> {
    match command {
        Remote::Sql { remove: true, .. } => line(&tidelock::adapters::supabase::removal()),
        Remote::Sql { collections, .. } => line(&sql::installation(config, collections)?),
        Remote::Check => check::check(config, output).await,
    }
}
