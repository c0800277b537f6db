//! One tenant's lateness, alone and beside another that does its worst: names that nobody answers for, more hosts than
//! there are descriptors, and, in a cluster, tasks on a shard that stands still.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peers::{NameAnswer, NameServer};
use serde_json::json;
use tsp_core::ConfigId;
use tsp_core::task_key::config_shard;

use crate::cluster::{Databases, SHARDS};
use crate::load::check;
use crate::measure::{until, wall_us};
use crate::process::{Receiver, Setup};
use crate::report::Report;
use crate::service::{DeploymentMode, Service};
use crate::tasks::{Keys, Load, submit_all};

/// The app of the other tenant.
const OTHER: &str = "other";
const EVERY_MS: i64 = 5;
const ARRIVAL_LIMIT: Duration = Duration::from_mins(1);
/// What the one tenant's p99 may always be, in ms.
const FLOOR_MS: f64 = 25.0;
const GOOD_NAME: &str = "good.test";
const DEAD_NAMES: usize = 700;
const HOSTS: usize = 1_800;
/// What many systems give a process. The hard limits say how far it may raise that.
const SOFT: u32 = 1_024;
const HARD: [u32; 2] = [1_024, 4_096];
const FROZEN_TASKS: usize = 1_000;
/// How long a shard stands still.
const FROZEN_MS: i64 = 10_000;
/// Configs made to find one on another shard of the same database.
const CONFIGS_TRIED: u16 = 64;

/// How fast the other tenant's tasks come due: so that they alone do not fill the cores, since then the machine
/// would be measured.
struct Pace {
    /// How long the one tenant's stream flows.
    stream_ms: i64,
    /// Within which time the dead names are called first.
    names_ms: i64,
    /// How often all hosts are called in one stream, and within which time each time.
    rounds: usize,
    round_ms: i64,
}

impl Pace {
    const fn of(mode: &DeploymentMode) -> Self {
        match mode {
            DeploymentMode::Embedded => Self { stream_ms: 10_000, names_ms: 0, rounds: 2, round_ms: 2_000 },
            // A callback of a config of its own takes four times the CPU there, of all processes together: some
            // 100 a second take a third of two cores. A dead name is called three times.
            DeploymentMode::Cluster(_) => {
                Self { stream_ms: 20_000, names_ms: 16_000, rounds: 1, round_ms: 18_000 }
            }
        }
    }
}

pub(crate) async fn run(report: &mut Report, mode: &DeploymentMode, receiver: &mut Receiver) -> Result<()> {
    dead_names(report, mode, receiver).await.context("dead names")?;
    many_hosts(report, mode, receiver).await.context("many hosts")?;
    if let DeploymentMode::Cluster(_) = mode {
        frozen_shard(report, mode, receiver).await.context("a frozen shard")?;
    }
    Ok(())
}

/// A steady stream of one tenant.
struct Stream<'a> {
    service: &'a Service,
    receiver: &'a mut Receiver,
    config: String,
    /// How long it flows.
    ms: i64,
}

impl Stream<'_> {
    fn tasks(&self) -> usize {
        usize::try_from(self.ms / EVERY_MS).unwrap_or_default()
    }

    /// When it begins if it is submitted now, in ms.
    fn start(&self) -> i64 {
        wall_us() / 1_000 + self.service.lead_ms()
    }

    async fn submit(&mut self, start: i64) -> Result<()> {
        self.receiver.reset().await?;
        let due = |number: usize| start + signed(number) * EVERY_MS;
        submit_all(self.service, &self.config, self.tasks(), due).await?;
        ensure!(wall_us() / 1_000 + 500 < start, "the submits took too long: the first ones would be late");
        Ok(())
    }

    /// The lateness p99 in ms.
    async fn arrived(&mut self, report: &mut Report, name: &str) -> Result<f64> {
        let summary = self.receiver.wait(&self.config, self.tasks(), ARRIVAL_LIMIT).await?;
        check(&summary, self.tasks())?;
        report.lateness(name, &summary);
        Ok(f64::from(u32::try_from(summary.p99_us)?) / 1_000.0)
    }

    async fn alone(&mut self, report: &mut Report, scenario: &str) -> Result<f64> {
        self.submit(self.start()).await?;
        self.arrived(report, &format!("{scenario}, alone")).await
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn verdict(report: &mut Report, scenario: &str, alone: f64, beside: f64) {
    let allowed = (2.0 * alone).max(FLOOR_MS);
    report.add(scenario, "p99 alone", "ms", alone);
    report.add(scenario, "p99 beside", "ms", beside);
    report.add(scenario, "p99 allowed", "ms", allowed);
    report.add(scenario, "p99 beside / allowed", "", beside / allowed);
}

/// 700 hosts whose name server is silent, each called again and again; the stream's own host has a name, too.
async fn dead_names(report: &mut Report, mode: &DeploymentMode, receiver: &mut Receiver) -> Result<()> {
    let scenario = "dead names";
    let names = NameServer::start(|name, _| match name {
        GOOD_NAME => NameAnswer::Addresses(vec![std::net::Ipv4Addr::LOCALHOST.into()]),
        dead if dead.ends_with(".dead.test") => NameAnswer::Silence,
        _ => NameAnswer::NoSuchName,
    })?;
    let settings = vec![("TSP__WORKER__HTTP__NAME_SERVERS", names.address().to_string())];
    let service = Service::start_with(mode, Setup { settings, ..Setup::default() }).await?;
    service.app(OTHER).await?;
    let retry = json!({ "retry": { "max_attempts": 3, "backoff": { "type": "list", "delays": ["2s"] } } });
    for number in 0..DEAD_NAMES {
        let url = format!("http://h{number}.dead.test:9999/");
        service.config_of(OTHER, &format!("dead-{number}"), &url, retry.clone()).await?;
    }
    service.config("good", &receiver.url_at(GOOD_NAME, "good"), json!({})).await?;
    let pace = Pace::of(mode);
    let mut stream = Stream { service: &service, receiver, config: "good".to_owned(), ms: pace.stream_ms };
    let alone = stream.alone(report, scenario).await?;
    let start = stream.start();
    let dead = Load {
        app: OTHER,
        tasks: DEAD_NAMES,
        config: &|number| format!("dead-{number}"),
        due: &|number| start + signed(number) * pace.names_ms / signed(DEAD_NAMES),
        keys: Keys::Rising,
    };
    dead.submit(&service, 1).await?;
    stream.submit(start).await?;
    let beside = stream.arrived(report, &format!("{scenario}, beside")).await?;
    let asked = names.asked().iter().filter(|(name, _)| name.ends_with(".dead.test")).count();
    ensure!(asked >= DEAD_NAMES, "only {asked} questions for {DEAD_NAMES} dead names");
    verdict(report, scenario, alone, beside);
    service.stop().await
}

/// More hosts than descriptors; every one of them is called, and at its first attempt.
async fn many_hosts(report: &mut Report, mode: &DeploymentMode, receiver: &mut Receiver) -> Result<()> {
    let mut hosts = Receiver::everywhere().await?;
    let Pace { stream_ms, rounds, round_ms, .. } = Pace::of(mode);
    let setup = |hard| Setup { descriptors: Some((SOFT, hard)), ..Setup::default() };
    let mut service = Service::start_with(mode, setup(HARD[0])).await?;
    service.app(OTHER).await?;
    for number in 0..HOSTS {
        let host = format!("127.1.{}.{}", number / 250, number % 250 + 1);
        let url = hosts.url_at(&host, "host");
        service.config_of(OTHER, &format!("host-{number}"), &url, json!({})).await?;
    }
    service.config("good", &receiver.url("good"), json!({})).await?;
    for hard in HARD {
        let scenario = &format!("hosts, {hard} files");
        service.halt().await?;
        service.limit(SOFT, hard);
        service.boot().await?;
        hosts.reset().await?;
        let mut stream = Stream { service: &service, receiver, config: "good".to_owned(), ms: stream_ms };
        let alone = stream.alone(report, scenario).await?;
        let start = stream.start();
        let due = |number: usize| {
            let round = start + 1_000 + signed(number / HOSTS) * stream_ms / signed(rounds);
            round + signed(number % HOSTS) * round_ms / signed(HOSTS)
        };
        let calls = Load {
            app: OTHER,
            tasks: rounds * HOSTS,
            config: &|number| format!("host-{}", number % HOSTS),
            due: &due,
            keys: Keys::Rising,
        };
        calls.submit(&service, 1).await?;
        stream.submit(start).await?;
        let beside = stream.arrived(report, &format!("{scenario}, beside")).await?;
        let called = hosts.wait("host", rounds * HOSTS, ARRIVAL_LIMIT).await?;
        check(&called, rounds * HOSTS)?;
        report.add(scenario, "p99 of the hosts", "ms", f64::from(u32::try_from(called.p99_us)?) / 1_000.0);
        verdict(report, scenario, alone, beside);
    }
    service.stop().await?;
    hosts.stop().await
}

/// All tables of a shard are locked for as long as the stream flows; its tasks are on another shard of the same
/// database, the other tenant's on the locked one.
async fn frozen_shard(report: &mut Report, mode: &DeploymentMode, receiver: &mut Receiver) -> Result<()> {
    let scenario = "frozen shard";
    let service = Service::start(mode).await?;
    let (servers, databases) = service.cluster().context("a cluster")?;
    service.app(OTHER).await?;
    service.config_of(OTHER, "frozen", &receiver.url("frozen"), json!({})).await?;
    let shard_of = |config: &str| -> Result<u16> {
        let said =
            servers.sql(&format!("SELECT id FROM {}.config WHERE name = '{config}'", databases.meta))?;
        let id = said.trim().parse().with_context(|| format!("the config `{config}`: `{said}`"))?;
        Ok(config_shard(ConfigId::new(id), SHARDS).get())
    };
    let frozen = shard_of("frozen")?;
    let mut good = None;
    for number in 0..CONFIGS_TRIED {
        let config = format!("good-{number}");
        service.config(&config, &receiver.url(&config), json!({})).await?;
        let shard = shard_of(&config)?;
        if shard != frozen && Databases::same_source(shard, frozen) {
            good = Some(config);
            break;
        }
    }
    let config = good.with_context(|| format!("{CONFIGS_TRIED} configs lie beside no frozen shard"))?;
    let mut stream = Stream { service: &service, receiver, config, ms: FROZEN_MS };
    let alone = stream.alone(report, scenario).await?;
    let start = stream.start();
    let due = |number: usize| start + signed(number) * FROZEN_MS / signed(FROZEN_TASKS);
    let held = Load {
        app: OTHER,
        tasks: FROZEN_TASKS,
        config: &|_| "frozen".to_owned(),
        due: &due,
        keys: Keys::Rising,
    };
    held.submit(&service, 1).await?;
    stream.submit(start).await?;
    until((start - 100) * 1_000).await;
    let tables = ["task", "history", "attempt"].map(|name| databases.table(name, frozen) + " WRITE");
    let seconds = FROZEN_MS / 1_000 + 1;
    let lock = format!("LOCK TABLES {}; DO SLEEP({seconds}); UNLOCK TABLES", tables.join(", "));
    let lock = {
        let servers = std::sync::Arc::clone(servers);
        tokio::task::spawn_blocking(move || servers.sql(&lock))
    };
    let beside = stream.arrived(report, &format!("{scenario}, beside")).await?;
    ensure!(!lock.is_finished(), "the shard was let go before the stream ended");
    lock.await.context("the lock's thread ended early")??;
    let late = stream.receiver.wait("frozen", FROZEN_TASKS, ARRIVAL_LIMIT).await?;
    ensure!(late.tasks == FROZEN_TASKS, "{} of {FROZEN_TASKS} held tasks came", late.tasks);
    ensure!(late.max_us > 5_000_000, "the shard did not stand still");
    verdict(report, scenario, alone, beside);
    service.stop().await
}
