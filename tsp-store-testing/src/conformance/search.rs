//! Search: open and ended tasks together, against a plain filter over all rows.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::Verdict;
use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{TaskId, Timestamp};
use tsp_store::search::{Order, Page, ROWS_READ_MAX, Scope, TaskQuery};
use tsp_store::tasks::{Submit, TaskCommand};

use super::fixture::{Fixture, T0, assert_same, at, key};

const ORDERS: [Order; 4] = [Order::IdDesc, Order::IdAsc, Order::EndedDesc, Order::DueAsc];

fn query(scope: Scope) -> TaskQuery {
    TaskQuery {
        scope,
        key: None,
        statuses: Vec::new(),
        results: Vec::new(),
        due_from: None,
        due_to: None,
        created_from: None,
        created_to: None,
        parent: None,
        order: Order::default(),
        after: None,
        limit: 100,
    }
}

/// Two configs with a row of each kind and more, in one app, and one of another app. All rows of the app.
async fn furnish(fixture: &Fixture) -> Vec<Task> {
    let mut ids = Vec::new();
    for (number, name) in ["one", "two"].into_iter().enumerate() {
        let config = fixture.config(name).await;
        let running = fixture.executing(&config).await;
        fixture.finish(&running, Verdict::fail("x"), at(5)).await;
        ids.push(running.id);
        ids.extend(fixture.one_in_each_state(&config).await.iter().map(|task| task.id));
        for (seconds, text) in [(30, "order-1"), (10, "order-2"), (20, "order-3"), (10, "order-4")] {
            let mut new = fixture.new_task(&config, Some(text), at(seconds));
            new.created_at = at(seconds - 60);
            ids.push(fixture.create(new).await.id);
        }
        for seconds in [2, 9, 2] {
            let task =
                fixture.create(fixture.new_task(&config, Some("order-9"), at(number_of(number)))).await;
            fixture.changed(task.id, TaskCommand::Cancel, at(seconds)).await;
            ids.push(task.id);
        }
        let beside = fixture.new_task(&config, Some("order-1"), at(40));
        ids.push(beside.id);
        fixture.submit(beside, OnDuplicateKey::Add).await;
    }
    let mut rows = Vec::new();
    for id in ids {
        rows.push(fixture.stored(id).await);
    }
    rows
}

fn number_of(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Follows the pages to the end; each row must come once.
async fn all_pages(fixture: &Fixture, mut query: TaskQuery) -> Vec<Task> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..10_000 {
        let page: Page = fixture.store.search(query.clone()).await.expect("search");
        assert!(page.tasks.len() <= query.limit, "a page has at most {} rows", query.limit);
        for task in page.tasks {
            assert!(seen.insert(task.id), "task {} came twice in {query:?}", task.id);
            found.push(task);
        }
        match page.next {
            None => return found,
            next => {
                assert_ne!(next, query.after, "a page must lead on: {query:?}");
                query.after = next;
            }
        }
    }
    panic!("the pages of {query:?} never end")
}

/// What the answer must be.
fn expected(rows: &[Task], configs: &[tsp_core::ConfigId], query: &TaskQuery) -> Vec<Task> {
    let within = |at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp>| {
        from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
    };
    let fits = |task: &&Task| {
        let scope = match &query.scope {
            Scope::App(_) => true,
            Scope::Config(config) => task.config == *config,
            Scope::Configs(configs) => configs.contains(&task.config),
        };
        let order = match query.order {
            Order::EndedDesc => !task.is_open(),
            Order::DueAsc => task.is_open(),
            Order::IdDesc | Order::IdAsc => true,
        };
        scope
            && order
            && configs.contains(&task.config)
            && query.key.as_ref().is_none_or(|key| task.key.as_ref() == Some(key))
            && (query.statuses.is_empty() || query.statuses.contains(&task.status))
            && (query.results.is_empty() || task.result.is_some_and(|result| query.results.contains(&result)))
            && within(task.due_at, query.due_from, query.due_to)
            && within(task.created_at, query.created_from, query.created_to)
            && query.parent.is_none_or(|parent| task.parent == Some(parent))
    };
    let mut found: Vec<Task> = rows.iter().filter(fits).cloned().collect();
    match query.order {
        Order::IdAsc => found.sort_by_key(|task| task.id),
        Order::IdDesc => found.sort_by_key(|task| Reverse(task.id)),
        Order::EndedDesc => found.sort_by_key(|task| Reverse((task.ended_at, task.id))),
        Order::DueAsc => found.sort_by_key(|task| (task.due_at, task.id)),
    }
    found
}

/// One filter after the other.
fn filters(scope: &Scope) -> Vec<TaskQuery> {
    let base = || query(scope.clone());
    let statuses = |statuses: &[Status]| TaskQuery { statuses: statuses.to_vec(), ..base() };
    let results = |results: &[EndResult]| TaskQuery { results: results.to_vec(), ..base() };
    let mut queries = vec![
        base(),
        TaskQuery { key: Some(key("order-1")), ..base() },
        TaskQuery { key: Some(key("order-9")), ..base() },
        TaskQuery { key: Some(key("nothing")), ..base() },
        statuses(&[Status::Executing, Status::Paused]),
        statuses(&[Status::Scheduled, Status::Ended]),
        results(&[EndResult::Failed]),
        results(&[EndResult::Cancelled, EndResult::Succeeded]),
        TaskQuery { statuses: vec![Status::Scheduled], ..results(&[EndResult::Failed]) },
        TaskQuery { due_from: Some(at(10)), ..base() },
        TaskQuery { due_to: Some(at(10)), ..base() },
        TaskQuery { due_from: Some(at(10)), due_to: Some(at(30)), ..base() },
        TaskQuery { due_from: Some(at(10)), due_to: Some(at(10)), ..base() },
        TaskQuery { created_from: Some(at(-50)), created_to: Some(at(-30)), ..base() },
        TaskQuery { created_from: Some(T0), ..base() },
        // No task of the product has a parent before fan-out.
        TaskQuery { parent: Some(TaskId::new(77)), ..base() },
        TaskQuery { key: Some(key("order-9")), created_to: Some(at(60)), ..results(&[EndResult::Cancelled]) },
    ];
    queries.extend(Status::ALL.map(|status| statuses(&[status])));
    // 2094 and 2162 lie beyond the time that ids can carry, and so does the last second of the calendar.
    for far in [3_913_056_000_000, 6_059_000_000_000, 253_402_300_799_000].map(Timestamp::from_ms) {
        queries.push(TaskQuery { created_from: Some(at(-30)), created_to: Some(far), ..base() });
        queries.push(TaskQuery { created_from: Some(far), ..base() });
        queries.push(TaskQuery { due_to: Some(far), ..base() });
    }
    queries
}

/// Every filter in every order, by pages of several sizes.
pub(super) async fn every_filter_in_every_order_and_page_size(fixture: &Fixture) {
    let rows = furnish(fixture).await;
    let configs: BTreeSet<_> = rows.iter().map(|task| task.config).collect();
    let configs: Vec<_> = configs.into_iter().collect();
    let both = Scope::Configs(vec![configs[1], configs[0], configs[1]]);
    for scope in [Scope::App(fixture.app), Scope::Config(configs[0]), Scope::Config(configs[1]), both] {
        for base in filters(&scope) {
            for order in ORDERS {
                for limit in [1, 3, 500] {
                    let query = TaskQuery { order, limit, ..base.clone() };
                    let found = all_pages(fixture, query.clone()).await;
                    let wanted = expected(&rows, &configs, &query);
                    let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
                    assert_eq!(ids(&found), ids(&wanted), "{query:?}");
                    for (found, wanted) in found.iter().zip(&wanted) {
                        assert_same(found, wanted, "a found row is the stored row");
                    }
                }
            }
        }
    }
}

/// A scope never shows what belongs to others.
pub(super) async fn a_scope_ends_at_its_app(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.scheduled(&config).await;
    fixture.ended(&config).await;
    let other = fixture.make_app("logistics").await;
    for order in ORDERS {
        let query = TaskQuery { order, ..query(Scope::App(other)) };
        assert!(all_pages(fixture, query).await.is_empty(), "the other app has no tasks");
    }
    let empty = fixture.config("empty").await;
    assert!(all_pages(fixture, query(Scope::Config(empty.id))).await.is_empty());
}

/// More rows than one call reads: pages may be short, but nothing is missed.
pub(super) async fn a_rare_row_among_many_is_found(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let rare = fixture.create(fixture.new_task(&config, Some("rare"), at(7))).await;
    let total = ROWS_READ_MAX + 500;
    let mut made = 0;
    while made < total {
        let batch = (0..1_000.min(total - made)).map(|_| Submit {
            task: fixture.new_task(&config, None, at(60)),
            on_duplicate: OnDuplicateKey::Ignore,
            own_payload: true,
            idempotency: None,
        });
        made += fixture.store.submit(batch.collect(), T0).await.expect("submit").len();
    }
    let last = fixture.create(fixture.new_task(&config, Some("rare-too"), at(7))).await;
    for scope in [Scope::App(fixture.app), Scope::Config(config.id)] {
        for (order, wanted) in [
            (Order::IdDesc, [last.id, rare.id]),
            (Order::IdAsc, [rare.id, last.id]),
            (Order::DueAsc, [rare.id, last.id]),
        ] {
            let query = TaskQuery { due_to: Some(at(8)), order, ..query(scope.clone()) };
            let found = all_pages(fixture, query).await;
            assert_eq!(found.iter().map(|task| task.id).collect::<Vec<_>>(), wanted, "{order:?}");
        }
    }
    let query = TaskQuery { limit: 500, order: Order::IdAsc, ..query(Scope::Config(config.id)) };
    assert_eq!(all_pages(fixture, query).await.len(), total + 2, "all rows, page by page");
}

/// Rows that come and go between two pages disturb no others.
pub(super) async fn pages_survive_changes_between_them(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut tasks = Vec::new();
    for n in 0..6 {
        tasks.push(fixture.create(fixture.new_task(&config, None, at(n))).await);
    }
    tasks.sort_by_key(|task| task.id);
    let mut query = TaskQuery { order: Order::IdAsc, limit: 2, ..query(Scope::Config(config.id)) };
    let first = fixture.store.search(query.clone()).await.expect("search");
    fixture.changed(tasks[1].id, TaskCommand::Cancel, at(1)).await;
    fixture.changed(tasks[3].id, TaskCommand::Cancel, at(1)).await;
    query.after = first.next;
    query.limit = 100;
    let rest = all_pages(fixture, query).await;
    let ids: Vec<_> = first.tasks.iter().chain(&rest).map(|task| task.id).collect();
    assert_eq!(ids, tasks.iter().map(|task| task.id).collect::<Vec<_>>(), "in id order nothing is missed");
}
