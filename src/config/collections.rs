//! The declared collections: what their names and references must be, and their order, parents first.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelock_actors::model::CollectionRules;

use super::Config;
use super::check::{Check, listed};
use super::settings::CollectionSettings;

/// What a collection's name must be: it is also the name of a view in the store.
pub(super) const NAME: &str =
    "a name of lower-case letters, digits and _ that begins with a letter or _ and not with tl_ or sqlite_";

/// Bytes of a collection's name.
const NAME_BYTES: usize = 64;

/// Names that PostgREST reads as something else than a filter's column.
const NOT_COLUMNS: [&str; 6] = ["select", "order", "limit", "offset", "columns", "on_conflict"];

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    for (name, collection) in &config.collections {
        let path = format!("collections.{name}");
        let key = |key: &str| format!("{path}.{key}");
        check.require_that(is_name(name), &path, NAME);
        check.require(is_table(&collection.table), &key("table"));
        check.require(!collection.key.is_empty(), &key("key"));
        check.require(is_filter(&collection.filter), &key("filter"));
        for (name, column) in [("owner", &collection.owner), ("soft_delete", &collection.soft_delete)] {
            check.require(column.is_empty() || is_column(column), &key(name));
        }
        check.require(collection.columns.iter().all(|column| is_column(column)), &key("columns"));
        check.require_that(
            maps_one_to_one(&collection.fields),
            &key("fields"),
            "local name = remote column, every column at most once",
        );
        let parents = listed(config.collections.keys().filter(|parent| *parent != name));
        check.require_that(
            collection.after.iter().all(|parent| config.collections.contains_key(parent)),
            &key("after"),
            &format!("a list of collections; the others are: {parents}"),
        );
        if let Some(circle) = circle_through(name, &config.collections) {
            check.require_that(
                false,
                &key("after"),
                &format!("no circle, and this is one: {}", circle.join(" after ")),
            );
        }
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(allowed)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.len() <= NAME_BYTES
        && !name.starts_with("tl_")
        && !name.starts_with("sqlite_")
}

pub(super) fn is_table(table: &str) -> bool {
    let parts: Vec<_> = table.split('.').collect();
    table.is_empty() || (parts.len() <= 2 && parts.iter().all(|part| is_column(part)))
}

/// Postgres takes nearly any name; what cannot travel in an address is refused.
fn is_column(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '?', '#', '&', ',', '"', '(', ')']) && !name.contains(char::is_control)
}

fn is_filter(filter: &str) -> bool {
    filter.is_empty()
        || filter.split('&').all(|part| {
            part.split_once('=').is_some_and(|(column, condition)| {
                !column.is_empty() && !condition.is_empty() && !NOT_COLUMNS.contains(&column)
            })
        }) && !filter.contains(['#', '?'])
}

fn maps_one_to_one(fields: &BTreeMap<String, String>) -> bool {
    let mut columns: Vec<_> = fields.values().collect();
    columns.sort();
    columns.dedup();
    columns.len() == fields.len() && fields.iter().all(|(field, column)| !field.is_empty() && is_column(column))
}

/// The way from a collection through its parents back to itself, if there is one.
fn circle_through(start: &str, collections: &BTreeMap<String, CollectionSettings>) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(way) = ways.pop() {
        let parents = way.last().and_then(|name| collections.get(name)).map(|collection| &collection.after);
        for parent in parents.into_iter().flatten() {
            let longer = || way.iter().cloned().chain([parent.clone()]).collect::<Vec<_>>();
            if parent == start {
                return Some(longer());
            }
            if seen.insert(parent.clone()) {
                ways.push(longer());
            }
        }
    }
    None
}

/// The rules of every collection, each after its parents, otherwise by name.
pub(super) fn rules(config: &Config) -> Vec<CollectionRules> {
    let mut left: Vec<_> = config.collections.iter().collect();
    let mut ordered: Vec<CollectionRules> = Vec::new();
    while !left.is_empty() {
        let is_ready = |collection: &CollectionSettings| {
            collection.after.iter().all(|parent| {
                ordered.iter().any(|rules| *rules.name == **parent) || !config.collections.contains_key(parent)
            })
        };
        // A checked configuration has no circle; in another one the first that is left goes first.
        let next = left.iter().position(|(_, collection)| is_ready(collection)).unwrap_or(0);
        let (name, collection) = left.remove(next);
        ordered.push(rules_of(name, collection, config));
    }
    ordered
}

fn rules_of(name: &str, collection: &CollectionSettings, config: &Config) -> CollectionRules {
    CollectionRules {
        name: name.into(),
        table: if collection.table.is_empty() { name.to_owned() } else { collection.table.clone() },
        key: collection.key.clone(),
        version: collection.version.clone(),
        direction: collection.direction,
        strategy: collection.conflict.unwrap_or(config.sync.conflict),
        fields: collection.fields.clone(),
        columns: collection.columns.clone(),
        filter: (!collection.filter.is_empty()).then(|| collection.filter.clone()),
        after: collection.after.iter().map(|parent| Arc::from(parent.as_str())).collect(),
        soft_delete: (!collection.soft_delete.is_empty()).then(|| collection.soft_delete.clone()),
    }
}
