//! One address of the API: its method, its handler, and how the handler's types tell the OpenAPI document about it.

use actix_web::dev::Handler;
use actix_web::http::Method;
use actix_web::{FromRequest, Responder, Route};

use super::answered::Answered;
use super::asked::Asked;
use super::openapi::Operation;
use super::problem::Problem;

/// One method of one address.
pub(super) struct Address {
    pub(super) method: Method,
    /// Under `/v1`.
    pub(super) path: &'static str,
    /// The handler's name, which names the operation.
    pub(super) name: &'static str,
    /// What it does, in a few words.
    pub(super) summary: &'static str,
    pub(super) route: Route,
    /// Adds what the handler takes and answers.
    pub(super) describe: fn(&mut Operation<'_>),
}

impl Address {
    fn new<H, A, R>(method: Method, path: &'static str, handler: H, summary: &'static str) -> Self
    where
        H: Handler<A, Output = Result<R, Problem>>,
        A: FromRequest + Asked + 'static,
        R: Responder + Answered + 'static,
    {
        let name = std::any::type_name::<H>();
        Self {
            route: Route::new().method(method.clone()).to(handler),
            method,
            path,
            name: name.rsplit("::").next().unwrap_or(name),
            summary,
            describe: |operation| {
                A::describe(operation);
                R::describe(operation);
            },
        }
    }

    /// The part of the API that it belongs to: the first word of its path.
    pub(super) fn tag(&self) -> &'static str {
        self.path.split('/').nth(1).unwrap_or_default()
    }
}

macro_rules! methods {
    ($($name:ident $method:ident)*) => {$(
        pub(super) fn $name<H, A, R>(path: &'static str, handler: H, summary: &'static str) -> Address
        where
            H: Handler<A, Output = Result<R, Problem>>,
            A: FromRequest + Asked + 'static,
            R: Responder + Answered + 'static,
        {
            Address::new(Method::$method, path, handler, summary)
        }
    )*};
}

methods!(get GET post POST put PUT delete DELETE);
