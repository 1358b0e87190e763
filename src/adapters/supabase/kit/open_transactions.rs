//! Which of the server's writing transactions were open when it was last read, and since when the oldest one has been
//! seen so. A snapshot does not tell when a transaction began: it has been open for at least that long. It knows of one
//! only once a later one has ended; until then nothing is behind it either.

use tidelock_actors::ports::OpenTransactions;

/// What the last snapshots have told.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    seen: Option<OpenTransactions>,
}

impl Lookout {
    /// Another snapshot, `xmin:xmax:open,open`, was read at this time.
    pub fn see(&mut self, snapshot: &str, now_ms: i64) {
        let mut parts = snapshot.split(':');
        let number = |part: Option<&str>| part.and_then(|text| text.parse::<u64>().ok());
        let (Some(first), Some(next)) = (number(parts.next()), number(parts.next())) else { return };
        let open = parts.next().unwrap_or_default().split(',').filter(|open| !open.is_empty()).count() as u64;
        let before = self.seen.and_then(|seen| seen.oldest);
        // What the snapshot begins with is the oldest that was open; where none was, it is the next to come.
        let since_ms = before.filter(|(known, _)| *known == first).map_or(now_ms, |(_, since_ms)| since_ms);
        let oldest = (first < next).then_some((first, since_ms));
        self.seen = Some(OpenTransactions { count: open.max(u64::from(oldest.is_some())), oldest });
    }

    /// How it stood when it was last looked.
    pub fn seen(&self) -> Option<OpenTransactions> {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_stays_open_is_known_by_when_it_was_first_seen() {
        let mut lookout = Lookout::default();
        assert_eq!(lookout.seen(), None);
        for (snapshot, now_ms, count, oldest) in [
            ("10:10:", 1_000, 0, None),
            ("10:14:10,12", 2_000, 2, Some((10, 2_000))),
            ("10:20:10", 3_000, 1, Some((10, 2_000))),
            ("15:20:15,18", 4_000, 2, Some((15, 4_000))),
            ("30:30:", 5_000, 0, None),
        ] {
            lookout.see(snapshot, now_ms);
            assert_eq!(lookout.seen(), Some(OpenTransactions { count, oldest }), "{snapshot}");
        }
    }
}
