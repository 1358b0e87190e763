//! The question to the server: what its kit is, and what the collections' tables are like.

use secrecy::ExposeSecret;
use std::sync::Arc;

use tidelock::adapters::supabase::{Description, Plain, PlainOptions};
use tidelock::{Config, Error};

use super::super::failure::Failure;

/// Asks the server kit about these tables; nothing where the server has no kit.
pub async fn describe(config: &Config, tables: &[&str]) -> Result<Option<Description>, Failure> {
    let (Some(url), Some(key)) = (&config.remote.url, &config.remote.anon_key) else {
        return Err(Error::NoServer.into());
    };
    let token = config.remote.access_token.clone();
    let plain = Plain::new(PlainOptions {
        url: url.clone(),
        publishable_key: key.expose_secret().to_owned(),
        token: Arc::new(move || token.as_ref().map(|token| token.expose_secret().to_owned())),
        timeout: config.remote.timeout,
        compress: config.remote.compress,
        compress_requests: config.remote.compress_requests,
        collections: Vec::new(),
        overlap: config.sync.overlap,
        page_rows: tidelock_actors::limits::PAGE_ROWS,
    });
    let plain = plain.map_err(Error::from)?;
    plain.describe(tables).await.map_err(|fault| Error::from(fault).into())
}
