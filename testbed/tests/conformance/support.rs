//! Requests as a client sends them, and their answers.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tidelock_testbed::{Project, Session};

pub const REPRESENTATION: &str = "return=representation";
pub const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
pub const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";
pub const C: &str = "cccccccc-0000-4000-8000-000000000000";

/// One answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn rows(&self) -> Vec<Value> {
        self.json().as_array().unwrap_or_else(|| panic!("no rows in {self:?}")).clone()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Status and `code` of an error, whose body must have exactly PostgREST's four members.
    pub fn error(&self) -> (u16, String) {
        let body = self.json();
        let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["code", "details", "hint", "message"], "{self:?}");
        (self.status, body["code"].as_str().unwrap().to_owned())
    }
}

/// Who asks.
#[derive(Clone, Copy)]
pub enum As<'a> {
    Service,
    Anon,
    User(&'a Session),
    Token(&'a str),
}

pub struct Request<'a> {
    project: &'a Project,
    builder: reqwest::RequestBuilder,
}

pub fn request<'a>(project: &'a Project, who: As<'_>, method: Method, path: &str) -> Request<'a> {
    request_to(project, who, method, &format!("{}/rest/v1/{path}", project.url))
}

/// A request to any address.
pub fn request_to<'a>(project: &'a Project, who: As<'_>, method: Method, address: &str) -> Request<'a> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let builder = client.request(method, address);
    let builder = match who {
        As::Service => builder.header("apikey", &project.secret_key),
        As::Anon => builder.header("apikey", &project.publishable_key),
        As::User(session) => builder.header("apikey", &project.publishable_key).bearer_auth(&session.access_token),
        As::Token(token) => builder.header("apikey", &project.publishable_key).bearer_auth(token),
    };
    Request { project, builder }
}

impl Request<'_> {
    pub fn prefer(mut self, preference: &str) -> Self {
        self.builder = self.builder.header("prefer", preference);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// The body is text, so that numbers stand in it exactly as written.
    pub fn body(mut self, json: impl Into<String>) -> Self {
        self.builder = self.builder.header("content-type", "application/json").body(json.into());
        self
    }

    pub fn bytes(mut self, bytes: &[u8], content_type: &str) -> Self {
        self.builder = self.builder.header("content-type", content_type).body(bytes.to_vec());
        self
    }

    pub async fn send(self) -> Answer {
        let answer = self.builder.send().await.unwrap_or_else(|e| panic!("{e:?} from {}", self.project.url));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await.unwrap().to_vec();
        Answer { status, headers, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }
}

pub async fn get(project: &Project, path: &str) -> Answer {
    request(project, As::Service, Method::GET, path).send().await
}

pub async fn post(project: &Project, path: &str, prefer: &str, body: impl Into<String>) -> Answer {
    request(project, As::Service, Method::POST, path).prefer(prefer).body(body).send().await
}

pub async fn patch(project: &Project, path: &str, prefer: &str, body: impl Into<String>) -> Answer {
    request(project, As::Service, Method::PATCH, path).prefer(prefer).body(body).send().await
}

pub async fn delete(project: &Project, path: &str, prefer: &str) -> Answer {
    request(project, As::Service, Method::DELETE, path).prefer(prefer).send().await
}

pub async fn call(project: &Project, function: &str, arguments: impl Into<String>) -> Answer {
    request(project, As::Service, Method::POST, &format!("rpc/{function}")).body(arguments).send().await
}

/// JSON text without the spaces between its members, to compare what two printers wrote.
pub fn compact(json: &str) -> String {
    let (mut text, mut in_string, mut is_escaped) = (String::new(), false, false);
    for c in json.chars() {
        if in_string || !c.is_whitespace() {
            text.push(c);
        }
        match c {
            '"' if !is_escaped => in_string = !in_string,
            _ => {}
        }
        is_escaped = in_string && c == '\\' && !is_escaped;
    }
    text
}
