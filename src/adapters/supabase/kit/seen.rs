//! How much of the server's past the store has seen, for the server to say whether it has forgotten deletions since (H30).

use super::place::Place;

/// What is here of all collections together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// All transactions before this one; none where nothing was read yet.
    before: Option<u64>,
    /// Whether rows may be here that the server does not have.
    pub is_doubtful: bool,
}

impl Seen {
    /// Of the collections that are read.
    pub fn of(places: impl Iterator<Item = Place>) -> Self {
        places.fold(Self::default(), |seen, place| seen.and(&place))
    }

    /// With one more collection.
    pub fn and(self, place: &Place) -> Self {
        Self {
            before: self.before.into_iter().chain(place.seen_before()).min(),
            is_doubtful: self.is_doubtful || place.is_doubtful,
        }
    }

    /// What the server is told.
    pub fn told(self) -> Option<u64> {
        if self.is_doubtful { Some(0) } else { self.before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(snapshot: Option<&str>, is_doubtful: bool) -> Place {
        let mut place = Place::read(None, "t");
        place.since = snapshot.map(str::to_owned);
        place.is_doubtful = is_doubtful;
        place
    }

    #[test]
    fn the_oldest_collection_counts_and_one_in_doubt_has_seen_nothing() {
        let told = |places: Vec<Place>| Seen::of(places.into_iter()).told();
        assert_eq!(told(vec![]), None);
        assert_eq!(told(vec![place(None, false)]), None, "what was never read cannot be out of date");
        assert_eq!(told(vec![place(Some("20:30:"), false), place(Some("10:40:11"), false)]), Some(10));
        assert_eq!(told(vec![place(Some("20:30:"), false), place(None, true)]), Some(0));
    }
}
