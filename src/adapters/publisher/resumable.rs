//! Uploads that go on where they were cut: the tus protocol 1.0.0 (tus.io/protocols/resumable-upload), as Supabase Storage
//! offers it. Where an upload goes is noted beside the backups, so that it goes on after a restart as well.

use std::io::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder, Response, header};
use serde::{Deserialize, Serialize};
use tidelock_actors::limits::UPLOAD_PART_BYTES;
use tidelock_actors::model::{Fault, FaultKind};

use super::files::{apart, read, unread};
use super::objects::{CONTENT_TYPE, Upload};
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

impl Upload<'_> {
    /// Sends what the server does not have of the file yet.
    pub(super) async fn resumably(&self) -> Result<(), Refused> {
        let file = self.file.to_owned();
        let length = apart(move || file.metadata()).await.map_err(unread)?.len();
        let (upload, mut offset) = match self.resumed().await? {
            Some(resumed) => resumed,
            None => (self.begin(length).await?, 0),
        };
        // Where all of it is there already, an empty part makes sure that it was made a file of.
        loop {
            let part = read(self.file, offset, UPLOAD_PART_BYTES).await?;
            let request = self
                .tus(Method::PATCH, &path(&upload))
                .header(header::CONTENT_TYPE, "application/offset+octet-stream")
                .header(OFFSET, offset)
                .body(part);
            let moved = offset_of(&self.account.answered(request).await?)?;
            if moved >= length {
                break;
            }
            if moved <= offset {
                return Err(Fault::new(FaultKind::Transient, "the upload does not move").into());
            }
            offset = moved;
        }
        let note = self.note();
        // It is of no use any more; one that stays is recognised by its name.
        let _ = apart(|| std::fs::remove_file(note)).await;
        Ok(())
    }

    /// An upload of this file that was begun before, and how much of it the server has.
    async fn resumed(&self) -> Result<Option<(String, u64)>, Fault> {
        let note = self.note();
        let noted = apart(|| std::fs::read(note)).await.ok();
        let noted = noted.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let is_own = |noted: &Note| noted.bucket == self.bucket && noted.name == self.name;
        let Some(noted) = noted.filter(is_own) else { return Ok(None) };
        match self.account.answered(self.tus(Method::HEAD, &path(&noted.upload))).await {
            Ok(answer) => Ok(Some((noted.upload, offset_of(&answer)?))),
            // Begun too long ago, or by somebody else: it is begun anew.
            Err(fault) if matches!(fault.status, Some(400 | 403 | 404 | 410)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Asks for an upload, and notes where it goes.
    async fn begin(&self, length: u64) -> Result<String, Refused> {
        let metadata = [("bucketName", self.bucket), ("objectName", self.name), ("contentType", CONTENT_TYPE)];
        let metadata: Vec<_> =
            metadata.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
        let request = self
            .tus(Method::POST, ENDPOINT)
            .header("Upload-Length", length)
            .header("Upload-Metadata", metadata.join(","))
            .header(header::CONTENT_LENGTH, 0);
        let answer = match self.account.answered(request).await {
            // That a bucket is not there has the same status as that the address is not.
            Err(fault) if matches!(fault.status, Some(404 | 405 | 501)) && !fault.message.contains("Bucket") => {
                return Err(Refused::NotOffered);
            }
            answer => answer?,
        };
        let upload = begun(&answer)?;
        let (bucket, name) = (self.bucket.to_owned(), self.name.to_owned());
        let (note, noted) = (self.note(), Note { bucket, name, upload: upload.clone() });
        // Without the note an upload that is cut begins anew.
        let written = apart(move || new_private_file(&note)?.write_all(&serde_json::to_vec(&noted)?)).await;
        written.unwrap_or_else(|error| tracing::debug!(%error, "an upload could not be noted"));
        Ok(upload)
    }

    fn note(&self) -> PathBuf {
        self.notes.join(NOTE)
    }

    fn tus(&self, method: Method, path: &str) -> RequestBuilder {
        self.account.request(method, path).header("Tus-Resumable", "1.0.0")
    }
}

/// The name of the upload that an answer tells of. Nothing else is taken from it: the token goes nowhere else.
fn begun(answer: &Response) -> Result<String, Fault> {
    let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let upload = location.and_then(|location| location.split_once(&format!("{ENDPOINT}/"))).map(|(_, upload)| upload);
    let strange = || Fault::new(FaultKind::Transient, "the server does not say where the upload goes");
    upload.map(str::to_owned).ok_or_else(strange)
}

fn path(upload: &str) -> String {
    format!("{ENDPOINT}/{upload}")
}

fn offset_of(answer: &Response) -> Result<u64, Fault> {
    let offset = answer.headers().get(OFFSET).and_then(|offset| offset.to_str().ok()?.parse().ok());
    offset.ok_or_else(|| Fault::new(FaultKind::Transient, "the server does not say how much of the upload it has"))
}
