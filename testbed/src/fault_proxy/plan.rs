//! Which fault a request meets: probabilities and a seeded generator.

use std::time::Duration;

/// What can happen to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 without reaching the server, with or without `Retry-After` (seconds).
    Unavailable {
        /// The header's value.
        retry_after_s: Option<u32>,
    },
    /// 429 without reaching the server.
    TooManyRequests {
        /// The value of `Retry-After`.
        retry_after_s: u32,
    },
    /// No answer until the client gives up; cut after [`FaultPlan::hang_ms`] at the latest.
    Hang,
    /// The connection is closed before the server sees the request.
    CutBefore,
    /// The server answers, and the connection is closed before the client hears of it.
    LoseResponse,
    /// The connection is closed in the middle of the answer's body.
    CutBody,
    /// The request waits for this long, then passes.
    Delay(Duration),
    /// The request passes, and reaches the server once more after this long; the client hears of the first time.
    Twice(Duration),
}

/// How often which fault is drawn; the probabilities add up to at most 1, the rest passes untouched.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPlan {
    /// The same seed gives the same sequence of draws.
    pub seed: u64,
    /// Probability of a 503, half of them with `Retry-After`.
    pub unavailable: f64,
    /// Probability of a 429 with `Retry-After`.
    pub too_many_requests: f64,
    /// Probability of no answer at all.
    pub hang: f64,
    /// Probability of a connection closed before the server sees the request.
    pub cut_before: f64,
    /// Probability of a connection closed after the server has answered.
    pub lose_response: f64,
    /// Probability of a connection closed in the middle of the answer.
    pub cut_body: f64,
    /// Probability of a delay of up to `delay_ms`.
    pub delay: f64,
    /// Probability of a request that reaches the server twice, the second time up to `delay_ms` after the first.
    pub twice: f64,
    /// The longest delay, in milliseconds.
    pub delay_ms: u64,
    /// The longest that a hanging request is kept, in milliseconds.
    pub hang_ms: u64,
    /// The value of `Retry-After`, in seconds.
    pub retry_after_s: u32,
}

pub(super) type Plan = FaultPlan;

impl FaultPlan {
    /// Everything passes.
    pub fn none() -> Self {
        Self {
            seed: 0,
            unavailable: 0.0,
            too_many_requests: 0.0,
            hang: 0.0,
            cut_before: 0.0,
            lose_response: 0.0,
            cut_body: 0.0,
            delay: 0.0,
            twice: 0.0,
            delay_ms: 50,
            hang_ms: 60_000,
            retry_after_s: 1,
        }
    }

    /// Every kind of fault but requests that arrive twice, together in this share of the requests (0 to 1), equally often.
    pub fn mixed(seed: u64, share: f64) -> Self {
        const KINDS: f64 = 7.0;
        let each = share / KINDS;
        Self {
            seed,
            unavailable: each,
            too_many_requests: each,
            hang: each,
            cut_before: each,
            lose_response: each,
            cut_body: each,
            delay: each,
            ..Self::none()
        }
    }

    /// What the next request meets. Takes the same number of draws whatever comes out, so that changing one
    /// probability does not shift all that follows.
    pub(super) fn draw(&self, dice: &mut Dice) -> Option<Fault> {
        let (mut left, detail) = (dice.fraction(), dice.fraction());
        let retry_after_s = (detail < 0.5).then_some(self.retry_after_s);
        let delay = Duration::from_millis(self.delay_ms).mul_f64(detail);
        let kinds = [
            (self.unavailable, Fault::Unavailable { retry_after_s }),
            (self.too_many_requests, Fault::TooManyRequests { retry_after_s: self.retry_after_s }),
            (self.hang, Fault::Hang),
            (self.cut_before, Fault::CutBefore),
            (self.lose_response, Fault::LoseResponse),
            (self.cut_body, Fault::CutBody),
            (self.delay, Fault::Delay(delay)),
            (self.twice, Fault::Twice(delay)),
        ];
        kinds.into_iter().find_map(|(probability, fault)| {
            left -= probability;
            (left < 0.0).then_some(fault)
        })
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in [0, 1).
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        const MANTISSA_BITS: u32 = 53;
        (mixed >> (64 - MANTISSA_BITS)) as f64 / (1_u64 << MANTISSA_BITS) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(plan: &FaultPlan, count: usize) -> Vec<Option<Fault>> {
        let mut dice = Dice::new(plan.seed);
        (0..count).map(|_| plan.draw(&mut dice)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_draws_and_another_seed_others() {
        assert_eq!(draws(&FaultPlan::mixed(7, 0.5), 200), draws(&FaultPlan::mixed(7, 0.5), 200));
        assert_ne!(draws(&FaultPlan::mixed(7, 0.5), 200), draws(&FaultPlan::mixed(8, 0.5), 200));
    }

    #[test]
    fn faults_come_about_as_often_as_planned() {
        let met = draws(&FaultPlan::mixed(1, 0.7), 7_000).into_iter().flatten().count();
        assert!((4_500..5_300).contains(&met), "{met}");
        assert!(draws(&FaultPlan::none(), 1_000).iter().all(Option::is_none));
    }
}
