//! Times, names, configs and messages that the cases use.

use std::collections::BTreeMap;

use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, Kind};
use tsp_core::outcome::Verdict;
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::schedule::{Every, Schedule, Trigger};
use tsp_core::task::{Task, TaskExtra, TokenHash};
use tsp_core::{Millis, Name, TaskKey, Timestamp};
use tsp_store::attempts::{BeginRequest, Finish};
use tsp_store::tasks::Actor;

/// When every case begins.
pub(super) const T0: Timestamp = Timestamp::from_ms(1_795_257_000_000);
/// The token of every begin that has one.
pub(super) const TOKEN: TokenHash = [7; 32];
/// How long an async task may take to complete.
pub(super) const DEADLINE: Millis = Millis::from_mins(15);

/// [`T0`] plus this many seconds.
pub(super) const fn at(seconds: i64) -> Timestamp {
    T0.plus(Millis::from_secs(seconds))
}

pub(super) fn by() -> Actor {
    Actor("key:17".to_owned())
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|why| panic!("`{text}` is no name: {why}"))
}

pub(super) fn key(text: &str) -> TaskKey {
    TaskKey::new(text).unwrap_or_else(|why| panic!("`{text}` is no key: {why}"))
}

/// A row as far as the contract goes. A store may keep the excerpt of a single successful attempt in the
/// row or elsewhere, and an `extra` that says nothing may come back as none.
pub(super) fn plain(task: &Task) -> Task {
    let mut task = task.clone();
    if let Some(extra) = &mut task.extra {
        extra.excerpt = None;
    }
    task.extra = task.extra.filter(|extra| **extra != TaskExtra::default());
    task
}

#[track_caller]
pub(super) fn assert_same(left: &Task, right: &Task, what: &str) {
    assert_eq!(plain(left), plain(right), "{what}");
}

/// A delayed, async config with three attempts, a minute apart.
pub(super) fn spec(config: &str) -> ConfigSpec {
    let target = HttpTarget {
        headers: BTreeMap::from([("X-A".to_owned(), "b".to_owned())]),
        ..HttpTarget::post("http://orders.internal/close")
    };
    ConfigSpec {
        description: "closes orders".to_owned(),
        owner: "trade".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "trade".to_owned())]),
        retry: RetryPolicy {
            max_attempts: 3,
            backoff: Backoff::List(vec![Millis::from_mins(1)]),
            jitter: 0.0,
            max_age: None,
            non_retryable_status: vec![422],
        },
        asynchronous: AsyncPolicy { enabled: true, deadline: DEADLINE },
        span: 0,
        ..ConfigSpec::new(name(config), target)
    }
}

/// A config that fires every ten seconds.
pub(super) fn cron_spec(config: &str) -> ConfigSpec {
    let every = Every { interval: Millis::from_secs(10), anchor: T0 };
    ConfigSpec {
        kind: Kind::Cron,
        schedule: Some(Schedule::new(Trigger::Every(every))),
        span: 1,
        ..spec(config)
    }
}

/// The message of a claimed task, its row with it.
pub(super) fn message(task: &Task) -> BeginRequest {
    BeginRequest { id: task.id, version: task.version, row: Some(Box::new(task.clone())), token: Some(TOKEN) }
}

/// The outcome of a begun task, its row with it.
pub(super) fn outcome(task: &Task, verdict: Verdict) -> Finish {
    let row = Some(Box::new(task.clone()));
    Finish { id: task.id, attempt: task.attempt, verdict, ended_at: None, jitter_fraction: 0.5, row }
}
