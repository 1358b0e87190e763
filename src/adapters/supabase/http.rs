//! Sends one request and reads its whole answer: headers, deadline, counting, and what the answer tells beside its
//! body. Knows no tables and no rows.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, RequestBuilder, Response, Url};
use tidelock_actors::metrics;
use tidelock_actors::model::{Fault, FaultKind};
use tidelock_actors::ports::Heard;

use super::claims::Claims;
use super::fault::{self, Refusal};
use super::packing::Packing;
use super::server_clock::ServerClock;
use super::unanswered::Unanswered;
use super::{PlainOptions, SetupError};

/// Where the bearer token comes from at the moment of sending; nothing means that nobody is signed in.
pub type TokenSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// How often a request is sent again at once because its connection was closed as it was taken up again.
const STALE_CONNECTIONS: usize = 3;
/// How long reaching the server may take, of the whole deadline.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Deadlines that an answer may take in all, as long as each part of it comes within one: a slow line still moves.
const PATIENCE: u32 = 4;
/// How long an unused connection is kept; shorter than any gateway keeps it.
const IDLE_CONNECTION: Duration = Duration::from_secs(45);

const API_KEY: HeaderName = HeaderName::from_static("apikey");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");

/// The way to one project.
pub(super) struct Link {
    client: Client,
    origin: String,
    key: String,
    token: TokenSource,
    timeout: Duration,
    requests: AtomicU64,
    clock: ServerClock,
    unanswered: Unanswered,
    packing: Packing,
}

/// What is asked.
pub(super) struct Question<'a> {
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: Method,
    /// Path and query, encoded.
    pub line: String,
    /// The schema, if it is not the first one that the server offers.
    pub schema: Option<&'a HeaderValue>,
    /// The `Prefer` header.
    pub prefer: Option<&'static str>,
    /// JSON.
    pub body: Option<String>,
}

impl Question<'_> {
    /// A question without preferences and body, to the schema that the server offers first.
    pub fn get(line: String) -> Self {
        Self { method: Method::GET, line, schema: None, prefer: None, body: None }
    }
}

/// What came back, if it was a success.
pub(super) struct Answer {
    /// The status, 2xx.
    pub status: u16,
    /// `Content-Range`, if there was one.
    pub content_range: Option<String>,
    /// What answered, as it names itself.
    pub server: Option<String>,
    /// No later than the server's clock when it took the request up, in seconds since 1970.
    pub began: Option<i64>,
    /// The server's clock when it answered, in seconds since 1970.
    pub ended: Option<i64>,
    /// The body.
    pub body: Bytes,
}

impl Link {
    pub fn new(options: &PlainOptions, url: &Url) -> Result<Self, SetupError> {
        let mut key = HeaderValue::from_str(&options.publishable_key).map_err(|_| SetupError::Key)?;
        key.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(API_KEY, key);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let client = Client::builder()
            .default_headers(headers)
            .gzip(options.compress)
            .brotli(options.compress)
            .zstd(options.compress)
            .connect_timeout(CONNECT_DEADLINE.min(options.timeout))
            .read_timeout(options.timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            // A redirection is a network's sign-in page; the key must not follow it.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tidelock/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SetupError::Client(error.to_string()))?;
        Ok(Self {
            client,
            origin: url.origin().ascii_serialization(),
            key: options.publishable_key.clone(),
            token: options.token.clone(),
            timeout: options.timeout,
            requests: AtomicU64::new(0),
            clock: ServerClock::default(),
            unanswered: Unanswered::default(),
            packing: Packing::new(options.compress_requests),
        })
    }

    /// The user that the bearer token is of, as it says itself.
    pub fn user(&self) -> Option<String> {
        Claims::of(&(self.token)()?)?.sub
    }

    /// What is known without asking.
    pub fn heard(&self) -> Heard {
        let claims = (self.token)().as_deref().and_then(Claims::of).unwrap_or_default();
        Heard {
            unanswered_since_ms: self.unanswered.since_ms(),
            token_expires_ms: claims.expires_ms(),
            user: claims.sub,
            open_transactions: None,
        }
    }

    /// Whether there is a bearer token just now.
    pub fn is_signed_in(&self) -> bool {
        (self.token)().is_some()
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The server's clock less this device's, in milliseconds.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.clock.offset_ms()
    }

    /// Sends and reads. Everything but 2xx is a fault; so is an answer that does not begin, or stops, for as long as
    /// the deadline.
    pub async fn send(&self, question: Question<'_>) -> Result<Answer, Fault> {
        let Some(packed) = question.body.as_deref().and_then(|body| self.packing.pack(body)) else {
            return self.send_as_it_is(question).await;
        };
        let mut request = self.request(&question)?;
        request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *request.body_mut() = Some(packed.into());
        match self.exchange_in_time(request).await {
            // Perhaps it is the request itself that is refused: then it is refused again.
            Err(fault) if matches!(fault.status, Some(400 | 415)) => {
                let answer = self.send_as_it_is(question).await?;
                self.packing.give_up();
                Ok(answer)
            }
            answered => answered,
        }
    }

    async fn send_as_it_is(&self, question: Question<'_>) -> Result<Answer, Fault> {
        let mut request = self.request(&question)?;
        *request.body_mut() = question.body.map(Into::into);
        self.exchange_in_time(request).await
    }

    async fn exchange_in_time(&self, request: Request) -> Result<Answer, Fault> {
        within(self.timeout.saturating_mul(PATIENCE), self.exchange(request)).await?
    }

    /// All but the body.
    fn request(&self, question: &Question<'_>) -> Result<Request, Fault> {
        let is_read = question.method == Method::GET;
        let mut builder = self.begun(question.method.clone(), &question.line);
        if let Some(schema) = question.schema {
            builder = builder.header(if is_read { ACCEPT_PROFILE } else { CONTENT_PROFILE }, schema);
        }
        if let Some(prefer) = question.prefer {
            builder = builder.header(PREFER, prefer);
        }
        if question.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        builder.build().map_err(|error| Fault::new(FaultKind::Doubtful, error.without_url().to_string()))
    }

    /// A request to this path and query, with the credentials.
    pub fn begun(&self, method: Method, line: &str) -> RequestBuilder {
        // The token is put on now: operations are kept, requests are not.
        let token = (self.token)();
        let bearer = token.as_deref().unwrap_or(&self.key);
        self.client.request(method, format!("{}{line}", self.origin)).bearer_auth(bearer)
    }

    async fn exchange(&self, request: Request) -> Result<Answer, Fault> {
        let _waiting = self.unanswered.begin();
        let began = Instant::now();
        let response = self.answered(request).await?;
        // The answer was dated some time after the request was taken up, at most the time that we have waited.
        let waited = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX / 2) + 1;
        let (status, ended) = (response.status().as_u16(), date(&response).map(Timestamp::as_second));
        let content_range = text(response.headers(), &header::CONTENT_RANGE);
        let server = text(response.headers(), &header::SERVER);
        let body = read(response).await?;
        Ok(Answer { status, content_range, server, began: ended.map(|second| second - waited), ended, body })
    }

    /// Sends, and waits for an answer to begin; one that is no success is a fault.
    pub async fn answered(&self, request: Request) -> Result<Response, Fault> {
        let sent_ms = Timestamp::now().as_millisecond();
        let bytes = request.body().and_then(reqwest::Body::as_bytes).map_or(0, <[u8]>::len);
        let response = within(self.timeout, self.transmit(request)).await;
        let response =
            response.and_then(|response| response.map_err(|error| fault::of_transport(&error.without_url())));
        metrics::SENT_BYTES.add(bytes as u64, &[]);
        let result = match &response {
            Ok(response) if response.status().is_success() => "answered",
            Ok(_) => "refused",
            Err(_) => "lost",
        };
        metrics::REQUESTS.add(1, &[result.into()]);
        let response = response?;
        let date = date(&response);
        if let Some(date) = date {
            self.clock.learn(sent_ms, Timestamp::now().as_millisecond(), date.as_millisecond());
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let retry_after = text(response.headers(), &header::RETRY_AFTER);
        let body = read(response).await?;
        let now = date.unwrap_or_else(Timestamp::now);
        Err(fault::read(&Refusal { status, retry_after: retry_after.as_deref(), now, body: &body }))
    }

    /// Sends, and sends again at once where a connection that had been idle turned out to be closed. That is safe:
    /// every write is conditional on the row's version, or ignores what is there already.
    async fn transmit(&self, mut request: Request) -> Result<Response, reqwest::Error> {
        for _ in 0..STALE_CONNECTIONS {
            let again = request.try_clone();
            match (self.execute(request).await, again) {
                (Err(error), Some(same)) if closed_before_an_answer(&error) => request = same,
                (answer, _) => return answer,
            }
        }
        self.execute(request).await
    }

    async fn execute(&self, request: Request) -> Result<Response, reqwest::Error> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.client.execute(request).await
    }
}

async fn read(response: Response) -> Result<Bytes, Fault> {
    let body = response.bytes().await.map_err(|error| fault::of_transport(&error.without_url()))?;
    metrics::RECEIVED_BYTES.add(body.len() as u64, &[]);
    Ok(body)
}

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, Fault> {
    let late = |_| Fault::new(FaultKind::Transient, format!("no answer within {} s", deadline.as_secs_f32()));
    tokio::time::timeout(deadline, work).await.map_err(late)
}

fn closed_before_an_answer(error: &reqwest::Error) -> bool {
    if error.is_connect() || error.is_timeout() {
        return false;
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(error) = this.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        if let Some(error) = this.downcast_ref::<std::io::Error>()
            && matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
        {
            return true;
        }
        cause = this.source();
    }
    false
}

fn date(response: &Response) -> Option<Timestamp> {
    text(response.headers(), &header::DATE).and_then(|text| fault::date(&text))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
