//! The event streams of a running process: nobody misses a change, whoever comes back goes on, and many listeners harm nobody.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::command_line::Desk;

const CONFIG: &str = r#"
[api]
bind = "127.0.0.1:0"
[storage]
data_dir = "data"
[collections.runs]
[collections.albums]
"#;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the process at a desk.
struct Api {
    url: String,
    token: String,
    client: reqwest::Client,
}

impl Api {
    fn of(desk: &Desk) -> Self {
        let read = |name: &str| std::fs::read_to_string(desk.path("data").join(name)).unwrap().trim().to_owned();
        Self {
            url: format!("http://{}/v1", read("api.address")),
            token: read("api.token"),
            client: reqwest::Client::new(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn save(&self, key: &str, document: Value) {
        self.done(Method::PUT, &format!("/collections/runs/records/{key}"), document).await;
    }

    async fn open(&self, query: &str, last: Option<&str>) -> Response {
        let request = self.client.get(format!("{}/events?{query}", self.url)).bearer_auth(&self.token);
        let request = last.iter().fold(request, |request, id| request.header("last-event-id", *id));
        request.send().await.unwrap()
    }

    async fn listen(&self, query: &str, last: Option<&str>) -> Listener {
        let answer = self.open(query, last).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Listener { answer, unread: String::new() }
    }
}

struct Listener {
    answer: Response,
    unread: String,
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    event: String,
    id: String,
    data: Value,
}

impl Listener {
    /// The next event; nothing where the stream has ended.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let mut heard = Heard::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => heard.event = name.to_owned(),
                        Some(("id", id)) => heard.id = id.to_owned(),
                        Some(("data", data)) => heard.data = serde_json::from_str(data).unwrap(),
                        _ => assert_eq!(line, ":", "an event stream has no such line"),
                    }
                }
                self.unread = rest.to_owned();
                if heard != Heard::default() {
                    return Some(heard);
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("an event or the end");
            self.unread.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    async fn expect(&mut self, event: &str) -> Heard {
        let heard = self.next().await.expect("the stream goes on");
        assert_eq!(heard.event, event, "{heard:?}");
        heard
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_every_change_once_it_has_heard_of_the_beginning() {
    let desk = Desk::with(CONFIG);
    let _process = desk.process();
    let api = Api::of(&desk);
    api.save("before", json!({"n": 0})).await;
    let mut listener = api.listen("collections=runs&status=false", None).await;
    assert_eq!(listener.expect("snapshot").await.data, json!({"status": null}));
    let changes = json!({"operations": [
        {"save": {"collection": "runs", "key": "a", "document": {"n": 1}}},
        {"save": {"collection": "runs", "document": {"id": "b", "n": 2}}},
        {"save": {"collection": "albums", "key": "unheard", "document": {}}},
        {"delete": {"collection": "runs", "key": "before"}},
    ]});
    let done = api.done(Method::POST, "/transaction", changes).await;
    assert_eq!(done, json!({"changed": 4, "ids": ["a", "b", "unheard", "before"]}));
    let heard = listener.expect("records").await;
    assert_eq!(heard.data, json!({"collection": "runs", "keys": ["a", "b", "before"]}));
    let read = api.done(Method::POST, "/collections/runs/read", json!({"keys": ["a", "b", "before"]})).await;
    assert_eq!(read, json!({"documents": {"a": {"id": "a", "n": 1}, "b": {"id": "b", "n": 2}}}));

    let many: Vec<Value> = (0..2_500).map(|n| json!({"key": format!("k{n:04}"), "document": {"n": n}})).collect();
    api.done(Method::POST, "/collections/runs/records", many.into()).await;
    let mut keys = Vec::new();
    while keys.len() < 2_500 {
        let heard = listener.expect("records").await;
        let some = heard.data["keys"].as_array().unwrap().clone();
        assert!(some.len() <= 1_000, "{}", some.len());
        keys.extend(some);
    }
    assert!(keys.iter().enumerate().all(|(n, key)| *key == format!("k{n:04}")), "each once: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_comes_back_goes_on_where_it_was() {
    let desk = Desk::with(CONFIG);
    let process = desk.process();
    let api = Api::of(&desk);
    let mut listener = api.listen("collections=*&status=false", None).await;
    listener.expect("snapshot").await;
    api.save("a", json!({"n": 1})).await;
    let last = listener.expect("records").await.id;
    drop(listener);
    api.save("b", json!({"n": 1})).await;
    api.save("c", json!({"n": 1})).await;
    let mut listener = api.listen("collections=*&status=false", Some(&last)).await;
    listener.expect("resumed").await;
    assert_eq!(listener.expect("records").await.data, json!({"collection": "runs", "keys": ["b", "c"]}));

    // Another process knows nothing of these numbers.
    drop(process);
    assert_eq!(listener.next().await, None, "the stream ends with the process");
    let _process = desk.process();
    let api = Api::of(&desk);
    let mut listener = api.listen("collections=*&status=true", Some(&last)).await;
    let heard = listener.expect("snapshot").await;
    assert_eq!(heard.data["status"]["pending"], json!(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_status_is_always_told() {
    let desk = Desk::with(CONFIG);
    let _process = desk.process();
    let api = Api::of(&desk);
    let mut listener = api.listen("", None).await;
    assert_eq!(listener.expect("snapshot").await.data["status"]["pending"], json!(0));
    for n in 0..50 {
        api.save(&format!("k{n}"), json!({"n": n})).await;
    }
    let mut told = Vec::new();
    while told.last() != Some(&json!(50)) {
        told.push(listener.expect("status").await.data["pending"].clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_beyond_the_bound_are_refused_and_the_others_go_on() {
    let desk = Desk::with(CONFIG);
    let mut process = desk.process();
    let api = Api::of(&desk);
    let mut listeners = Vec::new();
    for _ in 0..64 {
        listeners.push(api.listen("collections=runs&status=false", None).await);
    }
    let refused = api.open("collections=runs", None).await;
    assert_eq!(refused.status(), 503);
    let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["code"], "too_many_streams");
    api.save("a", json!({})).await;
    for listener in &mut listeners {
        listener.expect("snapshot").await;
        listener.expect("records").await;
    }
    assert_eq!(api.ask(Method::GET, "/events?collections=none", Value::Null).await.0, 503, "still as many");
    drop(listeners.pop());
    // The place is free as soon as the process has seen the connection go: at the latest when it next says something.
    let answer = loop {
        api.save("b", json!({"n": uuid::Uuid::new_v4().to_string()})).await;
        let answer = api.ask(Method::GET, "/events?collections=none", Value::Null).await;
        if answer.0 != 503 {
            break answer;
        }
    };
    assert_eq!((answer.0, &answer.1["code"]), (404, &json!("unknown_collection")));
    process.signal("-TERM");
    assert_eq!(process.end(), 0, "open streams do not hold it");
    for listener in &mut listeners {
        while listener.next().await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_named_origin_may_ask_and_one_of_another_may_not() {
    let named = "http://localhost:5173";
    let desk = Desk::with(&CONFIG.replace("[api]", &format!("[api]\norigins = [\"{named}\"]")));
    let _process = desk.process();
    let api = Api::of(&desk);
    let url = format!("{}/status", api.url);
    for (origin, token, status) in [
        (named, &*api.token, 200),
        (named, "wrong", 401),
        ("http://localhost:5174", &*api.token, 403),
        ("https://elsewhere.example", &*api.token, 403),
    ] {
        let may = |answer: &Response| {
            answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
        };
        let expected = (origin == named).then(|| named.to_owned());
        // A browser asks first, and without the token.
        let first = api.client.request(Method::OPTIONS, &url).header("origin", origin);
        let first = first.header("access-control-request-method", "PUT");
        let first = first.header("access-control-request-headers", "authorization,content-type,last-event-id");
        assert_eq!(may(&first.send().await.unwrap()), expected, "{origin}");
        let answer = api.client.get(&url).header("origin", origin).bearer_auth(token).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), may(&answer)), (status, expected), "{origin}");
    }
}
