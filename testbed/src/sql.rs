//! Plain SQL on a project's database, around the server: what tests use to arrange and to look.

use serde_json::Value;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::error::{Error, Result};

/// How a project's database is reached.
#[derive(Clone)]
pub(crate) enum Database {
    /// A PostgreSQL, by its `postgres://` address.
    Address(String),
    /// A database inside the server, by the server's own door.
    Server { url: String, secret_key: String },
}

/// A row as texts, `None` for NULL.
pub(crate) type TextRow = Vec<Option<String>>;

impl Database {
    /// Runs one or several statements.
    pub(crate) async fn script(&self, sql: &str) -> Result<()> {
        match self {
            Self::Address(address) => simple_query(address, sql).await.map(drop),
            Self::Server { url, secret_key } => server_query(url, secret_key, sql, true).await.map(drop),
        }
    }

    /// Runs one statement and gives its rows.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<TextRow>> {
        match self {
            Self::Address(address) => simple_query(address, sql).await,
            Self::Server { url, secret_key } => server_query(url, secret_key, sql, false).await,
        }
    }
}

/// One connection a call: it outlives neither the runtime it was made in nor a crash of the database.
async fn simple_query(address: &str, sql: &str) -> Result<Vec<TextRow>> {
    let failed = |error: tokio_postgres::Error| {
        let detail = match error.as_db_error() {
            Some(refusal) => format!("{} {}", refusal.code().code(), refusal.message()),
            None => error.to_string(),
        };
        sql_error(detail, sql)
    };
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await.map_err(failed);
    drop(client);
    let _ = connection.await;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages?.into_iter().filter_map(row).collect())
}

async fn server_query(url: &str, secret_key: &str, sql: &str, is_script: bool) -> Result<Vec<TextRow>> {
    let mut request = reqwest::Client::new().post(format!("{url}/testbed/sql")).header("apikey", secret_key);
    if is_script {
        request = request.header("x-script", "1");
    }
    let answer = request.body(sql.to_owned()).send().await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    if !status.is_success() {
        return Err(sql_error(format!("{} {}", text(&body["code"]), text(&body["message"])), sql));
    }
    let row = |row: &Value| row.as_array().into_iter().flatten().map(|v| v.as_str().map(str::to_owned)).collect();
    Ok(body.as_array().into_iter().flatten().map(row).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn sql_error(detail: String, sql: &str) -> Error {
    const MOST_CHARS: usize = 200;
    Error::Sql { detail, statement: sql.chars().take(MOST_CHARS).collect() }
}
