//! Rate limits of keys: a bucket of tokens for each, filled in real time (also under a virtual clock).

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;
use tsp_store::catalog::RateLimit;

/// How much a key may still do. Cheap enough to be locked for each request.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    level: Mutex<Level>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// Below zero after a batch larger than the whole limit.
    tokens: f64,
    at: Instant,
}

/// What an answer says about the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateState {
    limit: RateLimit,
    remaining: u32,
    /// Until the bucket is full again, or until there is enough for what was refused.
    reset_s: u64,
}

/// Refused: ask again after this many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateExceeded {
    pub(crate) retry_after_s: u64,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit, now: Instant) -> Self {
        Self { limit, level: Mutex::new(Level { tokens: f64::from(limit.count), at: now }) }
    }

    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes `count` tokens. More than the bucket can ever hold are given when it is full, and it goes
    /// into debt, so that a large batch is possible and the rate still holds on average.
    pub(crate) fn take(&self, count: u32, now: Instant) -> (RateState, Result<(), RateExceeded>) {
        let capacity = f64::from(self.limit.count);
        let mut level = self.level.lock();
        let elapsed = now.saturating_duration_since(level.at).as_secs_f64();
        level.tokens = (level.tokens + elapsed * self.per_second()).min(capacity);
        level.at = now;
        let needed = f64::from(count).min(capacity);
        // Floats: a bucket that is full up to rounding is full.
        if level.tokens + 1e-9 >= needed {
            level.tokens -= f64::from(count);
            (self.state(level.tokens, capacity - level.tokens), Ok(()))
        } else {
            let state = self.state(level.tokens, needed - level.tokens);
            (state, Err(RateExceeded { retry_after_s: state.reset_s }))
        }
    }

    fn per_second(&self) -> f64 {
        let per = self.limit.per.to_std().as_secs_f64();
        f64::from(self.limit.count) / per.max(0.001)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are whole, not negative and small; the casts saturate"
    )]
    fn state(&self, tokens: f64, wanted: f64) -> RateState {
        RateState {
            limit: self.limit,
            remaining: tokens.max(0.0).floor() as u32,
            reset_s: (wanted / self.per_second()).ceil().max(1.0) as u64,
        }
    }
}

impl RateState {
    /// `RateLimit: "key";r=50;t=30`.
    pub(crate) fn limit_header(&self) -> HeaderValue {
        ascii(format!("\"key\";r={};t={}", self.remaining, self.reset_s))
    }

    /// `RateLimit-Policy: "key";q=100;w=60`.
    pub(crate) fn policy_header(&self) -> HeaderValue {
        let window_s = u64::try_from(self.limit.per.ms()).unwrap_or(0).div_ceil(1_000).max(1);
        ascii(format!("\"key\";q={};w={window_s}", self.limit.count))
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tsp_core::Millis;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn empties_fills_and_says_when() {
        let limit = RateLimit { count: 3, per: Millis::from_secs(30) };
        let start = Instant::now();
        let bucket = Bucket::new(limit, start);
        for left in [2, 1, 0] {
            let (state, taken) = bucket.take(1, start);
            assert_eq!((state.remaining, taken), (left, Ok(())));
        }
        let (state, taken) = bucket.take(1, start);
        assert_eq!(taken, Err(RateExceeded { retry_after_s: 10 }));
        assert_eq!(state.limit_header(), "\"key\";r=0;t=10");
        assert_eq!(state.policy_header(), "\"key\";q=3;w=30");
        assert_eq!(bucket.take(1, start + Duration::from_secs(10)).1, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_the_limit_waits_for_a_full_bucket() {
        let bucket = Bucket::new(RateLimit { count: 10, per: Millis::from_secs(1) }, Instant::now());
        let start = Instant::now();
        assert_eq!(bucket.take(100, start).1, Ok(()));
        assert_eq!(bucket.take(1, start).1, Err(RateExceeded { retry_after_s: 10 }));
        assert_eq!(bucket.take(1, start + Duration::from_millis(9_200)).1, Ok(()));
    }

    proptest! {
        #[test]
        fn waiting_as_told_is_enough_and_a_refusal_costs_nothing(
            count in 1..1_000_u32,
            per_ms in 1..86_400_000_i64,
            calls in prop::collection::vec((1..2_000_u32, 0..5_000_u64), 1..12),
        ) {
            let limit = RateLimit { count, per: Millis::from_ms(per_ms) };
            let mut now = Instant::now();
            let bucket = Bucket::new(limit, now);
            for (wanted, pause_ms) in calls {
                now += Duration::from_millis(pause_ms);
                let before = bucket.level.lock().tokens;
                if let Err(refused) = bucket.take(wanted, now).1 {
                    prop_assert!(bucket.level.lock().tokens >= before);
                    now += Duration::from_secs(refused.retry_after_s);
                    prop_assert_eq!(bucket.take(wanted, now).1, Ok(()));
                }
            }
        }
    }
}
