//! What waits for the server or for a decision, over the API.

use actix_web::web::{Data, Path};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answered::{Answer, Json};
use super::asked::{Body, Query};
use super::bodies::{Chosen, Decided, Decision, Discarded, GivenUp, Redriven};
use super::routes::in_time;
use crate::Tidelock;
use crate::adapters::sqlite::{ConflictView, QueueFilter, QueuedOperation};

/// Which conflicts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Which {
    /// Decided ones, too.
    all: bool,
}

pub(super) async fn queue(tidelock: Data<Tidelock>, Query(filter): Query<QueueFilter>) -> Answer<Vec<QueuedOperation>> {
    Ok(Json(in_time(tidelock.queue(filter)).await?))
}

pub(super) async fn redrive(tidelock: Data<Tidelock>, Body(Chosen { ids }): Body<Chosen>) -> Answer<Redriven> {
    Ok(Json(Redriven { redriven: in_time(tidelock.redrive(ids)).await? }))
}

pub(super) async fn discard(tidelock: Data<Tidelock>, Body(GivenUp { ids, only }): Body<GivenUp>) -> Answer<Discarded> {
    let discarded = match only {
        true => in_time(tidelock.discard_alone(ids)).await?,
        false => in_time(tidelock.discard(ids)).await?,
    };
    Ok(Json(Discarded { discarded }))
}

pub(super) async fn conflicts(
    tidelock: Data<Tidelock>,
    Query(Which { all }): Query<Which>,
) -> Answer<Vec<ConflictView>> {
    Ok(Json(in_time(tidelock.conflicts(all)).await?))
}

pub(super) async fn conflict(tidelock: Data<Tidelock>, path: Path<i64>) -> Answer<ConflictView> {
    Ok(Json(in_time(tidelock.conflict(path.into_inner())).await?))
}

pub(super) async fn resolve(
    tidelock: Data<Tidelock>,
    path: Path<i64>,
    Body(decision): Body<Decision>,
) -> Answer<Decided> {
    let id = path.into_inner();
    in_time(tidelock.resolve(id, decision.into())).await?;
    Ok(Json(Decided { id }))
}

pub(super) async fn undo(tidelock: Data<Tidelock>, path: Path<i64>) -> Answer<Decided> {
    let id = path.into_inner();
    in_time(tidelock.undo(id)).await?;
    Ok(Json(Decided { id }))
}
