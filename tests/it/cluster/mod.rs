//! What only a cluster can show: processes and servers that are killed, frozen, added and taken away while the
//! others go on.
//!
//! A lease is five seconds here, as it is by default, so that the promised times are those of the product.

mod databases;
mod fetchers;
mod ledger;
mod queues;
mod rolling;
mod shards;
mod statements;
mod upkeep;
mod views;
mod workers;

use serde_json::json;
use tsp_core::Timestamp;

use crate::harness::cluster::{Cluster, Plan};
use crate::harness::figures::MACHINE;
use crate::harness::{APP, Api, Arrival, Config, Receiver, Task, backoff};

/// The promise for a process that is gone without a word.
const TAKEOVER_MS: i64 = 10_000 + MACHINE.ms();

/// A cluster with the app [`APP`], a config `work` whose tasks lie on all shards, and a receiver.
struct Stage {
    cluster: Cluster,
    api: Api,
    receiver: Receiver,
}

impl Stage {
    async fn new(plan: Plan) -> Self {
        Self::on(Cluster::start(plan).await).await
    }

    async fn on(cluster: Cluster) -> Self {
        let (api, receiver) = (cluster.api(), Receiver::start().await);
        api.app(APP).await;
        let work = Config::delayed("work", &receiver.url("/work"));
        let work = work.set("retry", backoff(50, "200ms")).set("span", json!(0));
        api.config(APP, work).await;
        // Another process learns of it a moment later.
        for other in cluster.apis() {
            let path = format!("/apps/{APP}/configs/work");
            other.wait_until(&path, "the config at every web process".to_owned(), |_| true).await;
        }
        Self { cluster, api, receiver }
    }

    /// Submits `count` tasks in one call; the first is due `from_ms` from now, each `step_ms` after the one
    /// before. Returns their ids.
    async fn submit(&self, count: usize, from_ms: i64, step_ms: i64) -> Vec<String> {
        let steps = (0..).map(|step| from_ms + step * step_ms);
        let tasks: Vec<_> = steps.take(count).map(|ms| Task::of("work").in_ms(ms).json()).collect();
        let path = format!("/apps/{APP}/tasks/batch");
        let answer = self.api.post(&path, &json!({ "tasks": tasks })).await.expect(200);
        let results = answer["results"].as_array().expect("a batch has results");
        let id = |result: &serde_json::Value| result["id"].as_str().map(str::to_owned);
        results.iter().map(|one| id(one).unwrap_or_else(|| panic!("an element was answered {one}"))).collect()
    }

    /// All arrivals, once each of `ids` has come at least once.
    async fn all_of(&self, ids: &[String]) -> Vec<Arrival> {
        let missing: std::collections::HashSet<_> = ids.iter().cloned().collect();
        let state = parking_lot::Mutex::new((missing, 0));
        let all = move |arrivals: &[Arrival]| {
            let (missing, looked) = &mut *state.lock();
            for arrival in &arrivals[*looked..] {
                missing.remove(arrival.task());
            }
            *looked = arrivals.len();
            missing.is_empty()
        };
        self.receiver.until(format!("a callback of each of {} tasks", ids.len()), all).await
    }

    async fn all_end_well(&self, ids: &[String]) {
        for id in ids {
            self.api.wait_for_end(id, "succeeded").await;
        }
    }
}

/// The longest lateness in ms of a first attempt that was due at `from` or later.
fn longest_lateness(arrivals: &[Arrival], from: Timestamp) -> i64 {
    let firsts = arrivals.iter().filter(|one| one.attempt() == 1 && one.execute_at() >= from);
    firsts.map(Arrival::lateness_ms).max().expect("something was due")
}

/// Each attempt of each task came once.
fn check_each_attempt_once(arrivals: &[Arrival]) {
    let mut seen = std::collections::HashSet::new();
    for arrival in arrivals {
        let (task, attempt) = (arrival.task(), arrival.attempt());
        assert!(seen.insert((task, attempt)), "attempt {attempt} of task {task} came twice");
    }
}
