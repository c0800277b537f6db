//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Doubles from `initial` to `max`; each wait is spread over its upper half, so that clients that lost the
/// same nsqd do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

/// An nsqd that was restarted is wanted back soon.
impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(2) }
    }
}

impl Backoff {
    /// The wait after this many failures in a row; none after none. `jitter` is from 0 up to 1.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let whole = self.initial.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max);
        whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10) };

    #[test]
    fn it_doubles_up_to_its_limit() {
        let waits: Vec<u128> =
            [0, 1, 2, 3, 8, 40, u32::MAX].iter().map(|n| BACKOFF.delay(*n, 1.0).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 10_000, 10_000, 10_000]);
        assert_eq!(BACKOFF.delay(1, 0.0).as_millis(), 50);
        assert_eq!(BACKOFF.delay(1, 0.5).as_millis(), 75);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(failures in 1_u32.., jitter in -1.0_f64..2.0) {
            let wait = BACKOFF.delay(failures, jitter);
            prop_assert!(wait >= BACKOFF.initial / 2 && wait <= BACKOFF.max);
        }
    }
}
