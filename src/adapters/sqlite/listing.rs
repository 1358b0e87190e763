//! Listings of the server's keys, part by part: what is missing on either side.

use rusqlite::{Connection, params};
use tidelock_actors::writes::{ListedKeys, Written};

use super::batch::Batch;
use super::faults::Failure;

/// The marks of a listing at work. They need not outlive the process: a new one begins a listing anew.
pub(super) fn prepare(connection: &Connection) -> Result<(), Failure> {
    connection.execute_batch(
        "CREATE TEMP TABLE tl_listing (
           collection TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (collection, key)
         ) STRICT, WITHOUT ROWID",
    )?;
    Ok(())
}

impl Batch<'_> {
    /// Marks a part of the server's keys. Keys of this part that the store lacks are told at once, so that
    /// they never pile up; keys that the server lacks are told with the last part, apart those that were not yet seen
    /// in a pull.
    pub(super) fn list_keys(&mut self, listed: &ListedKeys) -> Result<Written, Failure> {
        let collection = self.collections.name(self.collections.find(&listed.collection)?);
        if listed.first {
            let mut forget = self.connection.prepare_cached("DELETE FROM tl_listing WHERE collection = ?1")?;
            forget.execute([collection])?;
        }
        let mut mark =
            self.connection.prepare_cached("INSERT OR IGNORE INTO tl_listing (collection, key) VALUES (?1, ?2)")?;
        let mut find = self
            .connection
            .prepare_cached("SELECT 1 FROM tl_records WHERE collection = ?1 AND key = ?2 AND on_server")?;
        let mut missing = Vec::new();
        for key in &listed.keys {
            mark.execute(params![collection, key])?;
            if !find.exists(params![collection, key])? {
                missing.push(key.clone());
            }
        }
        let (mut extra, mut unseen) = (Vec::new(), Vec::new());
        if listed.last {
            // One expression over both tables: only unmarked records are looked up beyond their key.
            let mut unmarked = self.connection.prepare_cached(
                "SELECT r.key, r.confirmed FROM tl_records r INDEXED BY tl_records_place
                 LEFT JOIN tl_listing l ON l.collection = ?1 AND l.key = r.key
                 WHERE r.collection = ?1 AND CASE WHEN l.key IS NULL THEN r.on_server ELSE 0 END ORDER BY r.key",
            )?;
            let mut rows = unmarked.query([collection])?;
            while let Some(row) = rows.next()? {
                let keys = if row.get(1)? { &mut extra } else { &mut unseen };
                keys.push(row.get(0)?);
            }
            self.connection.prepare_cached("DELETE FROM tl_listing WHERE collection = ?1")?.execute([collection])?;
        }
        Ok(Written::Listed { missing, extra, unseen })
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, gone, row};
    use super::*;
    use std::sync::Arc;
    use tidelock_actors::writes::Write;

    fn list(world: &mut World, keys: &[&str], first: bool, last: bool) -> (Vec<String>, Vec<String>) {
        let keys = keys.iter().map(|key| Arc::from(*key)).collect();
        let part = ListedKeys { collection: "notes".into(), keys, first, last };
        match world.commit(Write::Listing(part)).unwrap() {
            Written::Listed { missing, extra, .. } => {
                let text = |keys: Vec<Arc<str>>| keys.iter().map(|key| key.to_string()).collect();
                (text(missing), text(extra))
            }
            other => panic!("{other:?}"),
        }
    }

    fn names(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn a_listing_tells_what_is_missing_on_either_side() {
        let mut world = World::new();
        world.take(["a", "b", "c", "d"].map(|key| row(&format!("notes/{key}"), "{}", "v1")).to_vec());
        world.take(vec![row("tasks/x", "{}", "v1")]);
        world.save("notes/mine", "{}");
        world.delete("notes/d");
        assert_eq!(list(&mut world, &["a", "new"], true, false), (names(&["new"]), vec![]), "told with its part");
        assert_eq!(list(&mut world, &["d", "mine"], false, false), (names(&["mine"]), vec![]), "made there as well");
        assert_eq!(list(&mut world, &[], false, true), (vec![], names(&["b", "c"])));
        world.assert_healthy();
    }

    #[test]
    fn what_only_a_push_has_told_of_is_not_yet_extra() {
        let mut world = World::new();
        world.save("notes/sent", "{}");
        world.applied("notes/sent", &[1], "v1");
        let part = ListedKeys { collection: "notes".into(), keys: vec![], first: true, last: true };
        let listed = |unseen: &[&str], extra: &[&str]| {
            let keys = |keys: &[&str]| keys.iter().map(|key| Arc::from(*key)).collect();
            Ok(Written::Listed { missing: vec![], extra: keys(extra), unseen: keys(unseen) })
        };
        assert_eq!(world.commit(Write::Listing(part.clone())), listed(&["sent"], &[]));
        world.take(vec![row("notes/sent", r#"{"id":"sent"}"#, "v1")]);
        assert_eq!(world.commit(Write::Listing(part)), listed(&[], &["sent"]));
    }

    #[test]
    fn the_first_part_forgets_a_listing_that_was_broken_off() {
        let mut world = World::new();
        world.take(vec![row("notes/a", "{}", "v1"), row("notes/b", "{}", "v1")]);
        list(&mut world, &["a", "b"], true, false);
        assert_eq!(list(&mut world, &["a"], true, true), (vec![], names(&["b"])));
        world.take(vec![gone("notes/b")]);
        assert_eq!(list(&mut world, &["a"], true, true), (vec![], vec![]));
    }
}
