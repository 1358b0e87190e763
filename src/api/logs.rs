//! What was logged, over the API.

use actix_web::web::Data;
use tidelock_actors::logs::{Kept, LogQuery};

use super::answered::{Answer, Json};
use super::asked::{Body, Query};
use super::bodies::{LeveledLog, LoggedCall, Noted};
use super::routes::in_time;
use crate::Tidelock;

/// The last entries.
pub(super) async fn logs(tidelock: Data<Tidelock>, Query(wanted): Query<LogQuery>) -> Answer<Vec<Kept>> {
    Ok(Json(in_time(tidelock.logger().entries(wanted)).await?))
}

/// Keeps and says messages from another level on.
pub(super) async fn set_level(
    tidelock: Data<Tidelock>,
    Body(LeveledLog { level }): Body<LeveledLog>,
) -> Answer<LeveledLog> {
    tidelock.logger().set_level(level);
    Ok(Json(LeveledLog { level }))
}

/// A call that a front end has made.
pub(super) async fn log_call(tidelock: Data<Tidelock>, Body(call): Body<LoggedCall>) -> Answer<Noted> {
    let LoggedCall { provider, action, credits, metadata } = call;
    tidelock.logger().log_api_call(&provider, &action, credits, metadata);
    Ok(Json(Noted {}))
}
