//! Every address of the API, and what it asks the handle.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Path, ServiceConfig, delete, get, post, put};
use actix_web::{HttpResponse, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidelock_actors::document::Document;

use super::ANSWER_DEADLINE;
use super::bodies::{
    BulkSaved, Carried, Chosen, Compaction, Decided, Decision, Deleted, Discarded, Fetch, GivenUp, Keyed, Named,
    Question, Redriven, Saved,
};
use super::exporter::{CONTENT_TYPE, Exporter};
use super::keys::key_of;
use super::logs;
use super::problem::Problem;
use crate::adapters::sqlite::{ListQuery, QueueFilter};
use crate::error::Error;
use crate::{AuditRequest, RestoreRequest, SyncRequest, Tidelock};

pub(super) type Answer = Result<HttpResponse, Problem>;
pub(super) type Body = Result<web::Bytes, actix_web::Error>;

/// The table of contents.
pub(super) fn configure(config: &mut ServiceConfig) {
    let api = web::scope("/v1")
        .service(at("/status").route(get().to(status)))
        .service(at("/metrics").route(get().to(metrics)))
        .service(at("/sync").route(post().to(sync)))
        .service(at("/audit").route(post().to(audit)))
        .service(at("/probe").route(post().to(probe)))
        .service(at("/inspect").route(post().to(inspect)))
        .service(at("/doctor").route(get().to(doctor)))
        .service(at("/collections/{collection}/records").route(get().to(list)).route(post().to(bulk_save)))
        .service(
            at("/collections/{collection}/records/{key}")
                .route(get().to(read))
                .route(put().to(save))
                .route(delete().to(remove)),
        )
        .service(at("/collections/{collection}/records/{key}/history").route(get().to(history)))
        .service(at("/collections/{collection}/records/{key}/diff").route(get().to(diff)))
        .service(at("/rounds").route(get().to(rounds)))
        .service(at("/rollback").route(post().to(roll_back)))
        .service(at("/query").route(post().to(query)))
        .service(at("/queue").route(get().to(queue)))
        .service(at("/queue/redrive").route(post().to(redrive)))
        .service(at("/queue/discard").route(post().to(discard)))
        .service(at("/conflicts").route(get().to(conflicts)))
        .service(at("/conflicts/{id}").route(get().to(conflict)))
        .service(at("/conflicts/{id}/resolve").route(post().to(resolve)))
        .service(at("/conflicts/{id}/undo").route(post().to(undo)))
        .service(at("/backups").route(get().to(backups)).route(post().to(back_up)))
        .service(at("/backups/everywhere").route(get().to(backups_everywhere)))
        .service(at("/backups/fetch").route(post().to(fetch_backup)))
        .service(at("/backups/info").route(get().to(backup_info)))
        .service(at("/backups/verify").route(post().to(verify_backup)))
        .service(at("/backups/export").route(post().to(export_backup)))
        .service(at("/backups/restore").route(post().to(restore)))
        .service(at("/backups/restore-copy").route(post().to(restore_copy)))
        .service(at("/logs").route(get().to(logs::logs)))
        .service(at("/logs/level").route(put().to(logs::set_level)))
        .service(at("/logs/calls").route(post().to(logs::log_call)))
        .service(at("/verify").route(get().to(verify)))
        .service(at("/stats").route(get().to(stats)))
        .service(at("/compact").route(post().to(compact)));
    config.service(api).default_service(web::to(no_such_address));
}

/// A resource that answers a wrong method with a problem, too.
fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::to(wrong_method))
}

async fn no_such_address() -> Answer {
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "no_such_address",
        1,
        "there is nothing at this address; all begin with /v1/",
    ))
}

async fn wrong_method() -> Answer {
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", 1, "this address does not take that method"))
}

async fn status(tidelock: Data<Tidelock>) -> Answer {
    json(&tidelock.status())
}

/// The gauges are set when somebody asks.
async fn metrics(tidelock: Data<Tidelock>, exporter: Data<Option<Exporter>>) -> Answer {
    let Some(exporter) = exporter.get_ref() else {
        let detail = "what is measured goes to the exporter that this program has installed itself";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_metrics", 1, detail));
    };
    tidelock.set_gauges();
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(exporter.render()))
}

/// A round takes as long as it takes: it has no deadline here.
async fn sync(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let body = body_of(body)?;
    let request = if body.is_empty() { SyncRequest::default() } else { parsed(&body)? };
    json(&tidelock.sync(request).await?)
}

/// It takes as long as it takes, too.
async fn audit(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let body = body_of(body)?;
    let request = if body.is_empty() { AuditRequest::default() } else { parsed(&body)? };
    json(&tidelock.audit(request).await?)
}

async fn probe(tidelock: Data<Tidelock>) -> Answer {
    in_time(tidelock.probe()).await?;
    json(&serde_json::json!({}))
}

async fn inspect(tidelock: Data<Tidelock>) -> Answer {
    json(&in_time(tidelock.inspect()).await?)
}

/// Every look that it takes is bounded.
async fn doctor(tidelock: Data<Tidelock>) -> Answer {
    json(&tidelock.doctor().await)
}

async fn list(tidelock: Data<Tidelock>, path: Path<String>, query: web::Query<Vec<(String, String)>>) -> Answer {
    let mut wanted = ListQuery::default();
    for (name, value) in query.into_inner() {
        match name.as_str() {
            "filter" => wanted.filter = parameter("filter", &value)?,
            "order" => wanted.order = parameter("order", &value)?,
            "limit" => wanted.limit = parameter("limit", &value)?,
            "after" => wanted.after = Some(value),
            other => return Err(unknown_parameter(other, "filter, order, limit and after")),
        }
    }
    wanted.collection = path.into_inner();
    json(&in_time(tidelock.list(wanted)).await?)
}

async fn bulk_save(tidelock: Data<Tidelock>, path: Path<String>, body: Body) -> Answer {
    let collection = path.into_inner();
    let field = key_field(&tidelock, &collection);
    let keyed: Vec<Keyed> = parsed(&body_of(body)?)?;
    let documents = keyed
        .into_iter()
        .map(|Keyed { key, document }| Ok((key.map_or_else(|| key_of(&document, &field), Ok)?, document)))
        .collect::<Result<Vec<_>, Problem>>()?;
    let ids = documents.iter().map(|(key, _)| key.clone()).collect();
    json(&BulkSaved { changed: in_time(tidelock.bulk_save(&collection, documents)).await?, ids })
}

async fn read(tidelock: Data<Tidelock>, path: Path<(String, String)>) -> Answer {
    let (collection, key) = path.into_inner();
    match in_time(tidelock.get(&collection, &key)).await? {
        Some(document) => json(&document),
        None => {
            let detail = format!("there is no record {key:?} in {collection}");
            Err(Problem::new(StatusCode::NOT_FOUND, "not_found", 1, detail))
        }
    }
}

async fn save(tidelock: Data<Tidelock>, path: Path<(String, String)>, body: Body) -> Answer {
    let (collection, key) = path.into_inner();
    let document: Document = parsed(&body_of(body)?)?;
    in_time(tidelock.save(&collection, &key, document)).await?;
    json(&Saved { id: key })
}

async fn remove(tidelock: Data<Tidelock>, path: Path<(String, String)>) -> Answer {
    let (collection, key) = path.into_inner();
    json(&Deleted { deleted: in_time(tidelock.delete(&collection, &key)).await? })
}

async fn history(tidelock: Data<Tidelock>, path: Path<(String, String)>) -> Answer {
    let (collection, key) = path.into_inner();
    json(&in_time(tidelock.history(&collection, &key)).await?)
}

async fn diff(
    tidelock: Data<Tidelock>,
    path: Path<(String, String)>,
    query: web::Query<Vec<(String, String)>>,
) -> Answer {
    let (collection, key) = path.into_inner();
    let (mut from, mut to) = (None, None);
    for (name, value) in query.into_inner() {
        match name.as_str() {
            "from" => from = Some(parameter("from", &value)?),
            "to" => to = Some(parameter("to", &value)?),
            other => return Err(unknown_parameter(other, "from and to")),
        }
    }
    json(&in_time(tidelock.diff(&collection, &key, from, to)).await?)
}

async fn rounds(tidelock: Data<Tidelock>) -> Answer {
    json(&in_time(tidelock.rounds()).await?)
}

async fn roll_back(tidelock: Data<Tidelock>, body: Body) -> Answer {
    json(&in_time(tidelock.roll_back(parsed(&body_of(body)?)?)).await?)
}

async fn query(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let Question { sql, parameters } = parsed(&body_of(body)?)?;
    json(&in_time(tidelock.query(&sql, parameters)).await?)
}

async fn queue(tidelock: Data<Tidelock>, query: web::Query<Vec<(String, String)>>) -> Answer {
    let mut wanted = QueueFilter::default();
    for (name, value) in query.into_inner() {
        match name.as_str() {
            "state" => wanted.state = parameter("state", &serde_json::Value::from(value).to_string())?,
            "collection" => wanted.collection = Some(value),
            "after" => wanted.after = parameter("after", &value)?,
            "limit" => wanted.limit = parameter("limit", &value)?,
            other => return Err(unknown_parameter(other, "state, collection, after and limit")),
        }
    }
    json(&in_time(tidelock.queue(wanted)).await?)
}

async fn redrive(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let Chosen { ids } = parsed(&body_of(body)?)?;
    json(&Redriven { redriven: in_time(tidelock.redrive(ids)).await? })
}

async fn discard(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let GivenUp { ids, only } = parsed(&body_of(body)?)?;
    let discarded = match only {
        true => in_time(tidelock.discard_alone(ids)).await?,
        false => in_time(tidelock.discard(ids)).await?,
    };
    json(&Discarded { discarded })
}

async fn conflicts(tidelock: Data<Tidelock>, query: web::Query<Vec<(String, String)>>) -> Answer {
    let mut all = false;
    for (name, value) in query.into_inner() {
        match name.as_str() {
            "all" => all = parameter("all", &value)?,
            other => return Err(unknown_parameter(other, "all")),
        }
    }
    json(&in_time(tidelock.conflicts(all)).await?)
}

async fn conflict(tidelock: Data<Tidelock>, path: Path<i64>) -> Answer {
    json(&in_time(tidelock.conflict(path.into_inner())).await?)
}

async fn resolve(tidelock: Data<Tidelock>, path: Path<i64>, body: Body) -> Answer {
    let id = path.into_inner();
    let decision: Decision = parsed(&body_of(body)?)?;
    in_time(tidelock.resolve(id, decision.into())).await?;
    json(&Decided { id })
}

async fn undo(tidelock: Data<Tidelock>, path: Path<i64>) -> Answer {
    let id = path.into_inner();
    in_time(tidelock.undo(id)).await?;
    json(&Decided { id })
}

async fn backups(tidelock: Data<Tidelock>) -> Answer {
    json(&in_time(tidelock.backups().list()).await?)
}

async fn backups_everywhere(tidelock: Data<Tidelock>) -> Answer {
    json(&tidelock.backups().list_everywhere().await?)
}

async fn fetch_backup(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let Fetch { backup, to } = parsed(&body_of(body)?)?;
    json(&tidelock.backups().fetch(backup, to).await?)
}

async fn backup_info(tidelock: Data<Tidelock>) -> Answer {
    json(&in_time(tidelock.backups().info()).await?)
}

/// What reads or writes the whole store takes as long as it takes.
async fn back_up(tidelock: Data<Tidelock>) -> Answer {
    json(&tidelock.backup().await?)
}

async fn verify_backup(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let Named { backup } = parsed(&body_of(body)?)?;
    json(&tidelock.backups().verify(backup).await?)
}

async fn export_backup(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let Carried { point, to } = parsed(&body_of(body)?)?;
    json(&tidelock.backups().export(point, to).await?)
}

async fn restore(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let request: RestoreRequest = parsed(&body_of(body)?)?;
    json(&tidelock.restore(request).await?)
}

async fn restore_copy(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let Carried { point, to } = parsed(&body_of(body)?)?;
    json(&tidelock.backups().restore_to(point, to).await?)
}

async fn verify(tidelock: Data<Tidelock>) -> Answer {
    json(&tidelock.verify_integrity().await?)
}

/// Exact sizes need everything to be read, so they take as long as that takes.
async fn stats(tidelock: Data<Tidelock>, query: web::Query<Vec<(String, String)>>) -> Answer {
    let mut exact = false;
    for (name, value) in query.into_inner() {
        match name.as_str() {
            "exact" => exact = parameter("exact", &value)?,
            other => return Err(unknown_parameter(other, "exact")),
        }
    }
    match exact {
        true => json(&tidelock.exact_stats().await?),
        false => json(&in_time(tidelock.stats()).await?),
    }
}

async fn compact(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let body = body_of(body)?;
    let Compaction { forget_history } = if body.is_empty() { Compaction::default() } else { parsed(&body)? };
    let compacted = match forget_history {
        true => tidelock.compact_and_forget().await?,
        false => tidelock.compact().await?,
    };
    json(&compacted)
}

/// The field that holds a collection's keys; an unknown collection is refused by the handle.
fn key_field(tidelock: &Tidelock, collection: &str) -> String {
    tidelock.config().collections.get(collection).map_or_else(|| "id".to_owned(), |collection| collection.key.clone())
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "invalid", 1, error.to_string()))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

pub(super) fn body_of(body: Body) -> Result<web::Bytes, Problem> {
    body.map_err(|error| {
        let status = error.as_response_error().status_code();
        Problem::new(status, "body", 2, format!("the request's body cannot be read: {error}"))
    })
}

/// Documents inside keep their text, as everywhere.
pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the request's body is not as it must be: {error}")))
}

pub(super) fn parameter<T: DeserializeOwned>(name: &str, value: &str) -> Result<T, Problem> {
    serde_json::from_str(value)
        .map_err(|error| Problem::bad_request(format!("{name} = {value} is not allowed: {error}")))
}

pub(super) fn unknown_parameter(name: &str, known: &str) -> Problem {
    Problem::bad_request(format!("unknown parameter {name:?}; there are {known}"))
}

/// The answer, if it comes within the deadline.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Problem> {
    match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let detail =
                format!("no answer within {} s; it may still be carried out", Duration::as_secs(&ANSWER_DEADLINE));
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "late", 1, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_address_is_documented() {
        let documentation = include_str!("../../docs/local-api.md");
        let addresses: Vec<_> = include_str!("routes.rs")
            .split("at(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|address| address.starts_with('/'))
            .collect();
        assert!(addresses.len() > 10, "{addresses:?}");
        for address in addresses {
            assert!(documentation.contains(&format!(" /v1{address}`")), "{address} is missing in docs/local-api.md");
        }
    }
}
