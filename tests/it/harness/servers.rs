//! What a cluster stands on: databases, nsqd and, if wanted, nsqlookupd, all of one test's own.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use peers::{MariaDb, MariaDbOptions, Nsqd, Nsqlookupd};

use super::disk::SmallDisk;
use super::edges::{NsqdEdge, ProcessEdges};
use super::proxy::Proxy;

/// Shards of every store: few, so that their tables are made quickly, and more than one on each source.
pub(crate) const SHARDS: u16 = 4;

/// Enough for the server's own files and some minutes of a test.
const SMALL: &str = "320m";

/// Where the databases lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Databases {
    /// On the one server that the tests of this process share; nobody hurts it.
    Shared,
    /// On a server of the test's own.
    Own,
    /// The same, which allows no more prepared statements than it does by default, and with the shards that a store has
    /// by default.
    OwnByDefault,
    /// On two: the second holds the second source alone.
    OwnForEachSource,
    /// The same, and the way to the second leads through a [`Proxy`].
    SecondBehindProxy,
    /// The same, and the data of the second lies on a [`SmallDisk`].
    SecondOnSmallDisk,
}

impl Databases {
    fn are_two(self) -> bool {
        !matches!(self, Self::Shared | Self::Own | Self::OwnByDefault)
    }

    fn shards(self) -> u16 {
        if self == Self::OwnByDefault { 16 } else { SHARDS }
    }
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) databases: Databases,
    pub(crate) nsqds: usize,
    pub(crate) lookupd: bool,
    /// Whether processes reach each server through a [`Proxy`].
    pub(crate) edges: bool,
}

#[derive(Clone, Debug)]
enum Host {
    Shared(&'static MariaDb),
    Own(Arc<MariaDb>),
}

impl Deref for Host {
    type Target = MariaDb;

    fn deref(&self) -> &MariaDb {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Database {
    host: Host,
    name: String,
    /// Where processes reach it, if that is not where it listens.
    port: Option<u16>,
}

impl Database {
    fn on(host: &Host, hint: &str) -> Self {
        Self { host: host.clone(), name: host.create_database(hint), port: None }
    }

    fn url(&self) -> String {
        let url = self.host.url(&self.name);
        let moved = |port| url.replace(&format!(":{}/", self.host.port()), &format!(":{port}/"));
        self.port.map_or_else(|| url.clone(), moved)
    }

    pub(crate) fn sql(&self, text: &str) -> String {
        let text = format!("USE {}; {text}", self.name);
        self.host.sql(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn tables(&self) -> Vec<String> {
        let text =
            format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{}'", self.name);
        self.sql(&text).lines().map(str::to_owned).collect()
    }
}

/// The servers of one cluster; they and the databases go with the value.
#[derive(Debug)]
pub(crate) struct Servers {
    meta: Database,
    /// `a` with the lower shards, `b` with the others.
    sources: [Database; 2],
    nsqds: Vec<Arc<Nsqd>>,
    lookupd: Option<Arc<Nsqlookupd>>,
    /// On which source each shard is.
    places: Mutex<Vec<usize>>,
    /// On the way to each nsqd.
    edges: Vec<NsqdEdge>,
    /// On the way to `b`.
    proxy: Option<Proxy>,
    /// Where `b` lies. Below the server that uses it: fields go in their order.
    disk: Option<SmallDisk>,
}

impl Servers {
    pub(crate) async fn start(plan: ServerPlan) -> Self {
        let disk = match plan.databases {
            Databases::SecondOnSmallDisk => {
                Some(SmallDisk::mount(SMALL).await.expect("the test has seen that a disk can be mounted"))
            }
            _ => None,
        };
        let edges: Vec<_> = (0..plan.nsqds).take_while(|_| plan.edges).map(|_| NsqdEdge::ahead()).collect();
        let starting = tokio::task::spawn_blocking(move || Self::start_now(plan, disk, edges));
        let started = starting.await;
        let mut servers = started.unwrap_or_else(|e| panic!("the servers of a cluster did not start: {e}"));
        if plan.databases == Databases::SecondBehindProxy {
            let proxy = Proxy::start(servers.sources[1].host.port());
            servers.sources[1].port = Some(proxy.port());
            servers.proxy = Some(proxy);
        }
        servers
    }

    fn start_now(plan: ServerPlan, disk: Option<SmallDisk>, edges: Vec<NsqdEdge>) -> Self {
        let own = || {
            let limit = (plan.databases == Databases::OwnByDefault)
                .then(|| "--max-prepared-stmt-count=16382".to_owned());
            let options = MariaDbOptions { more: limit.into_iter().collect(), ..MariaDbOptions::default() };
            Host::Own(Arc::new(well(MariaDb::start_with(&options))))
        };
        let on = |disk: &SmallDisk| {
            // A server that dies of a full disk is to be gone at once.
            let more = vec!["--skip-stack-trace".to_owned()];
            let options = MariaDbOptions { more, ..MariaDbOptions::default() };
            Host::Own(Arc::new(well(MariaDb::start_in(&options, disk.path()))))
        };
        let first = match plan.databases {
            Databases::Shared => Host::Shared(MariaDb::shared()),
            _ => own(),
        };
        let second = match &disk {
            Some(disk) => on(disk),
            None if plan.databases.are_two() => own(),
            None => first.clone(),
        };
        let lookupd = plan.lookupd.then(|| Arc::new(well(Nsqlookupd::start())));
        let told = lookupd.as_ref().map(|lookupd| format!("--lookupd-tcp-address={}", lookupd.tcp_address()));
        let nsqd = |number: usize| {
            let edge = edges.get(number);
            let told: Vec<_> =
                told.iter().cloned().chain(edge.into_iter().flat_map(NsqdEdge::told)).collect();
            let arguments: Vec<_> = told.iter().map(String::as_str).collect();
            let nsqd = well(Nsqd::start_with(&arguments));
            if let Some(edge) = edge {
                edge.tcp.lead_to(port_of(&nsqd.tcp_address()));
                edge.http.lead_to(port_of(&nsqd.http_address()));
            }
            Arc::new(nsqd)
        };
        let nsqds = (0..plan.nsqds).map(nsqd).collect();
        let shards = plan.databases.shards();
        let places = (0..shards).map(|shard| usize::from(shard >= shards / 2)).collect();
        Self {
            meta: Database::on(&first, "meta"),
            sources: [Database::on(&first, "a"), Database::on(&second, "b")],
            nsqds,
            lookupd,
            places: Mutex::new(places),
            edges,
            proxy: None,
            disk,
        }
    }

    /// The part of a settings file that leads here.
    pub(crate) fn settings(&self) -> String {
        let (shards, half) = (self.shards(), self.shards() / 2);
        let list = |items: Vec<String>| {
            let items: Vec<_> = items.iter().map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", items.join(", "))
        };
        // With nsqlookupd the processes find the nsqd by it.
        let (tcp, http, lookupd) = match &self.lookupd {
            Some(lookupd) => (Vec::new(), Vec::new(), vec![lookupd.http_address()]),
            None => (
                self.nsqds.iter().map(|nsqd| nsqd.tcp_address()).collect(),
                self.nsqds.iter().map(|nsqd| nsqd.http_address()).collect(),
                Vec::new(),
            ),
        };
        format!(
            "[store]\nshards = {shards}\nconnections = 6\nallow_unsynced_commits = true\nsecret_key = \"{key}\"\nsources = [\n  \
             {{ name = \"a\", shards = \"0-{last_of_a}\", url = \"{a}\" }},\n  \
             {{ name = \"b\", shards = \"{half}-{last}\", url = \"{b}\" }},\n]\n\n\
             [store.meta]\nurl = \"{meta}\"\n\n\
             [queue]\nurl = \"nsq:\"\n\n\
             [queue.nsq]\nnsqd_tcp = {tcp}\nnsqd_http = {http}\nlookupd_http = {lookupd}\n",
            key = "5ea1".repeat(16),
            last_of_a = half - 1,
            a = self.sources[0].url(),
            last = shards - 1,
            b = self.sources[1].url(),
            meta = self.meta.url(),
            tcp = list(tcp),
            http = list(http),
            lookupd = list(lookupd),
        )
    }

    /// A process's own ways to the database and to nsqlookupd.
    pub(crate) fn own_edges(&self) -> ProcessEdges {
        let lookupd = port_of(&self.lookupd().http_address());
        ProcessEdges { database: Proxy::start(self.mariadb().port()), lookupd: Proxy::start(lookupd) }
    }

    /// What leads a process to these ways, in place of [`Self::settings`].
    pub(crate) fn environment(&self, edges: &ProcessEdges) -> Vec<(String, String)> {
        let (shards, half) = (self.shards(), self.shards() / 2);
        let by_way = |database: &Database| {
            let mut database = database.clone();
            database.port = Some(edges.database.port());
            database.url()
        };
        let [a, b] = [by_way(&self.sources[0]), by_way(&self.sources[1])];
        let sources = format!("a:0-{} {a}, b:{half}-{} {b}", half - 1, shards - 1);
        let pairs = [
            ("TSP__STORE__META__URL", by_way(&self.meta)),
            ("TSP__STORE__SOURCES", sources),
            ("TSP__QUEUE__NSQ__LOOKUPD_HTTP", format!("127.0.0.1:{}", edges.lookupd.port())),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The server of the meta database and of the source `a`.
    pub(crate) fn mariadb(&self) -> Arc<MariaDb> {
        owned(&self.meta.host)
    }

    /// The database of the source `a`, which is 0, or `b`.
    pub(crate) fn source(&self, at: usize) -> Database {
        self.sources[at].clone()
    }

    /// The server of the source `b`.
    pub(crate) fn second_mariadb(&self) -> Arc<MariaDb> {
        owned(&self.sources[1].host)
    }

    /// On the way to the source `b`.
    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the plan has a proxy")
    }

    /// Where the source `b` lies.
    pub(crate) fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("the plan has a small disk")
    }

    pub(crate) fn nsqds(&self) -> &[Arc<Nsqd>] {
        &self.nsqds
    }

    /// The ways to the nsqd, if the plan has them.
    pub(crate) fn nsqd_edge(&self, number: usize) -> &NsqdEdge {
        &self.edges[number]
    }

    pub(crate) fn shards(&self) -> usize {
        self.places.lock().len()
    }

    /// Where it is: on the source 0, which is `a`, or 1.
    pub(crate) fn place_of(&self, shard: usize) -> usize {
        self.places.lock()[shard]
    }

    /// It has been moved there.
    pub(crate) fn moved(&self, shard: usize, place: usize) {
        self.places.lock()[shard] = place;
    }

    pub(crate) fn lookupd(&self) -> &Arc<Nsqlookupd> {
        self.lookupd.as_ref().expect("the plan has an nsqlookupd")
    }

    /// The sum of what `count`, a query for one number, says of each shard; `{shard}` in it is the end of
    /// the shard's table names.
    pub(crate) fn sum_over_shards(&self, count: &str) -> i64 {
        let counts = self.rows_of_shards(count);
        let number = |text: &str| text.parse::<i64>().unwrap_or_else(|e| panic!("`{count}`: `{text}`: {e}"));
        counts.lines().map(number).sum()
    }

    /// The rows that `query` finds in the tables of each shard, one in a line.
    pub(crate) fn rows_of_shards(&self, query: &str) -> String {
        let mut rows = String::new();
        for (shard, place) in self.places.lock().iter().enumerate() {
            let source = &self.sources[*place];
            rows += &source.sql(&query.replace("{shard}", &format!("{shard:03}")));
        }
        rows
    }

    /// The rows that `query` finds in the meta database, one in a line.
    pub(crate) fn rows_of_meta(&self, query: &str) -> String {
        self.meta.sql(query)
    }

    /// Every row of every table, as text.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let mut text = String::new();
        for database in [&self.meta, &self.sources[0], &self.sources[1]] {
            for table in database.tables() {
                text.push_str(&database.sql(&format!("SELECT * FROM {table}")));
            }
        }
        text.into_bytes()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Servers of our own go with all they hold, and what a failed test leaves may be looked at.
        if let Host::Shared(server) = &self.meta.host
            && !std::thread::panicking()
        {
            let names: HashSet<_> =
                [&self.meta, &self.sources[0], &self.sources[1]].map(|one| &one.name).into();
            for name in names {
                drop(server.sql(&format!("DROP DATABASE {name}")));
            }
        }
    }
}

fn owned(host: &Host) -> Arc<MariaDb> {
    match host {
        Host::Own(server) => Arc::clone(server),
        Host::Shared(_) => panic!("the shared server is not to be hurt: plan for one of the test's own"),
    }
}

fn port_of(address: &str) -> u16 {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("`{address}` has no port"))
}

fn well<S>(started: Result<S, peers::PeerError>) -> S {
    started.unwrap_or_else(|error| panic!("{error}"))
}
