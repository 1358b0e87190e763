//! Backups over the API. What reads or writes the whole store takes as long as it takes.

use actix_web::web::Data;

use super::answered::{Answer, Json};
use super::asked::Body;
use super::bodies::{Carried, Fetch, Named};
use super::routes::in_time;
use crate::{
    BackupInfo, BackupTrial, BackupView, Exported, Notice, RestoreReport, RestoreRequest, RestoredCopy, Tidelock,
};

pub(super) async fn backups(tidelock: Data<Tidelock>) -> Answer<Vec<BackupView>> {
    Ok(Json(in_time(tidelock.backups().list()).await?))
}

pub(super) async fn backups_everywhere(tidelock: Data<Tidelock>) -> Answer<Vec<Notice>> {
    Ok(Json(tidelock.backups().list_everywhere().await?))
}

pub(super) async fn fetch_backup(
    tidelock: Data<Tidelock>,
    Body(Fetch { backup, to }): Body<Fetch>,
) -> Answer<Exported> {
    Ok(Json(tidelock.backups().fetch(backup, to).await?))
}

pub(super) async fn backup_info(tidelock: Data<Tidelock>) -> Answer<BackupInfo> {
    Ok(Json(in_time(tidelock.backups().info()).await?))
}

pub(super) async fn back_up(tidelock: Data<Tidelock>) -> Answer<BackupView> {
    Ok(Json(tidelock.backup().await?))
}

pub(super) async fn verify_backup(
    tidelock: Data<Tidelock>,
    Body(Named { backup }): Body<Named>,
) -> Answer<BackupTrial> {
    Ok(Json(tidelock.backups().verify(backup).await?))
}

pub(super) async fn export_backup(
    tidelock: Data<Tidelock>,
    Body(Carried { point, to }): Body<Carried>,
) -> Answer<Exported> {
    Ok(Json(tidelock.backups().export(point, to).await?))
}

pub(super) async fn restore(tidelock: Data<Tidelock>, Body(request): Body<RestoreRequest>) -> Answer<RestoreReport> {
    Ok(Json(tidelock.restore(request).await?))
}

pub(super) async fn restore_copy(
    tidelock: Data<Tidelock>,
    Body(Carried { point, to }): Body<Carried>,
) -> Answer<RestoredCopy> {
    Ok(Json(tidelock.backups().restore_to(point, to).await?))
}
