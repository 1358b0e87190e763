//! A real PostgreSQL with a Supabase-compatible server in front, for tests, measurements and the demo.
//!
//! A test asks for a [`project`] and gets a fresh database with its own server, as if it had just created a project
//! on Supabase:
//!
//! ```no_run
//! # async fn example() -> tidelock_testbed::Result<()> {
//! let project = tidelock_testbed::project().await?;
//! let session = project.sign_up("a@example.com", "a good password").await?;
//! project.sql("insert into notes values ('n1', 'hello')").await?;
//! assert_eq!(project.rows_as_json("select id from notes").await?, [r#"{"id":"n1"}"#]);
//! # let _ = session; Ok(())
//! # }
//! ```
//!
//! When `TIDELOCK_TEST_URL`, `TIDELOCK_TEST_SECRET_KEY`, `TIDELOCK_TEST_PUBLISHABLE_KEY` and `TIDELOCK_TEST_DB` are
//! all set, the same call gives that Supabase project instead. What the server in front does not do as the real one
//! is listed in the crate's `README.md`.
//!
//! Everything ends with the process that started it, even when that process is killed.

mod cluster;
mod error;
mod external;
mod fault_proxy;
pub mod kit;
mod postgres;
mod project;
mod server;
mod session;
mod sql;
mod token;

pub use cluster::{Cluster, OwnDatabase};
pub use error::{Error, Result};
pub use fault_proxy::{Counts, Fault, FaultPlan, FaultProxy, Gate, HoldAt};
pub use project::{BUCKET, Project, ProjectOptions, Storage};
pub use session::Session;

/// A fresh project with default options; on the external Supabase when one is given by the environment.
pub async fn project() -> Result<Project> {
    project_with(ProjectOptions::default()).await
}

/// A fresh project; on the external Supabase when one is given by the environment (which ignores the options, except
/// that with Storage it gets the bucket too).
pub async fn project_with(options: ProjectOptions) -> Result<Project> {
    match external::Address::from_environment()? {
        Some(address) => external::project(address, options.storage).await,
        None => Cluster::shared().await?.project(options).await,
    }
}

/// Whether [`project`] gives an external Supabase, which cannot be stopped or crashed.
pub fn is_external() -> bool {
    matches!(external::Address::from_environment(), Ok(Some(_)))
}
