//! The decisions, without actix, tokio, a clock or randomness of their own: time and chance are arguments.

pub mod arrange;
pub mod audit;
pub mod backoff;
pub mod backup_times;
pub mod cadence;
pub mod coalesce;
pub mod flights;
pub mod hybrid_clock;
pub mod intensity;
pub mod made;
pub mod merge;
pub mod outbox;
pub mod relations;
pub mod retention;
pub mod schedule;
pub mod shipping;
mod since;

/// A seeded source of chance, so that a run can be repeated (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same sequence.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in [0, 1).
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
