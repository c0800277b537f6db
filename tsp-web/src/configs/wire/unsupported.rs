//! Parts that are described but not built yet: only their default is taken, so that nobody believes to be
//! protected by a limit that is not there.

use tsp_api::config::{Adaptive, Config, Join, Limits};
use tsp_api::{ErrorCode, Errors, Length};
use tsp_core::Millis;
use tsp_core::name::DEFAULT_QUEUE;

const ADAPTIVE_MIN: u32 = 10;
const ADAPTIVE_TARGET: Millis = Millis::from_ms(200);
const LOOP: Millis = Millis::from_secs(1);

pub(crate) fn refuse(config: &Config, errors: &mut Errors) {
    let mut check = |field: &str, is_default: bool| {
        if !is_default {
            errors.add_as(ErrorCode::NotSupported, field, "is not supported yet; leave it out");
        }
    };
    let limits = config.limits.clone().unwrap_or_default();
    check("limits.task_per_loop", limits.task_per_loop.is_none());
    check("limits.loop", is_or_absent(limits.period.as_ref(), &Length(LOOP)));
    check("limits.max_concurrency", limits.max_concurrency.is_none());
    check("limits.pool", limits.pool.is_none());
    check("limits.submit_rate", limits.submit_rate.is_none());
    let adaptive = limits.adaptive.unwrap_or_default();
    check("limits.adaptive.enabled", adaptive.enabled != Some(true));
    check("limits.adaptive.min", is_or_absent(adaptive.min.as_ref(), &ADAPTIVE_MIN));
    check("limits.adaptive.target_rt", is_or_absent(adaptive.target_rt.as_ref(), &Length(ADAPTIVE_TARGET)));
    check("sharding_count", is_or_absent(config.sharding_count.as_ref(), &1));
    check("join", matches!(config.join, None | Some(Join::All {})));
    check("notify", config.notify.as_ref().is_none_or(Vec::is_empty));
    check("queue", config.queue.as_deref().is_none_or(|queue| queue == DEFAULT_QUEUE));
}

fn is_or_absent<T: PartialEq>(given: Option<&T>, default: &T) -> bool {
    given.is_none_or(|given| given == default)
}

/// What is shown in their place.
pub(crate) fn write_defaults(config: &mut Config) {
    config.limits = Some(Limits {
        task_per_loop: None,
        period: Some(Length(LOOP)),
        max_concurrency: None,
        pool: None,
        submit_rate: None,
        adaptive: Some(Adaptive {
            enabled: Some(false),
            min: Some(ADAPTIVE_MIN),
            target_rt: Some(Length(ADAPTIVE_TARGET)),
        }),
    });
    config.sharding_count = Some(1);
    config.join = Some(Join::All {});
    config.notify = Some(Vec::new());
}
