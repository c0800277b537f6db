//! A cluster of any number of processes, for the tests that hurt them one by one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use serde_json::Value;
use tokio::sync::RwLockReadGuard;

use super::edges::ProcessEdges;
use super::process::{Process, run};
use super::servers::{Databases, ServerPlan, Servers};
use super::tsp::COMMON;
use super::{Api, TempDir, turn};

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Web,
    Fetcher,
    Worker,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Fetcher => "fetcher",
            Self::Worker => "worker",
        }
    }
}

/// What a cluster is made of. The default is one process of each role, on the shared databases and one nsqd.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: ServerPlan,
    pub(crate) webs: usize,
    pub(crate) fetchers: usize,
    pub(crate) workers: usize,
    /// More lines for the settings file: whole sections.
    pub(crate) more: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        let servers = ServerPlan { databases: Databases::Shared, nsqds: 1, lookupd: false, edges: false };
        Self { servers, webs: 1, fetchers: 1, workers: 1, more: "" }
    }
}

/// Dropping it kills its processes and ends its servers.
#[derive(Debug)]
pub(crate) struct Cluster {
    processes: Vec<(Role, Process)>,
    /// Each of one process, if the plan has them.
    edges: Vec<(Role, ProcessEdges)>,
    has_edges: bool,
    servers: Servers,
    file: PathBuf,
    dir: TempDir,
    _turn: Option<RwLockReadGuard<'static, ()>>,
}

impl Cluster {
    /// A cluster that is ready, and whose shards all have an owner.
    pub(crate) async fn start(plan: Plan) -> Self {
        let turn = turn::shared().await;
        Self::started(plan, Some(turn)).await
    }

    /// For a test that holds [`turn::alone`].
    pub(crate) async fn start_alone(plan: Plan) -> Self {
        Self::started(plan, None).await
    }

    async fn started(plan: Plan, turn: Option<RwLockReadGuard<'static, ()>>) -> Self {
        let has_edges = plan.servers.edges;
        let servers = Servers::start(plan.servers).await;
        let dir = TempDir::new();
        let file = dir.join("tsp.toml");
        let text = format!("{COMMON}{}\n{}", servers.settings(), plan.more);
        std::fs::write(&file, text).expect("the private folder is writable");
        migrate(&file).await;
        let (processes, edges) = (Vec::new(), Vec::new());
        let mut cluster = Self { processes, edges, has_edges, servers, file, dir, _turn: turn };
        for (role, count) in
            [(Role::Web, plan.webs), (Role::Fetcher, plan.fetchers), (Role::Worker, plan.workers)]
        {
            for _ in 0..count {
                cluster.prepare(role);
            }
        }
        let starts: Vec<_> = cluster.processes.iter_mut().map(|(_, process)| process.launch()).collect();
        let processes = cluster.processes.iter().zip(starts);
        join_all(processes.map(|((_, process), start)| process.is_ready(start))).await;
        if plan.fetchers > 0 {
            cluster.spread_over(plan.fetchers).await;
        }
        cluster
    }

    fn prepare(&mut self, role: Role) -> usize {
        let number = self.count(role);
        let name = format!("{}-{number}", role.name());
        let file = self.file.display().to_string();
        let arguments = ["serve", "--config", &file, "--roles", role.name()].map(str::to_owned).into();
        let mut environment = vec![("TSP__NODE__NAME".to_owned(), name.clone())];
        if self.has_edges {
            let edges = self.servers.own_edges();
            environment.extend(self.servers.environment(&edges));
            self.edges.push((role, edges));
        }
        self.processes.push((role, Process::new(&name, self.dir.path(), arguments, environment)));
        number
    }

    /// Starts one more process and returns its number among those of its role.
    pub(crate) async fn add(&mut self, role: Role) -> usize {
        let number = self.prepare(role);
        self.process(role, number).boot().await;
        number
    }

    pub(crate) fn count(&self, role: Role) -> usize {
        self.processes.iter().filter(|(its, _)| *its == role).count()
    }

    /// The process `number`, from 0, among those of its role; it is called `fetcher-0`.
    pub(crate) fn process(&mut self, role: Role, number: usize) -> &mut Process {
        let of_role = self.processes.iter_mut().filter(|(its, _)| *its == role);
        let found = of_role.map(|(_, process)| process).nth(number);
        found.unwrap_or_else(|| panic!("there is no `{}-{number}`", role.name()))
    }

    /// The ways of the process `number` among those of its role, if the plan has them.
    pub(crate) fn edges(&self, role: Role, number: usize) -> &ProcessEdges {
        let of_role = self.edges.iter().filter(|(its, _)| *its == role);
        let found = of_role.map(|(_, edges)| edges).nth(number);
        found.unwrap_or_else(|| panic!("`{}-{number}` has no ways of its own", role.name()))
    }

    /// The settings of all its processes.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn dir(&self) -> &TempDir {
        &self.dir
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The API of the first web process.
    pub(crate) fn api(&self) -> Api {
        self.apis().swap_remove(0)
    }

    /// The API of each web process.
    pub(crate) fn apis(&self) -> Vec<Api> {
        let webs = self.processes.iter().filter(|(role, _)| *role == Role::Web);
        webs.map(|(_, process)| process.api()).collect()
    }

    /// Waits until every shard has an owner, and so many processes own them, each as many as the next or
    /// one more.
    pub(crate) async fn spread_over(&self, fetchers: usize) -> BTreeMap<String, usize> {
        let shards = self.servers.shards();
        let even = move |page: &Value| {
            let counts: Vec<_> = owners(page).into_values().collect();
            counts.iter().sum::<usize>() == shards
                && counts.len() == fetchers
                && counts.iter().max().zip(counts.iter().min()).is_some_and(|(most, least)| most - least <= 1)
        };
        let what = format!("all {shards} shards with {fetchers} owners");
        owners(&self.api().wait_until("/shards", what, even).await)
    }

    /// The id of the process as the cluster knows it, while it is alive.
    pub(crate) async fn node_of(&self, name: &str) -> String {
        let alive = |node: &Value| node["name"] == name && node["state"] == "alive";
        let there = |page: &Value| items(page).iter().any(alive);
        let page = self.api().wait_until("/nodes", format!("`{name}` alive among the nodes"), there).await;
        let node = items(&page).iter().find(|node| alive(node)).expect("it was waited for");
        super::id_of(node)
    }
}

/// How many shards each owner has, by its id; those without one do not count.
pub(crate) fn owners(shards: &Value) -> BTreeMap<String, usize> {
    let mut owners = BTreeMap::new();
    for shard in items(shards) {
        if let Some(owner) = shard["owner"].as_str() {
            *owners.entry(owner.to_owned()).or_default() += 1;
        }
    }
    owners
}

/// The elements of a list of the API.
pub(crate) fn items(page: &Value) -> &[Value] {
    page["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Makes the tables that the settings in `file` lead to.
pub(crate) async fn migrate(file: &Path) {
    let ended = run(&["migrate", "--config", &file.display().to_string()], &[]).await;
    assert_eq!(ended.code, Some(0), "`tsp migrate` failed: {}{}", ended.stdout, ended.stderr);
}
