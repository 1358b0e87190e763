//! The event streams: the status and the changes of records as they happen, as server-sent events. The first event says
//! whether the stream goes on where the last one of this client ended, or everything is to be read anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, Responder};
use futures::stream::unfold;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answered::Answered;
use super::asked::Query;
use super::feed::{Feed, Since};
use super::openapi::Operation;
use super::problem::Problem;
use super::{EVENT_KEYS, EVENT_PAUSE, EVENT_STREAMS, HEARTBEAT};
use crate::Tidelock;
use crate::status::Status;

/// How an event stream is described.
const FORM: &str = "text/event-stream";
/// Where a client says which event it had last.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";
/// All collections.
const ALL: &str = "*";

/// What all streams share.
pub(super) struct Streams {
    pub(super) feed: Arc<Feed>,
    free: Arc<Semaphore>,
}

impl Streams {
    pub(super) fn new(tidelock: &Tidelock) -> Self {
        Self { feed: Feed::start(tidelock.changes()), free: Arc::new(Semaphore::new(EVENT_STREAMS)) }
    }
}

/// What a client wants to be told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Interests {
    /// The collections whose records it wants to hear of, separated by commas; `*` means all.
    collections: String,
    /// Whether it wants to hear of the status.
    status: bool,
}

impl Default for Interests {
    fn default() -> Self {
        Self { collections: String::new(), status: true }
    }
}

/// What an event says.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Event<'a> {
    /// `snapshot`, the first event where nothing is resumed, and later where a client was too slow: forget what you have
    /// and read anew what you need. `resumed`, the first event where the stream goes on: nothing was missed.
    Begin {
        /// The status, if it is wanted.
        status: Option<Box<Status>>,
    },
    /// `records`: these were saved, deleted, pulled, resolved or brought back; read them.
    Records {
        /// Their collection.
        collection: &'a str,
        /// Their keys.
        keys: &'a [&'a str],
    },
    /// `status`: it is another one now.
    Status(Box<Status>),
}

/// An event stream as an answer.
pub(super) struct EventStream(Listener);

impl Responder for EventStream {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let events = unfold(self.0, |mut listener| async move {
            let event = listener.next().await?;
            Some((Ok::<_, Problem>(event), listener))
        });
        let mut answer = HttpResponse::Ok();
        answer.insert_header((CONTENT_TYPE, FORM)).insert_header((CACHE_CONTROL, "no-store"));
        // Whatever passes it on is not to gather it first.
        answer.insert_header(("x-accel-buffering", "no")).streaming(events)
    }
}

impl Answered for EventStream {
    fn describe(operation: &mut Operation<'_>) {
        operation.header("Last-Event-ID", "The id of the last event that the client had, to go on after it.");
        operation.answer::<Event<'_>>(FORM);
    }
}

pub(super) async fn events(
    request: HttpRequest,
    tidelock: Data<Tidelock>,
    streams: Data<Streams>,
    Query(interests): Query<Interests>,
) -> Result<EventStream, Problem> {
    let permit = streams.free.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{EVENT_STREAMS} event streams are open already; close one, or share one");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", 1, detail)
    })?;
    let last = request.headers().get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let collections = interests.collections(&tidelock)?;
    let feed = streams.feed.clone();
    let mut listener = Listener {
        count: feed.count(),
        place: 0,
        feed,
        collections,
        status: interests.status.then(|| tidelock.statuses()),
        ready: VecDeque::new(),
        _permit: permit,
    };
    listener.begin(last);
    Ok(EventStream(listener))
}

impl Interests {
    /// The collections, which must be there.
    fn collections(&self, tidelock: &Tidelock) -> Result<BTreeSet<String>, Problem> {
        let config = tidelock.config();
        let named = self.collections.split(',').filter(|name| !name.is_empty());
        let mut wanted = BTreeSet::new();
        for name in named {
            match name {
                ALL => wanted.extend(config.collections.keys().cloned()),
                name if config.collections.contains_key(name) => drop(wanted.insert(name.to_owned())),
                name => {
                    let detail = format!("there is no collection {name:?} to hear of");
                    return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_collection", 2, detail));
                }
            }
        }
        Ok(wanted)
    }
}

/// One client.
struct Listener {
    feed: Arc<Feed>,
    count: watch::Receiver<Option<u64>>,
    /// What it has been told, up to here.
    place: u64,
    collections: BTreeSet<String>,
    status: Option<watch::Receiver<Status>>,
    /// Events that wait until the client takes them.
    ready: VecDeque<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    fn begin(&mut self, last: Option<&str>) {
        match last.and_then(|id| self.feed.place(id)) {
            Some(place) => {
                self.place = place;
                self.tell_beginning("resumed");
                self.tell_changes();
            }
            None => {
                self.place = self.feed.since(0).1;
                self.tell_beginning("snapshot");
            }
        }
    }

    /// The next event, as soon as there is one; nothing when the process ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let (feed, status) = (&mut self.count, &mut self.status);
            let told = async {
                match status {
                    Some(status) => status.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = feed.changed() => {
                    changed.ok()?;
                    (*feed.borrow_and_update())?;
                    // What changes at the same time is told together.
                    tokio::time::sleep(EVENT_PAUSE).await;
                    self.tell_changes();
                }
                changed = told => {
                    changed.ok()?;
                    self.tell_status();
                }
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    fn tell_beginning(&mut self, name: &str) {
        let status = self.status.as_mut().map(|status| Box::new(status.borrow_and_update().clone()));
        self.tell(name, self.place, &Event::Begin { status });
    }

    fn tell_status(&mut self) {
        if let Some(status) = &mut self.status {
            let status = Box::new(status.borrow_and_update().clone());
            self.tell("status", self.place, &Event::Status(status));
        }
    }

    fn tell_changes(&mut self) {
        let before = self.place;
        let (since, place) = self.feed.since(before);
        self.place = place;
        let notices = match since {
            Since::Changes(notices) => notices,
            Since::Forgotten => return self.tell_beginning("snapshot"),
        };
        let mut changed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for id in notices.iter().flat_map(|notice| notice.iter()) {
            if self.collections.contains(&*id.collection) {
                changed.entry(&id.collection).or_default().insert(&id.key);
            }
        }
        let changed: Vec<(&str, Vec<&str>)> =
            changed.into_iter().map(|(collection, keys)| (collection, keys.into_iter().collect())).collect();
        let mut parts =
            changed.iter().flat_map(|(collection, keys)| keys.chunks(EVENT_KEYS).map(move |part| (*collection, part)));
        let mut next = parts.next();
        while let Some((collection, keys)) = next {
            next = parts.next();
            // Only who has had all of it may go on after it.
            let place = if next.is_none() { place } else { before };
            self.tell("records", place, &Event::Records { collection, keys });
        }
    }

    fn tell(&mut self, name: &str, place: u64, event: &Event<'_>) {
        // Statuses and keys always serialise.
        let data = serde_json::to_string(event).unwrap_or_default();
        let id = self.feed.id(place);
        self.ready.push_back(format!("event: {name}\nid: {id}\ndata: {data}\n\n").into());
    }
}
