//! The server through PostgREST, with nothing installed on it: the plain mode of the `Remote` port.
//!
//! - sending: `http` (one request), `request_line` (filters), `gate` (a batch's requests), `fault` (what a refusal means);
//! - tables: `table`, `columns` (names and rows), `spelling` (keys that the server writes otherwise), `read_again` (rows
//!   by key);
//! - pushing: `push` (a batch in order), `push_create`, `push_update`, `push_delete`, `push_change` (what the latter
//!   two share), `bisect` (the guilty rows of a refused batch);
//! - pulling: `pull` (pages), `place` (checkpoints), `listing` (keys, counts, rows by key);
//! - the server kit: `kit`, and `chosen`, which asks whether it is there; `installation` (its SQL), `describe` (what is
//!   installed);
//! - `examine`: what the doctor asks, which changes nothing;
//! - `account`: requests that are about no collection;
//! - `usage_logs`: log entries as rows of a table;
//! - `server_clock`: how far the server's clock is from this device's; `unanswered`: requests on their way; `claims`: what
//!   a token says of itself.
//!
//! Nothing here knows the local store, retries after a fault, or remembers anything across a restart: checkpoints are
//! given back by whoever pulls.

mod account;
mod bisect;
mod chosen;
mod claims;
mod columns;
mod describe;
mod examine;
mod fault;
mod gate;
mod http;
mod installation;
mod kit;
mod listing;
mod packing;
mod place;
mod pull;
mod push;
mod push_change;
mod push_create;
mod push_delete;
mod push_update;
mod read_again;
mod request_line;
mod server_clock;
mod spelling;
mod table;
#[cfg(test)]
mod testing;
mod unanswered;
mod usage_logs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use reqwest::Url;
use tidelock_actors::document::Layout;
use tidelock_actors::model::{Checkpoints, CollectionRules, Fault, FaultKind, Outgoing};
use tidelock_actors::ports::{Digesting, Digests, Fetched, Heard, Nature, PullRequest, Pulled, Pushed, Remote};

pub(crate) use account::Account;
pub use chosen::{Chosen, KitOptions, Sender};
pub(crate) use claims::Claims;
pub use describe::{ColumnDescription, Description, Policies, Reference, Rights, TableDescription};
pub(crate) use examine::{Attempt, Examination, Trouble};
pub(crate) use fault::DENIED;
use http::Link;
pub use http::TokenSource;
pub use installation::{Attachment, KIT_LEAST, KIT_SQL, KIT_VERSION, installation, removal};
pub use kit::SERVER_EPOCH;
use pull::Stride;
pub(crate) use request_line::{Query, condition};
use table::Table;
pub use usage_logs::{Cleaner, UsageLogs};

/// What the plain mode needs to know.
#[derive(Clone)]
pub struct PlainOptions {
    /// The project's address, `https://….supabase.co`.
    pub url: String,
    /// Sent as `apikey` with every request, and as the bearer token while nobody is signed in.
    pub publishable_key: String,
    /// Asked for the bearer token at each sending.
    pub token: TokenSource,
    /// How long an answer may take to begin, and then to go on.
    pub timeout: Duration,
    /// Whether answers may come compressed (gzip, brotli, zstd).
    pub compress: bool,
    /// Whether requests go compressed (gzip), as long as the gateway takes them.
    pub compress_requests: bool,
    /// All collections.
    pub collections: Vec<CollectionRules>,
    /// How far back a pull looks for transactions that committed late.
    pub overlap: Duration,
    /// Rows in a page at most.
    pub page_rows: usize,
}

/// Why there can be no remote with these options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The address is none.
    #[error("the remote url {0:?} is not an http or https address")]
    Url(String),
    /// The key cannot be sent.
    #[error("the remote's publishable key holds characters that cannot be sent")]
    Key,
    /// The HTTP client could not be set up.
    #[error("the http client could not be set up: {0}")]
    Client(String),
}

/// The server through PostgREST alone. Conditional writes by key and version, pulls by (version, key) with an overlap.
pub struct Plain {
    link: Link,
    base: String,
    tables: BTreeMap<Arc<str>, Table>,
    order: Vec<Arc<str>>,
    stride: Stride,
}

impl Plain {
    /// Prepares requests to a project. Nothing is sent.
    pub fn new(options: PlainOptions) -> Result<Self, SetupError> {
        let (url, base) = project(&options)?;
        let link = Link::new(&options, &url)?;
        let order = options.collections.iter().map(|rules| rules.name.clone()).collect();
        let tables = options.collections.into_iter().map(|rules| {
            let name = rules.name.clone();
            (name, Table::new(rules, &base, options.page_rows))
        });
        let tables = tables.collect();
        let stride = Stride { overlap: options.overlap, page_rows: options.page_rows };
        Ok(Self { link, base, tables, order, stride })
    }

    fn table(&self, collection: &str) -> Result<&Table, Fault> {
        let unknown = || Fault::new(FaultKind::Schema, format!("the collection {collection} is not configured"));
        self.tables.get(collection).ok_or_else(unknown)
    }

    /// The first collection that travels at all.
    fn first_synced(&self) -> Option<&Table> {
        let synced = |table: &&Table| table.rules.direction.pulls() || table.rules.direction.pushes();
        self.order.iter().filter_map(|name| self.tables.get(name)).find(synced)
    }
}

impl Remote for Plain {
    fn push(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Pushed> {
        async move { push::push(self, &batch).await }.boxed()
    }

    fn nature(&self) -> BoxFuture<'_, Result<Nature, Fault>> {
        ready(Ok(Nature::PLAIN)).boxed()
    }

    fn pull(&self, have: Checkpoints, request: PullRequest) -> BoxFuture<'_, Result<Pulled, Fault>> {
        async move { pull::pull(self, &have, &request).await }.boxed()
    }

    fn fetch(&self, collection: Arc<str>, keys: Vec<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        async move { listing::fetch(self, self.table(&collection)?, &keys).await }.boxed()
    }

    fn existing(&self, collection: Arc<str>, keys: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>> {
        async move { listing::existing(self, self.table(&collection)?, keys).await }.boxed()
    }

    fn count(&self, collection: Arc<str>) -> BoxFuture<'_, Result<u64, Fault>> {
        async move { listing::count(self, self.table(&collection)?).await }.boxed()
    }

    fn keys(&self, collection: Arc<str>, after: Option<Arc<str>>) -> BoxFuture<'_, Result<Vec<Arc<str>>, Fault>> {
        async move { listing::keys(self, self.table(&collection)?, after.as_deref()).await }.boxed()
    }

    fn rows(&self, collection: Arc<str>, after: Option<Arc<str>>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        async move { listing::rows(self, self.table(&collection)?, after.as_deref()).await }.boxed()
    }

    fn layouts(&self, _: Vec<Arc<str>>) -> BoxFuture<'_, Result<Option<Vec<Layout>>, Fault>> {
        ready(Ok(None)).boxed()
    }

    fn digests(&self, _: Digesting) -> BoxFuture<'_, Result<Vec<u64>, Fault>> {
        ready(Err(no_digests())).boxed()
    }

    fn digests_within(&self, _: Digesting, _: Vec<usize>) -> BoxFuture<'_, Result<Digests, Fault>> {
        ready(Err(no_digests())).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Fault>> {
        listing::probe(self).boxed()
    }

    fn mode(&self) -> &'static str {
        "plain"
    }

    fn needs_listing(&self) -> bool {
        true
    }

    fn listed(&self) {}

    fn is_signed_in(&self) -> bool {
        self.link.is_signed_in()
    }

    fn requests(&self) -> u64 {
        self.link.requests()
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        self.link.clock_offset_ms()
    }

    fn heard(&self) -> Heard {
        self.link.heard()
    }
}

/// A project's address, and the path that all of its requests begin with.
fn project(options: &PlainOptions) -> Result<(Url, String), SetupError> {
    let url = Url::parse(options.url.trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| SetupError::Url(options.url.clone()))?;
    let base = url.path().trim_end_matches('/').to_owned();
    Ok((url, base))
}

fn no_digests() -> Fault {
    Fault::new(FaultKind::Schema, "a server without tidelock's kit makes no digests")
}

#[cfg(test)]
mod tests {
    use super::testing::{options, rules};
    use super::*;

    #[test]
    fn an_address_is_checked_before_anything_is_sent() {
        for url in ["", "nowhere", "ftp://host", "http://", "postgres://h/db"] {
            let told = Plain::new(PlainOptions { url: url.into(), ..options(vec![]) });
            assert_eq!(told.err(), Some(SetupError::Url(url.into())));
        }
        let told = Plain::new(PlainOptions { publishable_key: "a\nb".into(), ..options(vec![]) });
        assert_eq!(told.err(), Some(SetupError::Key));
    }

    #[test]
    fn a_project_may_live_below_a_path() {
        let plain = Plain::new(PlainOptions { url: "http://host:1/below/".into(), ..options(vec![rules("s.t")]) });
        assert_eq!(plain.unwrap().table("notes").unwrap().path, "/below/rest/v1/t");
    }
}
