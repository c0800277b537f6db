//! Databases that are killed, stand still, answer late, or have no room left.

mod steady;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use peers::MariaDb;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::steady::Steady;
use super::{Stage, longest_lateness};
use crate::harness::cluster::Plan;
use crate::harness::disk::SmallDisk;
use crate::harness::figures::MACHINE;
use crate::harness::ledger::{
    Ledger, Load, Pace, check_arrivals, decide, every_task_arrived, one_task_for_each_key,
};
use crate::harness::servers::{Databases, ServerPlan};
use crate::harness::{APP, Arrival, Config, PATIENCE, Task, id_of, now, only_on, past};
use tsp_core::{Millis, TaskId};

/// From the moment at which the database answers again.
const RECOVERY_MS: i64 = 15_000 + MACHINE.ms();
/// What a shard whose own database is well may be late while another's is away: less than that one keeps its callers
/// waiting.
const BESIDE_MS: i64 = 5_000;
/// A database that does not answer is given up after 12 seconds.
const REFUSED_WITHIN: Duration = Duration::from_secs(18);
const ACCEPTED_WITHIN: Duration = Duration::from_secs(5);

fn plan(databases: Databases) -> Plan {
    let servers = ServerPlan { databases, nsqds: 1, lookupd: false, edges: false };
    Plan { servers, ..Plan::default() }
}

async fn restart(database: &Arc<MariaDb>) {
    let database = Arc::clone(database);
    let restarting = tokio::task::spawn_blocking(move || database.restart());
    restarting.await.expect("it does not panic").unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_nothing_and_callbacks_go_on_within_fifteen_seconds() {
    only_on!(Cluster, "it is about MariaDB");
    let stage = Stage::new(plan(Databases::Own)).await;
    stage.receiver.on("/work", decide);
    let ledger = Ledger::default();
    let pace = Pace { submitters: 4, every: Duration::from_millis(20), tasks: 1 };
    let load = Load::start(std::slice::from_ref(&stage.api), pace, &ledger);
    stage.receiver.nth(200).await;
    let database = stage.cluster.servers().mariadb();
    let killed_at = now();
    database.kill();
    // Long enough that tasks come due in the outage.
    past(killed_at.plus(Millis::from_secs(2))).await;
    restart(&database).await;
    let back_at = now();
    let (seen, accepted) = (stage.receiver.count(), ledger.len());
    let further = stage.receiver.nth(seen + 1).await;
    println!(
        "back after {} ms, the next callback {} ms later",
        back_at.since(killed_at).ms(),
        further.at.since(back_at).ms()
    );
    stage.receiver.nth(seen + 200).await;
    load.stop().await;
    assert!(ledger.len() > accepted, "no submit was accepted after the database came back");
    every_task_arrived(&stage.receiver, &ledger, PATIENCE).await;
    for id in ledger.ids() {
        stage.api.wait_for_end(&id, "succeeded").await;
    }
    one_task_for_each_key(&stage.api, ledger.len()).await;
    let arrivals = stage.receiver.arrivals();
    check_arrivals(&arrivals);
    // What was due in the outage is late by no more than what was left of it, and the recovery.
    let firsts = arrivals.iter().filter(|one| one.attempt() == 1 && one.execute_at() < back_at);
    let longest = firsts.map(|one| one.at.since(back_at).ms()).max().unwrap_or(0);
    println!("what was due before the database was back came within {longest} ms of it");
    assert!(longest <= RECOVERY_MS, "a callback came {longest} ms after the database was back");
}

/// A config with tasks on one shard, and whether that shard lies on the source that is to fail.
struct ProbeConfig {
    name: String,
    fails: bool,
}

impl ProbeConfig {
    async fn submit(&self, stage: &Stage, in_ms: i64) -> crate::harness::Answer {
        let task = Task::of(&self.name).in_ms(in_ms).json();
        stage.api.post(&format!("/apps/{APP}/tasks"), &task).await
    }
}

/// Configs until there are some on each source.
async fn probes(stage: &Stage) -> Vec<ProbeConfig> {
    let shards = stage.api.get("/shards").await.expect(200);
    let mut probes = Vec::new();
    for number in 0..16 {
        let name = format!("lane-{number}");
        stage.api.config(APP, Config::delayed(&name, &stage.receiver.url("/lane"))).await;
        let id = id_of(&stage.api.submit(APP, Task::of(&name).delay("1h")).await);
        probes.push(ProbeConfig { name, fails: source_of(&shards, &id) == "b" });
    }
    let failing = probes.iter().filter(|probe| probe.fails).count();
    assert!((1..probes.len()).contains(&failing), "{failing} of {} configs lie on one source", probes.len());
    probes
}

/// The source of a task, by the shard in its id.
fn source_of(shards: &Value, id: &str) -> String {
    let id: TaskId = id.parse().unwrap_or_else(|e| panic!("`{id}`: {e}"));
    let shard = json!(id.shard().get());
    let of_shard = crate::harness::cluster::items(shards).iter().find(|one| one["shard"] == shard);
    let source = of_shard.and_then(|one| one["source"].as_str());
    source.unwrap_or_else(|| panic!("shard {shard} is on no source: {shards:#}")).to_owned()
}

/// While a source is away its tasks are refused with a time to come again, and all others are taken and
/// called as ever.
async fn others_go_on(stage: &Stage, probes: &[ProbeConfig]) {
    let from = now();
    let (mut accepted, mut refused, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    // All at once: the first one to wait for a frozen database finds out for the others.
    let answers = join_all(probes.iter().map(|probe| async move {
        let asked = Instant::now();
        let answer = probe.submit(stage, 500).await;
        (probe, answer, asked.elapsed())
    }));
    for (probe, answer, took) in answers.await {
        slowest = slowest.max(took);
        if probe.fails {
            let wait = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
            assert!(wait.is_some(), "no `Retry-After` in {} {}", answer.status, answer.text);
            answer.refused(503, "unavailable");
            refused += 1;
        } else {
            accepted.push(id_of(&answer.expect(201)["task"]));
        }
        let most = if probe.fails { REFUSED_WITHIN } else { ACCEPTED_WITHIN };
        assert!(took < most, "`{}` was answered after {took:?}", probe.name);
    }
    let arrivals = stage.all_of(&accepted).await;
    let longest = longest_lateness(&arrivals, from);
    println!("{refused} submits refused, the last after {slowest:?}; the others at most {longest} ms late");
    assert!(longest <= BESIDE_MS, "{longest} ms late on a shard whose database is well");
}

/// All probes work again.
async fn all_go_on(stage: &Stage, probes: &[ProbeConfig]) {
    for probe in probes {
        let task = Task::of(&probe.name).json();
        let path = format!("/apps/{APP}/tasks");
        let deadline = Instant::now() + PATIENCE;
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        let id = loop {
            pause.tick().await;
            let answer = stage.api.post(&path, &task).await;
            if answer.status == 201 {
                break id_of(&answer.json()["task"]);
            }
            assert!(
                Instant::now() < deadline,
                "`{}` is refused still: {} {}",
                probe.name,
                answer.status,
                answer.text
            );
        };
        stage.api.wait_for_end(&id, "succeeded").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_down_or_frozen_hurts_only_its_own_shards() {
    only_on!(Cluster, "it is about MariaDB");
    let stage = Stage::new(plan(Databases::OwnForEachSource)).await;
    let probes = probes(&stage).await;
    // On both sources, due in the outage.
    let before: Vec<_> = {
        let mut ids = Vec::new();
        for probe in &probes {
            ids.push((probe.fails, id_of(&probe.submit(&stage, 4_000).await.expect(201)["task"])));
        }
        ids
    };
    let (late, well): (Vec<_>, Vec<_>) = before.into_iter().partition(|(fails, _)| *fails);
    let ids = |of: Vec<(bool, String)>| of.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
    let (late, well) = (ids(late), ids(well));
    let database = stage.cluster.servers().second_mariadb();
    let down_at = now();
    database.kill();
    others_go_on(&stage, &probes).await;
    let arrivals = stage.all_of(&well).await;
    let longest = longest_lateness(&arrivals, down_at);
    assert!(longest <= BESIDE_MS, "{longest} ms late on a shard whose database is well");
    restart(&database).await;
    let back_at = now();
    let arrivals = stage.all_of(&late).await;
    let after = |one: &&Arrival| late.iter().any(|id| id == one.task());
    let longest = arrivals.iter().filter(after).map(|one| one.at.since(back_at).ms()).max().unwrap_or(0);
    println!("what waited for the killed source came within {longest} ms of its return");
    assert!(longest <= RECOVERY_MS, "a callback came {longest} ms after its database was back");
    all_go_on(&stage, &probes).await;

    database.pause();
    others_go_on(&stage, &probes).await;
    database.resume();
    all_go_on(&stage, &probes).await;
    check_arrivals(&stage.receiver.arrivals());
}

/// Load on both sources, of which `b` becomes `bad`, and `seconds` later `well` again. Returns how many submits
/// were refused.
async fn beside(stage: &Stage, seconds: i64, bad: impl FnOnce(), well: impl AsyncFnOnce()) -> usize {
    let probes = probes(stage).await;
    let from = now().plus(Millis::from_secs(1));
    let mut steady = Steady::ahead(stage, &probes, from, seconds + 2).await;
    past(from.plus(Millis::from_secs(1))).await;
    bad();
    let bad_at = now();
    steady.submit(stage, &probes, bad_at.plus(Millis::from_secs(seconds))).await;
    well().await;
    steady.judge(stage, bad_at, now()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_answers_five_seconds_late_hurts_only_its_own_shards() {
    only_on!(Cluster, "it is about MariaDB");
    let stage = Stage::new(plan(Databases::SecondBehindProxy)).await;
    let proxy = stage.cluster.servers().proxy();
    let slow = || proxy.delay(Duration::from_secs(5));
    // Longer than a lease.
    let refused = beside(&stage, 11, slow, async || proxy.delay(Duration::ZERO)).await;
    assert!(refused > 0, "transactions of several answers do not get through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_with_a_full_disk_hurts_only_its_own_shards() {
    only_on!(Cluster, "it is about MariaDB");
    if SmallDisk::mount("1m").await.is_none() {
        println!("not shown: this machine does not let a test mount a small file system");
        return;
    }
    let stage = Stage::new(plan(Databases::SecondOnSmallDisk)).await;
    let (database, disk) = (stage.cluster.servers().second_mariadb(), stage.cluster.servers().disk());
    let full = || println!("{} KiB were left", disk.fill() >> 10);
    let died = Cell::new(false);
    let well = async || {
        disk.free();
        // A rollback that needs a page and gets none is the end of the server, if it comes to that.
        died.set(database.sql("SELECT 1").is_err());
        if died.get() {
            println!("the server died of it");
            restart(&database).await;
        }
    };
    let refused = beside(&stage, 7, full, well).await;
    assert!(refused > 0 || died.get(), "there was room left");
}
