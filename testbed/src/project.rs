//! One Supabase project to test against: its address, its keys, its database.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use crate::cluster::{Cluster, no_cluster};
use crate::error::{Context, Error, Result};
use crate::kit::{self, Attached};
use crate::server::{Server, node_script, schema_files, schema_folder};
use crate::sql::Database;
use crate::token;

const PUBLISHABLE_KEY: &str = "sb_publishable_tidelock_testbed_00000000";
const SECRET_KEY: &str = "sb_secret_tidelock_testbed_000000000000";
const JWT_SECRET: &str = "tidelock-testbed-secret-of-at-least-32-characters";

/// How a project's server behaves; the defaults are those of hosted Supabase.
#[derive(Clone, Debug)]
pub struct ProjectOptions {
    /// The most rows a select returns.
    pub max_rows: u32,
    /// How long an access token is good for, in seconds.
    pub jwt_expiry_s: u32,
    /// The database schemas that requests can reach.
    pub schemas: Vec<String>,
    /// How long an idle connection is kept, in milliseconds.
    pub keep_alive_ms: u32,
    /// How many database connections the server holds.
    pub pool_size: u32,
    /// The tables that the server kit is installed for, before the server looks at the database; without any there
    /// is no kit.
    pub kit: Vec<Attached>,
    /// What Storage takes, with a private bucket in it (see [`BUCKET`]).
    pub storage: Storage,
}

/// What a project's Storage takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// There is none: its addresses are 404, and nobody waits for its start.
    #[default]
    Off,
    /// Objects in one piece only, as servers without resumable uploads.
    Plain,
    /// Resumable uploads too, as hosted Supabase.
    Resumable,
}

/// The private bucket of a project with [`Storage`], in which a user may do as they like with what lies in the folder
/// named by their id, and with nothing else.
pub const BUCKET: &str = "backups";

impl Default for ProjectOptions {
    fn default() -> Self {
        Self {
            max_rows: 1000,
            jwt_expiry_s: 3600,
            schemas: vec!["public".into()],
            keep_alive_ms: 75_000,
            pool_size: 10,
            kit: Vec::new(),
            storage: Storage::Off,
        }
    }
}

/// A Supabase project: a database with the test schema, and the server in front of it.
///
/// Dropping it stops the server and removes the database. An external one stays; until it is dropped no other test
/// of this process gets it.
pub struct Project {
    /// The address that a client is given, without a slash at its end.
    pub url: String,
    /// The key of an app in users' hands.
    pub publishable_key: String,
    /// The key that bypasses row-level security.
    pub secret_key: String,
    /// The `postgres://` address of the database; none for an embedded project.
    pub database_url: Option<String>,
    database: Database,
    server: Option<OwnServer>,
    cluster: Option<Arc<Cluster>>,
    _alone: Option<OwnedMutexGuard<()>>,
    _folder: Option<tempfile::TempDir>,
}

/// A server that we started, and how to start it again on the same port.
struct OwnServer {
    running: Option<Server>,
    options: Value,
    log: PathBuf,
}

impl Storage {
    /// What is applied to the database beside the project's schema.
    pub(crate) fn schema(self) -> Option<String> {
        (self != Self::Off).then(|| schema_folder().join("storage.sql").display().to_string())
    }
}

impl Project {
    /// A project inside one Node process (pglite), which needs no PostgreSQL. One request at a time, a slow start.
    pub async fn embedded(options: ProjectOptions) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the embedded database")?;
        let log = folder.path().join("server.log");
        let mut migrate = schema_files();
        migrate.extend(options.storage.schema());
        let driver = json!({ "driver": "pglite", "url": folder.path().join("data"), "migrate": migrate });
        let nowhere = Database::Server { url: String::new(), secret_key: String::new() };
        let mut project = Self::serve(options, driver, log, nowhere, Some(folder), None).await?;
        project.database = Database::Server { url: project.url.clone(), secret_key: SECRET_KEY.into() };
        Ok(project)
    }

    pub(crate) async fn serve(
        options: ProjectOptions,
        driver: Value,
        log: PathBuf,
        database: Database,
        folder: Option<tempfile::TempDir>,
        cluster: Option<Arc<Cluster>>,
    ) -> Result<Self> {
        let mut all = json!({
            "max_rows": options.max_rows,
            "jwt_expiry": options.jwt_expiry_s,
            "schemas": options.schemas,
            "keep_alive_ms": options.keep_alive_ms,
            "pool_size": options.pool_size,
            "jwt_secret": JWT_SECRET,
            "publishable_key": PUBLISHABLE_KEY,
            "secret_key": SECRET_KEY,
        });
        if let (Some(folder), Storage::Plain | Storage::Resumable) = (&folder, options.storage) {
            let is_resumable = options.storage == Storage::Resumable;
            merge(&mut all, json!({ "storage": folder.path().join("storage"), "resumable": is_resumable }));
        }
        merge(&mut all, driver);
        let running = Server::start(all.clone(), log.clone()).await?;
        // What comes next is a start on what is there already: the same port, the schema applied.
        merge(&mut all, json!({ "port": running.port, "migrate": [] }));
        let url = format!("http://127.0.0.1:{}", running.port);
        let database_url = match &database {
            Database::Address(address) => Some(address.clone()),
            Database::Server { .. } => None,
        };
        Ok(Self {
            url,
            publishable_key: PUBLISHABLE_KEY.into(),
            secret_key: SECRET_KEY.into(),
            database_url,
            database,
            server: Some(OwnServer { running: Some(running), options: all, log }),
            cluster,
            _alone: None,
            _folder: folder,
        })
    }

    pub(crate) fn external(url: String, keys: [String; 2], database_url: String, alone: OwnedMutexGuard<()>) -> Self {
        let [publishable_key, secret_key] = keys;
        Self {
            url,
            publishable_key,
            secret_key,
            database: Database::Address(database_url.clone()),
            database_url: Some(database_url),
            server: None,
            cluster: None,
            _alone: Some(alone),
            _folder: None,
        }
    }

    /// Whether this is an external Supabase.
    pub fn is_external(&self) -> bool {
        self.server.is_none()
    }

    /// Installs the server kit and attaches these tables, each with the column that says whose a row is.
    pub async fn install_kit(&self, tables: &[Attached]) -> Result<()> {
        kit::install(&self.database, tables).await?;
        self.sql("notify pgrst, 'reload schema'").await
    }

    /// Runs one or several SQL statements as the database's owner.
    pub async fn sql(&self, script: &str) -> Result<()> {
        self.database.script(script).await
    }

    /// Runs one SQL statement and gives its rows as texts, `None` for NULL.
    pub async fn query(&self, statement: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.database.rows(statement).await
    }

    /// The first column of the first row, as text.
    pub async fn value(&self, statement: &str) -> Result<Option<String>> {
        Ok(self.query(statement).await?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Each row of a select as PostgreSQL's own JSON text, in which every number is exact.
    pub async fn rows_as_json(&self, select: &str) -> Result<Vec<String>> {
        let rows = self.query(&format!("select row_to_json(r)::text from ({select}) r")).await?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// A token of our own making, with these claims: an expired one, one of a user who never signed up.
    pub fn mint_token(&self, claims: &Value) -> Result<String> {
        if self.is_external() {
            return Err(Error::NotOnExternal("minting a token"));
        }
        Ok(token::sign(claims, JWT_SECRET))
    }

    /// A request to the server with the secret key; `path` begins with a slash.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.url)).header("apikey", &self.secret_key)
    }

    /// `psql` on this project's database.
    pub fn psql(&self) -> Result<Command> {
        let mut command = self.cluster()?.psql();
        command.args(&self.database_url);
        Ok(command)
    }

    /// A Node script of `testbed/server`, which finds the packages there.
    pub fn node(&self, script: &str) -> Result<Command> {
        node_script(script)
    }

    /// Stops the server; the database goes on.
    pub fn stop_server(&mut self) -> Result<()> {
        let server = self.server.as_mut().ok_or(Error::NotOnExternal("stopping the server"))?;
        server.running = None;
        Ok(())
    }

    /// Starts the server again on the same port.
    pub async fn start_server(&mut self) -> Result<()> {
        let server = self.server.as_mut().ok_or(Error::NotOnExternal("starting the server"))?;
        if server.running.is_none() {
            server.running = Some(Server::start(server.options.clone(), server.log.clone()).await?);
        }
        Ok(())
    }

    /// The database as SQL, as `pg_dump` writes it.
    pub async fn dump(&self) -> Result<String> {
        self.cluster()?.dump(self.database_url.as_deref().unwrap_or_default()).await
    }

    /// Drops the database, makes it anew under the same name from a dump, and starts the server on it.
    pub async fn restore(&mut self, dump: &str) -> Result<()> {
        self.stop_server()?;
        self.cluster()?.restore(self.database_url.as_deref().unwrap_or_default(), dump).await?;
        self.start_server().await
    }

    /// The PostgreSQL behind this project, to crash it when it is the test's own (see [`Cluster::start`]).
    pub fn cluster(&self) -> Result<&Arc<Cluster>> {
        self.cluster.as_ref().ok_or_else(|| no_cluster(self.is_external(), "crashing PostgreSQL"))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.server = None;
        if let Some(cluster) = &self.cluster {
            cluster.forget(&self.database);
        }
    }
}

fn merge(into: &mut Value, other: Value) {
    if let (Some(into), Value::Object(other)) = (into.as_object_mut(), other) {
        into.extend(other);
    }
}
