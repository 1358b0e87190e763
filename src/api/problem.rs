//! An error as the API answers it (RFC 9457): for programs a stable code, for people one line.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Why a request could not be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{detail}")]
pub struct Problem {
    /// The code as a URN.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the HTTP status means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong and what to do, in one line.
    pub detail: String,
    /// A stable name, as of `Error::code`.
    pub code: String,
    /// The exit code of a command that ends with it.
    pub exit: u8,
}

impl Problem {
    /// A problem of the API itself.
    pub fn new(status: StatusCode, code: &str, exit: u8, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:tidelock:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            exit,
        }
    }

    /// The request itself cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", 2, detail)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::new(status_of(error.code()), error.code(), error.exit_code(), error.to_string())
    }
}

fn status_of(code: &str) -> StatusCode {
    match code {
        "invalid" | "not_a_document" | "config" => StatusCode::BAD_REQUEST,
        "not_found" | "unknown_collection" => StatusCode::NOT_FOUND,
        "pull_only" | "no_server" => StatusCode::CONFLICT,
        "unauthorized" | "remote" => StatusCode::BAD_GATEWAY,
        "unreachable" | "part_down" | "stopped" | "read_only" => StatusCode::SERVICE_UNAVAILABLE,
        "disk_full" | "quota_exceeded" => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let body = serde_json::to_string(self).unwrap_or_default();
        HttpResponse::build(self.status_code()).content_type("application/problem+json").body(body)
    }
}
