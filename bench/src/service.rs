//! The service under measurement: the release executable with its defaults, embedded on a private folder
//! (`store.synchronous = "full"`: every accepted task survives a power loss), or as a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Connection;
use crate::cluster::{self, Databases, Servers};
use crate::fill::Tables;
use crate::measure;
use crate::process::{ReadyProcess, Setup};
use crate::tasks::Keys;

pub(crate) const APP: &str = "bench";
pub(crate) const KEY: &str = "bench-bootstrap-key-0123456789";
const COUNT_LIMIT: Duration = Duration::from_secs(40);
const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) enum DeploymentMode {
    Embedded,
    Cluster(Arc<Servers>),
}

impl DeploymentMode {
    /// With the servers that it stands on.
    pub(crate) fn start(is_cluster: bool) -> Result<Self> {
        Ok(if is_cluster { Self::Cluster(Servers::start()?) } else { Self::Embedded })
    }
}

/// Where the tasks lie.
#[derive(Debug)]
enum Stores {
    File(PathBuf),
    Cluster { servers: Arc<Servers>, installed: cluster::InstalledCluster },
}

#[derive(Debug)]
pub(crate) struct Service {
    stores: Stores,
    setup: Setup,
    /// The first one is called.
    processes: Vec<ReadyProcess>,
    address: String,
    dir: TempDir,
    /// From start to ready.
    pub(crate) started_in: Duration,
    /// Of the tasks that are submitted to it.
    pub(crate) keys: Keys,
    /// App and name of each config that was made.
    configs: Mutex<BTreeSet<(String, String)>>,
    /// See [`Service::holds`].
    held: AtomicUsize,
}

impl Service {
    /// On an empty folder, with the app made.
    pub(crate) async fn start(mode: &DeploymentMode) -> Result<Self> {
        Self::start_with(mode, Setup::default()).await
    }

    pub(crate) async fn start_with(mode: &DeploymentMode, setup: Setup) -> Result<Self> {
        let dir = private_dir()?;
        let stores = match mode {
            DeploymentMode::Embedded => Stores::File(dir.path().join("tsp.db")),
            DeploymentMode::Cluster(servers) => {
                let installed = cluster::InstalledCluster::new(servers, dir.path(), KEY, &setup).await?;
                Stores::Cluster { servers: Arc::clone(servers), installed }
            }
        };
        let mut service = Self {
            stores,
            setup,
            processes: Vec::new(),
            address: String::new(),
            dir,
            started_in: Duration::ZERO,
            keys: Keys::Rising,
            configs: Mutex::default(),
            held: AtomicUsize::new(0),
        };
        service.boot().await?;
        service.app(APP).await?;
        Ok(service)
    }

    /// Starts its processes.
    pub(crate) async fn boot(&mut self) -> Result<()> {
        let start = measure::instant();
        self.processes = match &self.stores {
            Stores::File(file) => vec![embedded(&self.setup, file).await?],
            Stores::Cluster { installed, .. } => installed.serve_all().await?,
        };
        self.started_in = start.elapsed();
        self.address = self.processes[0].address();
        Ok(())
    }

    /// The descriptors of its processes from the next start on.
    pub(crate) fn limit(&mut self, soft: u32, hard: u32) {
        self.setup.descriptors = Some((soft, hard));
        if let Stores::Cluster { installed, .. } = &mut self.stores {
            installed.setup.descriptors = Some((soft, hard));
        }
    }

    /// Stops its processes; what is stored stays.
    pub(crate) async fn halt(&mut self) -> Result<()> {
        for process in self.processes.drain(..).rev() {
            process.stop().await?;
        }
        Ok(())
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.halt().await?;
        self.dir.close().context("the folder cannot be removed")
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address, KEY).await
    }

    /// The database of an embedded one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.stores {
            Stores::File(file) => Some(file),
            Stores::Cluster { .. } => None,
        }
    }

    /// What a cluster stands on.
    pub(crate) fn cluster(&self) -> Option<(&Arc<Servers>, &Databases)> {
        match &self.stores {
            Stores::File(_) => None,
            Stores::Cluster { servers, installed } => Some((servers, &installed.databases)),
        }
    }

    /// Its tables, to be filled while it is halted.
    pub(crate) fn tables(&self) -> Tables<'_> {
        match &self.stores {
            Stores::File(file) => Tables::File(file),
            Stores::Cluster { servers, installed } => {
                Tables::Cluster { server: servers.database(), databases: &installed.databases }
            }
        }
    }

    /// How long before they are due tasks are submitted: the submits must be over by then.
    pub(crate) fn lead_ms(&self) -> i64 {
        match &self.stores {
            Stores::File(_) => 3_000,
            Stores::Cluster { .. } => 8_000,
        }
    }

    /// Where each process answers.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.processes.iter().map(ReadyProcess::address).collect()
    }

    /// Of all its processes.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.processes.iter().map(|process| measure::cpu_seconds(process.pid()?)).sum()
    }

    pub(crate) fn memory_mib(&self, line: &str) -> Result<f64> {
        self.processes.iter().map(|process| measure::memory_mib(process.pid()?, line)).sum()
    }

    pub(crate) async fn app(&self, name: &str) -> Result<()> {
        self.connect().await?.json("POST", "/api/v1/apps", &json!({ "name": name }), 201).await.map(drop)
    }

    /// A delayed config of [`APP`] that calls `url`, unless it was made before.
    pub(crate) async fn config(&self, name: &str, url: &str, more: Value) -> Result<()> {
        self.config_of(APP, name, url, more).await
    }

    pub(crate) async fn config_of(&self, app: &str, name: &str, url: &str, more: Value) -> Result<()> {
        if !self.configs.lock().insert((app.to_owned(), name.to_owned())) {
            return Ok(());
        }
        let mut config = json!({ "name": name, "kind": "delayed", "target": { "type": "http", "url": url } });
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
        }
        let path = format!("/api/v1/apps/{app}/configs");
        self.connect().await?.json("POST", &path, &config, 201).await.map(drop)
    }

    /// Waits until no task of the config, or of the whole app, is open; fails if some stay.
    pub(crate) async fn drained(&self, config: Option<&str>) -> Result<()> {
        let mut line = self.connect().await?;
        let states = "state=scheduled,queued,executing,paused,awaiting&limit=1";
        let of = config.map_or(String::new(), |config| format!("config={config}&"));
        let path = format!("/api/v1/apps/{APP}/tasks?{of}{states}");
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
            .with_context(|| format!("tasks of {config:?} are open after {DRAIN_LIMIT:?}"))?
    }

    /// Fails unless so many more tasks are open in the store than at the last call.
    pub(crate) async fn holds(&self, more: usize) -> Result<()> {
        let wanted = self.held.fetch_add(more, Ordering::Relaxed) + more;
        let mut line = self.connect().await?;
        let mut seen = 0.0;
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let start = measure::instant();
        while start.elapsed() < COUNT_LIMIT {
            tick.tick().await;
            seen = match &self.stores {
                Stores::File(_) => counted_by_auditor(&mut line).await?,
                Stores::Cluster { .. } => counted_by_shard(&mut line).await?,
            };
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            let wanted = wanted as f64;
            if (seen - wanted).abs() < 0.5 {
                return Ok(());
            }
        }
        bail!("{seen} tasks are open, {wanted} were accepted")
    }
}

/// An empty folder of this process.
pub(crate) fn private_dir() -> Result<TempDir> {
    tempfile::Builder::new().prefix("tsp-bench-").tempdir().context("cannot make a folder")
}

async fn embedded(setup: &Setup, file: &Path) -> Result<ReadyProcess> {
    let mut command = setup.tsp()?;
    command
        .arg("serve")
        .env("TSP__WEB__LISTEN", "127.0.0.1:0")
        .env("TSP__STORE__URL", format!("sqlite:{}", file.display()))
        .env("TSP__STORE__SYNCHRONOUS", "full")
        .env("TSP__AUTH__BOOTSTRAP_KEY", KEY)
        .env("TSP__WORKER__HTTP__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("TSP__LOG__FILTER", "warn")
        .envs(setup.settings.iter().cloned())
        .current_dir(file.parent().context("the file lies in a folder")?);
    ReadyProcess::start(&mut command).await
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
