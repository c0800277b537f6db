//! What operators see: nodes, shards, queues.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Stage;
use crate::harness::cluster::{Plan, Role, items};
use crate::harness::servers::SHARDS;
use crate::harness::{in_time, only_on, time};

fn named<'a>(page: &'a Value, name: &str) -> Vec<&'a Value> {
    items(page).iter().filter(|node| node["name"] == name).collect()
}

#[tokio::test]
async fn nodes_shards_and_queues_are_shown_as_they_come_and_go() {
    only_on!(Cluster, "it is about several processes");
    let mut stage = Stage::new(Plan { fetchers: 2, ..Plan::default() }).await;
    let nodes = stage.api.get("/nodes").await.expect(200);
    for (name, role) in
        [("web-0", "web"), ("fetcher-0", "fetcher"), ("fetcher-1", "fetcher"), ("worker-0", "worker")]
    {
        let [node] = named(&nodes, name)[..] else { panic!("`{name}` is not there once: {nodes:#}") };
        assert_eq!(node["roles"], serde_json::json!([role]), "{node:#}");
        assert_eq!(node["state"], "alive", "{node:#}");
        let until = node["lease_until"].as_str().expect("a process of a cluster has a lease");
        assert!(time(until) > time(node["started_at"].as_str().expect("it has started")), "{node:#}");
        assert!(node["clock_offset_ms"].as_i64().is_some_and(|ms| ms.abs() < 1_000), "{node:#}");
    }

    let shards = stage.api.get("/shards").await.expect(200);
    let numbers: BTreeSet<_> = items(&shards).iter().filter_map(|shard| shard["shard"].as_u64()).collect();
    assert_eq!(numbers, (0..u64::from(SHARDS)).collect(), "{shards:#}");
    let fetchers: BTreeSet<_> =
        ["fetcher-0", "fetcher-1"].iter().filter_map(|name| named(&nodes, name)[0]["id"].as_str()).collect();
    for shard in items(&shards) {
        assert!(shard["owner"].as_str().is_some_and(|owner| fetchers.contains(owner)), "{shard:#}");
        assert!(["a", "b"].iter().any(|source| shard["source"] == *source), "{shard:#}");
        assert_eq!(shard["group"], "default", "{shard:#}");
        assert!(shard["epoch"].as_i64().is_some_and(|epoch| epoch > 0), "{shard:#}");
    }
    let ids = stage.submit(40, 3_600_000, 0).await;
    let open =
        |page: &Value| items(page).iter().filter_map(|shard| shard["open"].as_u64()).sum::<u64>() == 40;
    stage.api.wait_until("/shards", format!("{} open tasks", ids.len()), open).await;

    let shown = |page: &Value| {
        let queue = items(page).iter().find(|queue| queue["name"] == "default");
        queue.is_some_and(|queue| {
            [&queue["consumers"], &queue["depth"], &queue["in_flight"]].map(Value::as_i64)
                == [1, 0, 0].map(Some)
        })
    };
    stage.api.wait_until("/queues", "the queue `default`, empty, with one consumer".to_owned(), shown).await;

    // One that stops is dead at once, one that is killed when its lease has expired.
    stage.cluster.process(Role::Fetcher, 0).stop().await;
    stage.cluster.process(Role::Worker, 0).kill9().await;
    for name in ["fetcher-0", "worker-0"] {
        let dead = |page: &Value| named(page, name).iter().all(|node| node["state"] == "dead");
        let dead = stage.api.wait_until("/nodes", format!("`{name}` dead among the nodes"), dead);
        in_time(name, dead).await;
    }
    stage.cluster.process(Role::Worker, 0).boot().await;
    let node = stage.cluster.node_of("worker-0").await;
    assert!(!named(&nodes, "worker-0").iter().any(|was| was["id"] == node.as_str()), "an id came back");
}
