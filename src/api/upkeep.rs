//! The store itself, over the API.

use actix_web::web::Data;
use schemars::JsonSchema;
use serde::Deserialize;
use tidelock_actors::model::Compacted;

use super::answered::{Answer, Json};
use super::asked::{BodyOrUsual, Query};
use super::bodies::Compaction;
use super::routes::in_time;
use crate::Tidelock;
use crate::adapters::sqlite::{Stats, Verified};

/// How exactly.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Exactness {
    /// Reads everything for exact sizes.
    exact: bool,
}

pub(super) async fn verify(tidelock: Data<Tidelock>) -> Answer<Verified> {
    Ok(Json(tidelock.verify_integrity().await?))
}

/// Exact sizes need everything to be read, so they take as long as that takes.
pub(super) async fn stats(tidelock: Data<Tidelock>, Query(Exactness { exact }): Query<Exactness>) -> Answer<Stats> {
    match exact {
        true => Ok(Json(tidelock.exact_stats().await?)),
        false => Ok(Json(in_time(tidelock.stats()).await?)),
    }
}

pub(super) async fn compact(
    tidelock: Data<Tidelock>,
    BodyOrUsual(Compaction { forget_history }): BodyOrUsual<Compaction>,
) -> Answer<Compacted> {
    let compacted = match forget_history {
        true => tidelock.compact_and_forget().await?,
        false => tidelock.compact().await?,
    };
    Ok(Json(compacted))
}
