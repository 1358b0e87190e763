//! Comparing through the server kit: digests of a table's rows, and what they are made of.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidelock_actors::document::{Layout, Spelling};
use tidelock_actors::model::{Fault, FaultKind};
use tidelock_actors::ports::{Digesting, Digests};

use super::{Kit, VERSION, fault_of, filter};
use crate::adapters::supabase::describe::TableDescription;
use crate::adapters::supabase::fault;
use crate::adapters::supabase::table::Table;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    collections: [Part<'a>; 1],
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(default)]
    digests: String,
    #[serde(default)]
    rows: Vec<(Arc<str>, String)>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl Kit {
    /// The columns of these collections, in the server's order.
    pub async fn layouts(&self, collections: &[Arc<str>]) -> Result<Vec<Layout>, Fault> {
        let tables = collections.iter().map(|name| self.plain.table(name)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = tables.iter().map(|table| table.rules.table.as_str()).collect();
        let description = self.plain.describe(&names).await?;
        let described = description.ok_or_else(|| Fault::new(FaultKind::Schema, "the server kit is not there"))?.tables;
        Ok(tables.into_iter().zip(&described).map(|(table, described)| layout(table, described)).collect())
    }

    /// The digests of a collection's rows, by bucket.
    pub async fn digests(&self, asked: &Digesting) -> Result<Vec<u64>, Fault> {
        let (digests, _) = self.audit(asked, None).await?;
        let numbers = (0..digests.len() / 16).map(|at| digest(digests.get(16 * at..16 * (at + 1)).unwrap_or_default()));
        numbers.collect()
    }

    /// The keys and digests in these buckets.
    pub async fn digests_within(&self, asked: &Digesting, buckets: &[usize]) -> Result<Digests, Fault> {
        let (_, rows) = self.audit(asked, Some(buckets)).await?;
        rows.into_iter().map(|(key, text)| Ok((key, digest(&text)?))).collect()
    }

    async fn audit(
        &self,
        asked: &Digesting,
        only: Option<&[usize]>,
    ) -> Result<(String, Vec<(Arc<str>, String)>), Fault> {
        let table = self.plain.table(&asked.collection)?;
        let entry = entry(table, asked, only).map_err(|words| Fault::new(FaultKind::Schema, words))?;
        let sent = self.call("tidelock_audit", json!({ "collections": [entry] }).to_string()).await?;
        let not_json = |_| fault::not_json(sent.status, &sent.body);
        let Answer { collections: [part] } = serde_json::from_slice(&sent.body).map_err(not_json)?;
        match part.error {
            Some(error) => Err(fault_of(error)),
            None => Ok((part.digests, part.rows)),
        }
    }
}

fn digest(text: &str) -> Result<u64, Fault> {
    let strange = |_| Fault::new(FaultKind::Doubtful, format!("the server answered {text:?} for a digest"));
    u64::from_str_radix(text, 16).map_err(strange)
}

fn layout(table: &Table, described: &TableDescription) -> Layout {
    let declared = &table.rules.columns;
    let is_wanted =
        |name: &str| declared.is_empty() || name == table.key || declared.iter().any(|column| column == name);
    let columns = described.columns.iter().filter(|column| column.name != VERSION && is_wanted(&column.name));
    Layout::new(
        columns.filter_map(|column| Some((table.names.field(&column.name)?.to_owned(), spelling(&column.kind)))),
    )
}

/// By the type as PostgreSQL names it.
fn spelling(kind: &str) -> Spelling {
    match kind {
        "json" => Spelling::Verbatim,
        _ if kind.starts_with("timestamp") && !kind.ends_with(']') => Spelling::Instant,
        _ => Spelling::Plain,
    }
}

fn entry(table: &Table, asked: &Digesting, only: Option<&[usize]>) -> Result<Value, String> {
    let columns: Vec<&str> = asked.layout.names().iter().map(|field| table.names.column(field)).collect();
    let mut entry = json!({ "table": table.rules.table, "columns": columns, "buckets": asked.buckets });
    if let Some(filter) = &table.rules.filter {
        entry["filter"] = filter::read(filter)?;
    }
    if let Some(only) = only {
        entry["only"] = json!(only);
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_spelled_by_their_types() {
        for (kind, expected) in [
            ("timestamp with time zone", Spelling::Instant),
            ("timestamp(3) without time zone", Spelling::Instant),
            ("timestamp with time zone[]", Spelling::Plain),
            ("json", Spelling::Verbatim),
            ("jsonb", Spelling::Plain),
            ("text", Spelling::Plain),
        ] {
            assert_eq!(spelling(kind), expected, "{kind}");
        }
    }

    #[test]
    fn a_digest_is_sixteen_digits() {
        assert_eq!(digest("ffffffffffffffff").unwrap(), u64::MAX);
        assert_eq!(digest("000000000000000a").unwrap(), 10);
        assert!(digest("").is_err() && digest("x").is_err());
    }
}
