//! What an operator does with a cluster: looks at it, moves a shard, imports an embedded store.

use std::process::Stdio;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::{Stage, check_each_attempt_once};
use crate::harness::cluster::{Cluster, Plan, Role};
use crate::harness::process::{Process, ProcessExit, executable, run};
use crate::harness::servers::SHARDS;
use crate::harness::{APP, Config, Receiver, Task, in_time, only_on};

async fn tsp(cluster: &Cluster, arguments: &[&str]) -> ProcessExit {
    let file = cluster.file().display().to_string();
    let ended = run(&[arguments, &["--config", &file]].concat(), &[]).await;
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!said.contains("tsp:tsp@") && !said.contains("5ea15ea1"), "a secret is shown: {said}");
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_says_what_is_wrong_with_a_cluster_and_what_to_do() {
    only_on!(Cluster, "it is about its servers");
    let cluster = Cluster::start(Plan::default()).await;
    let well = tsp(&cluster, &["doctor"]).await;
    assert_eq!(well.code, Some(0), "{}{}", well.stdout, well.stderr);
    for said in
        ["`b`: ", "4 shards, 2 on `a`, 2 on `b`", "4 held by 1 fetchers", "worker-0", "nsqd `127.0.0.1:"]
    {
        assert!(well.stdout.contains(said), "{said}: {}", well.stdout);
    }
    let nsqd = Arc::clone(&cluster.servers().nsqds()[0]);
    tokio::task::spawn_blocking(move || nsqd.kill()).await.expect("it does not panic");
    let ill = tsp(&cluster, &["doctor"]).await;
    assert_eq!(ill.code, Some(1), "{}", ill.stdout);
    assert!(
        ill.stdout.contains("cannot be spoken to") && ill.stdout.contains("queue.nsq.nsqd_tcp"),
        "{}",
        ill.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_move_while_callbacks_go_out() {
    only_on!(Cluster, "a shard of an embedded store stays");
    let stage = Stage::new(Plan { fetchers: 2, ..Plan::default() }).await;
    let ids = stage.submit(600, 0, 10).await;
    for (shard, to) in [("0", "b"), ("3", "a"), ("0", "a"), ("3", "b")] {
        let moved = tsp(&stage.cluster, &["shard", "move", shard, "--to", to]).await;
        assert_eq!(moved.code, Some(0), "{}{}", moved.stdout, moved.stderr);
        assert!(moved.stdout.ends_with(&format!("shard {shard} is on `{to}`\n")), "{}", moved.stdout);
        let list = tsp(&stage.cluster, &["shard", "list", "-o", "json"]).await;
        let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("it is JSON");
        let at: usize = shard.parse().expect("it is a number");
        assert_eq!(list["items"][at], json!({"shard": at, "source": to, "moving_to": null}));
    }
    let arrivals = stage.all_of(&ids).await;
    check_each_attempt_once(&arrivals);
    stage.all_end_well(&ids).await;
}

/// Starts `migrate-data`, and kills it when it has printed so many lines. Whether it was done before that.
async fn import_once(cluster: &Cluster, from: &str, lines: usize) -> bool {
    let mut command = Command::new(executable());
    command.args(["migrate-data", "--from", from, "--to-config"]).arg(cluster.file());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("the executable starts");
    let mut said = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    for _ in 0..lines {
        let line = in_time("a line of `tsp migrate-data`", said.next_line()).await.expect("it can be read");
        if line.is_none() {
            break;
        }
    }
    child.start_kill().expect("it is there until it was waited for");
    in_time("the end of `tsp migrate-data`", child.wait()).await.expect("it was started").success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_is_carried_over_however_often_that_is_killed() {
    only_on!(Cluster, "it ends in one");
    let mut cluster = Cluster::start(Plan { webs: 0, fetchers: 0, workers: 0, ..Plan::default() }).await;
    let database = cluster.dir().join("old.db");
    let file = cluster.dir().join("old.toml");
    let text = format!(
        "[web]\nlisten = \"127.0.0.1:0\"\n[worker.http]\nallow_networks = [\"127.0.0.0/8\"]\n\
         [store]\nshards = {SHARDS}\nurl = \"sqlite:{}\"\n",
        database.display()
    );
    std::fs::write(&file, text).expect("the private folder is writable");
    let arguments = ["serve", "--config", &file.display().to_string()].map(str::to_owned).into();
    let mut old = Process::new("old", cluster.dir().path(), arguments, Vec::new());
    old.boot().await;
    let (api, receiver) = (old.api(), Receiver::start().await);
    api.app(APP).await;
    api.config(APP, Config::delayed("work", &receiver.url("/work")).set("span", json!(0))).await;
    let mut ids = Vec::new();
    for batch in 0..10 {
        let tasks: Vec<_> =
            (0..500).map(|number| Task::of("work").in_ms(3_600_000 + batch * 500 + number).json()).collect();
        let made =
            api.post(&format!("/apps/{APP}/tasks/batch"), &json!({ "tasks": tasks })).await.expect(200);
        let results = made["results"].as_array().expect("a batch has results");
        ids.extend(results.iter().filter_map(|one| one["id"].as_str().map(str::to_owned)));
    }
    assert_eq!(ids.len(), 5_000);
    old.kill9().await;

    let from = format!("sqlite:{}", database.display());
    let mut killed = 0;
    for lines in 1..=4 {
        killed += usize::from(!import_once(&cluster, &from, lines).await);
    }
    let done =
        run(&["migrate-data", "--from", &from, "--to-config", &cluster.file().display().to_string()], &[])
            .await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(killed > 0, "it was never killed in time");
    let rows = cluster.servers().sum_over_shards("SELECT COUNT(*) FROM task_{shard}");
    assert_eq!(rows, 5_000);
    let file = file.display().to_string();
    let refused = run(&["serve", "--config", &file], &[]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("carried over to a cluster"), "{refused:?}");

    for role in [Role::Web, Role::Fetcher, Role::Worker] {
        cluster.add(role).await;
    }
    cluster.spread_over(1).await;
    let api = cluster.api();
    let some: Vec<String> = ids.iter().step_by(100).cloned().collect();
    for id in &some {
        api.post(&format!("/tasks/{id}/run"), &json!({})).await.expect(200);
    }
    for id in &some {
        api.wait_for_end(id, "succeeded").await;
    }
}
