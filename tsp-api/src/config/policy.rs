//! How often and how long it is tried.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Length;

/// When a failed attempt is tried again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first attempt included.
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_attempts: Option<u32>,
    pub backoff: Option<Backoff>,
    /// The share of a delay that is added at random.
    #[schema(minimum = 0, maximum = 1)]
    pub jitter: Option<f64>,
    /// No retry once the first due time is longer ago.
    pub max_age: Option<Length>,
    /// Answers that end the task as failed at once, 300 to 599.
    #[schema(max_items = 100)]
    pub non_retryable_status: Option<Vec<u16>>,
}

/// The delay before each further attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Backoff {
    /// `initial`, times `factor` from attempt to attempt, at most `max`.
    Exponential {
        #[serde(default)]
        initial: Option<Length>,
        #[serde(default)]
        #[schema(minimum = 1, maximum = 10)]
        factor: Option<f64>,
        #[serde(default)]
        max: Option<Length>,
    },
    /// One after the other; the last one repeats.
    List {
        #[serde(default)]
        #[schema(required, nullable = false, min_items = 1, max_items = 100)]
        delays: Option<Vec<Length>>,
    },
}

/// How long one attempt may take; `total` includes connecting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeout {
    pub connect: Option<Length>,
    pub total: Option<Length>,
}

/// Whether a 202 means that the callee completes later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AsyncCalls {
    pub enabled: Option<bool>,
    /// By when.
    pub deadline: Option<Length>,
}
