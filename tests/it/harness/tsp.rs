//! The service as callers know it, in the deployment mode of this run: one process, or one for each role.

use std::process::ExitStatus;

use futures::future::join_all;
use tokio::process::Command;
use tokio::sync::RwLockReadGuard;
use tokio::time::interval;
use tsp_core::Millis;

use super::api::LOOK_EVERY;
use super::cluster::migrate;
use super::mode::{DeploymentMode, mode};
use super::process::Process;
use super::servers::{Databases, ServerPlan, Servers};
use super::wire::{LOST, LostAttempt};
use super::{Api, TempDir, in_time, now, past, turn};

/// Settings for a service that is about to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pairs: Vec<(String, String)>,
}

impl Settings {
    /// `name` as in the file, `store.url`; it is set by an environment variable.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        let variable = format!("TSP__{}", name.replace('.', "__").to_uppercase());
        self.pairs.push((variable, value.to_owned()));
        self
    }

    pub(crate) async fn start(self) -> Tsp {
        Tsp::with(self).await
    }
}

/// A running service with a private folder and a private store. Dropping it kills its processes.
#[derive(Debug)]
pub(crate) struct Tsp {
    /// The first serves the API, the last calls back.
    processes: Vec<Process>,
    /// Of a cluster.
    servers: Option<Servers>,
    dir: TempDir,
    _turn: Option<RwLockReadGuard<'static, ()>>,
}

/// What the settings files of both modes begin with.
pub(crate) const COMMON: &str =
    "[web]\nlisten = \"127.0.0.1:0\"\n\n[worker.http]\nallow_networks = [\"127.0.0.0/8\"]\n\n";

impl Tsp {
    /// With the settings that every test wants and no others.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) fn settings() -> Settings {
        Settings::default()
    }

    async fn with(settings: Settings) -> Self {
        let turn = turn::shared().await;
        let mut tsp = Self::prepared(settings, Some(turn)).await;
        tsp.boot().await;
        tsp
    }

    /// For a test that holds [`turn::alone`].
    pub(crate) async fn start_alone(settings: Settings) -> Self {
        let mut tsp = Self::prepared(settings, None).await;
        tsp.boot().await;
        tsp
    }

    /// `tsp dev`, on a private folder.
    pub(crate) async fn dev() -> Self {
        let turn = turn::shared().await;
        let settings = Settings::default().set("web.listen", "127.0.0.1:0");
        let dir = TempDir::new();
        let process = Process::new("tsp", dir.path(), vec!["dev".to_owned()], settings.pairs);
        let mut tsp = Self { processes: vec![process], servers: None, dir, _turn: Some(turn) };
        tsp.boot().await;
        tsp
    }

    async fn prepared(settings: Settings, turn: Option<RwLockReadGuard<'static, ()>>) -> Self {
        let dir = TempDir::new();
        let file = dir.join("tsp.toml");
        let (servers, store) = match mode() {
            DeploymentMode::Embedded => {
                (None, format!("[store]\nurl = \"sqlite:{}\"\n", dir.join("tsp.db").display()))
            }
            DeploymentMode::Cluster => {
                let plan =
                    ServerPlan { databases: Databases::Shared, nsqds: 1, lookupd: false, edges: false };
                let servers = Servers::start(plan).await;
                // A short lease: after a kill the tests wait for less.
                let store = format!("{}\n[node]\nlease = \"2s\"\n", servers.settings());
                (Some(servers), store)
            }
        };
        std::fs::write(&file, format!("{COMMON}{store}")).expect("the private folder is writable");
        let serve = ["serve", "--config", &file.display().to_string()].map(str::to_owned).to_vec();
        let process = |name: &str, more: &[&str]| {
            let arguments = serve.iter().cloned().chain(more.iter().map(|&one| one.to_owned())).collect();
            Process::new(name, dir.path(), arguments, settings.pairs.clone())
        };
        let processes = if servers.is_some() {
            migrate(&file).await;
            ["web", "fetcher", "worker"].map(|role| process(role, &["--roles", role])).into()
        } else {
            vec![process("tsp", &[])]
        };
        Self { processes, servers, dir, _turn: turn }
    }

    /// Starts all processes and waits until they say that they are ready.
    async fn boot(&mut self) {
        let starts: Vec<_> = self.processes.iter_mut().map(Process::launch).collect();
        join_all(self.processes.iter().zip(starts).map(|(process, start)| process.is_ready(start))).await;
    }

    /// The one process under another command, such as a tracer, that ends in the executable and its arguments.
    pub(crate) async fn boot_by(&mut self, command: Command) {
        let start = self.processes[0].launch_by(command);
        self.processes[0].is_ready(start).await;
    }

    pub(crate) fn api(&self) -> Api {
        self.processes[0].api()
    }

    /// The metrics of all processes together: each has those of its own roles.
    pub(crate) async fn metrics(&self) -> String {
        join_all(self.processes.iter().map(|process| async { process.api().metrics().await })).await.concat()
    }

    /// The same, once they are such that `good` holds: what has just happened is counted a moment later.
    pub(crate) async fn metrics_until(&self, what: &str, good: impl Fn(&str) -> bool) -> String {
        in_time(format!("{what} in the metrics"), async {
            let mut look = interval(LOOK_EVERY);
            loop {
                look.tick().await;
                let metrics = self.metrics().await;
                if good(&metrics) {
                    return metrics;
                }
            }
        })
        .await
    }

    /// The process that calls back, for reading its figures from /proc.
    pub(crate) fn pid(&self) -> u32 {
        self.processes.last().expect("there is one at least").pid()
    }

    pub(crate) fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// The command line of the one process.
    pub(crate) fn args(&self) -> &[String] {
        self.processes[0].arguments()
    }

    /// Everything that the processes have said so far.
    pub(crate) fn log(&self) -> String {
        self.processes.iter().map(Process::log).collect::<Vec<_>>().join("\n")
    }

    /// Stops the first process in the middle of whatever it does, for so long.
    pub(crate) async fn stand_still(&self, lasts: Millis) {
        self.processes[0].freeze().await;
        past(now().plus(lasts)).await;
        self.processes[0].thaw().await;
    }

    /// Waits until the first process has said this.
    pub(crate) async fn has_said(&self, text: &str) {
        self.processes[0].has_said(text).await;
    }

    /// Ends all processes with no warning, as a power cut would.
    pub(crate) async fn kill9(&mut self) {
        for process in &mut self.processes {
            process.start_kill();
        }
        for process in &mut self.processes {
            process.kill9().await;
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.boot().await;
    }

    /// Asks all processes to stop; [`Self::ended`] waits for them.
    pub(crate) async fn ask_to_stop(&self) {
        for process in &self.processes {
            process.ask_to_stop().await;
        }
    }

    /// Asks the service to stop and waits until it has. The status is a bad one if there is one.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop().await;
        self.ended().await
    }

    /// Waits for the end of a service that has been told to stop, or that stops by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let statuses = join_all(self.processes.iter_mut().map(Process::ended)).await;
        let bad = statuses.iter().find(|status| !status.success());
        *bad.unwrap_or(&statuses[0])
    }

    /// By the record of a store whose service has been stopped: how often an attempt of a task began
    /// before the one before it had ended.
    pub(crate) fn overlaps(&self) -> i64 {
        let count = |table: &str| {
            format!(
                "SELECT count(*) FROM {table} a JOIN {table} b ON b.task_id = a.task_id \
                 AND b.attempt > a.attempt WHERE a.ended_at IS NULL OR b.started_at < a.ended_at"
            )
        };
        match &self.servers {
            Some(servers) => servers.sum_over_shards(&count("attempt_{shard}")),
            None => self.ask_file(&count("attempt")),
        }
    }

    /// By the same record: the attempts whose process was taken for gone.
    pub(crate) fn lost(&self) -> Vec<LostAttempt> {
        if let Some(servers) = &self.servers {
            return LostAttempt::parse(&servers.rows_of_shards(&LOST.replace("{shard}", "_{shard}")));
        }
        let database = self.open_file();
        let mut query = database.prepare(&LOST.replace("{shard}", "")).expect("the table is there");
        let row = |row: &rusqlite::Row<'_>| {
            Ok(LostAttempt::of([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]))
        };
        let rows = query.query_map([], row).expect("it is a query");
        rows.collect::<Result<_, _>>().expect("its columns are numbers")
    }

    /// How many open tasks a store holds whose service has been stopped.
    pub(crate) fn open_rows(&self) -> i64 {
        match &self.servers {
            Some(servers) => servers.sum_over_shards("SELECT count(*) FROM task_{shard}"),
            None => self.ask_file("SELECT count(*) FROM task"),
        }
    }

    /// All bytes of a store whose service has been stopped.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        match &self.servers {
            Some(servers) => servers.dump(),
            None => std::fs::read(self.dir.join("tsp.db")).expect("the store's file can be read"),
        }
    }

    fn ask_file(&self, count: &str) -> i64 {
        self.open_file().query_row(count, [], |row| row.get(0)).unwrap_or_else(|e| panic!("`{count}`: {e}"))
    }

    fn open_file(&self) -> rusqlite::Connection {
        assert!(!self.processes[0].is_up(), "stop the service before reading its file");
        let file = self.dir.join("tsp.db");
        rusqlite::Connection::open(&file).unwrap_or_else(|e| panic!("cannot open `{}`: {e}", file.display()))
    }
}
