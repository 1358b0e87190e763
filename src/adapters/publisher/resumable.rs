//! Uploads that go on where they were cut: the tus protocol 1.0.0 (tus.io/protocols/resumable-upload), as Supabase Storage
//! offers it. Where an upload goes is noted beside the backups, so that it goes on after a restart as well.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder, Response, header};
use serde::{Deserialize, Serialize};
use tidelock_actors::limits::UPLOAD_PART_BYTES;
use tidelock_actors::model::{Fault, FaultKind};

use super::objects::{CONTENT_TYPE, read};
use crate::adapters::supabase::Account;
use crate::private::new_private_file;

const ENDPOINT: &str = "/storage/v1/upload/resumable";
/// The file that says where the last upload goes.
const NOTE: &str = "upload.json";
const OFFSET: &str = "Upload-Offset";

/// Why an upload did not end.
pub(super) enum Refused {
    /// The server does not offer it.
    NotOffered,
    /// It was cut, or refused.
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// An upload that was begun.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    bucket: String,
    name: String,
    /// The upload's own name, behind the endpoint.
    upload: String,
}

/// Sends what the server does not have of a file yet.
pub(super) async fn upload(
    account: &Account,
    bucket: &str,
    name: &str,
    file: &Path,
    notes: &Path,
) -> Result<(), Refused> {
    let missing = |error: std::io::Error| Fault::new(FaultKind::Transient, format!("the backup is gone: {error}"));
    let length = file.metadata().map_err(missing)?.len();
    let note = notes.join(NOTE);
    let (upload, mut offset) = match resumed(account, bucket, name, &note).await? {
        Some(resumed) => resumed,
        None => (begin(account, bucket, name, length, &note).await?, 0),
    };
    // Where all of it is there already, an empty part makes sure that it was made a file of.
    loop {
        let part = read(file, offset, UPLOAD_PART_BYTES).await?;
        let request = tus(account.request(Method::PATCH, &path(&upload)))
            .header(header::CONTENT_TYPE, "application/offset+octet-stream")
            .header(OFFSET, offset)
            .body(part);
        let moved = offset_of(&account.answered(request).await?)?;
        if moved >= length {
            break;
        }
        if moved <= offset {
            return Err(Fault::new(FaultKind::Transient, "the upload does not move").into());
        }
        offset = moved;
    }
    // It is of no use any more; one that stays is recognised by its name.
    let _ = std::fs::remove_file(note);
    Ok(())
}

/// An upload of this file that was begun before, and how much of it the server has.
async fn resumed(account: &Account, bucket: &str, name: &str, note: &Path) -> Result<Option<(String, u64)>, Fault> {
    let noted = std::fs::read(note).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    let Some(noted) = noted.filter(|noted| noted.bucket == bucket && noted.name == name) else { return Ok(None) };
    match account.answered(tus(account.request(Method::HEAD, &path(&noted.upload)))).await {
        Ok(answer) => Ok(Some((noted.upload, offset_of(&answer)?))),
        // Begun too long ago, or by somebody else: it is begun anew.
        Err(fault) if matches!(fault.status, Some(400 | 403 | 404 | 410)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn begin(account: &Account, bucket: &str, name: &str, length: u64, note: &Path) -> Result<String, Refused> {
    let metadata = [("bucketName", bucket), ("objectName", name), ("contentType", CONTENT_TYPE)];
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
    let request = tus(account.request(Method::POST, ENDPOINT))
        .header("Upload-Length", length)
        .header("Upload-Metadata", metadata.join(","))
        .header(header::CONTENT_LENGTH, 0);
    let answer = match account.answered(request).await {
        // That a bucket is not there has the same status as that the address is not.
        Err(fault) if matches!(fault.status, Some(404 | 405 | 501)) && !fault.message.contains("Bucket") => {
            return Err(Refused::NotOffered);
        }
        answer => answer?,
    };
    // Only the upload's name is taken from the answer: the token goes nowhere else.
    let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let upload = location.and_then(|location| location.split_once(&format!("{ENDPOINT}/"))).map(|(_, upload)| upload);
    let strange = || Fault::new(FaultKind::Transient, "the server does not say where the upload goes");
    let upload = upload.ok_or_else(strange)?.to_owned();
    let noted = Note { bucket: bucket.to_owned(), name: name.to_owned(), upload: upload.clone() };
    // Without the note an upload that is cut begins anew.
    write(note, &noted).unwrap_or_else(|error| tracing::debug!(%error, "an upload could not be noted"));
    Ok(upload)
}

fn write(note: &Path, noted: &Note) -> std::io::Result<()> {
    new_private_file(note)?.write_all(&serde_json::to_vec(noted)?)
}

fn path(upload: &str) -> String {
    format!("{ENDPOINT}/{upload}")
}

fn tus(request: RequestBuilder) -> RequestBuilder {
    request.header("Tus-Resumable", "1.0.0")
}

fn offset_of(answer: &Response) -> Result<u64, Fault> {
    let offset = answer.headers().get(OFFSET).and_then(|offset| offset.to_str().ok()?.parse().ok());
    offset.ok_or_else(|| Fault::new(FaultKind::Transient, "the server does not say how much of the upload it has"))
}
