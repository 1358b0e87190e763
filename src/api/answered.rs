//! What handlers answer: one kind a form, each telling the OpenAPI document what it is.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Responder};
use schemars::JsonSchema;
use serde::Serialize;

use super::openapi::Operation;
use super::problem::Problem;

/// What most handlers answer: JSON, or why not.
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// What a handler answers, told to the document.
pub(super) trait Answered {
    /// Adds it to the operation.
    fn describe(operation: &mut Operation<'_>);
}

/// A value as JSON. Documents inside keep their text.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        use actix_web::ResponseError;
        match serde_json::to_string(&self.0) {
            Ok(body) => HttpResponse::Ok().content_type("application/json").body(body),
            Err(error) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "invalid", 1, error.to_string()).error_response()
            }
        }
    }
}

impl<T: JsonSchema> Answered for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer::<T>("application/json");
    }
}

/// A text of a form of its own.
pub(super) struct Text {
    pub(super) form: &'static str,
    pub(super) text: String,
}

impl Responder for Text {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().content_type(self.form).body(self.text)
    }
}

impl Answered for Text {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer::<String>("text/plain");
    }
}
