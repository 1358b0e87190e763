//! The server for what is about no collection: rows of the kit's own tables, and files. A connection of its own, so that a
//! file on its way keeps no round waiting, and rounds count their own requests.

use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidelock_actors::limits::REMOTE_DEADLINE;
use tidelock_actors::model::{Fault, FaultKind};

use super::http::{Link, Question};
use super::request_line::{Query, by_key};
use super::{PlainOptions, SetupError, fault, project};

/// A table of the server's, below `public`.
const REST: &str = "/rest/v1/";

/// A project, as its signed-in user sees it.
pub(crate) struct Account {
    link: Link,
    /// For files: a slow line takes long to carry a part of one, and the answer comes after it.
    files: Link,
    base: String,
}

impl Account {
    /// Prepares requests to a project. Nothing is sent.
    pub fn new(options: &PlainOptions) -> Result<Self, SetupError> {
        let (url, base) = project(options)?;
        let patient = PlainOptions { timeout: REMOTE_DEADLINE, ..options.clone() };
        Ok(Self { link: Link::new(options, &url)?, files: Link::new(&patient, &url)?, base })
    }

    /// The signed-in user's id; none where nobody is signed in.
    pub fn user(&self) -> Option<String> {
        self.link.user()
    }

    /// Rows of a table.
    pub async fn rows<T: DeserializeOwned>(&self, table: &str, query: Query) -> Result<Vec<T>, Fault> {
        let answer = self.link.send(Question::get(query.on(&self.path(table)))).await?;
        serde_json::from_slice(&answer.body).map_err(|_| fault::not_json(answer.status, &answer.body))
    }

    /// Inserts rows; those whose key (these columns) is there already are overwritten.
    pub async fn upsert<T: Serialize>(&self, table: &str, key: &str, rows: &[T]) -> Result<(), Fault> {
        let unwritten = |error: serde_json::Error| Fault::new(FaultKind::Refused, error.to_string());
        let question = Question {
            method: Method::POST,
            line: Query::default().with("on_conflict", key).on(&self.path(table)),
            schema: None,
            prefer: Some("resolution=merge-duplicates,return=minimal"),
            body: Some(serde_json::to_string(rows).map_err(unwritten)?),
        };
        self.link.send(question).await.map(|_| ())
    }

    /// Deletes the rows that meet the query and have one of these values in a column.
    pub async fn delete(&self, table: &str, query: Query, column: &str, values: &[&str]) -> Result<(), Fault> {
        let path = self.path(table);
        for chunk in by_key(column, values, query.room(&path)) {
            let line = query.clone().with_filter(&chunk.filter).on(&path);
            let prefer = Some("return=minimal");
            self.link.send(Question { method: Method::DELETE, line, schema: None, prefer, body: None }).await?;
        }
        Ok(())
    }

    /// A request for a file, to a path below the project's address.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.files.begun(method, &format!("{}{path}", self.base))
    }

    /// Sends it, and waits for its answer to begin; one that is no success is a fault.
    pub async fn answered(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let unsent = |error: reqwest::Error| Fault::new(FaultKind::Refused, error.without_url().to_string());
        self.files.answered(request.build().map_err(unsent)?).await
    }

    fn path(&self, table: &str) -> String {
        format!("{}{REST}{table}", self.base)
    }
}
