//! How long each callback was waited for, and which fault, if any, excuses it.

use std::collections::HashMap;

use serde_json::Value;
use tsp_core::{Millis, Timestamp};

use super::faults::Fault;
use crate::harness::figures::MACHINE;
use crate::harness::ledger::LONGEST_BACKOFF;
use crate::harness::{Arrival, id_of, time};

/// What a callback may be late in health, on a small machine that runs all of it.
const HEALTHY: Millis = Millis::from_secs(3);

#[derive(Debug)]
struct Wait {
    task: String,
    attempt: u32,
    /// When it was due, if all had been well.
    since: Timestamp,
    until: Timestamp,
}

#[derive(Debug)]
pub(super) struct Waits(Vec<Wait>);

impl Waits {
    /// A first attempt is waited for since its time, or since the task was made; another since the one before
    /// was answered and its backoff was over.
    pub(super) fn of(arrivals: &[Arrival], tasks: &[Value]) -> Self {
        let made: HashMap<String, Timestamp> = tasks
            .iter()
            .map(|task| (id_of(task), time(task["created_at"].as_str().expect("a task has been made"))))
            .collect();
        let mut last: HashMap<&str, Timestamp> = HashMap::new();
        let mut waits = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let task = arrival.task();
            let left_at = arrival.left_at().unwrap_or(arrival.at);
            let since = match last.insert(task, left_at) {
                Some(before) => before.plus(LONGEST_BACKOFF),
                None => arrival.execute_at().max(made[task]),
            };
            let (task, attempt) = (task.to_owned(), arrival.attempt());
            waits.push(Wait { task, attempt, since, until: arrival.at.max(since) });
        }
        Self(waits)
    }

    /// The longest wait in ms that touches the time.
    pub(super) fn longest_within(&self, from: Timestamp, to: Timestamp) -> i64 {
        let touching = self.0.iter().filter(|wait| wait.until >= from && wait.since <= to);
        touching.map(|wait| wait.until.since(wait.since).ms()).max().unwrap_or(0)
    }

    /// No callback was waited for longer than the faults at that time excuse: a fault excuses what was due
    /// before it was over, until its own limit, and the next one only if it struck before that.
    pub(super) fn check(&self, faults: &[Fault], from: Timestamp) {
        let mut broken = Vec::new();
        for wait in self.0.iter().filter(|wait| wait.since >= from) {
            let mut limit = wait.since.plus(HEALTHY).plus(MACHINE);
            for fault in faults.iter().filter(|fault| fault.forgiven_until() >= wait.since) {
                if fault.from <= limit && wait.since <= fault.over_at {
                    limit = limit.max(fault.forgiven_until());
                }
            }
            if wait.until > limit {
                let late = wait.until.since(wait.since).ms();
                let allowed = limit.since(wait.since).ms();
                broken.push(format!(
                    "attempt {} of task {} was due at {} and came {late} ms later; {allowed} ms were allowed",
                    wait.attempt, wait.task, wait.since
                ));
            }
        }
        let count = broken.len();
        broken.truncate(5);
        assert!(
            broken.is_empty(),
            "{count} callbacks came later than any fault excuses:\n{}",
            broken.join("\n")
        );
    }
}
