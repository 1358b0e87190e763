//! What records were, and bringing it back, over the API.

use actix_web::web::{Data, Path};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answered::{Answer, Json};
use super::asked::{Body, Query};
use super::routes::in_time;
use crate::adapters::sqlite::{Difference, RoundView, VersionView};
use crate::{RollbackReport, RollbackRequest, Tidelock};

/// Two versions of a record.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Between {
    /// The earlier one; without it the one before `to`.
    from: Option<i64>,
    /// The later one; without it the record as it is now.
    to: Option<i64>,
}

pub(super) async fn history(tidelock: Data<Tidelock>, path: Path<(String, String)>) -> Answer<Vec<VersionView>> {
    let (collection, key) = path.into_inner();
    Ok(Json(in_time(tidelock.history(&collection, &key)).await?))
}

pub(super) async fn diff(
    tidelock: Data<Tidelock>,
    path: Path<(String, String)>,
    Query(Between { from, to }): Query<Between>,
) -> Answer<Difference> {
    let (collection, key) = path.into_inner();
    Ok(Json(in_time(tidelock.diff(&collection, &key, from, to)).await?))
}

pub(super) async fn rounds(tidelock: Data<Tidelock>) -> Answer<Vec<RoundView>> {
    Ok(Json(in_time(tidelock.rounds()).await?))
}

pub(super) async fn roll_back(
    tidelock: Data<Tidelock>,
    Body(request): Body<RollbackRequest>,
) -> Answer<RollbackReport> {
    Ok(Json(in_time(tidelock.roll_back(request)).await?))
}
