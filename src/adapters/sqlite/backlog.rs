//! What waits to be sent: how much of it there is, and since when. It is read from the outbox, all of it, so that no save
//! pays for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, Row};
use tidelock_actors::model::Stamp;

use super::faults::Failure;

/// What waits, by collection; one that has nothing to send is not in it.
pub(crate) type Backlog = BTreeMap<Arc<str>, Waiting>;

/// What waits in one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// When the oldest operation was made here.
    pub oldest: Stamp,
    /// Bytes of the fields that they set.
    pub bytes: u64,
}

/// Reads the whole outbox, but none of its large values.
pub(super) fn read(connection: &Connection) -> Result<Backlog, Failure> {
    let mut backlog = Backlog::new();
    let mut statement = connection
        .prepare_cached("SELECT collection, stamp, octet_length(patch) FROM tl_operations WHERE state = 'pending'")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (collection, oldest, bytes) = (text(row)?, Stamp(row.get(1)?), row.get::<_, u64>(2)?);
        match backlog.get_mut(collection) {
            Some(waiting) => {
                *waiting = Waiting { oldest: waiting.oldest.min(oldest), bytes: waiting.bytes + bytes };
            }
            None => {
                backlog.insert(collection.into(), Waiting { oldest, bytes });
            }
        }
    }
    Ok(backlog)
}

fn text<'r>(row: &'r Row<'_>) -> rusqlite::Result<&'r str> {
    Ok(row.get_ref(0)?.as_str()?)
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use futures::executor::block_on;

    #[test]
    fn what_waits_is_counted_and_dated_by_collection() {
        let mut world = World::new();
        let backlog = |world: &World| block_on(world.reads.backlog()).unwrap();
        assert!(backlog(&world).is_empty());
        world.save("notes/a", r#"{"body":"12345"}"#);
        let first = backlog(&world)["notes"];
        world.save("notes/b", r#"{"body":"é"}"#);
        let both = backlog(&world)["notes"];
        assert_eq!((both.oldest, first.oldest.millis() > 0), (first.oldest, true));
        let operations = block_on(world.reads.operations(Default::default())).unwrap();
        let bytes: u64 = operations.iter().map(|operation| operation.payload.as_str().len() as u64).sum();
        assert!(both.bytes == bytes && first.bytes < bytes, "{both:?} of {bytes}");
        assert_eq!(backlog(&world).len(), 1);
    }
}
