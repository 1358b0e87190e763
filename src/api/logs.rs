//! What was logged, over the API.

use actix_web::web::{self, Data};
use tidelock_actors::logs::LogQuery;

use super::bodies::{LeveledLog, LoggedCall, Noted};
use super::routes::{Answer, Body, body_of, in_time, json, parameter, parsed, unknown_parameter};
use crate::Tidelock;

/// The last entries.
pub(super) async fn logs(tidelock: Data<Tidelock>, query: web::Query<Vec<(String, String)>>) -> Answer {
    let mut wanted = LogQuery::default();
    for (name, value) in query.into_inner() {
        match name.as_str() {
            "level" => wanted.level = parameter("level", &serde_json::Value::from(value).to_string())?,
            "since" => wanted.since = parameter("since", &serde_json::Value::from(value).to_string())?,
            "after" => wanted.after = Some(parameter("after", &value)?),
            "limit" => wanted.limit = Some(parameter("limit", &value)?),
            other => return Err(unknown_parameter(other, "level, since, after and limit")),
        }
    }
    json(&in_time(tidelock.logger().entries(wanted)).await?)
}

/// Keeps and says messages from another level on.
pub(super) async fn set_level(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let LeveledLog { level } = parsed(&body_of(body)?)?;
    tidelock.logger().set_level(level);
    json(&LeveledLog { level })
}

/// A call that a front end has made.
pub(super) async fn log_call(tidelock: Data<Tidelock>, body: Body) -> Answer {
    let LoggedCall { provider, action, credits, metadata } = parsed(&body_of(body)?)?;
    tidelock.logger().log_api_call(&provider, &action, credits, metadata);
    json(&Noted {})
}
