//! A PostgreSQL cluster for tests: one for all tests of a process, or one of one's own to crash.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::sync::OnceCell;

use crate::error::{Context, Error, Result};
use crate::kit;
use crate::postgres::Postgres;
use crate::project::{Project, ProjectOptions, Storage};
use crate::server::{Server, blocking};
use crate::sql::Database;

/// Carries the auth schema and the project's schema; every project's database is a copy of it.
const TEMPLATE: &str = "tidelock_template";

static SHARED: OnceCell<Arc<Cluster>> = OnceCell::const_new();

/// A PostgreSQL server on loopback, with a prepared database that each project gets a copy of.
///
/// It is stopped and its files are removed when the last [`Arc`] goes; the shared one when the process ends, in
/// whatever way.
pub struct Cluster {
    postgres: Mutex<Postgres>,
    port: u16,
    /// `CREATE DATABASE` refuses a template that another one is just copying.
    copying: tokio::sync::Mutex<()>,
    projects: AtomicU32,
}

impl Cluster {
    /// The cluster that all tests of this process share. Do not crash it: other tests are running on it.
    pub async fn shared() -> Result<Arc<Self>> {
        SHARED.get_or_try_init(Self::start).await.cloned()
    }

    /// A cluster of one's own, for tests that crash it.
    pub async fn start() -> Result<Arc<Self>> {
        let postgres = blocking(Postgres::start).await?;
        let port = postgres.port();
        let log = postgres.folder().join("migration.log");
        let cluster = Self {
            postgres: Mutex::new(postgres),
            port,
            copying: tokio::sync::Mutex::new(()),
            projects: AtomicU32::new(0),
        };
        cluster.maintenance().script(&format!("create database {TEMPLATE}")).await?;
        Server::migrate(&cluster.url_of(TEMPLATE), log).await?;
        Ok(Arc::new(cluster))
    }

    /// A project with a fresh database and a server in front of it.
    pub async fn project(self: &Arc<Self>, options: ProjectOptions) -> Result<Project> {
        let (name, url) = self.copy_of_template().await?;
        let database = Database::Address(url.clone());
        if !options.kit.is_empty() {
            kit::install(&database, &options.kit).await?;
        }
        let scratch = self.lock().folder().to_path_buf();
        let log = scratch.join(format!("{name}.log"));
        let migrate: Vec<String> = options.storage.schema().into_iter().collect();
        // Within the cluster's, which is removed also when this process is killed.
        let folder = match options.storage {
            Storage::Off => None,
            Storage::Plain | Storage::Resumable => {
                Some(tempfile::tempdir_in(scratch).context("make a folder for the project's files")?)
            }
        };
        let driver = json!({ "url": url, "migrate": migrate });
        Project::serve(options, driver, log, database, folder, Some(self.clone())).await
    }

    /// A fresh database without a server in front of it, for tests that speak SQL.
    pub async fn database(self: &Arc<Self>) -> Result<OwnDatabase> {
        let (_, url) = self.copy_of_template().await?;
        Ok(OwnDatabase { url, cluster: self.clone() })
    }

    /// A new database's name and address.
    async fn copy_of_template(&self) -> Result<(String, String)> {
        let number = self.projects.fetch_add(1, Ordering::Relaxed);
        let name = format!("project_{number}");
        {
            let _copying = self.copying.lock().await;
            self.maintenance().script(&format!("create database {name} template {TEMPLATE}")).await?;
        }
        let url = self.url_of(&name);
        Ok((name, url))
    }

    /// Stops PostgreSQL at once, as a crash would: open transactions are lost, committed ones are not.
    pub async fn crash(self: &Arc<Self>) -> Result<()> {
        let cluster = self.clone();
        blocking(move || cluster.lock().crash()).await
    }

    /// Starts PostgreSQL again on the same port, and waits until it has recovered.
    pub async fn start_again(self: &Arc<Self>) -> Result<()> {
        let cluster = self.clone();
        blocking(move || cluster.lock().start_again()).await
    }

    /// A database as SQL, as `pg_dump` writes it.
    pub(crate) async fn dump(self: &Arc<Self>, database_url: &str) -> Result<String> {
        let (cluster, url) = (self.clone(), database_url.to_owned());
        blocking(move || cluster.lock().dump(&url)).await
    }

    /// Drops a database and makes it anew under the same name, from a dump.
    pub(crate) async fn restore(&self, database_url: &str, dump: &str) -> Result<()> {
        let name = database_url.rsplit('/').next().unwrap_or_default();
        self.maintenance().script(&format!("drop database if exists {name} with (force)")).await?;
        self.maintenance().script(&format!("create database {name} template template0")).await?;
        Database::Address(database_url.to_owned()).script(dump).await
    }

    /// `psql`, to be given the address of a database.
    pub(crate) fn psql(&self) -> Command {
        self.lock().tool("psql")
    }

    /// Removes a project's database, so that a long test run does not fill the disk.
    pub(crate) fn forget(&self, database: &Database) {
        let Database::Address(url) = database else { return };
        let Some(name) = url.rsplit('/').next() else { return };
        let (maintenance, sql) = (self.maintenance(), format!("drop database if exists {name} with (force)"));
        // On a thread of its own: the test's runtime may end with the project. Nobody waits for it, and it fails
        // when the cluster is gone as well.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let _ = runtime.block_on(maintenance.script(&sql));
            std::io::Result::Ok(())
        });
    }

    fn maintenance(&self) -> Database {
        Database::Address(self.url_of("postgres"))
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Postgres> {
        // A test that panicked while it held the lock left nothing half-done that matters.
        self.postgres.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A database of one's own on a cluster; dropping it removes it.
pub struct OwnDatabase {
    /// Its `postgres://` address.
    pub url: String,
    cluster: Arc<Cluster>,
}

impl OwnDatabase {
    /// Another database that is restored from a dump of this one.
    pub async fn restored(&self) -> Result<Self> {
        let dump = self.cluster.dump(&self.url).await?;
        let number = self.cluster.projects.fetch_add(1, Ordering::Relaxed);
        let name = format!("project_{number}");
        self.cluster.maintenance().script(&format!("create database {name} template template0")).await?;
        let restored = Self { url: self.cluster.url_of(&name), cluster: self.cluster.clone() };
        Database::Address(restored.url.clone()).script(&dump).await?;
        Ok(restored)
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        self.cluster.forget(&Database::Address(self.url.clone()));
    }
}

/// What a project without a cluster of its own answers to [`Cluster`]'s operations.
pub(crate) fn no_cluster(is_external: bool, what: &'static str) -> Error {
    if is_external { Error::NotOnExternal(what) } else { Error::NotEmbedded(what) }
}
