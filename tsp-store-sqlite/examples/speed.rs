//! What a row costs in the embedded store: insert, claim, begin, finish, in batches.
//!
//! ```sh
//! cargo run --release -p tsp-store-sqlite --example speed -- [tasks=20000] [batch=256] [file]
//! ```
//!
//! Prints wall and CPU microseconds per row of this process, and rows per second. The machine's speed
//! varies: compare runs made one after the other, and differences above a fifth only.

use std::error::Error;

use bytes::Bytes;
use tokio::time::Instant;
use tsp_core::config::{ConfigSpec, HttpTarget, OnDuplicateKey};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::config_shard;
use tsp_core::{AppId, ConfigId, IdGenerator, Millis, Name, NodeId, TaskKey, Timestamp, Verdict};
use tsp_store::attempts::{BeginRequest, BeginResult, Finish, all};
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::fetching::{ClaimRequest, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, Submit};
use tsp_store::{
    AttemptStore as _, Catalog as _, EmbeddedOwnership as _, FetcherStore as _, StoreError, TaskStore as _,
};
use tsp_store_sqlite::{SqliteOptions, SqliteStore};

const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let tasks: usize = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let batch: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let path = arguments.next().map_or_else(|| directory.path().join("speed.db"), Into::into);
    let store = SqliteStore::open(&SqliteOptions::file(&path), NOW)?;
    let config = prepare(&store).await?;
    let node = store.register_node("speed", NOW).await?;
    let owner = store.take_shards(node, NOW).await?;
    println!("{tasks} tasks, batches of {batch}, {}", path.display());

    let mut ids = IdGenerator::new(0, NOW, NOW.plus(Millis::from_days(1)));
    let mut rows: Vec<Box<Task>> = Vec::with_capacity(tasks);
    for number in 0..tasks {
        rows.push(Box::new(new_task(&mut ids, config, number)?));
    }
    let submitted = Stage::begin("insert, batches of 1000");
    insert(&store, rows).await?;
    submitted.end(tasks);

    let mut open = tasks;
    let (mut claim, mut begin, mut finish) = (Clock::new(), Clock::new(), Clock::new());
    while open > 0 {
        let claimed = claim.measure(claim_batch(&store, owner, config, batch)).await?;
        open -= claimed.len();
        let begun = begin.measure(begin_batch(&store, node, claimed)).await?;
        finish.measure(finish_batch(&store, node, begun)).await?;
    }
    claim.print("claim", tasks);
    begin.print("begin", tasks);
    finish.print("finish", tasks);

    singles(&store, &mut ids, config, tasks).await?;
    store.close().await;
    Ok(())
}

async fn prepare(store: &SqliteStore) -> Result<ConfigId, Failure> {
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
    Ok(ConfigSpec::new(Name::new("callback")?, HttpTarget::post("http://receiver.internal/")))
}

fn new_task(ids: &mut IdGenerator, config: ConfigId, number: usize) -> Result<Task, Failure> {
    let key = TaskKey::new(&format!("order-{number}"))?;
    let new = NewTask {
        id: ids.next(config_shard(config, SqliteOptions::memory().shards), NOW)?,
        config,
        key: Some(key),
        execute_at: NOW,
        payload: Some(Bytes::from(format!("{{\"order\":{number},\"text\":\"{:64}\"}}", ""))),
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    Ok(Task::new(new, NOW))
}

fn submit(task: Box<Task>) -> Submit {
    Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None }
}

async fn insert(store: &SqliteStore, rows: impl IntoIterator<Item = Box<Task>>) -> Result<(), Failure> {
    let mut rows = rows.into_iter();
    loop {
        let batch: Vec<Submit> = rows.by_ref().take(1_000).map(submit).collect();
        if batch.is_empty() {
            return Ok(());
        }
        store.submit(batch, NOW).await?;
    }
}

/// 64 callers, each with one task at a time: what group commit makes of single submits.
async fn singles(
    store: &SqliteStore,
    ids: &mut IdGenerator,
    config: ConfigId,
    tasks: usize,
) -> Result<(), Failure> {
    let mut shares: Vec<Vec<Submit>> = (0..64).map(|_| Vec::new()).collect();
    for number in 0..tasks {
        shares[number % 64].push(submit(Box::new(new_task(ids, config, tasks + number)?)));
    }
    let stage = Stage::begin("insert, one by one from 64 callers");
    let done = shares.into_iter().map(|share| async move {
        for task in share {
            store.submit(vec![task], NOW).await?;
        }
        Ok::<(), StoreError>(())
    });
    futures::future::try_join_all(done).await?;
    stage.end(tasks);
    Ok(())
}

async fn claim_batch(
    store: &SqliteStore,
    owner: Owner,
    config: ConfigId,
    limit: usize,
) -> Result<Vec<Box<Task>>, Failure> {
    let claimed = store.claim(owner, vec![ClaimRequest { config, due_by: NOW, limit }], NOW).await?;
    if claimed.tasks.is_empty() { Err("nothing was claimed".into()) } else { Ok(claimed.tasks) }
}

async fn begin_batch(
    store: &SqliteStore,
    node: NodeId,
    rows: impl IntoIterator<Item = Box<Task>>,
) -> Result<Vec<Box<Task>>, Failure> {
    let batch = rows
        .into_iter()
        .map(|row| BeginRequest { id: row.id, version: row.version, row: Some(row), token: None })
        .collect();
    let mut begun = Vec::new();
    for answer in all(store.begin(node, batch, NOW).await)? {
        match answer {
            BeginResult::Run(task) => begun.push(task),
            other => return Err(format!("not begun: {other:?}").into()),
        }
    }
    Ok(begun)
}

async fn finish_batch(
    store: &SqliteStore,
    node: NodeId,
    rows: impl IntoIterator<Item = Box<Task>>,
) -> Result<(), Failure> {
    let verdict = Verdict::done().with_status(200);
    let finish = |row: Box<Task>| Finish {
        id: row.id,
        attempt: row.attempt,
        verdict: verdict.clone(),
        ended_at: None,
        jitter_fraction: 0.5,
        row: Some(row),
    };
    all(store.finish(node, rows.into_iter().map(finish).collect(), NOW).await)?;
    Ok(())
}

/// One stage measured from begin to end.
struct Stage {
    name: &'static str,
    clock: Clock,
    started: Instant,
    cpu: f64,
}

impl Stage {
    fn begin(name: &'static str) -> Self {
        Self { name, clock: Clock::new(), started: Instant::now(), cpu: cpu_us() }
    }

    fn end(mut self, rows: usize) {
        self.clock.add(self.started, self.cpu);
        self.clock.print(self.name, rows);
    }
}

/// Wall and CPU time in microseconds, summed over many calls.
struct Clock {
    wall: f64,
    cpu: f64,
}

impl Clock {
    fn new() -> Self {
        Self { wall: 0.0, cpu: 0.0 }
    }

    fn add(&mut self, started: Instant, cpu: f64) {
        self.wall += started.elapsed().as_secs_f64() * 1e6;
        self.cpu += cpu_us() - cpu;
    }

    async fn measure<T>(&mut self, call: impl Future<Output = T>) -> T {
        let (started, cpu) = (Instant::now(), cpu_us());
        let value = call.await;
        self.add(started, cpu);
        value
    }

    fn print(&self, name: &str, rows: usize) {
        let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
        println!(
            "{name:36} wall {:6.2} us/row  cpu {:6.2} us/row  {:8.0} rows/s",
            self.wall / rows,
            self.cpu / rows,
            rows / self.wall * 1e6
        );
    }
}

/// CPU time of all threads of this process, where the system has `/proc`; else 0.
fn cpu_us() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let mut total = 0.0;
    for thread in threads.flatten() {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let run: Option<f64> = text.split_whitespace().next().and_then(|text| text.parse().ok());
        total += run.unwrap_or(0.0) / 1e3;
    }
    total
}
