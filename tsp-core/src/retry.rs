//! When a failed attempt is tried again (DESIGN.md section 5.1, `retry`).
//!
//! A policy is data that yields delays. The delay itself, the jitter on it and a receiver's Retry-After are
//! separate pure functions; the caller brings the random number and the clock.

use crate::duration::format_duration;
use crate::time::Millis;

/// Most attempts a task may be given. A limit for its own sake: what needs more is a schedule.
pub const MAX_ATTEMPTS_MAX: u32 = 10_000;

/// Most delays a list may have; the last one repeats anyway.
pub const BACKOFF_DELAYS_MAX: usize = 100;

/// Longest single delay between two attempts.
pub const BACKOFF_DELAY_MAX: Millis = Millis::from_days(30);

/// Largest growth per attempt; ten times is already a minute after two failures of a second.
pub const BACKOFF_FACTOR_MAX: f64 = 10.0;

/// Most status codes a policy may list.
pub const NON_RETRYABLE_STATUS_MAX: usize = 100;

/// The most jitter on a delay the receiver asked for, so that a thousand tasks told "120" do not come back in one
/// second (http-callbacks, section 8).
pub const RETRY_AFTER_JITTER: f64 = 0.1;

/// A receiver may always ask for this much, however short the own backoff is.
const RETRY_AFTER_FLOOR: Millis = Millis::from_hours(1);

/// How often and how soon a task is tried again. [`Default`] is the default of API.md section 2.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; only failed ones count (DESIGN.md section 5.2). 1 = no retry.
    pub max_attempts: u32,
    /// The delay before each further attempt.
    pub backoff: Backoff,
    /// Share of the delay, 0 to 1, that is added at most at random.
    pub jitter: f64,
    /// A task whose attempt has failed is not tried again once its first due time is longer ago than this.
    pub max_age: Option<Millis>,
    /// HTTP status codes that end the task as failed at once. 3xx and 410 do so without being listed.
    pub non_retryable_status: Vec<u16>,
}

/// How the delay between attempts develops.
#[derive(Clone, Debug, PartialEq)]
pub enum Backoff {
    /// The n-th delay after the n-th failed attempt; the last one repeats.
    List(Vec<Millis>),
    /// `initial * factor^(n - 1)`, at most `max`.
    Exponential { initial: Millis, factor: f64, max: Millis },
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Backoff {
    const DEFAULT: Self =
        Self::Exponential { initial: Millis::from_secs(1), factor: 2.0, max: Millis::from_mins(5) };
}

impl RetryPolicy {
    pub const DEFAULT: Self = Self {
        max_attempts: 5,
        backoff: Backoff::DEFAULT,
        jitter: 0.1,
        max_age: Some(Millis::from_days(2)),
        non_retryable_status: Vec::new(),
    };

    /// Everything that is wrong with the policy, as (field below `retry`, message); empty when it is sound.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.max_attempts == 0 || self.max_attempts > MAX_ATTEMPTS_MAX {
            problems.push((
                "max_attempts",
                format!("must be 1 to {MAX_ATTEMPTS_MAX}, is {}; for example `5`", self.max_attempts),
            ));
        }
        self.backoff.validate(&mut problems);
        if !(0.0..=1.0).contains(&self.jitter) {
            problems.push(("jitter", format!("must be 0 to 1, is {}; for example `0.1`", self.jitter)));
        }
        if self.max_age.is_some_and(|age| !age.is_positive()) {
            problems
                .push(("max_age", "must be longer than zero, for example `2d`; null for none".to_owned()));
        }
        if self.non_retryable_status.len() > NON_RETRYABLE_STATUS_MAX {
            problems.push((
                "non_retryable_status",
                format!("must list at most {NON_RETRYABLE_STATUS_MAX} codes"),
            ));
        }
        if let Some(status) = self.non_retryable_status.iter().find(|s| !(300..=599).contains(*s)) {
            problems.push((
                "non_retryable_status",
                format!("`{status}` is not the status of a failure, 300 to 599; for example `422`"),
            ));
        }
        problems
    }

    /// The delay before the next attempt without jitter; `failed_attempts` is 1 after the first that failed
    /// (0 is taken as 1).
    pub fn base_delay(&self, failed_attempts: u32) -> Millis {
        self.backoff.delay(failed_attempts)
    }
}

impl Backoff {
    /// The n-th delay, see [`RetryPolicy::base_delay`]. Never negative, whatever the policy holds.
    fn delay(&self, failed_attempts: u32) -> Millis {
        let step = failed_attempts.max(1) - 1;
        match self {
            Self::List(delays) => {
                let place = usize::try_from(step).unwrap_or(usize::MAX);
                let delay = delays.get(place).or(delays.last()).copied();
                delay.unwrap_or(Millis::ZERO).max(Millis::ZERO)
            }
            Self::Exponential { initial, factor, max } => {
                let exponent = i32::try_from(step).unwrap_or(i32::MAX);
                scale(*initial, factor.powi(exponent), *max)
            }
        }
    }

    fn validate(&self, problems: &mut Vec<(&'static str, String)>) {
        let longest = format_duration(BACKOFF_DELAY_MAX);
        match self {
            Self::List(delays) => {
                if delays.is_empty() || delays.len() > BACKOFF_DELAYS_MAX {
                    problems.push((
                        "backoff.delays",
                        format!("must have 1 to {BACKOFF_DELAYS_MAX} delays; for example `[\"1s\", \"1m\"]`"),
                    ));
                }
                if delays.iter().any(|delay| !(Millis::ZERO..=BACKOFF_DELAY_MAX).contains(delay)) {
                    problems.push(("backoff.delays", format!("each delay must be `0s` to `{longest}`")));
                }
            }
            Self::Exponential { initial, factor, max } => {
                if !initial.is_positive() || *initial > BACKOFF_DELAY_MAX {
                    problems
                        .push(("backoff.initial", format!("must be `1ms` to `{longest}`, for example `1s`")));
                }
                if !(1.0..=BACKOFF_FACTOR_MAX).contains(factor) {
                    problems.push((
                        "backoff.factor",
                        format!("must be 1 to {BACKOFF_FACTOR_MAX}, is {factor}; for example `2`"),
                    ));
                }
                if max < initial || *max > BACKOFF_DELAY_MAX {
                    problems
                        .push(("backoff.max", format!("must be `initial` to `{longest}`, for example `5m`")));
                }
            }
        }
    }
}

/// `base` with jitter on top: a length in `base ..= base * (1 + jitter)`, so never shorter than the policy
/// says. `jitter_fraction` is random in `0..1`; values outside, like a `jitter` outside 0 to 1, are clamped.
pub fn with_jitter(base: Millis, jitter: f64, jitter_fraction: f64) -> Millis {
    let base = base.max(Millis::ZERO);
    let share = clamp_fraction(jitter) * clamp_fraction(jitter_fraction);
    base.saturating_add(scale(base, share, base))
}

/// The delay for a receiver that answered 429 or 503 with a Retry-After: what it asked for, but not below
/// our own backoff (it cannot make us call sooner), and not above twice that or an hour, whichever is
/// longer (it cannot park a config for a year). http-callbacks, section 8.
///
/// Jitter ([`RETRY_AFTER_JITTER`]) and the task's `max_age` are the caller's.
pub fn clamp_retry_after(retry_after: Millis, own_backoff: Millis) -> Millis {
    let least = own_backoff.max(Millis::ZERO);
    retry_after.clamp(least, least.saturating_mul(2).max(RETRY_AFTER_FLOOR))
}

/// `length * by`, whole milliseconds, within `0..=most`; `most` also stands for everything that is not a
/// number.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a float is precise to the millisecond for 285,000 years, and the cast saturates"
)]
fn scale(length: Millis, by: f64, most: Millis) -> Millis {
    let most = most.max(Millis::ZERO);
    let ms = length.ms() as f64 * by;
    if ms.is_nan() { most } else { Millis::from_ms(ms as i64).clamp(Millis::ZERO, most) }
}

/// `x` within 0 to 1; 0 when it is not a number.
fn clamp_fraction(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Millis = Millis::from_secs(1);

    #[test]
    fn the_default_is_that_of_the_contract() {
        let policy = RetryPolicy::default();
        assert!(policy.validate().is_empty());
        assert_eq!((policy.max_attempts, policy.max_age), (5, Some(Millis::from_days(2))));
        let seconds: Vec<i64> = (1..=12).map(|n| policy.base_delay(n).ms() / 1_000).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(policy.base_delay(0), SECOND);
        assert_eq!(policy.base_delay(u32::MAX), Millis::from_mins(5));
    }

    #[test]
    fn a_list_repeats_its_last_delay() {
        let policy = RetryPolicy {
            backoff: Backoff::List(vec![SECOND, Millis::from_mins(1)]),
            ..RetryPolicy::default()
        };
        let seconds: Vec<i64> = (1..=4).map(|n| policy.base_delay(n).ms() / 1_000).collect();
        assert_eq!(seconds, [1, 60, 60, 60]);
        assert_eq!(Backoff::List(vec![]).delay(3), Millis::ZERO);
    }

    #[test]
    fn names_every_bad_field() {
        let policy = RetryPolicy {
            max_attempts: 0,
            backoff: Backoff::Exponential { initial: Millis::ZERO, factor: 0.5, max: Millis::from_ms(-1) },
            jitter: f64::NAN,
            max_age: Some(Millis::ZERO),
            non_retryable_status: vec![422, 200],
        };
        let fields: Vec<_> = policy.validate().into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "max_attempts",
                "backoff.initial",
                "backoff.factor",
                "backoff.max",
                "jitter",
                "max_age",
                "non_retryable_status"
            ]
        );
        for delays in [vec![], vec![Millis::from_ms(-1)], vec![Millis::from_days(31)], vec![SECOND; 101]] {
            let policy = RetryPolicy { backoff: Backoff::List(delays), ..RetryPolicy::default() };
            assert_eq!(policy.validate().len(), 1);
        }
        let many = RetryPolicy { non_retryable_status: vec![422; 101], ..RetryPolicy::default() };
        assert_eq!(many.validate()[0].0, "non_retryable_status");
    }

    #[test]
    fn a_receiver_moves_the_delay_only_within_bounds() {
        let secs = Millis::from_secs;
        for (asked, own, delay) in [
            (secs(120), SECOND, secs(120)),
            (Millis::ZERO, secs(8), secs(8)),
            (Millis::from_ms(-5), secs(8), secs(8)),
            (Millis::from_days(365), SECOND, Millis::from_hours(1)),
            (Millis::from_days(365), Millis::from_hours(3), Millis::from_hours(6)),
            (Millis::MAX, Millis::MAX, Millis::MAX),
        ] {
            assert_eq!(clamp_retry_after(asked, own), delay, "{asked:?} {own:?}");
        }
    }

    proptest! {
        #[test]
        fn delays_rise_and_stay_in_bounds(
            initial in 1..=BACKOFF_DELAY_MAX.ms(), factor in 1.0..=BACKOFF_FACTOR_MAX,
            more in 0..=BACKOFF_DELAY_MAX.ms(), failed_attempts in any::<u32>(),
        ) {
            let max = Millis::from_ms(initial.saturating_add(more).min(BACKOFF_DELAY_MAX.ms()));
            let backoff = Backoff::Exponential { initial: Millis::from_ms(initial), factor, max };
            let policy = RetryPolicy { backoff, ..RetryPolicy::default() };
            prop_assert!(policy.validate().is_empty());
            let (now, next) = (policy.base_delay(failed_attempts), policy.base_delay(failed_attempts.saturating_add(1)));
            prop_assert!(now <= next && next <= max && now.ms() >= initial.min(max.ms()));
        }

        #[test]
        fn any_numbers_give_a_delay_that_is_not_negative(
            initial in any::<i64>(), factor in any::<f64>(), max in any::<i64>(), failed_attempts in any::<u32>(),
            jitter in any::<f64>(), jitter_fraction in any::<f64>(),
        ) {
            let (initial, max) = (Millis::from_ms(initial), Millis::from_ms(max));
            let delay = Backoff::Exponential { initial, factor, max }.delay(failed_attempts);
            prop_assert!(delay >= Millis::ZERO && delay <= max.max(Millis::ZERO));
            prop_assert!(Backoff::List(vec![initial, max]).delay(failed_attempts) >= Millis::ZERO);
            prop_assert!(with_jitter(initial, jitter, jitter_fraction) >= Millis::ZERO);
            prop_assert!(clamp_retry_after(initial, max) >= Millis::ZERO);
        }

        #[test]
        fn jitter_only_adds_up_to_its_share(
            base in 0..=BACKOFF_DELAY_MAX.ms(), jitter in 0.0..=1.0, jitter_fraction in 0.0..1.0, more in 0.0..1.0,
        ) {
            let base = Millis::from_ms(base);
            let delay = with_jitter(base, jitter, jitter_fraction);
            prop_assert!(delay >= base && delay <= with_jitter(base, jitter, 1.0));
            prop_assert!(delay <= base.saturating_mul(2));
            prop_assert_eq!(with_jitter(base, 0.0, jitter_fraction), base);
            prop_assert!(jitter_fraction > more || delay <= with_jitter(base, jitter, more));
        }
    }
}
