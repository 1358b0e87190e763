//! `backup`: taken by whoever has the store, looked at and restored whether it can be opened or not.

use std::path::{Path, PathBuf};

use tidelock::api::Client;
use tidelock::{
    BackupInfo, BackupTrial, BackupView, Backups, Config, Exported, Notice, Point, RestoreMode, RestoreReport,
    RestoreRequest, RestoredCopy,
};

use super::access::{Access, Purpose, process_on};
use super::arguments::{Backup, BackupPoint, Mode};
use super::failure::{FAILED, Failure, IN_PART};
use super::output::{Output, pairs, size, table, waiting_for, yes_or_no};
use super::overview::name_of;

/// Performs a backup command.
pub async fn perform(command: &Backup, config: &Config, output: Output) -> Result<(), Failure> {
    let shelf = Shelf::find(config).await?;
    match command {
        Backup::Create => create(config, output).await,
        Backup::List { all_devices: true } => {
            output.print(&shelf.list_everywhere().await?, |notices| notice_words(notices))
        }
        Backup::List { all_devices: false } => output.print(&shelf.list().await?, |views| list_words(views)),
        Backup::Info => output.print(&shelf.info().await?, info_words),
        Backup::Verify { backup } => verify(&shelf, backup.as_deref(), output).await,
        Backup::Restore { point, to: Some(to), .. } => {
            let restored = waiting_for("restoring", shelf.restore_to(point.into(), absolute(to)?)).await?;
            output.print(&restored, copied_words)
        }
        Backup::Restore { point, mode, dry_run, to: None } => {
            let mode = match mode {
                Some(Mode::Replica) | None => RestoreMode::Replica,
                Some(Mode::Authority) => RestoreMode::Authority,
            };
            restore(config, RestoreRequest { point: point.into(), mode, dry_run: *dry_run }, output).await
        }
        Backup::Import { file, replace, dry_run } => {
            let mode = if *replace { RestoreMode::Authority } else { RestoreMode::Merge };
            let point = Point { backup: Some(absolute(file)?.display().to_string()), at: None };
            restore(config, RestoreRequest { point, mode, dry_run: *dry_run }, output).await
        }
        Backup::Export { file, point } => {
            let exported = waiting_for("writing the backup", shelf.export(point.into(), absolute(file)?)).await?;
            output.print(&exported, exported_words)
        }
        Backup::Fetch { file, backup } => {
            let fetched = waiting_for("fetching the backup", shelf.fetch(backup.clone(), absolute(file)?)).await?;
            output.print(&fetched, exported_words)
        }
    }
}

/// Where the backups are reached: through the process, or as files.
enum Shelf {
    Process(Client),
    Files(Backups),
}

/// Asks whoever it is.
macro_rules! ask {
    ($shelf:expr, $method:ident, $remote:ident ( $($argument:expr),* )) => {
        match $shelf {
            Shelf::Process(client) => client.$remote($($argument),*).await.map_err(Failure::from),
            Shelf::Files(backups) => backups.$method($($argument),*).await.map_err(Failure::from),
        }
    };
}

impl Shelf {
    async fn find(config: &Config) -> Result<Self, Failure> {
        Ok(match process_on(&config.storage.data_dir).await {
            Some(client) => Self::Process(client),
            None => Self::Files(Backups::of(config)?),
        })
    }

    async fn list(&self) -> Result<Vec<BackupView>, Failure> {
        ask!(self, list, backups())
    }

    async fn info(&self) -> Result<BackupInfo, Failure> {
        ask!(self, info, backup_info())
    }

    async fn verify(&self, backup: Option<String>) -> Result<BackupTrial, Failure> {
        ask!(self, verify, verify_backup(backup))
    }

    async fn export(&self, point: Point, to: PathBuf) -> Result<Exported, Failure> {
        ask!(self, export, export_backup(point, to))
    }

    async fn list_everywhere(&self) -> Result<Vec<Notice>, Failure> {
        ask!(self, list_everywhere, backups_everywhere())
    }

    async fn fetch(&self, backup: Option<String>, to: PathBuf) -> Result<Exported, Failure> {
        ask!(self, fetch, fetch_backup(backup, to))
    }

    async fn restore_to(&self, point: Point, to: PathBuf) -> Result<RestoredCopy, Failure> {
        ask!(self, restore_to, restore_copy(point, to))
    }
}

impl From<&BackupPoint> for Point {
    fn from(point: &BackupPoint) -> Self {
        Self { backup: point.backup.as_deref().map(named), at: point.at }
    }
}

/// A process works in another folder than this command.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(FAILED, error))
}

/// A file is named by its whole path, a backup by its name.
fn named(backup: &str) -> String {
    match Path::new(backup).is_file().then(|| std::path::absolute(backup)) {
        Some(Ok(path)) => path.display().to_string(),
        Some(Err(_)) | None => backup.to_owned(),
    }
}

async fn create(config: &Config, output: Output) -> Result<(), Failure> {
    let access = Access::open_to(Purpose::BackUp, config).await?;
    let taken = waiting_for("taking a backup", access.backup()).await;
    access.close().await;
    output.print(&taken?, |BackupView { id, bytes, records, path, .. }| {
        format!("{id}: {records} records in {}, {}", size(*bytes), path.display())
    })
}

async fn verify(shelf: &Shelf, backup: Option<&str>, output: Output) -> Result<(), Failure> {
    let trial = waiting_for("restoring it into a file beside", shelf.verify(backup.map(named))).await?;
    output.print(
        &trial,
        |BackupTrial { id, healthy, issues }| {
            if *healthy { format!("{id} is sound and can be restored") } else { issues.join("\n") }
        },
    )?;
    if trial.healthy { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

fn list_words(views: &[BackupView]) -> String {
    let rows = views.iter().map(|view| {
        let BackupView { id, kind, reason, timestamp, bytes, records, verified, .. } = view;
        let (taken_at, verified) = (timestamp.to_string(), yes_or_no(*verified));
        [id.clone(), name_of(kind), name_of(reason), taken_at, size(*bytes), records.to_string(), verified]
    });
    table(["id", "kind", "reason", "taken at", "size", "records", "verified"], rows.collect())
}

fn notice_words(notices: &[Notice]) -> String {
    let rows = notices.iter().map(|notice| {
        let Notice { device, id, timestamp, bytes, records, verified_at, object, path, .. } = notice;
        let verified = yes_or_no(verified_at.is_some());
        let place = object.as_ref().map_or_else(|| path.clone(), |_| format!("{path}, and Supabase Storage"));
        [device.clone(), id.clone(), timestamp.to_string(), size(*bytes), records.to_string(), verified, place]
    });
    table(["device", "id", "taken at", "size", "records", "verified", "where"], rows.collect())
}

fn info_words(info: &BackupInfo) -> String {
    let mut lines = vec![("exists", yes_or_no(info.exists))];
    lines.extend(info.id.iter().map(|id| ("id", id.clone())));
    lines.extend(info.path.iter().map(|path| ("path", path.display().to_string())));
    lines.extend(info.timestamp.iter().map(|at| ("taken at", at.to_string())));
    lines.extend(info.age_seconds.iter().map(|age| ("age", format!("{age} s"))));
    lines.extend(info.bytes.iter().map(|bytes| ("size", size(*bytes))));
    lines.push(("verified", yes_or_no(info.verified)));
    lines.push(("backups", format!("{}, {} together", info.count, size(info.total_bytes))));
    lines.extend(info.damaged.iter().map(|path| ("damaged", path.display().to_string())));
    pairs(&lines)
}

async fn restore(config: &Config, request: RestoreRequest, output: Output) -> Result<(), Failure> {
    let access = Access::open(config).await?;
    let restored = waiting_for("restoring", access.restore(request)).await;
    access.close().await;
    let report = restored?;
    output.print(&report, restored_words)?;
    let is_whole = report.server_error.is_none() && report.restored.skipped == 0;
    if is_whole { Ok(()) } else { Err(Failure::silent(IN_PART)) }
}

fn restored_words(report: &RestoreReport) -> String {
    let RestoreReport { id, timestamp, restored, before, audit, server_error, .. } = report;
    let would = if restored.dry_run { "would change" } else { "changed" };
    let mut lines = vec![format!("{id}, as of {timestamp}: {} records {would}", restored.changed)];
    let shown = restored
        .records
        .iter()
        .map(|record| format!("  {} {}/{}", name_of(&record.change), record.collection, record.key));
    lines.extend(shown);
    if restored.skipped > 0 {
        lines.push(format!(
            "{} records are in collections that take no local changes; they were left alone",
            restored.skipped
        ));
    }
    lines.extend(audit.iter().map(|audit| {
        let found = audit.missing + audit.extra + audit.different;
        format!("{found} records differed from the server's, {} of them are put right", audit.repaired)
    }));
    lines.extend(
        server_error.iter().map(|error| format!("the server could not be asked: {error}; see tidelock audit --repair")),
    );
    lines.extend(before.iter().map(|id| format!("the store as it was is in the backup {id}")));
    lines.extend(restored.number.iter().map(|number| format!("take it back with: tidelock rollback round {number}")));
    lines.join("\n")
}

fn copied_words(restored: &RestoredCopy) -> String {
    let RestoredCopy { path, id, timestamp, records, pending } = restored;
    let path = path.display();
    format!(
        "{records} records as of {timestamp} from {id} are in {path}; {pending} operations are to be sent from there"
    )
}

fn exported_words(exported: &Exported) -> String {
    format!("{} records are in {}", exported.records, exported.path.display())
}
