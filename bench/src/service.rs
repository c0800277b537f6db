//! The service under measurement: the release executable with its defaults, embedded on a private folder
//! (`store.synchronous = "full"`: every accepted task survives a power loss), or as a cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::Connection;
use crate::cluster::{self, Servers};
use crate::measure;
use crate::process::{Ready, beside};

pub(crate) const APP: &str = "bench";
pub(crate) const KEY: &str = "bench-bootstrap-key-0123456789";
const COUNT_LIMIT: Duration = Duration::from_secs(40);
const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Embedded,
    Cluster(Arc<Servers>),
}

#[derive(Debug)]
pub(crate) struct Service {
    shape: Shape,
    /// The first one is called.
    processes: Vec<Ready>,
    address: String,
    dir: PathBuf,
    /// From start to ready.
    pub(crate) started_in: Duration,
}

impl Service {
    /// On an empty folder, with the app made.
    pub(crate) async fn start(shape: &Shape) -> Result<Self> {
        let service = Self::on(shape.clone(), private_dir()?).await?;
        service.connect().await?.json("POST", "/api/v1/apps", &json!({ "name": APP }), 201).await?;
        Ok(service)
    }

    async fn on(shape: Shape, dir: PathBuf) -> Result<Self> {
        let start = measure::instant();
        let processes = match &shape {
            Shape::Embedded => vec![embedded(&dir).await?],
            Shape::Cluster(servers) => cluster::start(servers, &dir, KEY).await?,
        };
        let started_in = start.elapsed();
        let address = processes[0].address();
        Ok(Self { shape, processes, address, dir, started_in })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address, KEY).await
    }

    pub(crate) fn servers(&self) -> Option<&Servers> {
        match &self.shape {
            Shape::Embedded => None,
            Shape::Cluster(servers) => Some(servers),
        }
    }

    /// How long before they are due tasks are submitted: the submits must be over by then.
    pub(crate) fn lead_ms(&self) -> i64 {
        match &self.shape {
            Shape::Embedded => 3_000,
            Shape::Cluster(_) => 8_000,
        }
    }

    /// Where each process answers.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.processes.iter().map(Ready::address).collect()
    }

    /// Of all its processes.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.processes.iter().map(|process| measure::cpu_seconds(process.pid()?)).sum()
    }

    pub(crate) fn memory_mib(&self, line: &str) -> Result<f64> {
        self.processes.iter().map(|process| measure::memory_mib(process.pid()?, line)).sum()
    }

    /// A delayed config that calls `url`.
    pub(crate) async fn config(&self, name: &str, url: &str, more: Value) -> Result<()> {
        let mut config = json!({ "name": name, "kind": "delayed", "target": { "type": "http", "url": url } });
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
        }
        let path = format!("/api/v1/apps/{APP}/configs");
        self.connect().await?.json("POST", &path, &config, 201).await.map(drop)
    }

    /// Waits until no task of the config is open; fails if some stay.
    pub(crate) async fn drained(&self, config: &str) -> Result<()> {
        let mut line = self.connect().await?;
        let path = format!(
            "/api/v1/apps/{APP}/tasks?config={config}&state=scheduled,queued,executing,paused,awaiting&limit=1"
        );
        let waiting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(25));
            loop {
                tick.tick().await;
                let open = line.json("GET", &path, &Value::Null, 200).await?;
                if open["items"].as_array().is_some_and(Vec::is_empty) && open["next_cursor"].is_null() {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(DRAIN_LIMIT, waiting)
            .await
            .with_context(|| format!("tasks of `{config}` are open after {DRAIN_LIMIT:?}"))?
    }

    /// Fails unless so many tasks are open in the store.
    pub(crate) async fn holds(&self, wanted: usize) -> Result<()> {
        let mut line = self.connect().await?;
        let mut seen = 0.0;
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let start = measure::instant();
        while start.elapsed() < COUNT_LIMIT {
            tick.tick().await;
            seen = match &self.shape {
                Shape::Embedded => counted_by_auditor(&mut line).await?,
                Shape::Cluster(_) => counted_by_shard(&mut line).await?,
            };
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            let wanted = wanted as f64;
            if (seen - wanted).abs() < 0.5 {
                return Ok(());
            }
        }
        bail!("{seen} tasks are open, {wanted} were accepted")
    }

    /// Stops it and starts it again on the same file.
    pub(crate) async fn restart(self) -> Result<Self> {
        for process in self.processes {
            process.stop().await?;
        }
        Self::on(self.shape, self.dir).await
    }

    pub(crate) fn file_mib(&self) -> Result<u64> {
        let size = |path: &Path| std::fs::metadata(path).map(|data| data.len() >> 20);
        size(&self.dir.join("tsp.db")).context("the database file has a size")
    }

    pub(crate) async fn stop(self) -> Result<()> {
        for process in self.processes.into_iter().rev() {
            process.stop().await?;
        }
        remove_private(&self.dir)
    }
}

/// An empty folder of this process.
pub(crate) fn private_dir() -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("tsp-bench-{}", std::process::id()));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    Ok(dir)
}

pub(crate) fn remove_private(dir: &Path) -> Result<()> {
    ensure!(dir.starts_with(std::env::temp_dir()), "only a private folder is removed");
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove `{}`", dir.display()))
}

async fn embedded(dir: &Path) -> Result<Ready> {
    let mut command = Command::new(beside("tsp")?);
    command
        .arg("serve")
        .env("TSP__WEB__LISTEN", "127.0.0.1:0")
        .env("TSP__STORE__URL", format!("sqlite:{}", dir.join("tsp.db").display()))
        .env("TSP__STORE__SYNCHRONOUS", "full")
        .env("TSP__AUTH__BOOTSTRAP_KEY", KEY)
        .env("TSP__WORKER__HTTP__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("TSP__LOG__FILTER", "warn")
        .current_dir(dir);
    Ready::start(&mut command).await
}

/// The auditor counts the rows every 15 s.
async fn counted_by_auditor(line: &mut Connection) -> Result<f64> {
    let (status, text) = line.call("GET", "/metrics", b"").await?;
    ensure!(status == 200, "the metrics were answered {status}");
    let text = String::from_utf8_lossy(text);
    let samples = text.lines().filter(|line| line.starts_with("tsp_tasks_open{"));
    Ok(samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

async fn counted_by_shard(line: &mut Connection) -> Result<f64> {
    let shards = line.json("GET", "/api/v1/shards", &Value::Null, 200).await?;
    let rows = shards["items"].as_array().context("a list of shards")?;
    Ok(rows.iter().filter_map(|row| row["open"].as_f64()).sum())
}
