//! Fetchers that come, go, die and freeze: the shards always find an owner, and only one.

use serde_json::Value;

use super::{Stage, TAKEOVER_MS, check_each_attempt_once, longest_lateness};
use crate::harness::cluster::{Plan, Role, items, owners};
use crate::harness::ledger::check_arrivals;
use crate::harness::servers::SHARDS;
use crate::harness::{now, only_on};

/// One that says good-bye hands over at once: less than a lease, which nobody waits for.
const HANDOVER_MS: i64 = 5_000;

async fn two_fetchers() -> Stage {
    Stage::new(Plan { fetchers: 2, ..Plan::default() }).await
}

#[tokio::test]
async fn a_killed_fetcher_is_replaced_within_ten_seconds() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = two_fetchers().await;
    // Some are due when it dies, and some at every moment until another has taken over.
    let ids = stage.submit(400, 1_000, 30).await;
    stage.receiver.nth(20).await;
    let killed_at = now();
    stage.cluster.process(Role::Fetcher, 0).kill9().await;
    let arrivals = stage.all_of(&ids).await;
    let longest = longest_lateness(&arrivals, killed_at);
    println!("a killed fetcher's shards waited {longest} ms");
    check_arrivals(&arrivals);
    assert!(longest <= TAKEOVER_MS, "{longest} ms late after a fetcher was killed at {killed_at}");
    stage.cluster.spread_over(1).await;
    stage.all_end_well(&ids).await;
}

#[tokio::test]
async fn a_stopping_fetcher_hands_over_at_once() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = two_fetchers().await;
    let ids = stage.submit(250, 1_000, 20).await;
    stage.receiver.nth(20).await;
    let stopped_at = now();
    let status = stage.cluster.process(Role::Fetcher, 0).stop().await;
    assert!(status.success(), "a stop that was asked for ended with {status}");
    let arrivals = stage.all_of(&ids).await;
    let longest = longest_lateness(&arrivals, stopped_at);
    println!("a stopped fetcher's shards waited {longest} ms");
    check_arrivals(&arrivals);
    assert!(longest <= HANDOVER_MS, "{longest} ms late after a fetcher was asked to stop at {stopped_at}");
    stage.cluster.spread_over(1).await;
}

#[tokio::test]
async fn a_further_fetcher_gets_its_share_and_a_leaving_one_gives_it_back() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = two_fetchers().await;
    let before = stage.cluster.spread_over(2).await;
    let ids = stage.submit(300, 500, 20).await;
    let third = stage.cluster.add(Role::Fetcher).await;
    let node = stage.cluster.node_of("fetcher-2").await;
    let between = stage.cluster.spread_over(3).await;
    assert!(between.contains_key(&node), "the third fetcher has no shard: {between:?}");
    for (owner, shards) in &before {
        assert!(between[owner] <= *shards, "`{owner}` got more shards: {before:?}, then {between:?}");
    }
    let status = stage.cluster.process(Role::Fetcher, third).stop().await;
    assert!(status.success(), "{status}");
    stage.cluster.spread_over(2).await;
    let arrivals = stage.all_of(&ids).await;
    check_arrivals(&arrivals);
    let longest = arrivals.iter().map(super::Arrival::lateness_ms).max().unwrap_or(0);
    println!("{before:?}, then {between:?}; the longest lateness was {longest} ms");
    assert!(longest <= HANDOVER_MS, "{longest} ms late although every shard was handed over");
}

#[tokio::test]
async fn a_fetcher_that_wakes_up_after_its_lease_writes_nothing() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = two_fetchers().await;
    let old = stage.cluster.node_of("fetcher-0").await;
    let ids = stage.submit(900, 500, 20).await;
    stage.receiver.nth(20).await;
    let frozen_at = now();
    stage.cluster.process(Role::Fetcher, 0).freeze().await;
    // It has been replaced when it wakes, and is no node any more.
    let (frozen, all) = (old.clone(), usize::from(SHARDS));
    let is_dead = |node: &Value| node["id"] == old.as_str() && node["state"] == "dead";
    let dead = |page: &Value| items(page).iter().any(is_dead);
    stage.api.wait_until("/nodes", format!("`{old}` dead among the nodes"), dead).await;
    let replaced = move |shards: &Value| {
        let owners = owners(shards);
        !owners.contains_key(&frozen) && owners.values().sum::<usize>() == all
    };
    stage.api.wait_until("/shards", "the shards of the frozen one at another".to_owned(), replaced).await;
    stage.cluster.process(Role::Fetcher, 0).thaw().await;
    let arrivals = stage.all_of(&ids).await;
    let longest = longest_lateness(&arrivals, frozen_at);
    println!("the shards of a frozen fetcher waited {longest} ms");
    assert!(longest <= TAKEOVER_MS, "{longest} ms late after a fetcher was frozen at {frozen_at}");

    // It finds out, and comes back as another node that shares the work again.
    let renewed = stage.cluster.spread_over(2).await;
    assert!(!renewed.contains_key(&old), "the fetcher came back under its dead id {old}: {renewed:?}");
    let nodes = stage.api.get("/nodes").await.expect(200);
    let was = items(&nodes).iter().find(|node| node["id"] == old.as_str());
    assert!(was.is_some_and(|node| node["state"] == "dead"), "{old} is not dead: {nodes:#}");
    let after = stage.submit(50, 0, 10).await;
    let arrivals = stage.all_of(&after).await;
    check_arrivals(&arrivals);
    check_each_attempt_once(&arrivals);
    let all = ids.len() + after.len();
    assert_eq!(arrivals.len(), all, "{all} tasks, each to be called once");
    stage.all_end_well(&after).await;
}
