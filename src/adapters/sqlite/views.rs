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
        if known.len() == fields.len() && known.iter().zip(fields.names()).all(|(a, b)| a == b) {
            return;
        }
        for name in fields.names() {
            let is_new = !known.contains(name) && may_be_a_column(name);
            if is_new && known.len() + self.discovered.len() < VIEW_FIELDS {
                let found = (at, name.to_owned());
                if !self.discovered.contains(&found) {
                    self.discovered.push(found);
                }
            }
        }
    }
}

/// Gives each newly found field its column.
pub(super) fn widen(
    connection: &Connection,
    collections: &Collections,
    discovered: &[(Index, String)],
) -> Result<(), Failure> {
    let widened: BTreeSet<Index> = discovered.iter().map(|(at, _)| *at).collect();
    for at in widened {
        let collection = collections.get(at);
        let found = discovered.iter().filter(|(of, _)| *of == at).map(|(_, field)| field.clone());
        let fields = collection.fields.iter().cloned().chain(found).collect();
        write(connection, &collection.rules.name, &fields)?;
    }
    Ok(())
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
    let columns = rules.columns.iter().map(|column| rules.field(column).to_owned());
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

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, row};
    use super::VIEW_FIELDS;
    use tidelock_actors::model::Change;

    #[test]
    fn each_collection_is_a_view_with_a_column_a_field() {
        let mut world = World::new();
        assert_eq!(world.sql("SELECT * FROM notes"), [""; 0], "it is there before the first record");
        world.save("notes/a", r#"{"text":"it's","n":9223372036854775807,"tags":["x"],"ok":true}"#);
        assert_eq!(
            world.sql("SELECT * FROM notes"),
            [r#"{"id":"a","n":9223372036854775807,"ok":1,"tags":"[\"x\"]","text":"it's"}"#]
        );
        world.save("notes/b", r#"{"order":1.5}"#);
        assert_eq!(world.sql(r#"SELECT id, "order" FROM notes WHERE "order" > 1"#), [r#"{"id":"b","order":1.5}"#]);
        world.delete("notes/a");
        assert_eq!(world.sql("SELECT count(*) AS n FROM notes"), [r#"{"n":1}"#]);
    }

    #[test]
    fn fields_of_pulled_rows_and_declared_ones_are_columns_too() {
        let mut world = World::with(|options| {
            let rules = &mut options.collections[3];
            rules.fields.insert("author".to_owned(), "user_id".to_owned());
            rules.columns = vec!["user_id".to_owned(), "title".to_owned()];
        });
        assert_eq!(world.sql("SELECT author, id, title FROM notes"), [""; 0]);
        world.take(vec![row("notes/a", r#"{"id":"a","score":1}"#, "v1")]);
        let world = world.reopen();
        assert_eq!(
            world.sql("SELECT * FROM notes"),
            [r#"{"author":null,"id":"a","score":1,"title":null}"#],
            "columns stay when the configuration no longer names them"
        );
    }

    #[test]
    fn names_that_no_column_can_have_are_kept_in_the_document_alone() {
        let mut world = World::new();
        world.save("notes/a", r#"{"":1,"with \"quotes\"":2,"back\\slash":3,"with 'one' and ; --":4}"#);
        assert_eq!(world.sql("SELECT * FROM notes"), [r#"{"id":"a","with 'one' and ; --":4}"#]);
        assert!(world.get("notes/a").unwrap().contains(r#""with \"quotes\"":2"#));
        world.assert_healthy();
    }

    #[test]
    fn documents_with_thousands_of_fields_do_not_make_thousands_of_columns() {
        let mut world = World::new();
        let fields: Vec<String> = (0..VIEW_FIELDS + 200).map(|n| format!(r#""f{n}":{n}"#)).collect();
        world.save("notes/a", &format!("{{{}}}", fields.join(",")));
        world.save("notes/b", r#"{"one more":1}"#);
        assert_eq!(world.rows("tl_fields WHERE collection = 'notes'"), VIEW_FIELDS);
        world.assert_healthy();
    }

    #[test]
    fn a_failed_write_leaves_no_column_behind() {
        let mut world = World::new();
        let change = |place: &str| (id(place), Change::Save(document(r#"{"new":1}"#)));
        assert!(world.change(vec![change("notes/a"), change("nowhere/b")]).is_err());
        assert_eq!(world.rows("tl_fields WHERE field = 'new'"), 0);
        world.change(vec![change("notes/a")]).unwrap();
        assert_eq!(world.sql("SELECT new FROM notes"), [r#"{"new":1}"#]);
    }
}
