//! The status, rounds with the server, and whether everything is in place, over the API.

use actix_web::http::StatusCode;
use actix_web::web::Data;

use super::answered::{Answer, Json, Text};
use super::asked::BodyOrUsual;
use super::bodies::Noted;
use super::exporter::{CONTENT_TYPE, Exporter};
use super::problem::Problem;
use super::routes::in_time;
use crate::doctor::Checkup;
use crate::status::Status;
use crate::{AuditReport, AuditRequest, Inspection, SyncReport, SyncRequest, Tidelock};

pub(super) async fn status(tidelock: Data<Tidelock>) -> Answer<Status> {
    Ok(Json(tidelock.status()))
}

/// The gauges are set when somebody asks.
pub(super) async fn metrics(tidelock: Data<Tidelock>, exporter: Data<Option<Exporter>>) -> Result<Text, Problem> {
    let Some(exporter) = exporter.get_ref() else {
        let detail = "what is measured goes to the exporter that this program has installed itself";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_metrics", 1, detail));
    };
    tidelock.set_gauges();
    Ok(Text { form: CONTENT_TYPE, text: exporter.render() })
}

/// A round takes as long as it takes: it has no deadline here.
pub(super) async fn sync(
    tidelock: Data<Tidelock>,
    BodyOrUsual(request): BodyOrUsual<SyncRequest>,
) -> Answer<SyncReport> {
    Ok(Json(tidelock.sync(request).await?))
}

/// It takes as long as it takes, too.
pub(super) async fn audit(
    tidelock: Data<Tidelock>,
    BodyOrUsual(request): BodyOrUsual<AuditRequest>,
) -> Answer<AuditReport> {
    Ok(Json(tidelock.audit(request).await?))
}

pub(super) async fn probe(tidelock: Data<Tidelock>) -> Answer<Noted> {
    in_time(tidelock.probe()).await?;
    Ok(Json(Noted {}))
}

pub(super) async fn inspect(tidelock: Data<Tidelock>) -> Answer<Inspection> {
    Ok(Json(in_time(tidelock.inspect()).await?))
}

/// Every look that it takes is bounded.
pub(super) async fn doctor(tidelock: Data<Tidelock>) -> Answer<Checkup> {
    Ok(Json(tidelock.doctor().await))
}
