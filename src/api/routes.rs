//! The table of contents: every address of the API, with its handler and what it does.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::Resource;
use actix_web::http::StatusCode;
use actix_web::web::{self, PathConfig, ServiceConfig};

use super::address::{Address, delete, get, post, put};
use super::answered::Answer;
use super::problem::Problem;
use super::{ANSWER_DEADLINE, backups, events, history, logs, records, review, sync, upkeep};
use crate::error::Error;

/// Every address.
pub(super) fn addresses() -> Vec<Address> {
    vec![
        get("/status", sync::status, "what is going on"),
        get("/events", events::events, "the status and changes of records as they happen, as server-sent events"),
        get("/metrics", sync::metrics, "what is measured, for Prometheus"),
        get("/openapi.json", openapi, "this document"),
        post("/sync", sync::sync, "runs a round and waits for its end"),
        post("/audit", sync::audit, "compares what is here with the server, and repairs it if that is wanted"),
        post("/probe", sync::probe, "one small request to the server"),
        post("/inspect", sync::inspect, "asks the server whether tables and clock fit"),
        get("/doctor", sync::doctor, "everything that is needed, each with its state and the next step"),
        get("/collections/{collection}/records", records::list, "records by filter and order, page by page"),
        post("/collections/{collection}/records", records::bulk_save, "saves several records in one transaction"),
        post("/collections/{collection}/read", records::read_several, "several records by their keys"),
        get("/collections/{collection}/records/{key}", records::read, "a record"),
        put("/collections/{collection}/records/{key}", records::save, "creates a record or lays fields over it"),
        delete("/collections/{collection}/records/{key}", records::remove, "deletes a record"),
        get("/collections/{collection}/records/{key}/history", history::history, "a record's earlier versions"),
        get("/collections/{collection}/records/{key}/diff", history::diff, "what differs between two versions"),
        post("/transaction", records::transact, "saves and deletes records, all of them or none"),
        post("/query", records::query, "read-only SQL, a view per collection"),
        get("/rounds", history::rounds, "the rounds and rollbacks that changed records here"),
        post("/rollback", history::roll_back, "makes records again what they were"),
        get("/queue", review::queue, "operations that wait, are parked or held"),
        post("/queue/redrive", review::redrive, "puts parked operations back"),
        post("/queue/discard", review::discard, "gives parked operations up"),
        get("/conflicts", review::conflicts, "conflicts, the newest first"),
        get("/conflicts/{id}", review::conflict, "a conflict"),
        post("/conflicts/{id}/resolve", review::resolve, "decides a conflict"),
        post("/conflicts/{id}/undo", review::undo, "takes the decision of a conflict back"),
        get("/backups", backups::backups, "the backups of this device"),
        post("/backups", backups::back_up, "takes a backup now"),
        get("/backups/everywhere", backups::backups_everywhere, "the backups of all of the user's devices"),
        post("/backups/fetch", backups::fetch_backup, "fetches a backup from Supabase Storage into a file"),
        get("/backups/info", backups::backup_info, "the newest backup, and all of them in numbers"),
        post("/backups/verify", backups::verify_backup, "restores a backup beside and checks that"),
        post("/backups/export", backups::export_backup, "writes one file that needs no other"),
        post("/backups/restore", backups::restore, "restores into the running store"),
        post("/backups/restore-copy", backups::restore_copy, "makes a store in another folder"),
        get("/logs", logs::logs, "the last entries of the log"),
        put("/logs/level", logs::set_level, "says and keeps messages from another level on"),
        post("/logs/calls", logs::log_call, "notes a call of a paid service"),
        get("/verify", upkeep::verify, "checks the store against itself"),
        get("/stats", upkeep::stats, "sizes and counts"),
        post("/compact", upkeep::compact, "gives back the room that what was deleted has left"),
    ]
}

/// Puts the table in force.
pub(super) fn configure(config: &mut ServiceConfig) {
    let mut resources: BTreeMap<&str, Resource> = BTreeMap::new();
    for address in addresses() {
        // A wrong method is answered with a problem, too.
        let new = || web::resource(address.path).default_service(web::to(wrong_method));
        let resource = resources.remove(address.path).unwrap_or_else(new);
        resources.insert(address.path, resource.route(address.route));
    }
    // An address without variable parts goes before one that has them.
    let api = resources.into_values().fold(web::scope("/v1"), actix_web::Scope::service);
    let misread = |error: actix_web::error::PathError, _: &_| {
        Problem::new(StatusCode::NOT_FOUND, "no_such_address", 1, format!("the address cannot be read: {error}")).into()
    };
    config.app_data(PathConfig::default().error_handler(misread));
    config.service(api).default_service(web::to(no_such_address));
}

async fn openapi() -> Answer<serde_json::Value> {
    Ok(super::answered::Json(super::openapi::document()))
}

async fn no_such_address() -> Answer<()> {
    let detail = "there is nothing at this address; all begin with /v1/";
    Err(Problem::new(StatusCode::NOT_FOUND, "no_such_address", 1, detail))
}

async fn wrong_method() -> Answer<()> {
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", 1, "this address does not take that method"))
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
    use super::*;

    #[test]
    fn every_address_is_documented_for_people() {
        let documentation = include_str!("../../docs/local-api.md");
        for Address { method, path, .. } in addresses() {
            let row = format!("| `{method} /v1{path}` |");
            assert!(documentation.contains(&row), "{row} is missing in docs/local-api.md");
        }
    }
}
