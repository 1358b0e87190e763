//! The server kit (`supabase/kit`) in a project's database.

use crate::error::{Context, Result};
use crate::sql::Database;

const KIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../supabase/kit");

/// A table to attach, and the column that says whose a row is.
pub type Attached = (&'static str, Option<&'static str>);

/// Installs the kit and attaches these tables.
pub(crate) async fn install(database: &Database, tables: &[Attached]) -> Result<()> {
    database.script(&script()?).await?;
    for (table, owner) in tables {
        let owner = owner.map_or_else(|| "null".to_owned(), |owner| format!("'{owner}'"));
        database.script(&format!("select tidelock.attach('{table}', owner => {owner})")).await?;
    }
    Ok(())
}

/// The kit as SQL: its files in the order of their names.
pub fn script() -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut files = std::fs::read_dir(KIT)?.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.sort();
        Ok(files.iter().map(std::fs::read_to_string).collect::<std::io::Result<Vec<_>>>()?.join("\n"))
    };
    read().context("read the server kit")
}
