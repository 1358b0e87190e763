//! What the tests of this folder share.

use std::sync::Arc;
use std::time::Duration;

use tidelock_actors::model::{CollectionRules, Direction, Strategy};

use super::PlainOptions;
use super::table::Table;

/// A collection `notes` in this table, keyed by `id` and stamped in `updated_at`.
pub(super) fn rules(table: &str) -> CollectionRules {
    CollectionRules {
        name: "notes".into(),
        table: table.into(),
        key: "id".into(),
        version: "updated_at".into(),
        direction: Direction::Both,
        strategy: Strategy::NewestWins,
        fields: Default::default(),
        columns: vec![],
        filter: None,
        after: vec![],
        soft_delete: None,
    }
}

pub(super) fn table(rules: CollectionRules) -> Table {
    Table::new(rules, "", 1_000)
}

/// Options for a server that is not there.
pub(super) fn options(collections: Vec<CollectionRules>) -> PlainOptions {
    PlainOptions {
        url: "http://127.0.0.1:1".into(),
        publishable_key: "key".into(),
        token: Arc::new(|| None),
        timeout: Duration::from_secs(5),
        compress: true,
        compress_requests: false,
        collections,
        overlap: Duration::from_secs(60),
        page_rows: 1_000,
    }
}
