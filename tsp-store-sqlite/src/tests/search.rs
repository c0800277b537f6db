//! Search finds what a plain look at every row finds, on every road and over page borders.

use proptest::prelude::*;
use tsp_core::task::{EndResult, Status};
use tsp_core::{AppId, Millis};
use tsp_store::WholeStore;
use tsp_store::attempts::{BeginRequest, BeginResult, Finish, all};
use tsp_store::fetching::ClaimRequest;
use tsp_store::search::{Order, Scope, TaskQuery};
use tsp_store::tasks::{Subject, TaskCommand};
use tsp_store_testing::memory::MemoryStore;

use super::*;

const TASKS: i64 = 240;

/// Some hours in all, so that a span of creation time is a span of ids.
fn created_at(n: i64) -> Timestamp {
    NOW.plus(Millis::from_mins(n * 2))
}

fn number_to_id(n: i64) -> TaskId {
    TaskId::new(TaskId::first_at(created_at(n)).get() + 1)
}

/// The same rows, in every state, of three configs.
async fn fill(store: &dyn WholeStore) -> (AppId, Vec<ConfigId>) {
    let by = Actor::system();
    let new = NewApp { name: Name::new("shop").unwrap(), description: String::new(), owner: String::new() };
    let Ok(IdempotencyResult::Fresh(AppSaved::Saved(app))) = store.create_app(new, None, &by, NOW).await
    else {
        panic!("no app");
    };
    let mut configs = Vec::new();
    for name in ["a", "b", "c"] {
        let save = SaveConfig { app: app.id, spec: spec(name), expected: ExpectedVersion::Absent };
        match store.save_config(save, None, &by, NOW).await {
            Ok(IdempotencyResult::Fresh(ConfigSaved::Created(config))) => configs.push(config.id),
            other => panic!("{other:?}"),
        }
    }
    let node = store.register_node("n", NOW).await.unwrap();
    let owner = store.take_shards(node, NOW).await.unwrap();
    for n in 1..=TASKS {
        let id = number_to_id(n).get();
        let config = configs[usize::try_from(n * n % 7 % 3).unwrap()];
        let key = format!("k{}", n % 10);
        let mut task = new_task(id, config, Some(&key));
        task.key_slot = id;
        task.due_at = NOW.plus(Millis::from_ms(n * 37 % 101));
        task.created_at = created_at(n);
        task.parent = (n % 5 == 0).then(|| number_to_id(n % 3));
        store.submit(vec![submit(task)], NOW).await.unwrap();
    }
    let late = NOW.plus(Millis::from_secs(1));
    let requests =
        configs.iter().map(|config| ClaimRequest { config: *config, due_by: late, limit: 30 }).collect();
    let claimed = store.claim(owner, requests, late).await.unwrap().tasks;
    let begins = claimed.iter().take(70);
    let begins =
        begins.map(|row| BeginRequest { id: row.id, version: row.version, row: None, token: None }).collect();
    for (n, begun) in all(store.begin(node, begins, late).await).unwrap().into_iter().enumerate() {
        let BeginResult::Run(row) = begun else { panic!("{begun:?}") };
        if n % 7 == 0 {
            continue;
        }
        let verdict = if n % 3 == 0 { tsp_core::Verdict::fail("no") } else { tsp_core::Verdict::done() };
        let finish =
            Finish { id: row.id, attempt: 1, verdict, ended_at: None, jitter_fraction: 0.5, row: None };
        let at = late.plus(Millis::from_ms(i64::try_from(n).unwrap() / 4));
        all(store.finish(node, vec![finish], at).await).unwrap();
    }
    for n in (1..=TASKS).filter(|n| n % 6 == 0) {
        let command = if n % 4 == 0 { TaskCommand::Pause } else { TaskCommand::Cancel };
        store.change(Subject::Id(number_to_id(n)), command, &by, late).await.unwrap();
    }
    (app.id, configs)
}

/// All pages of a query, one after the other.
async fn all_ids(store: &dyn WholeStore, mut query: TaskQuery) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for _ in 0..2 * TASKS {
        let page = store.search(query.clone()).await.unwrap();
        assert!(page.tasks.len() <= query.limit);
        ids.extend(page.tasks.iter().map(|task| task.id));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return ids,
        }
    }
    panic!("the pages never end: {query:?}");
}

fn query() -> impl Strategy<Value = (Option<Vec<usize>>, TaskQuery)> {
    let span = || proptest::option::of((0i64..110).prop_map(|ms| NOW.plus(Millis::from_ms(ms))));
    let created = || proptest::option::of((0i64..500).prop_map(|mins| NOW.plus(Millis::from_mins(mins))));
    let order = prop::sample::select(vec![Order::IdDesc, Order::IdAsc, Order::EndedDesc, Order::DueAsc]);
    let statuses = prop::sample::subsequence(Status::ALL.to_vec(), 0..4);
    let results = prop::sample::subsequence(EndResult::ALL.to_vec(), 0..2);
    let key = proptest::option::weighted(0.2, 0..10);
    let parent = proptest::option::weighted(0.1, (0..4i64).prop_map(number_to_id));
    let scope = proptest::option::of(prop::collection::vec(0usize..3, 1..4));
    let times = (span(), span(), created(), created());
    (scope, key, parent, statuses, results, times, order, 1usize..40).prop_map(
        |(scope, key, parent, statuses, results, times, order, limit)| {
            let query = TaskQuery {
                scope: Scope::App(AppId::default()),
                key: key.map(|key: i32| TaskKey::new(&format!("k{key}")).unwrap()),
                statuses,
                results,
                due_from: times.0,
                due_to: times.1,
                created_from: times.2,
                created_to: times.3,
                parent,
                order,
                after: None,
                limit,
            };
            (scope, query)
        },
    )
}

#[test]
fn finds_what_a_plain_look_at_every_row_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let plain = MemoryStore::new(16);
    let store = SqliteStore::open(&SqliteOptions::memory(), NOW).unwrap();
    let (plain_app, plain_configs) = runtime.block_on(fill(&plain));
    let (app, configs) = runtime.block_on(fill(&*store));
    let config = ProptestConfig { cases: 400, ..ProptestConfig::default() };
    proptest!(config, |((scope, query) in query())| {
        let within = |app: AppId, configs: &[ConfigId]| {
            let scope = match scope.as_deref() {
                None => Scope::App(app),
                Some([number]) => Scope::Config(configs[*number]),
                Some(numbers) => Scope::Configs(numbers.iter().map(|&number| configs[number]).collect()),
            };
            TaskQuery { scope, ..query.clone() }
        };
        let wanted = runtime.block_on(all_ids(&plain, within(plain_app, &plain_configs)));
        let found = runtime.block_on(all_ids(&*store, within(app, &configs)));
        prop_assert_eq!(found, wanted);
    });
}
