//! What a handle is opened with: the adapters that the configuration asks for.

use std::path::Path;
use std::sync::{Arc, RwLock};

use secrecy::{ExposeSecret, SecretString};
use tidelock_actors::backups::Keep;
use tidelock_actors::limits::{PAGE_ROWS, READERS};
use tidelock_actors::model::CollectionRules;
use tidelock_actors::ports::{LogSink, Reader, Remote};

use crate::adapters::archive::{ArchiveOptions, FileArchive, Keys};
use crate::adapters::nowhere::Nowhere;
use crate::adapters::publisher::Everywhere;
use crate::adapters::sqlite::{SqliteReads, StoreOptions, machine};
use crate::adapters::supabase::{
    Account, Chosen, Cleaner, KitOptions, Plain, PlainOptions, SERVER_EPOCH, Sender, TokenSource, UsageLogs,
};
use crate::config::{Config, Mode};
use crate::error::Error;
use crate::locks::locked_to_read;
use crate::logger::Intake;

/// The signed-in user's access token, as it is now.
pub(super) type Token = Arc<RwLock<Option<SecretString>>>;

/// The store's part of the configuration.
pub(super) fn store_options(config: &Config, rules: &[CollectionRules]) -> StoreOptions {
    StoreOptions {
        directory: config.storage.data_dir.clone(),
        durability: config.storage.durability,
        readers: READERS,
        collections: rules.to_vec(),
        history_keep: config.storage.history_keep,
        history_max_age: config.storage.history_max_age,
        quota: config.storage.quota,
    }
}

/// The folder of a store's own among those of others: what the store's is called, and what tells it from others of that
/// name.
fn shelf(store: &Path) -> String {
    let place = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let digest = blake3::hash(format!("{} {}", machine(), place.display()).as_bytes()).to_hex();
    format!("{}-{}", name_of(&place), &digest[..8])
}

/// What a folder is called.
fn name_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The backups' part of the configuration.
pub(super) fn archive_options(config: &Config) -> ArchiveOptions {
    let (store, backup) = (config.storage.data_dir.clone(), &config.backup);
    let is_beside = backup.dir.as_os_str().is_empty();
    let directory = if is_beside { store.join("backups") } else { backup.dir.join(shelf(&store)) };
    // What is told of a backup is understood in any folder.
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let (last, hourly, daily, weekly) = (backup.keep_last, backup.keep_hourly, backup.keep_daily, backup.keep_weekly);
    let keep = Keep { last, hourly, daily, weekly };
    let keys = Keys::new(&backup.encrypt, backup.passphrase.as_ref(), &backup.identity);
    let (incremental, full_interval) = (backup.incremental, backup.full_interval);
    ArchiveOptions { store, directory, keep, incremental, full_interval, keys }
}

/// The user's backups on whichever device; none without a server.
pub(super) fn everywhere(
    config: &Config,
    token: Token,
    archive: &FileArchive,
) -> Result<Option<Arc<Everywhere>>, Error> {
    let Some(options) = way(config, &[], token) else { return Ok(None) };
    let (account, name) = (Account::new(&options)?, name_of(&config.storage.data_dir));
    Ok(Some(Arc::new(Everywhere::new(account, archive.clone(), name, bucket(config)))))
}

/// The bucket that backups are uploaded to.
pub(super) fn bucket(config: &Config) -> Option<String> {
    Some(config.backup.upload.clone()).filter(|bucket| !bucket.is_empty())
}

/// What the server knows this store by, and which server it is that the store knows.
pub(super) fn sender(reads: &SqliteReads) -> Result<Sender, Error> {
    let identity = futures::executor::block_on(reads.identity())?;
    let mut checkpoints = futures::executor::block_on(reads.checkpoints())?;
    let server_epoch = checkpoints.remove(SERVER_EPOCH).filter(|epoch| !epoch.is_empty());
    Ok(Sender { client: identity.client_id, epoch: identity.epoch, server_epoch, checkpoints })
}

/// The way to the server with this access token, if one is configured.
pub(crate) fn way_to(config: &Config, rules: &[CollectionRules], token: Option<SecretString>) -> Option<PlainOptions> {
    way(config, rules, Arc::new(RwLock::new(token)))
}

/// The way to the server, if one is configured.
fn way(config: &Config, rules: &[CollectionRules], token: Token) -> Option<PlainOptions> {
    let (Some(url), Some(key)) = (&config.remote.url, &config.remote.anon_key) else { return None };
    let current = move || locked_to_read(&token).clone();
    let token: TokenSource = Arc::new(move || current().map(|token| token.expose_secret().to_owned()));
    Some(PlainOptions {
        url: url.clone(),
        publishable_key: key.expose_secret().to_owned(),
        token,
        timeout: config.remote.timeout,
        compress: config.remote.compress,
        compress_requests: config.remote.compress_requests,
        collections: rules.to_vec(),
        overlap: config.sync.overlap,
        page_rows: PAGE_ROWS,
    })
}

/// The server's table for log entries, which come from this device.
pub(super) fn log_sink(
    config: &Config,
    token: Token,
    device: &str,
    intake: Arc<Intake>,
) -> Result<Arc<dyn LogSink>, Error> {
    let Some(options) = way(config, &[], token) else { return Ok(Arc::new(Nowhere)) };
    let clean: Cleaner = Arc::new(move |text| intake.redactor().text(text).into_owned());
    Ok(Arc::new(UsageLogs::new(&options, device, clean)?))
}

/// The server's part of the configuration.
pub(super) fn remote(
    config: &Config,
    rules: &[CollectionRules],
    token: Token,
    sender: Sender,
) -> Result<Arc<dyn Remote>, Error> {
    let Some(options) = way(config, rules, token) else { return Ok(Arc::new(Nowhere)) };
    let is_required = match config.remote.mode {
        Mode::Plain => return Ok(Arc::new(Plain::new(options)?)),
        Mode::Auto => false,
        Mode::Kit => true,
    };
    let kit = KitOptions { sender, is_required, compare_every: config.sync.listing_interval };
    Ok(Arc::new(Chosen::new(options, kit)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// The head of a request that is sent under this `[remote]`.
    async fn head_of_a_request(compress: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4_096];
            let read = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").unwrap();
            String::from_utf8_lossy(&head[..read]).to_lowercase()
        });
        let text = format!("[remote]\nurl = \"{url}\"\nanon_key = \"key\"\ncompress = {compress}");
        let config = Config::from_toml(&text).unwrap();
        remote(&config, &config.rules(), Arc::default(), Sender::default()).unwrap().probe().await.unwrap();
        server.join().unwrap()
    }

    #[tokio::test]
    async fn answers_come_compressed_only_where_that_is_wanted() {
        assert!(head_of_a_request(true).await.contains("accept-encoding"));
        assert!(!head_of_a_request(false).await.contains("accept-encoding"));
    }
}
