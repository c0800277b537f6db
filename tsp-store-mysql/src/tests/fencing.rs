//! Who has lost a lease changes nothing, and who loses one is waited for.

use std::time::Duration;

use sqlx::Row as _;
use tokio::time::Instant;
use tsp_core::config::{ConfigSpec, Kind};
use tsp_core::schedule::{Every, Schedule, Trigger};
use tsp_core::task::Status;
use tsp_core::{Millis, Timestamp};
use tsp_store::attempts::{AttemptStore as _, BeginResult, WorkError, all};
use tsp_store::catalog::Catalog as _;
use tsp_store::cluster::{LeaseStore as _, NodeLease};
use tsp_store::fetching::{ClaimRequest, ClaimResult, FetcherStore as _, Fire, FireResult};
use tsp_store::tasks::TaskStore as _;
use tsp_store_testing::fire_one;

use crate::MySqlStore;
use crate::tests::fixture::{HOUR, NOW, Process, message, spec};
use crate::tests::site::{connect, sql};

#[tokio::test]
async fn who_was_deposed_does_nothing() {
    let first = Process::first().await;
    let app = first.app().await;
    let config = first.config(app, spec("plain")).await;
    let every = Schedule::new(Trigger::Every(Every { interval: Millis::from_secs(10), anchor: NOW }));
    let cron = ConfigSpec { kind: Kind::Cron, schedule: Some(every), span: 1, ..spec("cron") };
    let cron = first.config(app, cron).await;
    let shard = tsp_core::task_key::config_shard(cron.id, first.store.shards()).get();
    let task = first.submit(&config, shard, 1).await;
    let owner = first.take("default", shard, HOUR).await;
    let queued = first.claim(owner, &config, shard).await.remove(0);
    let waiting = first.submit(&config, shard, 2).await;

    first.end_lease(shard).await;
    let second = first.another().await;
    let next = second.take("default", shard, HOUR).await;
    assert!(next.epoch > owner.epoch);

    let of = first.fetcher_store("default", shard);
    let request = ClaimRequest { config: config.id, due_by: NOW, limit: 10 };
    let claimed = of.claim(owner, vec![request], NOW).await.unwrap();
    assert_eq!(claimed, ClaimResult { deposed: true, ..ClaimResult::default() });
    let fire = Fire::without_slots(&cron, 1, Some(NOW));
    assert_eq!(fire_one(&of, owner, fire.clone(), NOW).await.unwrap(), FireResult::Deposed);
    assert!(of.return_to_scheduled(owner, vec![(task, queued.version)], NOW).await.unwrap().is_empty());
    assert!(of.mark_worker_lost(owner, vec![(task, first.node)], NOW).await.unwrap().is_empty());
    assert_eq!(first.store.task(task).await.unwrap().unwrap().status, Status::Queued);
    assert_eq!(first.store.task(waiting).await.unwrap().unwrap().status, Status::Scheduled);

    let of = second.fetcher_store("default", shard);
    assert_eq!(of.claim(next, vec![request], NOW).await.unwrap().bare.len(), 1);
    assert_eq!(of.return_to_scheduled(next, vec![(task, queued.version)], NOW).await.unwrap().len(), 1);
    assert!(matches!(fire_one(&of, next, fire, NOW).await.unwrap(), FireResult::Moved { .. }));
}

/// Its own lease, by the database's clock, even if nobody took it.
#[tokio::test]
async fn a_lease_that_is_over_claims_nothing() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, spec("plain")).await;
    process.submit(&config, 1, 1).await;
    let owner = process.take("default", 1, HOUR).await;
    process.end_lease(1).await;
    let request = ClaimRequest { config: config.id, due_by: NOW, limit: 10 };
    assert!(process.fetcher_store("default", 1).claim(owner, vec![request], NOW).await.unwrap().deposed);
}

/// How many transactions of this database wait for a lock.
async fn waiting_for_locks(database: &str) -> i64 {
    let text = format!(
        "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.INNODB_TRX t \
         JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id \
         WHERE t.trx_state = 'LOCK WAIT' AND p.DB = '{database}'"
    );
    sql(&mut connect(database).await, &text).await[0].get(0)
}

async fn until_waiting(database: &str, count: i64) {
    let end = Instant::now() + Duration::from_secs(4);
    // InnoDB looks again only when nobody has asked for 100 ms.
    let mut look = tokio::time::interval(Duration::from_millis(110));
    look.tick().await;
    while waiting_for_locks(database).await < count {
        assert!(Instant::now() < end, "{count} transactions must wait in {database}");
        look.tick().await;
    }
}

#[tokio::test]
async fn a_takeover_waits_for_a_claim_that_has_begun() {
    let first = Process::first().await;
    let app = first.app().await;
    let config = first.config(app, spec("plain")).await;
    let task = first.submit(&config, 2, 1).await;
    let database = first.databases.source_of(2).to_owned();
    let second = first.another().await;
    let lease = Millis::from_secs(2);
    let owner = first.take("default", 2, lease).await;

    // Somebody holds the row that the claim wants, so the claim stands open behind its look at the lease.
    let mut holder = connect(&database).await;
    sql(&mut holder, "BEGIN").await;
    sql(&mut holder, &format!("SELECT id FROM task_002 WHERE id = {task} FOR UPDATE")).await;
    let of = first.fetcher_store("default", 2);
    let request = ClaimRequest { config: config.id, due_by: NOW, limit: 10 };
    let claim = tokio::task::JoinSet::from_iter([async move { of.claim(owner, vec![request], NOW).await }]);
    until_waiting(&database, 1).await;

    let end = Instant::now() + Duration::from_secs(4);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let seen = loop {
        look.tick().await;
        let seen = second.seen("default", 2).await;
        if seen.expired {
            break seen;
        }
        assert!(Instant::now() < end, "a short lease ends");
    };
    let (store, node) = (second.store.clone(), second.node);
    let take = tokio::task::JoinSet::from_iter([async move { store.take(&seen, node, HOUR).await }]);
    until_waiting(&database, 2).await;
    sql(&mut holder, "COMMIT").await;

    let claimed = claim.join_all().await.remove(0).unwrap();
    assert!(!claimed.deposed, "it was the owner when it began");
    assert_eq!(claimed.bare.len(), 1);
    let next = take.join_all().await.remove(0).unwrap().expect("the lease was over and nobody renewed it");
    assert!(next.epoch > owner.epoch);
    let stored = first.store.task(task).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.epoch), (Status::Queued, owner.epoch), "the next owner sees it");
    assert!(first.fetcher_store("default", 2).claim(owner, vec![request], NOW).await.unwrap().deposed);
}

fn is_of_the_lease(error: &WorkError) -> bool {
    matches!(error, WorkError::Unavailable(why) if why.ends_with("the node's lease is over"))
}

/// By its own clock the process may still be far from the end of its lease.
#[tokio::test]
async fn nothing_begins_after_the_end_of_the_nodes_lease() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, spec("plain")).await;
    let mut messages = Vec::new();
    for shard in 0..4 {
        process.submit(&config, shard, 1).await;
        let owner = process.take("default", shard, HOUR).await;
        let claimed = process.claim(owner, &config, shard).await;
        messages.extend(claimed.iter().map(|row| message(row)));
    }
    assert_eq!(messages.len(), 4);
    let database_now = MySqlStore::time(&process.databases.options()).await.unwrap();
    // Ends within the margin, by the database's clock; the process thinks it is an hour earlier.
    let attempt_store = process.attempt_store(NodeLease::until(database_now.plus(Millis::from_ms(500))));
    let early = database_now.minus(HOUR).max(NOW);
    for batch in [messages.clone(), messages[..1].to_vec()] {
        let refused = all(attempt_store.begin(process.node, batch, early).await).unwrap_err();
        assert!(is_of_the_lease(&refused), "{refused}");
    }
    let ended = NodeLease::for_ever();
    ended.end();
    let refused =
        all(process.attempt_store(ended).begin(process.node, messages.clone(), NOW).await).unwrap_err();
    assert!(is_of_the_lease(&refused), "{refused}");
    for message in &messages {
        assert_eq!(process.store.task(message.id).await.unwrap().unwrap().status, Status::Queued);
    }
    let attempt_store = process.attempt_store(NodeLease::until(Timestamp::MAX));
    let begun = all(attempt_store.begin(process.node, messages, NOW).await).unwrap();
    assert!(begun.iter().all(|begun| matches!(begun, BeginResult::Run(_))), "{begun:?}");
}

/// Of messages that came twice one runs, whatever else is in the batch.
#[tokio::test]
async fn a_message_that_came_twice_runs_once() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, spec("plain")).await;
    for number in 1..=20 {
        process.submit(&config, 0, number).await;
    }
    let owner = process.take("default", 0, HOUR).await;
    let claimed = process.claim(owner, &config, 0).await;
    let attempt_store = process.attempt_store(NodeLease::for_ever());
    let half: Vec<_> = claimed.iter().take(10).map(|row| message(row)).collect();
    assert!(all(attempt_store.begin(process.node, half.clone(), NOW).await).unwrap().iter().all(runs));
    // A little later the whole batch comes, half of it again, and all of it twice.
    let later = NOW.plus(Millis::from_ms(1));
    let twice: Vec<_> = claimed.iter().chain(&claimed).map(|row| message(row)).collect();
    let begun = all(attempt_store.begin(process.node, twice, later).await).unwrap();
    let ran: Vec<usize> = (0..begun.len()).filter(|at| runs(&begun[*at])).collect();
    assert_eq!(ran.len(), 10, "{ran:?}");
    assert!(ran.iter().all(|at| at % 20 >= 10), "{ran:?}");
}

fn runs(begun: &BeginResult) -> bool {
    matches!(begun, BeginResult::Run(_))
}
