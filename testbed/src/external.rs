//! Testing on a Supabase that somebody else runs: the real stack, on a developer's machine or hosted.

use std::sync::{Arc, LazyLock};

use tokio::sync::Mutex;

use crate::error::{Context, Error, Result};
use crate::project::{BUCKET, Project, Storage};
use crate::server::schema_folder;
use crate::sql::Database;

const VARIABLES: [&str; 4] =
    ["TIDELOCK_TEST_URL", "TIDELOCK_TEST_SECRET_KEY", "TIDELOCK_TEST_PUBLISHABLE_KEY", "TIDELOCK_TEST_DB"];

/// Everything in the test schema; the tables are emptied, so never name a database with data in it.
const EMPTY_TABLES: &str = "truncate generations, usage_logs, user_settings, projects, tasks, notes, bench, owned, \
                            readonly_for_users, samples";

/// There is one project for all, so tests take turns.
static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Default::default);

/// Where the external Supabase is, and its keys.
pub(crate) struct Address {
    url: String,
    secret_key: String,
    publishable_key: String,
    database_url: String,
}

impl Address {
    /// None when no variable is set, an error when only some are.
    pub(crate) fn from_environment() -> Result<Option<Self>> {
        let values = VARIABLES.map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        match values {
            [None, None, None, None] => Ok(None),
            [Some(url), Some(secret_key), Some(publishable_key), Some(database_url)] => {
                Ok(Some(Self { url: url.trim_end_matches('/').to_owned(), secret_key, publishable_key, database_url }))
            }
            some => {
                let missing: Vec<_> =
                    VARIABLES.iter().zip(&some).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
                Err(Error::ExternalIncomplete { all: VARIABLES.join(", "), missing: missing.join(", ") })
            }
        }
    }
}

/// Waits for its turn, applies the schema (each statement may run again) and empties the tables.
pub(crate) async fn project(address: Address, storage: Storage) -> Result<Project> {
    let alone = TURN.clone().lock_owned().await;
    let database = Database::Address(address.database_url.clone());
    for file in ["raw_studio.sql", "trials.sql"] {
        let schema = std::fs::read_to_string(schema_folder().join(file)).context(format!("read {file}"))?;
        database.script(&schema).await?;
    }
    database.script(EMPTY_TABLES).await?;
    let project =
        Project::external(address.url, [address.publishable_key, address.secret_key], address.database_url, alone);
    wait_for_tables(&project).await?;
    if storage != Storage::Off {
        prepare_bucket(&project).await?;
    }
    Ok(project)
}

/// The bucket with its policy, and nothing in it.
async fn prepare_bucket(project: &Project) -> Result<()> {
    let schema = std::fs::read_to_string(schema_folder().join("storage.sql")).context("read storage.sql")?;
    project.sql(&schema).await?;
    let path = format!("/storage/v1/bucket/{BUCKET}/empty");
    let answer = project.request(reqwest::Method::POST, &path).send().await?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(Error::Answer { path, status: status.as_u16(), body: answer.text().await? }),
    }
}

/// PostgREST reads the tables anew a moment after it was told to.
async fn wait_for_tables(project: &Project) -> Result<()> {
    const ATTEMPTS: u32 = 50;
    let path = "/rest/v1/samples?limit=1";
    let mut attempt = 1;
    loop {
        let answer = project.request(reqwest::Method::GET, path).send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        if attempt == ATTEMPTS {
            return Err(Error::Answer { path: path.into(), status: status.as_u16(), body: answer.text().await? });
        }
        attempt += 1;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
