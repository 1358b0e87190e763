//! Who may speak to the API: programs of this user, by the token in the data folder. Web pages may not, unless they
//! were served by the API itself or are of an origin that the configuration names: neither under a foreign name for this machine (DNS rebinding) nor from a foreign
//! origin (cross-site requests).

use std::net::SocketAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// What a request is held against.
#[derive(Debug)]
pub(super) struct Guard {
    /// Where the API listens.
    pub address: SocketAddr,
    /// What every request must carry.
    pub token: SecretString,
    /// Other origins whose pages may speak to it.
    pub origins: Vec<String>,
}

/// Lets a request through, or answers it with the reason why not.
pub(super) async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if let Some(guard) = request.app_data::<web::Data<Guard>>() {
        guard.admit(request.headers())?;
    }
    next.call(request).await
}

impl Guard {
    fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |detail: &str| Problem::new(StatusCode::FORBIDDEN, "forbidden", 1, detail);
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if !text(HOST).is_some_and(|host| self.is_own_name(host)) {
            return Err(forbidden("the request names another host than this machine's loopback address"));
        }
        if text(ORIGIN).is_some_and(|origin| !self.is_welcome(origin)) {
            return Err(forbidden(
                "requests from web pages of another origin are answered only if api.origins names it",
            ));
        }
        let given = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(self.token.expose_secret().as_bytes())) {
            let detail = "the token is missing or wrong: send the one in api.token in the data folder as a bearer";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "token", 4, detail));
        }
        Ok(())
    }

    fn is_welcome(&self, origin: &str) -> bool {
        let is_own = origin.strip_prefix("http://").is_some_and(|host| self.is_own_name(host));
        is_own || self.origins.iter().any(|other| other == origin)
    }

    fn is_own_name(&self, host: &str) -> bool {
        let port = self.address.port();
        [self.address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
            .iter()
            .any(|own| own == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn answer(headers: &[(HeaderName, &str)]) -> u16 {
        let guard = Guard {
            address: "127.0.0.1:7373".parse().unwrap(),
            token: "secret".to_owned().into(),
            origins: vec!["http://localhost:5173".to_owned()],
        };
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        guard.admit(&headers.collect()).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn only_programs_of_this_user_are_let_in() {
        let (token, own) = ("Bearer secret", "127.0.0.1:7373");
        for (host, authorization, origin, status) in [
            (own, token, None, 200),
            ("localhost:7373", token, None, 200),
            (own, token, Some("http://127.0.0.1:7373"), 200),
            (own, token, Some("http://localhost:5173"), 200),
            (own, token, Some("http://localhost:5174"), 403),
            (own, token, Some("https://localhost:5173"), 403),
            (own, "Bearer other", Some("http://localhost:5173"), 401),
            (own, "Bearer other", None, 401),
            (own, "Bearer secretandmore", None, 401),
            (own, "", None, 401),
            ("rebound.example:7373", token, None, 403),
            ("127.0.0.1:80", token, None, 403),
            (own, token, Some("https://elsewhere.example"), 403),
            (own, token, Some("null"), 403),
        ] {
            let mut headers = vec![(HOST, host), (AUTHORIZATION, authorization)];
            headers.extend(origin.map(|origin| (ORIGIN, origin)));
            assert_eq!(answer(&headers), status, "{headers:?}");
        }
        assert_eq!(answer(&[(AUTHORIZATION, token)]), 403, "a request that names no host");
    }
}
