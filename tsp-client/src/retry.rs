//! When a call that cannot happen twice is sent again.

use std::time::Duration;

use http::StatusCode;
use sha2::{Digest, Sha256};

use crate::error::Error;

const FIRST_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryRules {
    pub(crate) retries: u32,
    pub(crate) wait_max: Duration,
}

impl Default for RetryRules {
    fn default() -> Self {
        Self { retries: 4, wait_max: Duration::from_secs(10) }
    }
}

impl RetryRules {
    /// How long to wait before the next try, or `None` to give up. `tried`: how many tries were repeats.
    /// `salt` spreads callers that failed together: half of the wait depends on it.
    pub(crate) fn wait(&self, error: &Error, tried: u32, salt: &[u8]) -> Option<Duration> {
        if tried >= self.retries {
            return None;
        }
        let own = self.own_wait(tried, salt);
        match error {
            Error::NoAnswer(_) => Some(own),
            Error::Refused(refusal) if may_pass(refusal.status, error) => match refusal.retry_after {
                // Earlier than asked would only be refused again.
                Some(asked) if asked > self.wait_max => None,
                Some(asked) => Some(asked.max(own)),
                None => Some(own),
            },
            _ => None,
        }
    }

    /// 100 ms, 200 ms, 400 ms, … at most `wait_max`, of which at least a half is waited.
    fn own_wait(&self, tried: u32, salt: &[u8]) -> Duration {
        let full = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(tried)).min(self.wait_max);
        let mut hash = Sha256::new();
        hash.update(salt);
        hash.update(tried.to_le_bytes());
        let share = f64::from(hash.finalize()[0]) / 255.0;
        full.mul_f64(0.5 + share / 2.0)
    }
}

/// The service is busy, away, or still at work on the same call.
fn may_pass(status: StatusCode, error: &Error) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
        // What stands before the service says so when it cannot reach it.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => error.problem().is_none(),
        StatusCode::CONFLICT => {
            error.problem().is_some_and(|problem| problem.code.as_str() == "idempotency_in_progress")
        }
        _ => false,
    }
}
