//! Log entries as rows of a table (`usage_logs` of Raw Studio): the `LogSink` port. It inserts rows under names of this
//! device's own and leaves those alone that are there, so a batch may be sent again after a lost answer.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Map, Value, json};
use tidelock_actors::logs::{Entry, TableName};
use tidelock_actors::model::Fault;
use tidelock_actors::ports::LogSink;

use super::http::{Link, Question};
use super::request_line::{Query, encode};
use super::{PlainOptions, SetupError, fault, project};

/// What stands in `provider` of what is no call of a service.
const PROVIDER: &str = "log";
/// What an entry's context is called in `metadata`, beside what the host put there.
const CONTEXT: &str = "tidelock";

/// Takes secrets out of what the server says.
pub type Cleaner = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The table.
pub struct UsageLogs {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    base: String,
    device: String,
    clean: Cleaner,
}

impl UsageLogs {
    /// Prepares requests to a project, over connections of their own so that syncing does not wait. Nothing is sent.
    pub fn new(options: &PlainOptions, device: &str, clean: Cleaner) -> Result<Self, SetupError> {
        let (url, base) = project(options)?;
        let link = Link::new(options, &url)?;
        Ok(Self { inner: Arc::new(Inner { link, base, device: device.to_owned(), clean }) })
    }
}

impl LogSink for UsageLogs {
    fn send(&self, table: TableName, entries: Vec<Entry>) -> BoxFuture<'static, Result<(), Fault>> {
        let inner = self.inner.clone();
        async move { inner.send(&table, &entries).await }.boxed()
    }
}

impl Inner {
    async fn send(&self, table: &str, entries: &[Entry]) -> Result<(), Fault> {
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (HeaderValue::from_str(schema).ok(), table),
            None => (None, table),
        };
        let user = self.link.user();
        let rows: Vec<Value> = entries.iter().map(|entry| row(entry, &self.device, user.as_deref())).collect();
        let path = format!("{}/rest/v1/{}", self.base, encode(table));
        let question = Question {
            method: Method::POST,
            line: Query::default().with("on_conflict", "id").on(&path),
            schema: schema.as_ref(),
            prefer: Some("resolution=ignore-duplicates,return=minimal"),
            body: Some(Value::Array(rows).to_string()),
        };
        let cleaned = |text: String| (self.clean)(&text);
        let answered = self.link.send(question).await.and_then(|answer| match answer.body.is_empty() {
            true => Ok(()),
            // Somebody between here and the server answers in its place: nothing has arrived.
            false => Err(fault::not_json(answer.status, &answer.body)),
        });
        answered.map_err(|fault| Fault {
            message: cleaned(fault.message),
            details: fault.details.map(cleaned),
            ..fault
        })
    }
}

fn row(entry: &Entry, device: &str, user: Option<&str>) -> Value {
    let mut context = json!({
        "at": entry.at, "device": device, "version": env!("CARGO_PKG_VERSION"), "spans": entry.spans,
    });
    if entry.count > 1 {
        context["count"] = entry.count.into();
        context["last_at"] = json!(entry.last_at);
    }
    let (provider, action, credits, mut metadata) = match &entry.call {
        Some(call) => {
            let metadata = match &call.metadata {
                Value::Object(map) => map.clone(),
                Value::Null => Map::new(),
                other => Map::from_iter([("metadata".to_owned(), other.clone())]),
            };
            (call.provider.as_str(), call.action.as_str(), json!(call.credits), metadata)
        }
        None => {
            let said = json!({"message": entry.message, "target": entry.target, "fields": entry.fields});
            (PROVIDER, entry.level.name(), json!(0), said.as_object().cloned().unwrap_or_default())
        }
    };
    metadata.insert(CONTEXT.to_owned(), context);
    let mut row = json!({
        "id": entry.id, "provider": provider, "action": action, "credits_consumed": credits, "metadata": metadata,
    });
    if let Some(user) = user {
        row["user_id"] = user.into();
    }
    row
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tidelock_actors::logs::{ApiCall, Severity, SpanContext};

    use super::*;

    fn entry() -> Entry {
        Entry {
            id: "018f".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            last_at: Timestamp::UNIX_EPOCH,
            level: Severity::Warn,
            target: "app::queue".to_owned(),
            message: "slow".to_owned(),
            fields: Map::from_iter([("ms".to_owned(), json!(17))]),
            spans: vec![SpanContext { name: "export".to_owned(), fields: Map::new() }],
            count: 1,
            call: None,
            ships: true,
        }
    }

    #[test]
    fn a_warning_becomes_a_row_with_its_context() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = json!({
            "id": "018f", "provider": "log", "action": "warn", "credits_consumed": 0, "user_id": "u",
            "metadata": {
                "message": "slow", "target": "app::queue", "fields": {"ms": 17},
                "tidelock": {"at": "1970-01-01T00:00:00Z", "device": "d", "version": version, "spans": [{"name": "export"}]},
            },
        });
        assert_eq!(row(&entry(), "d", Some("u")), expected);
        let repeated = row(&Entry { count: 7, ..entry() }, "d", None);
        assert_eq!(repeated["metadata"]["tidelock"]["count"], 7);
        assert!(repeated.get("user_id").is_none());
    }

    #[test]
    fn a_call_keeps_what_its_host_said_of_it() {
        let call = |metadata| ApiCall { provider: "gemini".into(), action: "generate".into(), credits: 2.5, metadata };
        let told = row(&Entry { call: Some(call(json!({"model": "x"}))), ..entry() }, "d", None);
        assert_eq!((told["provider"].as_str(), told["action"].as_str()), (Some("gemini"), Some("generate")));
        assert_eq!((&told["credits_consumed"], &told["metadata"]["model"]), (&json!(2.5), &json!("x")));
        assert_eq!(told["metadata"]["tidelock"]["device"], "d");
        let told = row(&Entry { call: Some(call(json!([1]))), ..entry() }, "d", None);
        assert_eq!(told["metadata"]["metadata"], json!([1]));
    }
}
