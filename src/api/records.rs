//! Records over the API.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use schemars::JsonSchema;
use serde::Deserialize;
use tidelock_actors::document::Document;

use super::READ_KEYS;
use super::answered::{Answer, Json};
use super::asked::{Body, JsonText, Query};
use super::bodies::{BulkSaved, Change, Changes, Deleted, Keyed, Keys, Question, Read, Saved};
use super::keys::key_of;
use super::problem::Problem;
use super::routes::in_time;
use crate::Tidelock;
use crate::adapters::sqlite::{Condition, ListQuery, Listed};

/// Which records of a collection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// What has to hold of a record; all of it.
    filter: JsonText<Vec<Condition>>,
    /// Fields, each with whether it falls; the key decides ties. None means by key.
    order: JsonText<Vec<(String, bool)>>,
    /// The most records; 0 means as many as one list may return.
    limit: usize,
    /// Where the last page ended: its `next`.
    after: Option<String>,
}

pub(super) async fn list(tidelock: Data<Tidelock>, path: Path<String>, wanted: Query<Wanted>) -> Answer<Listed> {
    let Query(Wanted { filter: JsonText(filter), order: JsonText(order), limit, after }) = wanted;
    let query = ListQuery { collection: path.into_inner(), filter, order, limit, after };
    Ok(Json(in_time(tidelock.list(query)).await?))
}

pub(super) async fn bulk_save(
    tidelock: Data<Tidelock>,
    path: Path<String>,
    Body(keyed): Body<Vec<Keyed>>,
) -> Answer<BulkSaved> {
    let collection = path.into_inner();
    let field = key_field(&tidelock, &collection);
    let documents = keyed
        .into_iter()
        .map(|Keyed { key, document }| Ok((key.map_or_else(|| key_of(&document, &field), Ok)?, document)))
        .collect::<Result<Vec<_>, Problem>>()?;
    let ids = documents.iter().map(|(key, _)| key.clone()).collect();
    Ok(Json(BulkSaved { changed: in_time(tidelock.bulk_save(&collection, documents)).await?, ids }))
}

/// As many as are there; what is not there is not in the answer.
pub(super) async fn read_several(
    tidelock: Data<Tidelock>,
    path: Path<String>,
    Body(Keys { keys }): Body<Keys>,
) -> Answer<Read> {
    if keys.len() > READ_KEYS {
        return Err(Problem::bad_request(format!("{} keys are asked for; at most {READ_KEYS} at once", keys.len())));
    }
    let collection = path.into_inner();
    let read = async {
        let mut documents = BTreeMap::new();
        for key in keys {
            if let Some(document) = tidelock.get(&collection, &key).await? {
                documents.insert(key, document);
            }
        }
        Ok(Read { documents })
    };
    Ok(Json(in_time(read).await?))
}

pub(super) async fn read(tidelock: Data<Tidelock>, path: Path<(String, String)>) -> Answer<Document> {
    let (collection, key) = path.into_inner();
    match in_time(tidelock.get(&collection, &key)).await? {
        Some(document) => Ok(Json(document)),
        None => {
            let detail = format!("there is no record {key:?} in {collection}");
            Err(Problem::new(StatusCode::NOT_FOUND, "not_found", 1, detail))
        }
    }
}

pub(super) async fn save(
    tidelock: Data<Tidelock>,
    path: Path<(String, String)>,
    Body(document): Body<Document>,
) -> Answer<Saved> {
    let (collection, key) = path.into_inner();
    in_time(tidelock.save(&collection, &key, document)).await?;
    Ok(Json(Saved { id: key }))
}

pub(super) async fn remove(tidelock: Data<Tidelock>, path: Path<(String, String)>) -> Answer<Deleted> {
    let (collection, key) = path.into_inner();
    Ok(Json(Deleted { deleted: in_time(tidelock.delete(&collection, &key)).await? }))
}

pub(super) async fn transact(
    tidelock: Data<Tidelock>,
    Body(Changes { operations }): Body<Changes>,
) -> Answer<BulkSaved> {
    let mut ids = Vec::with_capacity(operations.len());
    let mut changes = Vec::with_capacity(operations.len());
    for operation in operations {
        let (collection, key, document) = match operation {
            Change::Save { collection, key, document } => {
                let field = key_field(&tidelock, &collection);
                (collection, key.map_or_else(|| key_of(&document, &field), Ok)?, Some(document))
            }
            Change::Delete { collection, key } => (collection, key, None),
        };
        ids.push(key.clone());
        changes.push((collection, key, document));
    }
    let transaction = tidelock.transaction(|transaction| {
        for (collection, key, document) in changes {
            match document {
                Some(document) => transaction.save_document(&collection, &key, document),
                None => transaction.delete(&collection, &key),
            }
        }
        Ok(())
    });
    Ok(Json(BulkSaved { changed: in_time(transaction).await?, ids }))
}

pub(super) async fn query(
    tidelock: Data<Tidelock>,
    Body(Question { sql, parameters }): Body<Question>,
) -> Answer<Vec<Document>> {
    Ok(Json(in_time(tidelock.query(&sql, parameters)).await?))
}

/// The field that holds a collection's keys; an unknown collection is refused by the handle.
fn key_field(tidelock: &Tidelock, collection: &str) -> String {
    tidelock.config().collections.get(collection).map_or_else(|| "id".to_owned(), |collection| collection.key.clone())
}
