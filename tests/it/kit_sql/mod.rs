//! The server kit as SQL, on connections of its own: overlapping transactions, users, and what is left in the catalogue.

mod attach;
mod audit;
mod changes;
mod overlap;
mod push;
mod refused;
mod users;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidelock_testbed::{Cluster, OwnDatabase};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub const ADA: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000002";

/// A database with the kit in it.
pub struct Kit {
    pub database: OwnDatabase,
    pub owner: Caller,
}

/// A connection, as the database's owner or as a user.
pub struct Caller(pub Client);

impl Kit {
    /// The kit, then this SQL.
    pub async fn with(sql: &str) -> Self {
        let database = Cluster::shared().await.unwrap().database().await.unwrap();
        let owner = Caller::connect(&database.url).await;
        owner.run(&tidelock_testbed::kit::script().unwrap()).await;
        owner.run(sql).await;
        Self { database, owner }
    }

    /// A signed-in user's connection.
    pub async fn user(&self, id: &str) -> Caller {
        let caller = Caller::connect(&self.database.url).await;
        let claims = json!({ "sub": id, "role": "authenticated" });
        caller
            .run(&format!(
                "set role authenticated; set request.jwt.claims = '{claims}'; set request.jwt.claim.sub = '{id}'"
            ))
            .await;
        caller
    }

    pub async fn another_owner(&self) -> Caller {
        Caller::connect(&self.database.url).await
    }
}

impl Caller {
    pub async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    pub async fn run(&self, sql: &str) {
        self.0.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{}", &sql[..sql.len().min(500)]));
    }

    /// The code that this SQL is refused with.
    pub async fn refused(&self, sql: &str) -> String {
        let error = self.0.batch_execute(sql).await.expect_err(sql);
        error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()
    }

    /// The first column of all rows.
    pub async fn column(&self, sql: &str) -> Vec<String> {
        let messages = self.0.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let first = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        };
        messages.iter().filter_map(first).collect()
    }

    pub async fn value(&self, sql: &str) -> String {
        self.column(sql).await.into_iter().next().unwrap_or_default()
    }

    /// What `tidelock_changes` answers, as text.
    pub async fn changes_text(&self, since: Option<&str>, collections: &Value, limit: usize) -> String {
        let since = since.map_or_else(|| "null".to_owned(), |since| format!("'{since}'"));
        self.value(&format!("select tidelock_changes({since}, {}, {limit})", quoted(collections))).await
    }

    pub async fn changes(&self, since: Option<&str>, collections: &Value, limit: usize) -> Value {
        serde_json::from_str(&self.changes_text(since, collections, limit).await).unwrap()
    }

    /// The snapshot at this moment.
    pub async fn snapshot(&self) -> String {
        self.changes(None, &json!([]), 1).await["snapshot"].as_str().unwrap().to_owned()
    }

    /// What `tidelock_push` answers to a batch of this device, with every verdict in full.
    pub async fn push(&self, batch: &Value) -> Value {
        in_full(serde_json::from_str(&self.value(&push_sql(batch)).await).unwrap())
    }

    /// The verdicts' kinds, with the code of those refused.
    pub async fn verdicts(&self, batch: &Value) -> Vec<String> {
        kinds(&self.push(batch).await)
    }
}

pub fn push_sql(batch: &Value) -> String {
    format!("select tidelock_push('device', 'epoch', {})", quoted(batch))
}

/// With what is shared in place of the numbers that stand for it.
pub fn in_full(mut answer: Value) -> Value {
    let shared = answer["shared"].take();
    for verdict in answer["verdicts"].as_array_mut().unwrap() {
        if let Some(place) = verdict.as_u64() {
            *verdict = shared[place as usize].clone();
        }
    }
    answer
}

pub fn kinds(answer: &Value) -> Vec<String> {
    let kind = |verdict: &Value| match verdict["code"].as_str() {
        Some(code) => format!("{} {code}", verdict["verdict"].as_str().unwrap()),
        None => verdict["verdict"].as_str().unwrap().to_owned(),
    };
    answer["verdicts"].as_array().unwrap().iter().map(kind).collect()
}

pub fn quoted(value: &Value) -> String {
    format!("'{}'", value.to_string().replace('\'', "''"))
}

/// One operation, a group of its own, numbered as given.
pub fn operation(number: u64, action: &str, table: &str, key: &str, base: Option<&str>, set: Value) -> Value {
    json!({ "group": number, "table": table, "action": action, "key": key, "base": base, "set": set, "covers": [number] })
}

pub fn create(number: u64, table: &str, key: &str, set: Value) -> Value {
    operation(number, "create", table, key, None, set)
}

/// What a device knows of one table: its rows by key, and since when it knows them.
#[derive(Default)]
pub struct Follower {
    pub table: String,
    pub since: Option<String>,
    pub rows: BTreeMap<String, Value>,
    /// How often each version of a row came.
    pub deliveries: BTreeMap<(String, String), u32>,
}

impl Follower {
    pub fn of(table: &str) -> Self {
        Self { table: table.to_owned(), ..Self::default() }
    }

    /// Pulls page by page until the end; gives the number of pages.
    pub async fn pull(&mut self, caller: &Caller, limit: usize, key: &str) -> u32 {
        let mut entry = json!({ "table": self.table, "since": self.since });
        let mut next = None;
        for page in 1..=10_000 {
            let answer = caller.changes(None, &json!([entry]), limit).await;
            next.get_or_insert(answer["snapshot"].as_str().unwrap().to_owned());
            let collection = &answer["collections"][0];
            assert!(collection["error"].is_null(), "{collection}");
            for gone in collection["gone"].as_array().unwrap() {
                self.rows.remove(gone.as_str().unwrap());
            }
            for row in collection["rows"].as_array().unwrap() {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let (key, version) = (text(&row[key]), text(&row["tidelock_version"]));
                *self.deliveries.entry((key.clone(), version)).or_default() += 1;
                self.rows.insert(key, row.clone());
            }
            if collection["more"].is_null() {
                self.since = next;
                return page;
            }
            for (name, value) in collection["more"].as_object().unwrap() {
                entry[name] = value.clone();
            }
        }
        panic!("no end of pages");
    }
}
