//! What a row costs in a cluster: insert, claim, begin, finish, in batches, on one shard of a private MariaDB.
//!
//! ```sh
//! cargo run --release -p tsp-store-mysql --example speed -- [tasks=20000] [batch=256] [shards=1]
//! ```
//!
//! Prints wall microseconds per row and rows per second; what the server takes of them is its own. The
//! machine's speed varies: compare runs made one after the other, and differences above a fifth only.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use peers::{MariaDb, MariaDbOptions};
use tokio::time::Instant;
use tsp_core::config::{ConfigSpec, HttpTarget, OnDuplicateKey};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::key_shard;
use tsp_core::{
    AppId, ConfigId, Entropy, IdGenerator, ManualClock, Millis, Name, NodeId, TaskKey, Timestamp, Verdict,
};
use tsp_store::attempts::{BeginRequest, BeginResult, Finish, all};
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::cluster::{LeaseStore as _, NewNode, NodeLease};
use tsp_store::fetching::{BareRow, ClaimRequest, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, Submit};
use tsp_store::{AttemptStore as _, Catalog as _, FetcherStore as _, TaskStore as _};
use tsp_store_mysql::{MySqlAttemptStore, MySqlFetcherStore, MySqlOptions, MySqlStore};

const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);
const HOUR: Millis = Millis::from_hours(1);

type Failure = Box<dyn Error>;

/// One process meets nobody: its pauses need not differ.
#[derive(Debug)]
struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// One process with all its shards.
struct Fixture {
    store: MySqlStore,
    attempt_store: MySqlAttemptStore,
    node: NodeId,
    shard_groups: Vec<(MySqlFetcherStore, Owner)>,
    config: ConfigId,
    batch: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (tasks, batch, shards) = (argument(20_000)?, argument(256)?, argument(1)?);
    let shards = u16::try_from(shards)?;
    let server =
        MariaDb::start_with(&MariaDbOptions { flush_log_at_commit: 1, ..MariaDbOptions::default() })?;
    let fixture = Fixture::make(&server, shards, batch).await?;
    println!("{tasks} tasks, batches of {batch}, {shards} shards, a sync with each commit");
    // By turns, because the first one pays for the preparation of its statements.
    for round in 0..4 {
        let finish = if round % 2 == 0 { "finish: row travels" } else { "finish: row is locked" };
        fixture.round(tasks, shards, round, finish).await?;
    }
    fixture.singles(tasks / 10).await?;
    fixture.idle().await?;
    fixture.store.close().await;
    server.stop();
    Ok(())
}

impl Fixture {
    async fn make(server: &MariaDb, shards: u16, batch: usize) -> Result<Self, Failure> {
        let url = |hint: &str| server.url(&server.create_database(hint));
        let (clock, entropy) = (Arc::new(ManualClock::at(NOW)), Arc::new(Zeros));
        let options = MySqlOptions::new(url("meta"), url("shards"), shards, [7; 32], clock, entropy);
        let started = Instant::now();
        MySqlStore::migrate(&options, NOW).await?;
        println!("migrated in {:?}", started.elapsed());
        let store = MySqlStore::open(&options).await?;
        let node =
            NewNode { name: "speed".to_owned(), roles: Vec::new(), version: String::new(), address: None };
        let node = store.join(node, HOUR).await?;
        let mut shard_groups = Vec::new();
        for seen in store.shard_groups(&[Name::new("default")?]).await?.rows {
            let owner = store.take(&seen, node, HOUR).await?.ok_or("a new lease is free")?;
            shard_groups.push((store.fetcher_store(seen.shard_group), owner));
        }
        let config = prepare(&store).await?;
        let attempt_store = store.attempt_store(Arc::new(NodeLease::for_ever()));
        Ok(Self { store, attempt_store, node, shard_groups, config, batch })
    }

    /// Inserts tasks and runs them.
    async fn round(&self, tasks: usize, shards: u16, round: u8, finish: &'static str) -> Result<(), Failure> {
        let mut ids = IdGenerator::new(round, NOW, NOW.plus(Millis::from_days(1)));
        let mut clocks = ["insert, batches of 1000", "claim", "begin", finish].map(Clock::new);
        let mut left = tasks;
        let mut number = 0;
        while left > 0 {
            let mut batch = Vec::new();
            for _ in 0..left.min(1_000) {
                let key = format!("{round}-{number}");
                batch.push(submit(new_task(&mut ids, shards, self.config, &key)?));
                number += 1;
            }
            left -= batch.len();
            clocks[0].measure(self.store.submit(batch, NOW)).await?;
        }
        let mut open = tasks;
        while open > 0 {
            let mut claimed = Vec::new();
            let limit = self.batch / self.shard_groups.len();
            for (of, owner) in &self.shard_groups {
                let request = ClaimRequest { config: self.config, due_by: NOW, limit };
                claimed.extend(clocks[1].measure(of.claim(*owner, vec![request], NOW)).await?.bare);
            }
            if claimed.is_empty() {
                return Err("nothing was claimed".into());
            }
            open -= claimed.len();
            let begun = clocks[2]
                .measure(async { all(self.attempt_store.begin(self.node, messages(claimed), NOW).await) })
                .await?;
            let finishes = finishes(begun, finish.contains("travels"))?;
            clocks[3]
                .measure(async { all(self.attempt_store.finish(self.node, finishes, NOW).await) })
                .await?;
        }
        for clock in clocks {
            clock.print(tasks);
        }
        Ok(())
    }

    /// One task at a time.
    async fn singles(&self, tasks: usize) -> Result<(), Failure> {
        let mut ids = IdGenerator::new(9, NOW, NOW.plus(Millis::from_days(1)));
        let mut clocks = ["one insert", "one claim", "one begin", "one finish"].map(Clock::new);
        for number in 0..tasks {
            let task = new_task(&mut ids, self.store.shards(), self.config, &format!("one-{number}"))?;
            let (of, owner) = &self.shard_groups[usize::from(task.id.shard().get())];
            clocks[0].measure(self.store.submit(vec![submit(task)], NOW)).await?;
            let request = ClaimRequest { config: self.config, due_by: NOW, limit: 1 };
            let claimed = clocks[1].measure(of.claim(*owner, vec![request], NOW)).await?.bare;
            let begun = clocks[2]
                .measure(async { all(self.attempt_store.begin(self.node, messages(claimed), NOW).await) })
                .await?;
            let finishes = finishes(begun, true)?;
            clocks[3]
                .measure(async { all(self.attempt_store.finish(self.node, finishes, NOW).await) })
                .await?;
        }
        for clock in clocks {
            clock.print(tasks);
        }
        Ok(())
    }

    /// What a shard group asks for when nothing happens.
    async fn idle(&self) -> Result<(), Failure> {
        const ROUNDS: usize = 500;
        let mut clock = Clock::new("an idle look: heads, in flight, deadline");
        let (of, _) = &self.shard_groups[0];
        for _ in 0..ROUNDS {
            let earliest_due = clock.measure(of.earliest_due()).await?;
            let in_flight = clock.measure(of.in_flight(None, 1_000)).await?.rows;
            let deadline = clock.measure(of.next_deadline()).await?;
            if !earliest_due.is_empty() || !in_flight.is_empty() || deadline.is_some() {
                return Err("all tasks were run".into());
            }
        }
        clock.print(ROUNDS);
        Ok(())
    }
}

async fn prepare(store: &MySqlStore) -> Result<ConfigId, Failure> {
    let by = Actor::system();
    let app = NewApp { name: Name::new("speed")?, description: String::new(), owner: String::new() };
    let app: AppId = match store.create_app(app, None, &by, NOW).await? {
        IdempotencyResult::Fresh(AppSaved::Saved(app)) => app.id,
        other => return Err(format!("no app: {other:?}").into()),
    };
    let save = SaveConfig { app, spec: spec()?, expected: ExpectedVersion::Absent };
    match store.save_config(save, None, &by, NOW).await? {
        IdempotencyResult::Fresh(ConfigSaved::Created(config)) => Ok(config.id),
        other => Err(format!("no config: {other:?}").into()),
    }
}

fn spec() -> Result<ConfigSpec, Failure> {
    let spec = ConfigSpec::new(Name::new("callback")?, HttpTarget::post("http://receiver.internal/"));
    Ok(ConfigSpec { span: 0, ..spec })
}

fn new_task(ids: &mut IdGenerator, shards: u16, config: ConfigId, key: &str) -> Result<Task, Failure> {
    let new = NewTask {
        id: ids.next(key_shard(config, key, 0, shards), NOW)?,
        config,
        key: Some(TaskKey::new(key)?),
        execute_at: NOW,
        payload: Some(Bytes::from(format!("{{\"order\":\"{key}\",\"text\":\"{:64}\"}}", ""))),
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    Ok(Task::new(new, NOW))
}

fn submit(task: Task) -> Submit {
    Submit {
        task: Box::new(task),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: None,
    }
}

fn messages(rows: impl IntoIterator<Item = BareRow>) -> Vec<BeginRequest> {
    let message = |row: BareRow| BeginRequest { id: row.id, version: row.version, row: None, token: None };
    rows.into_iter().map(message).collect()
}

fn finishes(begun: Vec<BeginResult>, travels: bool) -> Result<Vec<Finish>, Failure> {
    let verdict = Verdict::done().with_status(200);
    let finish = |begun| match begun {
        BeginResult::Run(row) => Ok(Finish {
            id: row.id,
            attempt: row.attempt,
            verdict: verdict.clone(),
            ended_at: None,
            jitter_fraction: 0.5,
            row: travels.then_some(row),
        }),
        other => Err(format!("not begun: {other:?}").into()),
    };
    begun.into_iter().map(finish).collect()
}

/// Wall time, summed over many calls.
struct Clock {
    name: &'static str,
    us: f64,
}

impl Clock {
    fn new(name: &'static str) -> Self {
        Self { name, us: 0.0 }
    }

    async fn measure<T>(&mut self, call: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let value = call.await;
        self.us += started.elapsed().as_secs_f64() * 1e6;
        value
    }

    fn print(&self, rows: usize) {
        let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
        println!("{:40} {:8.2} us/row {:8.0} rows/s", self.name, self.us / rows, rows / self.us * 1e6);
    }
}
