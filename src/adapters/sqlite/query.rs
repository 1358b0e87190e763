//! The host's own SQL: it may read what there is, nothing else, and not for ever.

use std::path::Path;
use std::time::Instant;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, ErrorCode, Row, Statement, params_from_iter};
use serde_json::Value;
use tidelock_actors::document::Document;
use tidelock_actors::limits::{LIST_ROWS, QUERY_BYTES, QUERY_DEADLINE};

use super::faults::Failure;
use super::list::{json, scalar};
use super::open::reader;

/// Virtual machine steps between two looks at the clock.
const STEPS: i32 = 10_000;

/// Runs read-only SQL on a connection of its own, which can do nothing but read.
pub(super) fn query(file: &Path, sql: &str, parameters: &[Value]) -> Result<Vec<Document>, Failure> {
    let connection = reader(file).map_err(|error| Failure::invalid(error.to_string()))?;
    connection.authorizer(Some(authorize))?;
    let deadline = Instant::now() + QUERY_DEADLINE;
    connection.progress_handler(STEPS, Some(move || Instant::now() >= deadline))?;
    run(&connection, sql, parameters).map_err(in_words)
}

/// Nothing that writes, attaches other files or changes settings.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name != "load_extension" => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn run(connection: &Connection, sql: &str, parameters: &[Value]) -> Result<Vec<Document>, Failure> {
    let mut statement = connection.prepare(sql)?;
    if statement.column_count() == 0 || !statement.readonly() {
        return Err(Failure::invalid("a query reads: begin it with SELECT, WITH or VALUES"));
    }
    let expected = statement.parameter_count();
    if expected != parameters.len() {
        let given = parameters.len();
        return Err(Failure::invalid(format!("the query has {expected} parameters, but {given} values were given")));
    }
    let names = column_names(&statement);
    let values = parameters.iter().map(scalar).collect::<Result<Vec<SqlValue>, _>>()?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut documents, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let document = object(&names, row)?;
        bytes += document.as_str().len();
        if documents.len() == LIST_ROWS || bytes > QUERY_BYTES {
            return Err(Failure::invalid(format!(
                "the query finds more than {LIST_ROWS} rows or {QUERY_BYTES} bytes; add a LIMIT"
            )));
        }
        documents.push(document);
    }
    Ok(documents)
}

/// Column names, made different where they are not.
fn column_names(statement: &Statement<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in statement.column_names() {
        let mut unlike = name.to_owned();
        let mut number = 1;
        while names.contains(&unlike) {
            unlike = format!("{name}:{number}");
            number += 1;
        }
        names.push(unlike);
    }
    names
}

fn object(names: &[String], row: &Row<'_>) -> Result<Document, Failure> {
    let mut text = String::from("{");
    for (column, name) in names.iter().enumerate() {
        let comma = if column == 0 { "" } else { "," };
        text.push_str(&format!("{comma}{}:{}", Value::from(name.as_str()), json(row.get_ref(column)?)));
    }
    text.push('}');
    Ok(Document::trusted(text))
}

/// What SQLite says of somebody's SQL is their mistake, except where the store itself is in trouble.
fn in_words(failure: Failure) -> Failure {
    let Failure::Sqlite(error) = failure else { return failure };
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => {
            let seconds = QUERY_DEADLINE.as_secs();
            Failure::invalid(format!("the query ran for more than {seconds} s and was stopped"))
        }
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            Failure::invalid("a query only reads: it may not write, attach files or use pragmas")
        }
        Some(ErrorCode::Unknown) | None => Failure::invalid(format!("the query cannot be run: {error}")),
        Some(_) => Failure::Sqlite(error),
    }
}
