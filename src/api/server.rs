//! Serves the API on loopback, from the moment it listens until it is told to stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_cors::Cors;
use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use actix_web::middleware::from_fn;
use actix_web::rt::task::JoinHandle;
use actix_web::{App, HttpServer, web};
use secrecy::SecretString;

use super::events::{LAST_EVENT_ID, Streams};
use super::exporter::Exporter;
use super::feed::Feed;
use super::guard::{self, Guard};
use super::{BODY_BYTES, CONNECTIONS, CROSS_ORIGIN_SECONDS, HEAD_DEADLINE, KEEP_ALIVE, STOP_SECONDS, routes};
use crate::Tidelock;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is taken, or may not be used.
    #[error(
        "the local API cannot listen on {address} ({source}); set api.bind to another port (port 0 takes a free one), \
         or api.enabled = false"
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The server could not be started.
    #[error("the local API could not start ({0})")]
    Start(std::io::Error),
}

/// A running server. It needs actix's runtime.
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
    feed: Arc<Feed>,
    upkeep: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens and serves; what is measured too, where the process has its own exporter.
    pub fn start(
        tidelock: Tidelock,
        bind: SocketAddr,
        token: SecretString,
        exporter: Option<Exporter>,
    ) -> Result<Self, ApiError> {
        let listen = |source| ApiError::Listen { address: bind, source };
        let listener = TcpListener::bind(bind).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let origins = tidelock.config().api.origins;
        let guard = web::Data::new(Guard { address, token, origins: origins.clone() });
        let streams = web::Data::new(Streams::new(&tidelock));
        let feed = streams.feed.clone();
        let tidelock = web::Data::new(tidelock);
        let metrics = web::Data::new(exporter.clone());
        let app = move || {
            App::new()
                .app_data(guard.clone())
                .app_data(tidelock.clone())
                .app_data(metrics.clone())
                .app_data(streams.clone())
                .app_data(web::PayloadConfig::new(BODY_BYTES))
                .wrap(from_fn(guard::check))
                // Outermost: a browser asks first, without the token, and reads refusals too.
                .wrap(cross_origin(&origins))
                .configure(routes::configure)
        };
        let server = HttpServer::new(app)
            // Handlers only pass questions on; one thread carries them all.
            .workers(1)
            .max_connections(CONNECTIONS)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_DEADLINE)
            .shutdown_timeout(STOP_SECONDS)
            .disable_signals()
            .listen(listener)
            .map_err(ApiError::Start)?
            .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let upkeep = exporter.map(|exporter| actix_web::rt::spawn(exporter.keep_small()));
        Ok(Self { address, handle, feed, upkeep })
    }

    /// Where it listens; with port 0 configured, the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and waits a bounded time for those in flight.
    pub async fn stop(self) {
        self.feed.close();
        self.handle.stop(true).await;
        if let Some(upkeep) = self.upkeep {
            upkeep.abort();
        }
    }
}

/// What a browser lets pages of these origins do.
fn cross_origin(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static(LAST_EVENT_ID)])
        .expose_headers([RETRY_AFTER])
        .max_age(CROSS_ORIGIN_SECONDS);
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
