//! From what a caller wrote to a task that can be saved.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tsp_api::ErrorCode;
use tsp_api::config::{self as wire, Retry};
use tsp_core::config::{Kind, OnDuplicateKey, TaskConfig, Visibility};
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::task::{NewTask, Origin, Task, TaskExtra};
use tsp_core::task_key::{key_shard, keyless_shard};
use tsp_core::{AppId, Millis, Name, ShardId, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{App, Scope};
use tsp_store::tasks::Submit;

use crate::auth::Caller;
use crate::body::add_doubles;
use crate::error::{ApiError, ApiResult, Finish};
use crate::lookup::{self, no_app, no_config};
use crate::state::WebState;
use crate::tasks::trace::TraceParent;

use super::draft::Draft;

/// How long a caller should wait for a new slot of ids, in seconds.
const SLOT_RETRY_AFTER_S: u64 = 1;

/// The app that tasks are submitted to.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedApp {
    app: Arc<App>,
    /// The caller's key belongs to another app: only public configs are open, and no payload is shown
    /// (API.md section 2).
    foreign: bool,
    /// The caller manages configs, so that private ones are open.
    manages: bool,
    /// The app of the caller's key.
    caller: Option<AppId>,
}

impl ResolvedApp {
    /// 404 for an app that does not exist, 403 for a key that may not submit.
    pub(crate) async fn find(state: &WebState, caller: &Caller, name: &str) -> ApiResult<Self> {
        let found = lookup::find(state, || state.store.config_cache().app(name)).await?;
        let app = found.ok_or_else(|| no_app(name))?;
        let foreign = !caller.sees(app.id);
        if !foreign {
            caller.require(Scope::Submit, &app)?;
        } else if !caller.grants(Scope::Submit) {
            return Err(no_app(name));
        }
        Ok(Self { app, foreign, manages: caller.grants(Scope::Manage), caller: caller.app() })
    }

    /// Whether the caller belongs to another app.
    pub(crate) fn foreign(&self) -> bool {
        self.foreign
    }

    /// The config, if this caller may know of it.
    fn config(&self, state: &WebState, name: &Name) -> Option<Arc<TaskConfig>> {
        let config = state.store.config_cache().find_config(self.app.id, name)?;
        let open = match config.spec.visibility {
            Visibility::Public => true,
            Visibility::App => !self.foreign,
            Visibility::Private => !self.foreign && self.manages,
        };
        open.then_some(config)
    }

    /// What is returned instead of `error`: a caller from another app must not learn from a 400 that the app
    /// exists.
    pub(crate) fn hide(&self, error: ApiError) -> ApiError {
        if self.foreign { no_app(self.app.name.as_str()) } else { error }
    }
}

/// A task that is ready to be saved.
#[derive(Debug)]
pub(crate) struct PreparedSubmit {
    pub(crate) submit: Submit,
    pub(crate) config: Arc<TaskConfig>,
}

/// What all tasks of a call have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common<'a> {
    pub(crate) state: &'a WebState,
    pub(crate) resolved: &'a ResolvedApp,
    pub(crate) trace: &'a TraceParent,
    pub(crate) now: Timestamp,
}

impl Common<'_> {
    /// One task, as far as it can be read without its config.
    pub(crate) fn read<'a>(&self, text: &'a [u8]) -> ApiResult<Draft<'a>> {
        Draft::read(text, self.now).map_err(|error| self.resolved.hide(error))
    }

    /// Whether the config cache should be refreshed before the draft is refused for its config.
    pub(crate) fn is_unknown(&self, draft: &Draft<'_>) -> bool {
        draft.config.as_ref().is_some_and(|name| self.resolved.config(self.state, name).is_none())
    }

    /// 400 with all that is wrong, 404 for the config, 409 for its kind, 413 for the payload. Whether the
    /// config is disabled is asked at the commit, after a kept answer was looked for.
    ///
    /// `take` makes a payload of its own from its piece of the body.
    pub(crate) fn prepare<'a>(
        &self,
        mut draft: Draft<'a>,
        take: impl FnOnce(&'a str) -> Bytes,
    ) -> ApiResult<PreparedSubmit> {
        let config = draft.config.as_ref().and_then(|name| self.resolved.config(self.state, name));
        if config.is_none() && self.resolved.foreign {
            return Err(no_app(self.resolved.app.name.as_str()));
        }
        let retry = match (&config, &draft.retry) {
            (Some(config), Some(given)) => {
                let policy = merge(&config.spec.retry, given);
                for (field, message) in policy.validate() {
                    draft.errors.add(format!("retry.{field}"), message);
                }
                Some(policy)
            }
            _ => None,
        };
        if let Some(payload) = draft.payload
            && payload.get().len() <= self.state.settings.payload_bytes_max
        {
            add_doubles("payload", payload.get(), &mut draft.errors);
        }
        std::mem::take(&mut draft.errors).finish()?;
        let config = match (config, &draft.config) {
            (Some(config), _) => config,
            (None, Some(name)) => return Err(no_config(self.resolved.app.name.as_str(), name.as_str())),
            (None, None) => return Err(ApiError::internal("a draft without a config and without an error")),
        };
        if config.spec.kind == Kind::Cron {
            return Err(ApiError::new(
                ErrorCode::WrongKind,
                "the config is of kind `cron` and takes no submits; use its `/run` for an occurrence now",
            ));
        }
        let payload = draft.payload.map(|payload| self.checked(payload.get())).transpose()?.map(take);
        let submitter = self.resolved.caller.filter(|_| self.resolved.foreign);
        let extra = extra(draft.headers, retry, self.trace, submitter);
        let made = TaskDraft {
            key: draft.key,
            execute_at: draft.execute_at,
            payload,
            expire_after: draft.expire_after,
            origin: Origin::Submit,
            extra,
            on_duplicate: draft.on_duplicate_key.unwrap_or(config.spec.on_duplicate_key),
        };
        let submit = made.submit(self.state, &config, self.now)?;
        Ok(PreparedSubmit { submit, config })
    }

    fn checked<'a>(&self, payload: &'a str) -> ApiResult<&'a str> {
        check_payload(self.state, payload.len())?;
        Ok(payload)
    }
}

/// 413 for a payload over the setting.
pub(crate) fn check_payload(state: &WebState, bytes: usize) -> ApiResult<()> {
    let most = state.settings.payload_bytes_max;
    if bytes <= most {
        return Ok(());
    }
    let message = format!("has {bytes} bytes, at most {most} are allowed; send a reference instead");
    Err(ApiError::field(ErrorCode::TooLarge, "payload", message))
}

/// The fields of a task that do not follow from its config.
pub(crate) struct TaskDraft {
    pub(crate) key: Option<TaskKey>,
    pub(crate) execute_at: Timestamp,
    /// `None`: the config's.
    pub(crate) payload: Option<Bytes>,
    /// `None`: the config's.
    pub(crate) expire_after: Option<Millis>,
    pub(crate) origin: Origin,
    pub(crate) extra: Option<Box<TaskExtra>>,
    pub(crate) on_duplicate: OnDuplicateKey,
}

impl TaskDraft {
    /// 503 when no id can be made.
    pub(crate) fn submit(self, state: &WebState, config: &TaskConfig, now: Timestamp) -> ApiResult<Submit> {
        let id = new_id(state, config, self.key.as_ref(), now)?;
        let own_payload = self.payload.is_some();
        let task = Task::new(
            NewTask {
                id,
                config: config.id,
                key: self.key,
                execute_at: self.execute_at,
                payload: self.payload.or_else(|| config.spec.payload.clone()),
                expire_after: self.expire_after.or(config.spec.expire_after),
                origin: self.origin,
                extra: self.extra,
            },
            now,
        );
        Ok(Submit { task: Box::new(task), on_duplicate: self.on_duplicate, own_payload, idempotency: None })
    }
}

fn new_id(state: &WebState, config: &TaskConfig, key: Option<&TaskKey>, now: Timestamp) -> ApiResult<TaskId> {
    let shard = home(state, config, key);
    state.ids.next(shard, now).map_err(|error| {
        let detail = "no task ids can be made right now, the node is renewing its lease; try again";
        ApiError::unavailable(detail, SLOT_RETRY_AFTER_S).with_internal(error)
    })
}

/// The shard a task lives in (DESIGN.md section 5.4).
fn home(state: &WebState, config: &TaskConfig, key: Option<&TaskKey>) -> ShardId {
    let (span, shards) = (config.spec.span, state.store.shards());
    match key {
        Some(key) => key_shard(config.id, key.as_str(), span, shards),
        None => keyless_shard(config.id, state.next_salt.fetch_add(1, Ordering::Relaxed), span, shards),
    }
}

/// `None` for the many tasks that have nothing of their own.
pub(crate) fn extra(
    headers: std::collections::BTreeMap<String, String>,
    retry: Option<RetryPolicy>,
    trace: &TraceParent,
    submitter: Option<AppId>,
) -> Option<Box<TaskExtra>> {
    if headers.is_empty() && retry.is_none() && trace.get().is_none() && submitter.is_none() {
        return None;
    }
    let traceparent = trace.get().map(str::to_owned);
    Some(Box::new(TaskExtra { headers, retry, traceparent, submitter, ..TaskExtra::default() }))
}

/// The config's policy with the given fields over it.
fn merge(base: &RetryPolicy, given: &Retry) -> RetryPolicy {
    let backoff = match (&given.backoff, &base.backoff) {
        (None, backoff) => backoff.clone(),
        (Some(wire::Backoff::List { delays }), _) => {
            Backoff::List(delays.iter().flatten().map(|delay| delay.0).collect())
        }
        (Some(wire::Backoff::Exponential { initial, factor, max }), base) => {
            let (old_initial, old_factor, old_max) = exponential(base);
            Backoff::Exponential {
                initial: initial.map_or(old_initial, |length| length.0),
                factor: factor.unwrap_or(old_factor),
                max: max.map_or(old_max, |length| length.0),
            }
        }
    };
    RetryPolicy {
        max_attempts: given.max_attempts.unwrap_or(base.max_attempts),
        backoff,
        jitter: given.jitter.unwrap_or(base.jitter),
        max_age: given.max_age.map(|age| age.0).or(base.max_age),
        non_retryable_status: given
            .non_retryable_status
            .clone()
            .unwrap_or_else(|| base.non_retryable_status.clone()),
    }
}

/// The numbers of an exponential backoff: the config's if it has one, else the defaults.
fn exponential(base: &Backoff) -> (Millis, f64, Millis) {
    match base {
        Backoff::Exponential { initial, factor, max } => (*initial, *factor, *max),
        Backoff::List(_) => match Backoff::default() {
            Backoff::Exponential { initial, factor, max } => (initial, factor, max),
            Backoff::List(_) => (Millis::from_secs(1), 2.0, Millis::from_mins(5)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_given_fields_of_retry_change() {
        let base = RetryPolicy { max_attempts: 9, jitter: 0.5, ..RetryPolicy::default() };
        let given: Retry = serde_json::from_str(
            "{\"max_attempts\":3,\"backoff\":{\"type\":\"exponential\",\"max\":\"1h\"}}",
        )
        .unwrap();
        let merged = merge(&base, &given);
        assert_eq!((merged.max_attempts, merged.jitter, merged.max_age), (3, 0.5, base.max_age));
        let (initial, factor, _) = exponential(&base.backoff);
        assert_eq!(merged.backoff, Backoff::Exponential { initial, factor, max: Millis::from_hours(1) });
        assert_eq!(merge(&base, &Retry::default()), base);
    }
}
