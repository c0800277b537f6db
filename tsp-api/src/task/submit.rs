//! Submits, one by one and in batches (API.md section 3).
//!
//! The server reads these bodies by hand (borrowed, every bad field named); the types here are what a
//! client writes and what the OpenAPI document shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{AnyOfBuilder, Array, ArrayBuilder, Object, SchemaType};

use crate::config::Retry;
use crate::duration::Length;
use crate::id::Id;
use crate::problem::Problem;
use crate::task::{Task, words};
use crate::time::Time;

/// The most tasks of one batch.
pub const BATCH_TASKS_MAX: usize = 1000;
/// The most bytes of a batch's body.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How far ahead a task may be promised, in days (ten years).
pub const AHEAD_DAYS_MAX: i64 = 3_653;

words! {
    /// What a submit with the key of an open task does.
    DuplicateKey {
        /// Answers with the open task, unchanged.
        Ignore = "ignore",
        /// Moves the open task to the new time (and payload, if given).
        Reset = "reset",
        /// Makes another task beside it.
        Add = "add",
    }
}

words! {
    /// What a submit did.
    SubmitResult {
        Created = "created",
        /// An open task holds the key; it is unchanged.
        Existing = "existing",
        /// An open task holds the key and took the new time.
        Reset = "reset",
    }
}

/// One task to be made. `execute_at` or `delay` or neither, which means now.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTask {
    /// A config of kind `delayed`.
    #[schema(example = "close-order", pattern = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
    pub config: String,
    /// The business key: 1 to 200 bytes of printable UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "order-42", min_length = 1, max_length = 200)]
    pub key: Option<String>,
    /// RFC 3339 with any offset, at most ten years ahead. A past time is kept and due now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Time>, example = "2026-11-21T18:30:00+08:00")]
    pub execute_at: Option<String>,
    /// In place of `execute_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Length>, example = "30m")]
    pub delay: Option<String>,
    /// Any JSON, sent byte for byte; the config's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// Overrides the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_duplicate_key: Option<DuplicateKey>,
    /// Added to the callback; they win over the config's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub headers: BTreeMap<String, String>,
    /// Merged over the config's: only the given fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Counted from `execute_at`: not begun by then, it ends `expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Length>, example = "1h")]
    pub expire_after: Option<String>,
    /// Only 1 for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1)]
    pub sharding_count: Option<u16>,
}

impl SubmitTask {
    /// A task of `config`, due now, with the config's own payload.
    pub fn new(config: impl Into<String>) -> Self {
        Self { config: config.into(), ..Self::default() }
    }

    /// The business key by which it is found again.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// RFC 3339 with an offset, in place of [`Self::delay`].
    #[must_use]
    pub fn execute_at(mut self, at: impl Into<String>) -> Self {
        self.execute_at = Some(at.into());
        self
    }

    /// A duration like `30m`, in place of [`Self::execute_at`].
    #[must_use]
    pub fn delay(mut self, delay: impl Into<String>) -> Self {
        self.delay = Some(delay.into());
        self
    }

    /// What the callback's body will be.
    ///
    /// # Errors
    /// When `payload` cannot be written as JSON.
    pub fn payload(mut self, payload: &impl Serialize) -> serde_json::Result<Self> {
        self.payload = Some(serde_json::value::to_raw_value(payload)?);
        Ok(self)
    }

    /// What happens when an open task has the key already.
    #[must_use]
    pub fn on_duplicate_key(mut self, policy: DuplicateKey) -> Self {
        self.on_duplicate_key = Some(policy);
        self
    }
}

/// The answer to a submit.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubmitAnswer {
    pub task: Task,
    pub result: SubmitResult,
    /// An executing task takes the new time once its attempt has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(value_type = Option<bool>, nullable = false)]
    pub after_current: bool,
}

/// Tasks that are submitted together; each stands alone.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitBatch {
    #[schema(schema_with = batch_tasks)]
    pub tasks: Vec<SubmitTask>,
}

/// Any element is accepted: a wrong one fails by itself, in its place.
fn batch_tasks() -> Array {
    let task = Ref::from_schema_name(SubmitTask::name());
    let anything = Object::with_type(SchemaType::AnyValue);
    let element = AnyOfBuilder::new()
        .item(task)
        .item(anything)
        .description(Some("A task as for a single submit. Anything else fails by itself, in its place."));
    ArrayBuilder::new().items(element).min_items(Some(1)).max_items(Some(BATCH_TASKS_MAX)).build()
}

/// One result for each task, in order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    pub results: Vec<BatchResult>,
}

/// What became of one task of a batch: `result` and `id`, or `error`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// The status that a submit of this task alone would have had.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub result: Option<SubmitResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<Id>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(value_type = Option<bool>, nullable = false)]
    pub after_current: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<Problem>,
}
