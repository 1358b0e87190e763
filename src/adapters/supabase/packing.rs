//! Compresses what is sent, where that is wanted and the gateway takes it: PostgREST itself does not.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bodies below this many bytes go as they are.
const WORTH_IT: usize = 1_024;

/// Whether bodies are compressed, until a gateway turns out not to take them so.
pub(super) struct Packing(AtomicBool);

impl Packing {
    pub fn new(is_wanted: bool) -> Self {
        Self(AtomicBool::new(is_wanted))
    }

    /// The body in gzip, if it is to go so.
    pub fn pack(&self, body: &str) -> Option<Vec<u8>> {
        if body.len() < WORTH_IT || !self.0.load(Ordering::Relaxed) {
            return None;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.as_bytes()).and_then(|()| encoder.finish()).ok()
    }

    /// The same body was taken as it is and not compressed.
    pub fn give_up(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::info!("the gateway takes no compressed requests; they are sent as they are");
        }
    }
}
