//! Workers that die or freeze with callbacks on the wire.

use serde_json::json;

use super::queues::count;
use super::{Stage, TAKEOVER_MS, check_each_attempt_once, longest_lateness};
use crate::harness::cluster::{Plan, Role, items};
use crate::harness::ledger::check_arrivals;
use crate::harness::{Arrival, Gate, Reply, now, only_on};

const TASKS: usize = 20;

/// The first attempts hang until the gate opens, the others end at once.
fn hang_first_attempts(stage: &Stage) -> Gate {
    let gate = Gate::closed();
    let held = gate.clone();
    stage.receiver.on(
        "/work",
        move |arrival| {
            if arrival.attempt() == 1 { Reply::ok().after(&held) } else { Reply::ok() }
        },
    );
    gate
}

async fn outcomes(stage: &Stage, id: &str) -> Vec<serde_json::Value> {
    let attempts = stage.api.get(&format!("/tasks/{id}/attempts")).await.expect(200);
    items(&attempts).iter().map(|one| json!([one["attempt"], one["outcome"], one["reason"]])).collect()
}

fn seconds(all: &[Arrival]) -> usize {
    all.iter().filter(|one| one.attempt() == 2).count()
}

#[tokio::test]
async fn callbacks_of_a_killed_worker_are_attempted_again_within_ten_seconds() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = Stage::new(Plan::default()).await;
    let gate = hang_first_attempts(&stage);
    let ids = stage.submit(TASKS, 0, 0).await;
    stage.receiver.nth(TASKS).await;
    stage.cluster.add(Role::Worker).await;
    let killed_at = now();
    stage.cluster.process(Role::Worker, 0).kill9().await;
    let again = |all: &[Arrival]| seconds(all) == TASKS;
    let arrivals = stage.receiver.until("the second attempt of every task".to_owned(), again).await;
    gate.open();
    let waits: Vec<_> =
        arrivals.iter().filter(|one| one.attempt() == 2).map(|one| one.at.since(killed_at).ms()).collect();
    let longest = waits.iter().max().expect("there are some");
    println!("second attempts came {} to {longest} ms after the kill", waits.iter().min().unwrap());
    assert!(*longest <= TAKEOVER_MS, "a second attempt came {longest} ms after its worker was killed");
    check_each_attempt_once(&arrivals);
    for id in &ids {
        let task = stage.api.wait_for_end(id, "succeeded").await;
        assert_eq!(task["attempt"], 2, "{task:#}");
        let outcomes = outcomes(&stage, id).await;
        assert!(outcomes[0].to_string().contains("worker_lost"), "the first attempt of {id}: {outcomes:?}");
        assert_eq!(outcomes[1][1], "done", "the second attempt of {id}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_worker_that_wakes_up_after_its_lease_begins_nothing_and_its_late_outcomes_count_for_nothing() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = Stage::new(Plan::default()).await;
    let gate = hang_first_attempts(&stage);
    let ids = stage.submit(TASKS, 0, 0).await;
    stage.receiver.nth(TASKS).await;
    stage.cluster.add(Role::Worker).await;
    let old = stage.cluster.node_of("worker-0").await;
    stage.cluster.process(Role::Worker, 0).freeze().await;
    let again = |all: &[Arrival]| seconds(all) == TASKS;
    stage.receiver.until("the second attempt of every task".to_owned(), again).await;
    for id in &ids {
        stage.api.wait_for_end(id, "succeeded").await;
    }
    // The answers of the first attempts come now, and their worker wakes up to read them.
    gate.open();
    stage.cluster.process(Role::Worker, 0).thaw().await;
    let renewed = stage.cluster.node_of("worker-0").await;
    assert_ne!(renewed, old, "a worker that was declared dead came back under its id");
    let more = stage.submit(200, 0, 5).await;
    let arrivals = stage.all_of(&more).await;
    stage.all_end_well(&more).await;
    check_arrivals(&arrivals);
    check_each_attempt_once(&arrivals);
    assert_eq!(arrivals.len(), 2 * TASKS + more.len(), "no attempt but those that were wanted");
    for id in &ids {
        let outcomes = outcomes(&stage, id).await;
        assert_eq!(outcomes.len(), 2, "{id}: {outcomes:?}");
        assert!(outcomes[0].to_string().contains("worker_lost"), "the first attempt of {id}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_worker_that_waits_for_its_last_callbacks_keeps_no_message_from_the_others() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = Stage::new(Plan::default()).await;
    let gate = hang_first_attempts(&stage);
    let hanging = stage.submit(TASKS, 0, 0).await;
    stage.receiver.nth(TASKS).await;
    stage.cluster.add(Role::Worker).await;
    stage.receiver.on("/work", |_| Reply::ok());
    // Both have received something, so both have a share of what nsqd sends.
    let early = stage.submit(200, 0, 5).await;
    stage.all_of(&early).await;
    stage.cluster.process(Role::Worker, 0).ask_to_stop().await;
    let stopped_at = now();
    let more = stage.submit(200, 300, 10).await;
    let arrivals = stage.all_of(&more).await;
    let longest = longest_lateness(&arrivals, stopped_at);
    println!("the longest lateness beside a worker that is about to end: {longest} ms");
    // What it had kept would have come late, and after nsqd had missed it.
    assert_eq!(count(&stage.cluster.servers().nsqds()[0], "timeout_count"), 0, "it kept a message");
    gate.open();
    let status = stage.cluster.process(Role::Worker, 0).ended().await;
    assert!(status.success(), "{status}");
    stage.all_end_well(&hanging).await;
    stage.all_end_well(&more).await;
    check_each_attempt_once(&stage.receiver.arrivals());
}
