//! What a whole process says is one store's: of the one that was opened first and is still open. While none is open, it
//! gathers for the next one.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::intake::{Intake, Levels};
use super::redact::Redactor;
use crate::config::Level;

/// Until a store says which it wants.
const EARLY: Levels = Levels { local: Level::Info, remote: Level::Warn };

struct Hearer {
    intake: Arc<Intake>,
    /// Whether it is a store's.
    is_claimed: bool,
}

static HEARER: LazyLock<RwLock<Hearer>> = LazyLock::new(|| RwLock::new(nobody()));

fn nobody() -> Hearer {
    Hearer { intake: Arc::new(Intake::new(EARLY, Redactor::default())), is_claimed: false }
}

/// Where what the process says goes now.
pub(super) fn intake() -> Arc<Intake> {
    HEARER.read().unwrap_or_else(PoisonError::into_inner).intake.clone()
}

/// A store opens: if no other one hears the process, it does, and has what was said before.
pub(super) fn claim(intake: &Arc<Intake>) {
    let before = {
        let mut hearer = HEARER.write().unwrap_or_else(PoisonError::into_inner);
        if hearer.is_claimed {
            return;
        }
        std::mem::replace(&mut *hearer, Hearer { intake: intake.clone(), is_claimed: true })
    };
    before.intake.pour_into(intake);
    if before.intake.rank() != intake.rank() {
        // What was found uninteresting is asked about again.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// A store closes.
pub(super) fn release(intake: &Arc<Intake>) {
    let mut hearer = HEARER.write().unwrap_or_else(PoisonError::into_inner);
    if Arc::ptr_eq(&hearer.intake, intake) {
        *hearer = nobody();
    }
}
