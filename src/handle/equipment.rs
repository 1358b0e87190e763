//! What a handle is opened with: the adapters that the configuration asks for.

use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use tidelock_actors::limits::{PAGE_ROWS, READERS};
use tidelock_actors::model::CollectionRules;
use tidelock_actors::ports::Remote;

use crate::adapters::nowhere::Nowhere;
use crate::adapters::sqlite::StoreOptions;
use crate::adapters::supabase::{Plain, PlainOptions, TokenSource};
use crate::config::Config;
use crate::error::Error;

/// The store's part of the configuration.
pub(super) fn store_options(config: &Config, rules: &[CollectionRules]) -> StoreOptions {
    StoreOptions {
        directory: config.storage.data_dir.clone(),
        durability: config.storage.durability,
        readers: READERS,
        collections: rules.to_vec(),
        history_keep: config.storage.history_keep,
        history_max_age: config.storage.history_max_age,
    }
}

/// The server's part of the configuration.
pub(super) fn remote(
    config: &Config,
    rules: &[CollectionRules],
    token: Arc<RwLock<Option<SecretString>>>,
) -> Result<Arc<dyn Remote>, Error> {
    let (Some(url), Some(key)) = (&config.remote.url, &config.remote.anon_key) else { return Ok(Arc::new(Nowhere)) };
    let current = move || token.read().unwrap_or_else(PoisonError::into_inner).clone();
    let token: TokenSource = Arc::new(move || current().map(|token| token.expose_secret().to_owned()));
    let plain = Plain::new(PlainOptions {
        url: url.clone(),
        publishable_key: key.expose_secret().to_owned(),
        token,
        timeout: config.remote.timeout,
        compress: true,
        collections: rules.to_vec(),
        overlap: config.sync.overlap,
        page_rows: PAGE_ROWS,
    })?;
    Ok(Arc::new(plain))
}
