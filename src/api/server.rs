//! Serves the API on loopback, from the moment it listens until it is told to stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::rt::task::JoinHandle;
use actix_web::{App, HttpServer, web};
use secrecy::SecretString;

use super::events::Streams;
use super::exporter::Exporter;
use super::feed::Feed;
use super::guard::{self, Guard};
use super::{BODY_BYTES, CONNECTIONS, HEAD_DEADLINE, KEEP_ALIVE, STOP_SECONDS, routes};
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
        let guard = web::Data::new(Guard { address, token });
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
