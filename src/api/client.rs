//! The API from the other side: what a command uses when a process owns the store. Its methods are the handle's.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidelock_actors::document::Document;
use tidelock_actors::limits::DOCTOR_ALL;
use tidelock_actors::logs::{Kept, LogQuery};
use tidelock_actors::model::Compacted;
use tidelock_actors::writes::Choice;

use super::bodies::{
    BulkSaved, Carried, Chosen, Compaction, Decided, Decision, Deleted, Discarded, Fetch, GivenUp, Keyed, LeveledLog,
    Named, Question, Redriven, Saved,
};
use super::endpoint::Endpoint;
use super::problem::Problem;
use crate::adapters::sqlite::{
    ConflictView, Difference, ListQuery, Listed, QueueFilter, QueuedOperation, RoundView, Stats, Verified, VersionView,
};
use crate::config::Level;
use crate::status::Status;
use crate::{
    AuditReport, AuditRequest, BackupInfo, BackupTrial, BackupView, Checkup, Exported, Inspection, Notice, Point,
    RestoreReport, RestoreRequest, RestoredCopy, RollbackReport, RollbackRequest, SyncReport, SyncRequest,
};

/// How long the process may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long the process may take to say that it is there.
const GREETING_DEADLINE: Duration = Duration::from_secs(5);

/// Talks to the process that owns a store.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
}

impl Client {
    /// Connects, if a process answers at this endpoint and takes its token.
    pub async fn connect(endpoint: Endpoint) -> Option<Self> {
        // A proxy has no business between two programs of one machine.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_DEADLINE).build().ok()?;
        let client = Self { http, endpoint };
        let greeting = client.request(Method::GET, &["status"])?.timeout(GREETING_DEADLINE).send().await.ok()?;
        greeting.status().is_success().then_some(client)
    }

    /// Where the process answers.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// As of the handle.
    pub async fn status(&self) -> Result<Status, Problem> {
        self.get_from(&["status"], &[]).await
    }

    /// As of the handle; it takes as long as the round takes.
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncReport, Problem> {
        self.send(Method::POST, &["sync"], &request).await
    }

    /// As of the handle; it takes as long as the round takes.
    pub async fn audit(&self, request: AuditRequest) -> Result<AuditReport, Problem> {
        self.send(Method::POST, &["audit"], &request).await
    }

    /// As of the handle.
    pub async fn probe(&self) -> Result<(), Problem> {
        self.send::<serde_json::Value>(Method::POST, &["probe"], &()).await.map(|_| ())
    }

    /// As of the handle.
    pub async fn inspect(&self) -> Result<Inspection, Problem> {
        self.send(Method::POST, &["inspect"], &()).await
    }

    /// As of the handle; it may take up to two minutes.
    pub async fn doctor(&self) -> Result<Checkup, Problem> {
        match self.request(Method::GET, &["doctor"]) {
            Some(request) => answer(request.timeout(DOCTOR_ALL).send().await).await,
            None => Err(no_address()),
        }
    }

    /// What is measured in the process, in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String, Problem> {
        let Some(request) = self.request(Method::GET, &["metrics"]) else { return Err(no_address()) };
        let response = request.send().await.map_err(|error| lost(&error))?;
        if !response.status().is_success() {
            return answer(Ok(response)).await;
        }
        response.text().await.map_err(|error| lost(&error))
    }

    /// As of the handle.
    pub async fn get(&self, collection: &str, key: &str) -> Result<Option<Document>, Problem> {
        match self.get_from(&["collections", collection, "records", key], &[]).await {
            Err(problem) if problem.code == "not_found" => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// As of the handle.
    pub async fn list(&self, query: ListQuery) -> Result<Listed, Problem> {
        let mut parameters =
            vec![("filter", json(&query.filter)), ("order", json(&query.order)), ("limit", query.limit.to_string())];
        parameters.extend(query.after.map(|after| ("after", after)));
        self.get_from(&["collections", &query.collection, "records"], &parameters).await
    }

    /// As of the handle.
    pub async fn query(&self, sql: &str, parameters: Vec<serde_json::Value>) -> Result<Vec<Document>, Problem> {
        self.send(Method::POST, &["query"], &Question { sql: sql.to_owned(), parameters }).await
    }

    /// As of the handle.
    pub async fn save(&self, collection: &str, key: &str, document: Document) -> Result<(), Problem> {
        let path = ["collections", collection, "records", key];
        self.send::<Saved>(Method::PUT, &path, &document).await.map(|_| ())
    }

    /// As of the handle.
    pub async fn bulk_save(&self, collection: &str, documents: Vec<(String, Document)>) -> Result<u64, Problem> {
        let keyed: Vec<_> = documents.into_iter().map(|(key, document)| Keyed { key: Some(key), document }).collect();
        let path = ["collections", collection, "records"];
        self.send::<BulkSaved>(Method::POST, &path, &keyed).await.map(|saved| saved.changed)
    }

    /// As of the handle.
    pub async fn delete(&self, collection: &str, key: &str) -> Result<bool, Problem> {
        let path = ["collections", collection, "records", key];
        self.send::<Deleted>(Method::DELETE, &path, &()).await.map(|answer| answer.deleted)
    }

    /// As of the handle.
    pub async fn history(&self, collection: &str, key: &str) -> Result<Vec<VersionView>, Problem> {
        self.get_from(&["collections", collection, "records", key, "history"], &[]).await
    }

    /// As of the handle.
    pub async fn diff(
        &self,
        collection: &str,
        key: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<Difference, Problem> {
        let named = [("from", from), ("to", to)].into_iter();
        let parameters: Vec<_> = named.filter_map(|(name, version)| Some((name, version?.to_string()))).collect();
        self.get_from(&["collections", collection, "records", key, "diff"], &parameters).await
    }

    /// As of the handle.
    pub async fn rounds(&self) -> Result<Vec<RoundView>, Problem> {
        self.get_from(&["rounds"], &[]).await
    }

    /// As of the handle.
    pub async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport, Problem> {
        self.send(Method::POST, &["rollback"], &request).await
    }

    /// As of the handle.
    pub async fn queue(&self, filter: QueueFilter) -> Result<Vec<QueuedOperation>, Problem> {
        let mut parameters = vec![("after", filter.after.to_string()), ("limit", filter.limit.to_string())];
        parameters.extend(filter.collection.map(|collection| ("collection", collection)));
        parameters.extend(filter.state.map(|state| ("state", json(&state).trim_matches('"').to_owned())));
        self.get_from(&["queue"], &parameters).await
    }

    /// As of the handle.
    pub async fn redrive(&self, ids: Vec<i64>) -> Result<u64, Problem> {
        self.send::<Redriven>(Method::POST, &["queue", "redrive"], &Chosen { ids }).await.map(|answer| answer.redriven)
    }

    /// As of the handle.
    pub async fn discard(&self, ids: Vec<i64>) -> Result<u64, Problem> {
        self.give_up(&GivenUp { ids, only: false }).await
    }

    /// As of the handle.
    pub async fn discard_alone(&self, ids: Vec<i64>) -> Result<u64, Problem> {
        self.give_up(&GivenUp { ids, only: true }).await
    }

    async fn give_up(&self, which: &GivenUp) -> Result<u64, Problem> {
        self.send::<Discarded>(Method::POST, &["queue", "discard"], which).await.map(|answer| answer.discarded)
    }

    /// As of the handle.
    pub async fn conflicts(&self, all: bool) -> Result<Vec<ConflictView>, Problem> {
        self.get_from(&["conflicts"], &[("all", all.to_string())]).await
    }

    /// As of the handle.
    pub async fn conflict(&self, id: i64) -> Result<ConflictView, Problem> {
        self.get_from(&["conflicts", &id.to_string()], &[]).await
    }

    /// As of the handle.
    pub async fn resolve(&self, id: i64, choice: Choice) -> Result<(), Problem> {
        let path = ["conflicts", &id.to_string(), "resolve"];
        self.send::<Decided>(Method::POST, &path, &Decision::from(choice)).await.map(|_| ())
    }

    /// As of the handle.
    pub async fn undo(&self, id: i64) -> Result<(), Problem> {
        self.send::<Decided>(Method::POST, &["conflicts", &id.to_string(), "undo"], &()).await.map(|_| ())
    }

    /// As of the handle; it takes as long as the backup takes.
    pub async fn backup(&self) -> Result<BackupView, Problem> {
        self.send(Method::POST, &["backups"], &()).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn backups(&self) -> Result<Vec<BackupView>, Problem> {
        self.get_from(&["backups"], &[]).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn backup_info(&self) -> Result<BackupInfo, Problem> {
        self.get_from(&["backups", "info"], &[]).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn verify_backup(&self, backup: Option<String>) -> Result<BackupTrial, Problem> {
        self.send(Method::POST, &["backups", "verify"], &Named { backup }).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn export_backup(&self, point: Point, to: PathBuf) -> Result<Exported, Problem> {
        self.send(Method::POST, &["backups", "export"], &Carried { point, to }).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn backups_everywhere(&self) -> Result<Vec<Notice>, Problem> {
        self.get_from(&["backups", "everywhere"], &[]).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn fetch_backup(&self, backup: Option<String>, to: PathBuf) -> Result<Exported, Problem> {
        self.send(Method::POST, &["backups", "fetch"], &Fetch { backup, to }).await
    }

    /// As of the handle; it takes as long as it takes.
    pub async fn restore(&self, request: RestoreRequest) -> Result<RestoreReport, Problem> {
        self.send(Method::POST, &["backups", "restore"], &request).await
    }

    /// As of [`Backups`](crate::Backups).
    pub async fn restore_copy(&self, point: Point, to: PathBuf) -> Result<RestoredCopy, Problem> {
        self.send(Method::POST, &["backups", "restore-copy"], &Carried { point, to }).await
    }

    /// As of [`Logger`](crate::Logger).
    pub async fn logs(&self, query: LogQuery) -> Result<Vec<Kept>, Problem> {
        let mut parameters = Vec::new();
        parameters.extend(query.level.map(|level| ("level", level.name().to_owned())));
        parameters.extend(query.since.map(|since| ("since", since.to_string())));
        parameters.extend(query.after.map(|after| ("after", after.to_string())));
        parameters.extend(query.limit.map(|limit| ("limit", limit.to_string())));
        self.get_from(&["logs"], &parameters).await
    }

    /// As of [`Logger`](crate::Logger), and what the process says changes as well.
    pub async fn set_log_level(&self, level: Level) -> Result<LeveledLog, Problem> {
        self.send(Method::PUT, &["logs", "level"], &LeveledLog { level }).await
    }

    /// As of the handle.
    pub async fn verify_integrity(&self) -> Result<Verified, Problem> {
        self.get_from(&["verify"], &[]).await
    }

    /// As of the handle.
    pub async fn stats(&self) -> Result<Stats, Problem> {
        self.get_from(&["stats"], &[]).await
    }

    /// As of the handle; it takes as long as reading everything takes.
    pub async fn exact_stats(&self) -> Result<Stats, Problem> {
        self.get_from(&["stats"], &[("exact", true.to_string())]).await
    }

    /// As of the handle; it takes as long as writing everything takes.
    pub async fn compact(&self) -> Result<Compacted, Problem> {
        self.send(Method::POST, &["compact"], &Compaction { forget_history: false }).await
    }

    /// As of the handle; it takes as long as writing everything takes.
    pub async fn compact_and_forget(&self) -> Result<Compacted, Problem> {
        self.send(Method::POST, &["compact"], &Compaction { forget_history: true }).await
    }

    async fn get_from<T: DeserializeOwned>(&self, path: &[&str], parameters: &[(&str, String)]) -> Result<T, Problem> {
        match self.request(Method::GET, path) {
            Some(request) => answer(request.query(parameters).send().await).await,
            None => Err(no_address()),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        match self.request(method, path) {
            Some(request) => answer(request.body(json(body)).send().await).await,
            None => Err(no_address()),
        }
    }

    /// A request to this path under `/v1`; each part is encoded as a whole, slashes and all.
    fn request(&self, method: Method, path: &[&str]) -> Option<RequestBuilder> {
        let mut url = Url::parse(&format!("http://{}/v1", self.endpoint.address)).ok()?;
        url.path_segments_mut().ok()?.extend(path);
        let request = self.http.request(method, url).bearer_auth(self.endpoint.token.expose_secret());
        Some(request.header("content-type", "application/json"))
    }
}

fn json(value: &impl Serialize) -> String {
    // What is sent are our own plain types, which always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

async fn answer<T: DeserializeOwned>(response: reqwest::Result<Response>) -> Result<T, Problem> {
    let response = response.map_err(|error| lost(&error))?;
    let is_success = response.status().is_success();
    let body = response.bytes().await.map_err(|error| lost(&error))?;
    let strange = |error: serde_json::Error| {
        failed(format!("the process answered in words of another version ({error}); restart it"))
    };
    if is_success {
        serde_json::from_slice(&body).map_err(strange)
    } else {
        Err(serde_json::from_slice(&body).unwrap_or_else(strange))
    }
}

/// The process ended, or is stuck.
fn lost(error: &reqwest::Error) -> Problem {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(" ({cause})"));
    failed(format!("the process that owns the store stopped answering{cause}; what it acknowledged is kept, try again"))
}

fn no_address() -> Problem {
    failed("the process's address cannot be used; restart it".to_owned())
}

fn failed(detail: String) -> Problem {
    Problem::new(actix_web::http::StatusCode::BAD_GATEWAY, "process", 1, detail)
}
