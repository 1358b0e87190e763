//! Backups' files in Supabase Storage. They are written once and never changed, so that one that is there is the right one.

use std::io::Write;
use std::path::Path;

use reqwest::{Method, header};
use tidelock_actors::limits::PLAIN_UPLOAD_BYTES;
use tidelock_actors::model::{Fault, FaultKind};

use super::files::{apart, read, unwritten};
use super::resumable::Refused;
use super::{FetchError, missing};
use crate::adapters::supabase::Account;
use crate::private::new_private_file;

/// What holds bytes that nobody should interpret.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";
/// Names in one request to delete files.
const REMOVED_AT_ONCE: usize = 100;

/// The name that a backup has in its bucket: the first folder is the user's id, as policies expect.
pub(super) fn name_of(user: &str, place: &str, id: &str) -> String {
    // Storage takes no other letters in names. What tells folders apart is a digest at the end of their names.
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let place: String = place.chars().map(plain).collect();
    format!("{user}/{place}/{id}.tidelock")
}

/// A file of this device's, and where it goes.
pub(super) struct Upload<'a> {
    pub account: &'a Account,
    pub bucket: &'a str,
    /// Its name in the bucket.
    pub name: &'a str,
    pub file: &'a Path,
    /// The folder for the note of an upload that was begun.
    pub notes: &'a Path,
}

impl Upload<'_> {
    /// Puts it there, part by part where the server can take it so; what was sent before is not sent again.
    pub async fn perform(&self) -> Result<(), Fault> {
        let sent = match self.resumably().await {
            Err(Refused::NotOffered) => self.as_a_whole().await,
            Err(Refused::Fault(fault)) => Err(fault),
            Ok(()) => Ok(()),
        };
        sent.or_else(is_there)
    }

    async fn as_a_whole(&self) -> Result<(), Fault> {
        let bytes = read(self.file, 0, PLAIN_UPLOAD_BYTES + 1).await?;
        if bytes.len() as u64 > PLAIN_UPLOAD_BYTES {
            let words = "the server takes no resumable uploads, and the backup is too large for a plain one";
            return Err(Fault::new(FaultKind::Refused, words));
        }
        let Self { account, bucket, name, .. } = self;
        let request = account
            .request(Method::POST, &format!("/storage/v1/object/{bucket}/{name}"))
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .body(bytes);
        account.answered(request).await.map(drop)
    }
}

/// A name that is taken was taken by an upload whose answer was lost. Only the words tell: the status is 400 with a number
/// in the body, or 409, which also means that a part was sent twice.
fn is_there(fault: Fault) -> Result<(), Fault> {
    if fault.message.contains("already exists") { Ok(()) } else { Err(fault) }
}

/// Writes a file of a bucket's, of so many bytes, to a new file here. Whether it is what was uploaded is for whoever reads
/// it to check.
pub(super) async fn download(account: &Account, object: &str, to: &Path, bytes: u64) -> Result<(), FetchError> {
    let request = account.request(Method::GET, &format!("/storage/v1/object/{object}"));
    let mut answer = account.answered(request).await?;
    let to = to.to_owned();
    let mut file = apart(move || new_private_file(&to)).await.map_err(unwritten)?;
    let cut = |error: reqwest::Error| Fault::new(FaultKind::Transient, error.without_url().to_string());
    let mut left = bytes;
    while let Some(part) = answer.chunk().await.map_err(cut)? {
        let longer = || missing(format!("{object} in Supabase Storage is longer than what was uploaded"));
        left = left.checked_sub(part.len() as u64).ok_or_else(longer)?;
        file = apart(move || file.write_all(&part).map(|()| file)).await.map_err(unwritten)?;
    }
    Ok(())
}

/// Removes files, each named with its bucket. One that is gone already is no error, and neither is a bucket.
pub(super) async fn remove(account: &Account, objects: &[String]) -> Result<(), Fault> {
    let mut by_bucket = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for (bucket, name) in objects.iter().filter_map(|object| object.split_once('/')) {
        by_bucket.entry(bucket).or_default().push(name);
    }
    for (bucket, names) in by_bucket {
        for prefixes in names.chunks(REMOVED_AT_ONCE) {
            let body = serde_json::json!({ "prefixes": prefixes }).to_string();
            let request = account
                .request(Method::DELETE, &format!("/storage/v1/object/{bucket}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(body);
            match account.answered(request).await {
                Err(fault) if fault.message.contains("Bucket not found") => {}
                answered => drop(answered?),
            }
        }
    }
    Ok(())
}
