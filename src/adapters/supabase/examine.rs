//! Looks at the server for the doctor: what answers, and what this user may do. Nothing is changed by it, there or here.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidelock_actors::limits::DOCTOR_STEP;
use tidelock_actors::model::{Fault, FaultKind};

use super::http::Question;
use super::request_line::{Query, identifier, identifiers};
use super::table::Table;
use super::{Description, Plain, PlainOptions, SetupError, fault};

/// A server that is looked at.
pub(crate) struct Examination {
    plain: Plain,
    /// How long one answer is waited for.
    step: Duration,
}

/// Why there is no good answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// None came in time.
    Late,
    /// It came, or there was no way to it.
    Fault(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a dry run tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Adds no row.
    Insert,
    /// Changes no row.
    Update,
    /// Deletes no row.
    Delete,
}

impl Attempt {
    /// The word that SQL has for it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The part of PostgREST's description of itself that names it.
#[derive(Deserialize)]
struct OpenApi {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    version: String,
}

impl Examination {
    /// Prepares requests to a project, none of which takes long. Nothing is sent.
    pub fn new(options: PlainOptions) -> Result<Self, SetupError> {
        let step = options.timeout.min(DOCTOR_STEP);
        // What is late is told from what broke off, so the connection's own deadline must not be first.
        let timeout = step.saturating_mul(2);
        Ok(Self { plain: Plain::new(PlainOptions { timeout, ..options })?, step })
    }

    /// How long one answer is waited for, in words.
    pub fn step(&self) -> String {
        format!("{} s", self.step.as_secs_f64())
    }

    /// The smallest request to PostgREST: what answers, as it names itself.
    pub async fn greet(&self) -> Result<Option<String>, Fault> {
        let Some(table) = self.plain.first_synced() else {
            return self
                .within(self.plain.link.send(Question::get(format!("{}/auth/v1/health", self.plain.base))))
                .await;
        };
        let key = identifiers([table.key.as_str()]);
        self.within(self.plain.link.send(table.read(&Query::default().with("select", &key).with("limit", "0")))).await
    }

    async fn within(
        &self,
        answer: impl Future<Output = Result<super::http::Answer, Fault>>,
    ) -> Result<Option<String>, Fault> {
        let answer = self.in_time(answer).await.map_err(|trouble| match trouble {
            Trouble::Late => Fault::new(FaultKind::Transient, format!("no answer within {}", self.step())),
            Trouble::Fault(fault) => fault,
        })?;
        let is_json = serde_json::from_slice::<&RawValue>(&answer.body).is_ok();
        if is_json { Ok(answer.server) } else { Err(fault::not_json(answer.status, &answer.body)) }
    }

    /// PostgREST's version as its description of itself has it; many gateways keep that to themselves.
    pub async fn version(&self) -> Option<String> {
        let question = Question::get(format!("{}/rest/v1/", self.plain.base));
        let answer = self.in_time(self.plain.link.send(question)).await.ok()?;
        serde_json::from_slice::<OpenApi>(&answer.body).ok().map(|described| described.info.version)
    }

    /// As [`Plain::describe`].
    pub async fn describe(&self, tables: &[&str]) -> Result<Option<Description>, Trouble> {
        self.in_time(self.plain.describe(tables)).await
    }

    /// Reads one row of a collection as a pull would; whether there is one that this user may see.
    pub async fn sees_a_row(&self, collection: &str) -> Result<bool, Trouble> {
        let table = self.plain.table(collection)?;
        let look = async {
            let version = table.version(&self.plain.link).await?;
            let query = Query::default()
                .with("select", &table.selection(version, []))
                .with("limit", "1")
                .with_filter(&table.filter());
            let answer = self.plain.link.send(table.read(&query)).await?;
            let rows = super::columns::rows(&answer.body, &table.key, version);
            rows.map(|rows| !rows.is_empty()).map_err(|_| fault::not_json(answer.status, &answer.body))
        };
        self.in_time(look).await
    }

    /// Whether the server would let this user write, as far as grants decide it: the write is one that meets no row,
    /// whatever the table holds. `tx=rollback` would be no help, since not every server keeps to it.
    pub async fn attempt(&self, collection: &str, attempt: Attempt) -> Result<(), Trouble> {
        let table = self.plain.table(collection)?;
        let (method, line, body) = write_without_rows(table, attempt);
        let schema = table.schema.as_ref();
        let question = Question { method, line, schema, prefer: Some("return=minimal"), body };
        self.in_time(self.plain.link.send(question)).await.map(drop)
    }

    /// A server that sends its answer drop by drop does not hold the doctor up.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.step, work).await {
            Ok(answer) => answer.map_err(Trouble::Fault),
            Err(_) => Err(Trouble::Late),
        }
    }

    /// The server's clock less this device's, in milliseconds, once an answer told it.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.plain.link.clock_offset_ms()
    }
}

fn write_without_rows(table: &Table, attempt: Attempt) -> (Method, String, Option<String>) {
    let key = identifier(&table.key);
    // Two conditions that exclude each other, and a list without values: one of them alone would be enough.
    let none = Query::default().with("and", &format!("({key}.is.null,{key}.not.is.null)")).with(&key, "in.()");
    match attempt {
        Attempt::Insert => {
            // A column that is named makes it a statement even where there are no rows.
            let line = Query::default().with("columns", &key).on(&table.path);
            (Method::POST, line, Some("[]".to_owned()))
        }
        Attempt::Update => {
            let column = table.rules.columns.iter().find(|column| **column != table.key).unwrap_or(&table.key);
            (Method::PATCH, none.on(&table.path), Some(json!({ column: null }).to_string()))
        }
        Attempt::Delete => (Method::DELETE, none.on(&table.path), None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rules, table};
    use super::*;

    #[test]
    fn a_dry_run_names_no_row() {
        let table = table(rules("s.a b"));
        let (method, line, body) = write_without_rows(&table, Attempt::Delete);
        assert_eq!(
            (method, line.as_str()),
            (Method::DELETE, "/rest/v1/a%20b?and=(id.is.null,id.not.is.null)&id=in.()")
        );
        assert_eq!(body, None);
        let (method, line, body) = write_without_rows(&table, Attempt::Update);
        assert!(method == Method::PATCH && line.ends_with("?and=(id.is.null,id.not.is.null)&id=in.()"), "{line}");
        assert_eq!(body.as_deref(), Some(r#"{"id":null}"#));
        let (_, line, body) = write_without_rows(&table, Attempt::Insert);
        assert_eq!((line.as_str(), body.as_deref()), ("/rest/v1/a%20b?columns=id", Some("[]")));
    }
}
