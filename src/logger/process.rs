//! What a whole process says is one store's: of the one that was opened first and is still open. While none is open, it
//! gathers for the next one.

use std::sync::{Arc, LazyLock, RwLock};

use super::intake::{Intake, Levels};
use super::redact::Redactor;
use crate::config::Level;
use crate::locks::{locked_to_read, locked_to_write};

/// Until a store says which it wants.
const EARLY: Levels = Levels { local: Level::Info, remote: Level::Warn };

/// The open stores' intakes in the order of their opening, and one for what is said while there is none.
struct Hearers {
    stores: Vec<Arc<Intake>>,
    nobody: Arc<Intake>,
}

impl Hearers {
    fn current(&self) -> &Arc<Intake> {
        self.stores.first().unwrap_or(&self.nobody)
    }
}

static HEARERS: LazyLock<RwLock<Hearers>> = LazyLock::new(|| {
    let nobody = Arc::new(Intake::new(EARLY, Redactor::default()));
    RwLock::new(Hearers { stores: Vec::new(), nobody })
});

/// Where what the process says goes now.
pub(super) fn intake() -> Arc<Intake> {
    locked_to_read(&HEARERS).current().clone()
}

/// A store opens: if no other one hears the process, it does, and has what was said before.
pub(super) fn claim(intake: &Arc<Intake>) {
    change(|hearers| hearers.stores.push(intake.clone()));
}

/// A store closes: the next one hears the process.
pub(super) fn release(intake: &Arc<Intake>) {
    change(|hearers| hearers.stores.retain(|open| !Arc::ptr_eq(open, intake)));
}

fn change(change: impl FnOnce(&mut Hearers)) {
    let (before, after) = {
        let mut hearers = locked_to_write(&HEARERS);
        let before = hearers.current().clone();
        change(&mut hearers);
        let after = hearers.current().clone();
        if Arc::ptr_eq(&before, &after) {
            return;
        }
        if Arc::ptr_eq(&before, &hearers.nobody) {
            hearers.nobody = Arc::new(Intake::new(EARLY, Redactor::default()));
            before.pour_into(&after);
        }
        (before, after)
    };
    if before.rank() != after.rank() {
        // What was found uninteresting is asked about again.
        tracing::callsite::rebuild_interest_cache();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests open stores at the same time, so only what becomes of these two is looked at.
    #[test]
    fn a_store_that_was_opened_second_hears_the_process_once_the_first_one_is_closed() {
        let of = || Arc::new(Intake::new(EARLY, Redactor::default()));
        let (first, second) = (of(), of());
        claim(&first);
        claim(&second);
        let place = |intake: &Arc<Intake>| {
            let hearers = HEARERS.read().unwrap();
            hearers.stores.iter().position(|open| Arc::ptr_eq(open, intake))
        };
        assert!(place(&first) < place(&second));
        release(&first);
        assert!(place(&first).is_none() && place(&second).is_some(), "it is still asked");
        release(&second);
        assert!(place(&second).is_none());
    }
}
