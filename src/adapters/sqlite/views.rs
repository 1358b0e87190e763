//! Each collection as a view with one column a known field, for plain SQL. A field is known once a document
//! had it or the configuration names it; when a new one appears, the view is made anew.

use std::collections::BTreeSet;

use rusqlite::Connection;
use tidelock_actors::document::Fields;
use tidelock_actors::limits::VIEW_FIELDS;

use super::batch::Batch;
use super::collections::{Collection, Collections, Index};
use super::faults::Failure;

impl Batch<'_> {
    /// Notes the fields of a document that none had before.
    pub(super) fn discover(&mut self, at: Index, fields: &Fields<'_>) {
        let known = &self.collections.get(at).fields;
        for name in fields.keys() {
            let is_new = !known.contains(&**name) && may_be_a_column(name);
            if is_new && known.len() + self.discovered.len() < VIEW_FIELDS {
                let found = (at, name.clone().into_owned());
                if !self.discovered.contains(&found) {
                    self.discovered.push(found);
                }
            }
        }
    }

    /// Gives each newly found field its column.
    pub(super) fn widen_views(&mut self) -> Result<(), Failure> {
        let widened: BTreeSet<Index> = self.discovered.iter().map(|(at, _)| *at).collect();
        for at in widened {
            let collection = self.collections.get(at);
            let found = self.discovered.iter().filter(|(of, _)| *of == at).map(|(_, field)| field.clone());
            let fields = collection.fields.iter().cloned().chain(found).collect();
            write(self.connection, &collection.rules.name, &fields)?;
        }
        Ok(())
    }
}

/// Reads the known fields, adds what the configuration names and makes the views that are missing.
pub(super) fn prepare(connection: &Connection, collections: &mut Collections) -> Result<(), Failure> {
    reload(connection, collections)?;
    for at in 0..collections.len() {
        let collection = collections.get(at);
        let mut fields = collection.fields.clone();
        fields.extend(declared(collection).filter(|name| may_be_a_column(name)));
        let name = &collection.rules.name;
        if collection.is_configured && (fields != collection.fields || !exists(connection, name)?) {
            write(connection, name, &fields)?;
        }
        collections.get_mut(at).fields = fields;
    }
    Ok(())
}

/// Reads the known fields from the file.
pub(super) fn reload(connection: &Connection, collections: &mut Collections) -> Result<(), Failure> {
    let mut statement = connection.prepare("SELECT field FROM tl_fields WHERE collection = ?1")?;
    for at in 0..collections.len() {
        let fields = statement.query_map([collections.name(at)], |row| row.get(0))?;
        collections.get_mut(at).fields = fields.collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// Takes over the fields that were committed.
pub(super) fn adopt(collections: &mut Collections, discovered: Vec<(Index, String)>) {
    for (at, field) in discovered {
        collections.get_mut(at).fields.insert(field);
    }
}

/// Whether the collection has its view.
pub(super) fn exists(connection: &Connection, name: &str) -> Result<bool, Failure> {
    let mut statement = connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = ?1")?;
    Ok(statement.exists([name])?)
}

fn declared(collection: &Collection) -> impl Iterator<Item = String> + '_ {
    let rules = &collection.rules;
    let local_name = |column: &String| {
        let renamed = rules.fields.iter().find(|(_, remote)| *remote == column);
        renamed.map_or_else(|| column.clone(), |(local, _)| local.clone())
    };
    let columns = rules.columns.iter().map(local_name);
    std::iter::once(rules.key.clone()).chain(rules.fields.keys().cloned()).chain(columns)
}

fn write(connection: &Connection, name: &str, fields: &BTreeSet<String>) -> Result<(), Failure> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO tl_fields (collection, field) VALUES (?1, ?2)")?;
    for field in fields {
        insert.execute([name, field])?;
    }
    let columns: Vec<String> =
        fields.iter().map(|field| format!("document ->> {} AS {}", text(&path(field)), identifier(field))).collect();
    connection.execute_batch(&format!(
        "DROP VIEW IF EXISTS {view}; CREATE VIEW {view} AS SELECT {columns} FROM tl_records
         WHERE collection = {collection} AND document IS NOT NULL;",
        view = identifier(name),
        columns = columns.join(", "),
        collection = text(name),
    ))?;
    Ok(())
}

/// The JSON path of a top-level field.
pub(super) fn path(field: &str) -> String {
    format!("$.\"{field}\"")
}

/// Whether a field can be named in a JSON path and a column; names with quotes, backslashes or control
/// characters cannot.
pub(super) fn may_be_a_column(field: &str) -> bool {
    !field.is_empty() && !field.contains(|c: char| c == '"' || c == '\\' || c.is_control())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
