//! `retry`, `timeout` and `async`.

use tsp_api::config as wire;
use tsp_api::{Errors, Length};
use tsp_core::Millis;
use tsp_core::config::{AsyncPolicy, Timeouts};
use tsp_core::duration::format_duration;
use tsp_core::retry::{Backoff, RetryPolicy};

const CONNECT_MAX: Millis = Millis::from_mins(1);
const TOTAL_MAX: Millis = Millis::from_hours(1);
const DEADLINE_MAX: Millis = Millis::from_days(30);

pub(crate) fn read_retry(wire: wire::Retry, errors: &mut Errors) -> RetryPolicy {
    let retry = merge_retry(RetryPolicy::default(), wire, "retry", errors);
    for (field, message) in retry.validate() {
        let field = format!("retry.{field}");
        if !errors.has(&field) {
            errors.add(field, message);
        }
    }
    retry
}

/// What `wire` gives, over `base`. Its values are for [`RetryPolicy::validate`] to judge.
pub(crate) fn merge_retry(
    base: RetryPolicy,
    wire: wire::Retry,
    path: &str,
    errors: &mut Errors,
) -> RetryPolicy {
    RetryPolicy {
        max_attempts: wire.max_attempts.unwrap_or(base.max_attempts),
        backoff: match wire.backoff {
            Some(backoff) => read_backoff(backoff, path, errors),
            None => base.backoff,
        },
        jitter: wire.jitter.unwrap_or(base.jitter),
        max_age: wire.max_age.map(|age| age.0).or(base.max_age),
        non_retryable_status: wire.non_retryable_status.unwrap_or(base.non_retryable_status),
    }
}

fn read_backoff(wire: wire::Backoff, path: &str, errors: &mut Errors) -> Backoff {
    match wire {
        wire::Backoff::List { delays: Some(delays) } => {
            Backoff::List(delays.into_iter().map(|delay| delay.0).collect())
        }
        wire::Backoff::List { delays: None } => {
            errors.missing(&format!("{path}.backoff.delays"));
            Backoff::default()
        }
        wire::Backoff::Exponential { initial, factor, max } => {
            let Backoff::Exponential { initial: initial_default, factor: factor_default, max: max_default } =
                Backoff::default()
            else {
                return Backoff::default();
            };
            let initial = initial.map_or(initial_default, |initial| initial.0);
            Backoff::Exponential {
                initial,
                factor: factor.unwrap_or(factor_default),
                // A default must not make a long `initial` wrong.
                max: max.map_or(max_default.max(initial), |max| max.0),
            }
        }
    }
}

pub(crate) fn write_retry(retry: &RetryPolicy) -> wire::Retry {
    wire::Retry {
        max_attempts: Some(retry.max_attempts),
        backoff: Some(match &retry.backoff {
            Backoff::List(delays) => {
                wire::Backoff::List { delays: Some(delays.iter().copied().map(Length).collect()) }
            }
            Backoff::Exponential { initial, factor, max } => wire::Backoff::Exponential {
                initial: Some(Length(*initial)),
                factor: Some(*factor),
                max: Some(Length(*max)),
            },
        }),
        jitter: Some(retry.jitter),
        max_age: retry.max_age.map(Length),
        non_retryable_status: Some(retry.non_retryable_status.clone()),
    }
}

pub(crate) fn read_timeout(wire: &wire::Timeout, errors: &mut Errors) -> Timeouts {
    let default = Timeouts::default();
    let total = length(wire.total, default.total, TOTAL_MAX, "timeout.total", errors);
    // A short total alone means a short connect too.
    let connect_default = default.connect.min(total);
    let connect = length(wire.connect, connect_default, CONNECT_MAX, "timeout.connect", errors);
    if connect > total && !errors.has("timeout.connect") && !errors.has("timeout.total") {
        errors.add("timeout.connect", "must not be longer than `timeout.total`, which includes it");
    }
    Timeouts { connect, total }
}

pub(crate) fn read_async(wire: &wire::AsyncCalls, errors: &mut Errors) -> AsyncPolicy {
    let default = AsyncPolicy::default();
    AsyncPolicy {
        enabled: wire.enabled.unwrap_or(default.enabled),
        deadline: length(wire.deadline, default.deadline, DEADLINE_MAX, "async.deadline", errors),
    }
}

/// A positive length of at most `max`.
pub(crate) fn length(
    wire: Option<Length>,
    default: Millis,
    max: Millis,
    field: &str,
    errors: &mut Errors,
) -> Millis {
    let Some(Length(length)) = wire else { return default };
    if !length.is_positive() || length > max {
        errors.add(
            field,
            format!("must be `1ms` to `{}`, is `{}`", format_duration(max), format_duration(length)),
        );
    }
    length
}
