//! The proxy's connections: what happens to one request, from its arrival to its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::gate::{Barrier, HoldAt};
use super::plan::Fault;
use super::script::Action;
use super::{Shared, State};

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the fault proxy cuts this connection")]
struct Cut;

/// Serves until it is aborted; its connections end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        if shared.lock().is_offline {
            continue;
        }
        connections.spawn(serve(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(shared.clone(), request));
    // An error is what we came for: the connection is closed.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Payload>, Cut> {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.as_str(), head.uri.path());
    let path_and_query = head.uri.path_and_query().map_or(path, |both| both.as_str());
    let (fault, barrier, hang_ms) = decide(&mut shared.lock(), method, path, path_and_query)?;
    // Also a refused request is read to its end, or the client might see a reset instead of the answer.
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    if let Some((status, body)) = shared.lock().instead.clone() {
        let mut response = Response::new(Payload::whole(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Cut)?;
        return Ok(response);
    }
    match fault {
        Some(Fault::Unavailable { retry_after_s }) => {
            return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, retry_after_s));
        }
        Some(Fault::TooManyRequests { retry_after_s }) => {
            return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, Some(retry_after_s)));
        }
        Some(Fault::Hang) => {
            tokio::time::sleep(Duration::from_millis(hang_ms)).await;
            return Err(Cut);
        }
        Some(Fault::CutBefore) => return Err(Cut),
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::LoseResponse | Fault::CutBody | Fault::Twice(_)) | None => {}
    }
    let barrier = pass(barrier, HoldAt::Request).await;
    let request = || {
        let request = shared.client.request(head.method.clone(), format!("{}{path_and_query}", shared.target));
        request.headers(forwardable(&head.headers)).body(body.clone())
    };
    if let Some(Fault::Twice(later)) = fault {
        let again = request();
        tokio::spawn(async move {
            tokio::time::sleep(later).await;
            // Nobody waits for what the server says to it.
            let _ = fetch(again).await;
        });
    }
    // A client that leaves does not take its request back from the server.
    let mut answered = tokio::spawn(fetch(request())).await.map_err(|_| Cut)?.map_err(|_| Cut)?;
    if let Some(date) = shared.lock().date.as_deref().and_then(|date| HeaderValue::from_str(date).ok()) {
        answered.headers_mut().insert(DATE, date);
    }
    pass(barrier, HoldAt::Response).await;
    match fault {
        Some(Fault::LoseResponse) => Err(Cut),
        Some(Fault::CutBody) if answered.body().is_empty() => Err(Cut),
        Some(Fault::CutBody) => Ok(answered.map(Payload::cut_in_half)),
        _ => Ok(answered.map(Payload::whole)),
    }
}

/// Records the request, and what it is to meet.
fn decide(
    state: &mut State,
    method: &str,
    path: &str,
    path_and_query: &str,
) -> Result<(Option<Fault>, Option<Barrier>, u64), Cut> {
    state.records.arrived(method, path, path_and_query);
    if state.is_offline {
        state.records.counts.offline += 1;
        return Err(Cut);
    }
    let (fault, barrier) = match state.script.take(method, path) {
        Some(Action::Meet(fault)) => (Some(fault), None),
        Some(Action::Hold(barrier)) => (None, Some(barrier)),
        None => (state.plan.draw(&mut state.dice), None),
    };
    if let Some(fault) = fault {
        state.records.met(fault);
    }
    Ok((fault, barrier, state.plan.hang_ms))
}

/// Holds the request when this is where its barrier stands; gives the barrier back when it stands elsewhere.
async fn pass(barrier: Option<Barrier>, at: HoldAt) -> Option<Barrier> {
    match barrier {
        Some(barrier) if barrier.at == at => {
            barrier.hold().await;
            None
        }
        other => other,
    }
}

async fn fetch(request: reqwest::RequestBuilder) -> reqwest::Result<Response<Bytes>> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), forwardable(answer.headers()));
    let length = answer.headers().get(CONTENT_LENGTH).cloned();
    let body = answer.bytes().await?;
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    // To a HEAD the length is told without the body.
    if let (true, Some(length)) = (response.body().is_empty(), length) {
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    Ok(response)
}

/// The headers that mean the message, not the connection it came by. Where it came to is told as gateways do, or the
/// address of a resumable upload would lead past the proxy.
fn forwardable(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    if let Some(host) = headers.get(HOST) {
        passed.insert("x-forwarded-host", host.clone());
    }
    for name in [CONNECTION, HOST, CONTENT_LENGTH, TRANSFER_ENCODING] {
        passed.remove(name);
    }
    passed.remove("keep-alive");
    passed
}

fn refusal(status: StatusCode, retry_after_s: Option<u32>) -> Response<Payload> {
    let mut response = Response::new(Payload::whole(Bytes::from_static(b"the fault proxy refuses this request")));
    *response.status_mut() = status;
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// An answer's body, whole or cut off.
struct Payload {
    chunk: Option<Bytes>,
    is_cut: bool,
    announced_bytes: u64,
}

impl Payload {
    fn whole(bytes: Bytes) -> Self {
        Self { announced_bytes: bytes.len() as u64, chunk: Some(bytes), is_cut: false }
    }

    fn cut_in_half(bytes: Bytes) -> Self {
        let half = bytes.slice(..bytes.len() / 2);
        Self { announced_bytes: bytes.len() as u64, chunk: Some(half), is_cut: true }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Poll::Ready(match self.chunk.take() {
            Some(chunk) if !chunk.is_empty() => Some(Ok(Frame::data(chunk))),
            _ if std::mem::take(&mut self.is_cut) => Some(Err(Cut)),
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        !self.is_cut && self.chunk.as_ref().is_none_or(Bytes::is_empty)
    }

    /// The whole length, so that the client sees that something is missing.
    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.announced_bytes)
    }
}
