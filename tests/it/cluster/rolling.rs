//! A new release, process by process, under load.

use std::time::Duration;

use super::Stage;
use crate::harness::cluster::{Plan, Role};
use crate::harness::ledger::{
    Ledger, Load, Pace, check_arrivals, decide, every_task_arrived, one_task_for_each_key,
};
use crate::harness::{Arrival, PATIENCE, only_on};

/// Nobody is gone without a word, so nothing waits for a lease to end.
const LONGEST_MS: i64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_nothing_and_makes_nothing_late() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = Stage::new(Plan { webs: 2, fetchers: 2, workers: 2, ..Plan::default() }).await;
    stage.receiver.on("/work", decide);
    let ledger = Ledger::default();
    let pace = Pace { submitters: 4, every: Duration::from_millis(40), tasks: 1 };
    let load = Load::start(&stage.cluster.apis(), pace, &ledger);
    for role in [Role::Web, Role::Fetcher, Role::Worker] {
        for number in 0..2 {
            let seen = stage.receiver.count();
            stage.receiver.nth(seen + 50).await;
            let process = stage.cluster.process(role, number);
            let status = process.stop().await;
            assert!(status.success(), "`{}` was asked to stop and ended with {status}", process.name());
            process.boot().await;
        }
    }
    let seen = stage.receiver.count();
    stage.receiver.nth(seen + 100).await;
    load.stop().await;
    every_task_arrived(&stage.receiver, &ledger, PATIENCE).await;
    for id in ledger.ids() {
        stage.api.wait_for_end(&id, "succeeded").await;
    }
    one_task_for_each_key(&stage.api, ledger.len()).await;
    let arrivals = stage.receiver.arrivals();
    let late_sends = check_arrivals(&arrivals);
    assert_eq!(late_sends, 0, "no process was cut off");
    let longest = arrivals.iter().filter(|one| one.attempt() == 1).map(Arrival::lateness_ms).max();
    let longest = longest.expect("there were some");
    println!("6 restarts, {} tasks, at most {longest} ms late", ledger.len());
    assert!(longest <= LONGEST_MS, "{longest} ms late in a rolling restart");
    let lost: Vec<_> = arrivals.iter().filter(|one| one.attempt() > 2).map(Arrival::task).collect();
    assert!(lost.is_empty(), "more attempts than the receiver asked for: {lost:?}");
}
