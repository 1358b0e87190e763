//! What an audit reads: digests of what the server is believed to have, and those records themselves.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tidelock_actors::document::{Document, bucket};
use tidelock_actors::model::{RecordId, Version};
use tidelock_actors::ports::{Digesting, Digests, Standing};

use super::faults::Failure;

/// One pass over the file in its own order: a large collection by its index would read every page many times.
pub(super) fn digests(connection: &Connection, asked: &[Digesting]) -> Result<Vec<Vec<u64>>, Failure> {
    let mut digests: Vec<Vec<u64>> = asked.iter().map(|one| vec![0; one.buckets]).collect();
    let mut statement = connection.prepare_cached(
        "SELECT collection, confirmed, key, document, server_document FROM tl_records NOT INDEXED WHERE on_server",
    )?;
    let mut rows = statement.query([])?;
    let (mut at, mut hashes) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        let collection = text(row, 0);
        if asked.get(at).is_none_or(|one| *one.collection != *collection) {
            match asked.iter().position(|one| *one.collection == *collection) {
                Some(other) => at = other,
                None => continue,
            }
        }
        let one = &asked[at];
        if one.with_unconfirmed || row.get(1)? {
            let key = text(row, 2);
            digests[at][bucket(key, one.buckets)] ^= one.layout.digest(key, base(row, 3), &mut hashes);
        }
    }
    Ok(digests)
}

/// The keys are read from their index alone; only those in the buckets are looked up.
pub(super) fn digests_within(
    connection: &Connection,
    asked: &Digesting,
    buckets: &[usize],
) -> Result<Digests, Failure> {
    let mut wanted = vec![false; asked.buckets];
    buckets.iter().for_each(|at| wanted[*at] = true);
    let mut keys = connection
        .prepare_cached("SELECT id, key FROM tl_records INDEXED BY tl_records_place WHERE collection = ?1")?;
    let mut find = connection.prepare_cached(
        "SELECT document, server_document FROM tl_records WHERE id = ?1 AND on_server AND (confirmed OR ?2)",
    )?;
    let (mut found, mut hashes) = (Vec::new(), Vec::new());
    let mut rows = keys.query([&asked.collection])?;
    while let Some(row) = rows.next()? {
        let key = text(row, 1);
        if wanted[bucket(key, asked.buckets)] {
            let read = |record: &Row<'_>| Ok(asked.layout.digest(key, base(record, 0), &mut hashes));
            let id: i64 = row.get(0)?;
            if let Some(digest) = find.query_row(params![id, asked.with_unconfirmed], read).optional()? {
                found.push((Arc::from(key), digest));
            }
        }
    }
    Ok(found)
}

/// A row that waits for a decision on its conflict is known, though it is not the base yet.
pub(super) fn standings(connection: &Connection, ids: &[RecordId]) -> Result<Vec<Standing>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT r.on_server, r.version, r.confirmed, coalesce(r.server_document, r.document),
                c.id IS NOT NULL, c.remote, c.remote_version
         FROM tl_records r LEFT JOIN tl_conflicts c
           ON c.collection = r.collection AND c.key = r.key AND c.state = 'open'
         WHERE r.collection = ?1 AND r.key = ?2",
    )?;
    let read = |row: &Row<'_>| {
        if row.get(4)? {
            let version = row.get::<_, Option<Version>>(6)?;
            return Ok(Standing { document: readable(row, 5)?, version, confirmed: true });
        }
        let document = if row.get(0)? { readable(row, 3)? } else { None };
        Ok(Standing { document, version: row.get(1)?, confirmed: row.get(2)? })
    };
    let mut standing =
        |id: &RecordId| Ok(statement.query_row(params![id.collection, id.key], read).optional()?.unwrap_or_default());
    ids.iter().map(&mut standing).collect()
}

/// Somebody may have changed the file by hand: what is no document is an empty one.
fn readable(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Document>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.map(|text| Document::parse(&text).unwrap_or_else(|_| Document::empty())))
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> &'r str {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => std::str::from_utf8(bytes).unwrap_or_default(),
        Ok(ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_)) | Err(_) => "",
    }
}

/// The server's document stands after the local one, and only where the two may differ.
fn base<'r>(row: &'r Row<'_>, document: usize) -> &'r str {
    match text(row, document + 1) {
        "" => text(row, document),
        server => server,
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, id, row};
    use futures::executor::block_on;
    use std::sync::Arc;
    use tidelock_actors::document::{Layout, Spelling};
    use tidelock_actors::ports::{Digesting, Reader, Standing};

    fn asked(collection: &str, with_unconfirmed: bool) -> Digesting {
        let layout = Layout::new(["id", "n"].map(|name| (name.to_owned(), Spelling::Plain)));
        Digesting { collection: collection.into(), layout: Arc::new(layout), buckets: 4, with_unconfirmed }
    }

    /// All buckets as one.
    fn digest(world: &World, asked: &Digesting) -> u64 {
        let digests = block_on(world.reads.digests(vec![asked.clone()])).unwrap();
        let all = digests[0].iter().fold(0, |all, one| all ^ one);
        let rows = block_on(world.reads.digests_within(asked.clone(), vec![0, 1, 2, 3])).unwrap();
        assert_eq!(rows.iter().fold(0, |all, (_, one)| all ^ one), all, "both ways to read give the same");
        all
    }

    fn of(rows: &[(&str, &str)]) -> u64 {
        let layout = asked("", true).layout;
        rows.iter().map(|(key, text)| layout.digest(key, text, &mut Vec::new())).fold(0, |all, one| all ^ one)
    }

    #[test]
    fn what_is_digested_is_what_the_server_has_under_what_waits_here() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1"), row("notes/b", r#"{"id":"b","n":1}"#, "v1")]);
        world.take(vec![row("tasks/t", r#"{"id":"t"}"#, "v1")]);
        let (notes, both) = (asked("notes", true), of(&[("a", r#"{"id":"a","n":1}"#), ("b", r#"{"id":"b","n":1}"#)]));
        assert_eq!(digest(&world, &notes), both);
        world.save("notes/a", r#"{"n":2}"#);
        world.save("notes/new", "{}");
        world.delete("notes/b");
        assert_eq!(digest(&world, &notes), both, "nothing of this is on the server");
        assert_eq!(digest(&world, &asked("tasks", true)), of(&[("t", r#"{"id":"t"}"#)]));
        assert_eq!(digest(&world, &asked("none", true)), 0);
    }

    #[test]
    fn what_only_a_push_has_told_of_counts_where_that_is_wanted() {
        let mut world = World::new();
        world.save("notes/sent", r#"{"n":1}"#);
        world.applied("notes/sent", &[1], "v1");
        assert_eq!(digest(&world, &asked("notes", false)), 0);
        assert_eq!(digest(&world, &asked("notes", true)), of(&[("sent", r#"{"id":"sent","n":1}"#)]));
    }

    #[test]
    fn a_record_stands_as_the_server_has_it() {
        let mut world = World::new();
        world.take(vec![row("notes/a", r#"{"id":"a","n":1}"#, "v1")]);
        world.save("notes/a", r#"{"n":2}"#);
        world.save("notes/new", "{}");
        let standings = block_on(world.reads.standings(vec![id("notes/new"), id("notes/a"), id("notes/no")])).unwrap();
        let text = |standing: &Standing| standing.document.as_ref().map(ToString::to_string);
        assert_eq!(
            standings.iter().map(text).collect::<Vec<_>>(),
            [None, Some(r#"{"id":"a","n":1}"#.to_owned()), None]
        );
        assert_eq!(standings[1].version.as_deref(), Some("v1"));
    }
}
