//! The runtime's clock.

use std::time::Instant;

/// The present by the runtime's clock, so that tests may stop it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
