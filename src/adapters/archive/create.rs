//! Taking a backup: what has changed since the newest one where that can be known, everything otherwise.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tidelock_actors::backups::{ArchiveError, Keep, Reason, Taken};
use tidelock_actors::machine::retention::kept;

use super::catalogue::{self, Catalogue, EXTENSION, Entry};
use super::faults::io;
use super::manifest::{FORMAT, Kind, Manifest};
use super::{ArchiveOptions, FileArchive, container, scratch};
use crate::adapters::room::lack_of;
use crate::adapters::sqlite::{self, Contents, Cut, LogPosition};
use crate::private::private_directory;

/// What a chain may grow to beyond its full backup's size before another full one begins the next.
const CHAIN_BYTES: u64 = 64 * 1024 * 1024;
/// Backups in a chain: each of them is read to restore the last.
const CHAIN_LENGTH: usize = 1_000;

impl FileArchive {
    /// Takes a backup, and removes those that need not be kept any more.
    pub(crate) fn create(&self, reason: Reason) -> Result<Option<Taken>, ArchiveError> {
        let options = self.options();
        private_directory(&options.directory).map_err(io)?;
        catalogue::sweep(&options.directory)?;
        let known = self.catalogue_in(&options.directory)?;
        self.inner.quota.count_backups(known.bytes());
        let now = sqlite::contents_of(&options.store)?;
        let is_same = |entry: &Entry| {
            let Manifest { client_id, stamp, counts, .. } = &*entry.manifest;
            (client_id, *stamp) == (&now.identity.client_id, now.stamp.0)
                && now.counts.iter().all(|(name, counts_now)| counts.get(&**name) == Some(counts_now))
        };
        if reason == Reason::Periodic && known.newest().is_some_and(is_same) {
            return Ok(None);
        }
        let continued = match self.continued(&options, &known) {
            Some((newest, cut)) => match self.write_log(&options, reason, newest, &cut, &now) {
                // The log is kept no more, and what was copied went with it: a full one begins anew.
                Err(_) if cut.parts.iter().any(|part| !part.exists()) => None,
                written => Some(written?),
            },
            None => None,
        };
        let taken = match continued {
            Some(taken) if !is_due(&options, &known) => taken,
            // The log of the old chain reaches to where the new one begins.
            continued => {
                let held = known.bytes() + continued.map_or(0, |taken| taken.bytes);
                self.write_full(&options, reason, held)?
            }
        };
        self.inner.quota.count_backups(self.prune(&options)?);
        Ok(Some(taken))
    }

    /// The newest backup with what was committed since, if nothing is missing between.
    fn continued<'a>(&self, options: &ArchiveOptions, known: &'a Catalogue) -> Option<(&'a Entry, Cut)> {
        let newest = known.newest().filter(|_| options.incremental)?;
        let tried = catalogue::tried(&options.directory);
        let is_bad = |entry: &&Entry| tried.get(&entry.manifest.digest).is_some_and(|trial| !trial.good);
        // What is encrypted continues nothing that everybody can read, nor the other way round.
        let is_of_another_kind = |entry: &&Entry| entry.manifest.is_encrypted != options.keys.encrypts();
        if known.chain(newest).ok()?.iter().any(|entry| is_bad(entry) || is_of_another_kind(entry)) {
            return None;
        }
        let ended = newest.manifest.log?;
        let cut = self.inner.log.as_ref()?.cut()?;
        Some((newest, sqlite::joined(cut, ended)?))
    }

    fn write_log(
        &self,
        options: &ArchiveOptions,
        reason: Reason,
        newest: &Entry,
        cut: &Cut,
        contents: &Contents,
    ) -> Result<Taken, ArchiveError> {
        let began = Timestamp::now();
        let sizes = cut.parts.iter().map(|part| Ok(part.metadata()?.len()));
        self.make_room(options, sizes.sum::<std::io::Result<u64>>().map_err(io)?)?;
        let id = name(began, Kind::Log);
        let payload = |sink: &mut dyn Write| {
            cut.parts.iter().try_fold(0, |bytes, part| Ok(bytes + pour(File::open(part).map_err(io)?, sink)?))
        };
        let manifest = |plain_bytes| {
            let own = manifest(&id, Kind::Log, reason, began, contents, plain_bytes, Some(cut.position));
            let (after, base) = (Some(newest.manifest.digest.clone()), newest.manifest.base.clone());
            Manifest { after, base, ..own }
        };
        let taken = write(options, &id, payload, manifest)?;
        // It is in a backup now; what a crash leaves of it is recognised by where it ends.
        cut.parts.iter().try_for_each(std::fs::remove_file).map_err(io)?;
        Ok(taken)
    }

    /// Beside backups that take so many bytes.
    fn write_full(&self, options: &ArchiveOptions, reason: Reason, held: u64) -> Result<Taken, ArchiveError> {
        let began = Timestamp::now();
        let database = sqlite::database(&options.store);
        let size = database.metadata().map_err(io)?.len();
        // The copy, and what zstd makes of it: rarely more than half.
        let held = self.make_room(options, size + size / 2)?.unwrap_or(held);
        self.make_room_within_quota(options, size / 2, held)?;
        let log = self.begin_log(options);
        let copy = scratch(&options.directory)?;
        let contents = sqlite::copy(&database, &copy)?;
        // A backup of what is damaged would push out a good one.
        sqlite::check_pages(&copy)?;
        let id = name(began, Kind::Full);
        let manifest = |plain_bytes| manifest(&id, Kind::Full, reason, began, &contents, plain_bytes, log);
        write(options, &id, |sink| pour(File::open(&copy).map_err(io)?, sink), manifest)
    }

    /// Makes sure that so many bytes can be written: first what need not be kept goes, then it is refused. Where something
    /// went it tells what the others take.
    fn make_room(&self, options: &ArchiveOptions, needed: u64) -> Result<Option<u64>, ArchiveError> {
        if lack_of(&options.directory, needed).map_err(io)?.is_none() {
            return Ok(None);
        }
        let left = self.prune(options)?;
        match lack_of(&options.directory, needed).map_err(io)? {
            None => Ok(Some(left)),
            Some(lack) => Err(ArchiveError::NoRoom(format!("a backup needs {lack}"))),
        }
    }

    /// Makes sure that a backup of so many bytes fits into the quota: first what need not be kept goes, then it is
    /// refused. What continues a backup only moves there from the kept log, so nobody asks for it.
    fn make_room_within_quota(&self, options: &ArchiveOptions, bytes: u64, held: u64) -> Result<(), ArchiveError> {
        let quota = &self.inner.quota;
        quota.count_backups(held);
        if quota.admit_backup(bytes).is_ok() {
            return Ok(());
        }
        quota.count_backups(self.prune(options)?);
        quota.admit_backup(bytes).map_err(ArchiveError::OverQuota)
    }

    /// Removes the backups that need not be kept, newest first: what a crash leaves of a chain is still one. Tells what the
    /// others take.
    fn prune(&self, options: &ArchiveOptions) -> Result<u64, ArchiveError> {
        let catalogue = self.catalogue_in(&options.directory)?;
        let (now, tried) = (Timestamp::now(), catalogue::tried(&options.directory));
        // What is of the future counts as oldest.
        let taken_ms = |entry: &Entry| if entry.is_dated(now) { entry.manifest.timestamp.as_millisecond() } else { 0 };
        let taken: Vec<i64> = catalogue.entries.iter().map(taken_ms).collect();
        let mut wanted = kept(&taken, Keep { last: options.keep.last.max(1), ..options.keep });
        let is_good = |entry: &Entry| tried.get(&entry.manifest.digest).is_some_and(|trial| trial.good);
        wanted.extend(catalogue.entries.iter().rposition(is_good));
        let chains = wanted.into_iter().filter_map(|at| catalogue.chain(&catalogue.entries[at]).ok());
        let needed: BTreeSet<&PathBuf> = chains.flatten().map(|entry| &entry.path).collect();
        // What lacks something is left alone: that may be out of reach for a moment only.
        let is_whole = |entry: &&Entry| catalogue.chain(entry).is_ok();
        let mut left = catalogue.bytes();
        for entry in catalogue.entries.iter().rev().filter(|entry| !needed.contains(&entry.path)).filter(is_whole) {
            std::fs::remove_file(&entry.path).map_err(io)?;
            left -= entry.bytes;
        }
        Ok(left)
    }

    /// From here on the log is kept, so that the next backup can continue this one.
    fn begin_log(&self, options: &ArchiveOptions) -> Option<LogPosition> {
        let log = self.inner.log.as_ref()?;
        if !options.incremental {
            log.end();
            return None;
        }
        let begun = log.begin();
        begun.inspect_err(|error| tracing::warn!(%error, "the log cannot be kept; backups are full ones")).ok()
    }
}

/// Whether the newest chain is so long or old that the next one should begin.
fn is_due(options: &ArchiveOptions, known: &Catalogue) -> bool {
    let chain = known.newest().and_then(|newest| known.chain(newest).ok()).unwrap_or_default();
    let [base, logs @ ..] = chain.as_slice() else { return true };
    let log_bytes: u64 = logs.iter().map(|entry| entry.manifest.plain_bytes).sum();
    let age = Duration::try_from(Timestamp::now().duration_since(base.manifest.timestamp)).unwrap_or_default();
    logs.len() >= CHAIN_LENGTH || log_bytes > base.manifest.plain_bytes.max(CHAIN_BYTES) || age >= options.full_interval
}

fn write(
    options: &ArchiveOptions,
    id: &str,
    payload: impl FnOnce(&mut dyn Write) -> Result<u64, ArchiveError>,
    manifest: impl FnOnce(u64) -> Manifest,
) -> Result<Taken, ArchiveError> {
    let (manifest, bytes) = container::write(&file_of(&options.directory, id), &options.keys, payload, manifest)?;
    Ok(Taken { id: manifest.id, taken_ms: manifest.timestamp.as_millisecond(), bytes })
}

/// The file of a backup.
fn file_of(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.{EXTENSION}"))
}

fn pour(mut from: impl Read, sink: &mut dyn Write) -> Result<u64, ArchiveError> {
    std::io::copy(&mut from, sink).map_err(io)
}

/// A name that sorts by time.
pub(super) fn name(began: Timestamp, kind: Kind) -> String {
    let kind = match kind {
        Kind::Full => "full",
        Kind::Log => "log",
    };
    format!("{}-{kind}", began.strftime("%Y%m%dT%H%M%S.%3fZ"))
}

/// What a backup that begins a chain says of itself.
pub(super) fn manifest(
    id: &str,
    kind: Kind,
    reason: Reason,
    began: Timestamp,
    contents: &Contents,
    plain_bytes: u64,
    log: Option<LogPosition>,
) -> Manifest {
    let counts = contents.counts.iter().map(|(name, counts)| (name.to_string(), *counts)).collect();
    Manifest {
        format: FORMAT,
        id: id.to_owned(),
        kind,
        reason,
        began,
        timestamp: Timestamp::now(),
        after: None,
        base: id.to_owned(),
        client_id: contents.identity.client_id.clone(),
        epoch: contents.identity.epoch.clone(),
        schema: contents.schema,
        stamp: contents.stamp.0,
        checkpoints: contents.checkpoints.clone(),
        counts,
        plain_bytes,
        is_encrypted: false,
        log,
        digest: String::new(),
    }
}
