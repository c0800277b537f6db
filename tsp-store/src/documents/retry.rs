//! Retry policies.

use serde::{Deserialize, Serialize};
use tsp_core::Millis;
use tsp_core::retry::{Backoff, RetryPolicy};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RetryDoc {
    max_attempts: u32,
    backoff: BackoffDoc,
    jitter: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    non_retryable_status: Vec<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BackoffDoc {
    List { delays: Vec<i64> },
    Exponential { initial: i64, factor: f64, max: i64 },
}

impl From<&RetryPolicy> for RetryDoc {
    fn from(policy: &RetryPolicy) -> Self {
        let backoff = match &policy.backoff {
            Backoff::List(delays) => BackoffDoc::List { delays: delays.iter().map(|d| d.ms()).collect() },
            Backoff::Exponential { initial, factor, max } => {
                BackoffDoc::Exponential { initial: initial.ms(), factor: *factor, max: max.ms() }
            }
        };
        Self {
            max_attempts: policy.max_attempts,
            backoff,
            jitter: policy.jitter,
            max_age: policy.max_age.map(Millis::ms),
            non_retryable_status: policy.non_retryable_status.clone(),
        }
    }
}

impl From<RetryDoc> for RetryPolicy {
    fn from(doc: RetryDoc) -> Self {
        let backoff = match doc.backoff {
            BackoffDoc::List { delays } => Backoff::List(delays.into_iter().map(Millis::from_ms).collect()),
            BackoffDoc::Exponential { initial, factor, max } => {
                Backoff::Exponential { initial: Millis::from_ms(initial), factor, max: Millis::from_ms(max) }
            }
        };
        Self {
            max_attempts: doc.max_attempts,
            backoff,
            jitter: doc.jitter,
            max_age: doc.max_age.map(Millis::from_ms),
            non_retryable_status: doc.non_retryable_status,
        }
    }
}
