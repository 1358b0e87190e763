//! What handlers ask requests for. Each kind of question reads a request, answers what it cannot read with a problem, and
//! tells the OpenAPI document what it takes: so the document cannot say something else than the code does.

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::web::{self, Data, Path};
use actix_web::{FromRequest, HttpRequest};
use futures::FutureExt;
use futures::future::{Ready, ready};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::openapi::Operation;
use super::problem::Problem;

/// What a handler takes, told to the document.
pub(super) trait Asked {
    /// Adds it to the operation; what comes from the process rather than from the request adds nothing.
    fn describe(_: &mut Operation<'_>) {}
}

impl<T> Asked for Data<T> {}

impl Asked for HttpRequest {}

macro_rules! asked_together {
    ($($name:ident)*) => {
        impl<$($name: Asked),*> Asked for ($($name,)*) {
            fn describe(_operation: &mut Operation<'_>) {
                $($name::describe(_operation);)*
            }
        }
    };
}

asked_together!();
asked_together!(A);
asked_together!(A B);
asked_together!(A B C);
asked_together!(A B C D);

impl<T: PathParts> Asked for Path<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.path(T::TYPES);
    }
}

/// What the variable parts of an address are, in order.
pub(super) trait PathParts {
    const TYPES: &'static [&'static str];
}

impl PathParts for String {
    const TYPES: &'static [&'static str] = &["string"];
}

impl PathParts for i64 {
    const TYPES: &'static [&'static str] = &["integer"];
}

impl PathParts for (String, String) {
    const TYPES: &'static [&'static str] = &["string", "string"];
}

type Read<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// The body as JSON. Documents inside keep their text, as everywhere.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Read<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        async move { Ok(Self(parsed(&received(bytes.await)?)?)) }.boxed_local()
    }
}

impl<T: JsonSchema> Asked for Body<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>(true);
    }
}

/// The same, where no body means the usual.
pub(super) struct BodyOrUsual<T>(pub(super) T);

impl<T: DeserializeOwned + Default + 'static> FromRequest for BodyOrUsual<T> {
    type Error = Problem;
    type Future = Read<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        let read = async move {
            let bytes = received(bytes.await)?;
            Ok(Self(if bytes.is_empty() { T::default() } else { parsed(&bytes)? }))
        };
        read.boxed_local()
    }
}

impl<T: JsonSchema> Asked for BodyOrUsual<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>(false);
    }
}

fn received(body: Result<web::Bytes, actix_web::Error>) -> Result<web::Bytes, Problem> {
    body.map_err(|error| {
        let status = error.as_response_error().status_code();
        Problem::new(status, "body", 2, format!("the request's body cannot be read: {error}"))
    })
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the request's body is not as it must be: {error}")))
}

/// The parameters behind the question mark.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = form_pairs(request.query_string());
        let read = serde_path_to_error::deserialize(pairs).map(Self);
        ready(read.map_err(|error| Problem::bad_request(format!("the query's parameter {error}"))))
    }
}

fn form_pairs(query: &str) -> serde_urlencoded::Deserializer<'_> {
    serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()))
}

impl<T: JsonSchema> Asked for Query<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.query::<T>();
    }
}

/// A parameter whose text is JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct JsonText<T>(pub(super) T);

/// How the schema of such a parameter is marked until the document says it in its own way.
pub(super) const JSON_TEXT: &str = "x-json-text";

impl<'de, T: DeserializeOwned> Deserialize<'de> for JsonText<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for JsonText<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert(JSON_TEXT.to_owned(), true.into());
        schema
    }
}
