//! The host's own SQL: it may read what there is, nothing else, and not for ever.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, ErrorCode, Row, Statement, params_from_iter};
use serde_json::Value;
use tidelock_actors::document::Document;
use tidelock_actors::limits::{LIST_ROWS, QUERY_BYTES};

use super::faults::Failure;
use super::list::{json, scalar};
use super::open::reader;

/// Virtual machine steps between two looks at the clock.
const STEPS: i32 = 10_000;

/// Runs read-only SQL on a connection of its own, which can do nothing but read.
pub(super) fn query(file: &Path, sql: &str, parameters: &[Value], time: Duration) -> Result<Vec<Document>, Failure> {
    let connection = reader(file).map_err(|error| Failure::invalid(error.to_string()))?;
    connection.authorizer(Some(authorize))?;
    let deadline = Instant::now() + time;
    connection.progress_handler(STEPS, Some(move || Instant::now() >= deadline))?;
    run(&connection, sql, parameters).map_err(|failure| in_words(failure, time))
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
fn in_words(failure: Failure, time: Duration) -> Failure {
    let Failure::Sqlite(error) = failure else { return failure };
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => {
            Failure::invalid(format!("the query ran for more than {time:?} and was stopped"))
        }
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            Failure::invalid("a query only reads: it may not write, attach files or use pragmas")
        }
        Some(ErrorCode::Unknown) | None => Failure::invalid(format!("the query cannot be run: {error}")),
        Some(_) => Failure::Sqlite(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, said};
    use futures::executor::block_on;
    use serde_json::json;
    use std::time::Duration;
    use tidelock_actors::ports::StoreError;

    #[test]
    fn a_query_answers_objects_in_the_order_of_its_columns() {
        let mut world = World::new();
        world.save("notes/a", r#"{"n":1}"#);
        let rows = block_on(world.reads.query(
            "SELECT ?2 AS z, n, n, NULL AS none, x'00ff' AS bytes, 1.5 AS real FROM notes WHERE id = ?1",
            vec![json!("a"), json!(9223372036854775807_i64)],
        ));
        assert_eq!(
            rows.unwrap()[0].as_str(),
            r#"{"z":9223372036854775807,"n":1,"n:1":1,"none":null,"bytes":"00ff","real":1.5}"#
        );
    }

    #[test]
    fn whatever_could_write_is_refused() {
        let mut world = World::new();
        world.save("notes/a", "{}");
        let other = world.directory.path().join("other.db");
        for sql in [
            "DELETE FROM tl_records",
            "INSERT INTO tl_meta VALUES ('a', 'b')",
            "UPDATE tl_records SET document = '{}' RETURNING id",
            "CREATE TABLE t (a)",
            "CREATE TEMP TABLE t (a)",
            "DROP VIEW notes",
            &format!("ATTACH '{}' AS other", other.display()),
            "PRAGMA journal_mode = DELETE",
            "PRAGMA query_only = 0",
            "VACUUM",
            "BEGIN",
            "SELECT load_extension('x')",
        ] {
            let error = said(block_on(world.reads.query(sql, vec![])));
            assert!(error.starts_with("a query") || error.contains("not authorized"), "{sql}: {error}");
        }
        assert!(!other.exists());
        assert!(world.get("notes/a").is_some());
        world.assert_healthy();
    }

    #[test]
    fn a_mistake_is_told_in_sqlites_words() {
        let world = World::new();
        let error = said(block_on(world.reads.query("SELECT x FROM nowhere", vec![])));
        assert!(error.contains("no such table: nowhere"), "{error}");
        assert!(said(block_on(world.reads.query("SELECT 1; SELECT 2", vec![]))).starts_with("the query cannot be run"));
        assert!(said(block_on(world.reads.query("", vec![]))).starts_with("a query"));
        let error = said(block_on(world.reads.query("SELECT ?1, ?2", vec![json!(1)])));
        assert_eq!(error, "the query has 2 parameters, but 1 values were given");
    }

    #[test]
    fn a_query_without_end_is_stopped() {
        let world = World::new();
        let endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) AS n FROM t";
        let file = super::super::writer::file(world.directory.path());
        let stopped = super::query(&file, endless, &[], Duration::from_millis(50)).map_err(StoreError::from);
        assert_eq!(said(stopped), "the query ran for more than 50ms and was stopped");
    }

    #[test]
    fn an_answer_that_is_too_large_is_refused() {
        let world = World::new();
        let numbers = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 10001) SELECT n FROM t";
        assert!(said(block_on(world.reads.query(numbers, vec![]))).ends_with("add a LIMIT"));
        let heavy = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 100)
                     SELECT hex(zeroblob(1000000)) AS x FROM t";
        assert!(said(block_on(world.reads.query(heavy, vec![]))).ends_with("add a LIMIT"));
    }
}
