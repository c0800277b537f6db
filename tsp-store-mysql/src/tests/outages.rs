//! Databases that are unavailable, connections that are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use peers::MariaDb;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tsp_core::Millis;
use tsp_store::AttemptStore as _;
use tsp_store::StoreError;
use tsp_store::attempts::all;
use tsp_store::cluster::{LeaseStore as _, NewNode, NodeLease};
use tsp_store::tasks::TaskStore as _;

use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::tests::fixture::{NOW, Process, id, name, shard};
use crate::tests::site::{connect, options, sql};
use crate::{MySqlOptions, MySqlStore, SourceOptions};

const SECOND: Duration = Duration::from_secs(1);
/// When a call for a database that does not answer is given up. What waits for such a call takes longer.
const GIVEN_UP: Millis = Millis::from_secs(5);

const PUT: &str =
    "-- test_put\nINSERT INTO balance_{shard} (node, accepted, ended, dropped) VALUES (?, 1, 0, 0)
ON DUPLICATE KEY UPDATE accepted = accepted + 1";
const GET: &str = "-- test_get\nSELECT COALESCE(CAST(SUM(accepted) AS SIGNED), 0) FROM balance_{shard}";
const ME: &str = "-- test_me\nSELECT CAST(CONNECTION_ID() AS SIGNED)";

async fn put(on: &ShardDb, node: i64) -> tsp_store::Result<()> {
    let sql = &on.sql(PUT);
    on.transact("test_put", |tx| {
        Box::pin(async move { query(sql).bind(node).execute(tx.conn()).await.map(|_| ()) })
    })
    .await
}

async fn get(on: &ShardDb) -> tsp_store::Result<i64> {
    let sql = &on.sql(GET);
    let row = on.read("test_get", |tx| Box::pin(async move { query(sql).fetch_one(tx.conn()).await }));
    row.await?.get(0)
}

/// Shards 0 and 1 on the shared server, 2 and 3 on one that may be hurt.
struct FaultySource {
    own: MariaDb,
    options: MySqlOptions,
}

impl FaultySource {
    async fn make() -> Self {
        let (shared, own) = (MariaDb::shared(), MariaDb::start().expect("a server"));
        let database = |server: &MariaDb, hint: &str| server.url(&server.create_database(hint));
        let source = |name: &str, url, shards| SourceOptions { name: name.to_owned(), url, shards };
        let options = MySqlOptions {
            sources: vec![
                source("good", database(shared, "good"), 0..=1),
                source("hurt", database(&own, "hurt"), 2..=3),
            ],
            connections: 4,
            acquire_timeout: GIVEN_UP,
            allow_unsynced: true,
            ..options(database(shared, "meta"), String::new(), 4, [7; 32])
        };
        MySqlStore::migrate(&options, NOW).await.expect("migrate");
        Self { own, options }
    }

    /// The good shards answer while the others are asked, and those end as unavailable.
    async fn others_go_on(&self, store: &MySqlStore) {
        let (good, hurt) = (on(store, 0), on(store, 2));
        let away = async {
            let calls = futures::future::join_all((0..8).map(|_| get(&hurt))).await;
            for call in calls {
                assert!(matches!(call, Err(StoreError::Unavailable { .. })), "{call:?}");
            }
        };
        let here = async {
            for round in 0..20 {
                let started = Instant::now();
                put(&good, round).await.unwrap();
                assert_eq!(store.task(id(1, round)).await.unwrap(), None);
                assert!(started.elapsed() < GIVEN_UP.to_std(), "round {round}: {:?}", started.elapsed());
            }
            let started = Instant::now();
            let shard_groups = store.shard_groups(&[name("default")]).await.unwrap();
            assert_eq!(
                shard_groups.rows.iter().map(|row| row.shard_group.shard.get()).collect::<Vec<_>>(),
                [0, 1]
            );
            let lost: Vec<u16> = shard_groups.away.iter().map(|(shard, _)| shard.get()).collect();
            assert_eq!(lost, [2, 3]);
            assert!(started.elapsed() < GIVEN_UP.to_std(), "{:?}", started.elapsed());
        };
        tokio::join!(away, here);
    }
}

fn on(store: &MySqlStore, number: u16) -> ShardDb {
    store.context.shard(shard(number)).expect("it is one of four")
}

fn new_node() -> NewNode {
    NewNode { name: "n".to_owned(), roles: Vec::new(), version: String::new(), address: None }
}

/// Polls an outside process, which says nothing by itself.
async fn until_back(shard: &ShardDb) {
    let back = async {
        while get(shard).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), back).await.expect("it is back and must be used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_source_that_is_down_leaves_the_others_usable() {
    let hurt = FaultySource::make().await;
    let store = MySqlStore::open(&hurt.options).await.unwrap();
    let node = store.join(new_node(), Millis::from_hours(1)).await.unwrap();
    for row in store.shard_groups(&[name("default")]).await.unwrap().rows {
        store.take(&row, node, Millis::from_hours(1)).await.unwrap().unwrap();
    }
    put(&on(&store, 2), 1).await.unwrap();
    hurt.own.kill();
    hurt.others_go_on(&store).await;
    let renewed = store.renew_leases(node, Millis::from_hours(1)).await.unwrap();
    assert_eq!(renewed.held.len(), 2);
    assert_eq!(renewed.failed, [2, 3].map(shard));
    let started = Instant::now();
    assert!(get(&on(&store, 3)).await.is_err());
    assert!(started.elapsed() < GIVEN_UP.to_std(), "what is known to be away is not waited for");
    let late = MySqlStore::open(&hurt.options).await.expect("a source that is down does not hinder a start");
    put(&on(&late, 0), 1).await.unwrap();
    hurt.own.restart().unwrap();
    for store in [&store, &late] {
        until_back(&on(store, 2)).await;
        until_back(&on(store, 3)).await;
    }
    assert_eq!(store.renew_leases(node, Millis::from_hours(1)).await.unwrap().held.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_source_that_stands_still_leaves_the_others_usable() {
    let hurt = FaultySource::make().await;
    let store = MySqlStore::open(&hurt.options).await.unwrap();
    put(&on(&store, 2), 1).await.unwrap();
    hurt.own.pause();
    hurt.others_go_on(&store).await;
    hurt.own.resume();
    until_back(&on(&store, 2)).await;
    put(&on(&store, 2), 1).await.unwrap();
    assert_eq!(get(&on(&store, 2)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_connection_killed_in_mid_transaction_leaves_nothing() {
    let one = Process::first().await;
    let place = on(&one.store, 1);
    let mut killer = connect(one.databases.meta()).await;
    for early in [true, false] {
        let victim = std::sync::Mutex::new((Some(&mut killer), 0));
        let killed = Arc::new(AtomicBool::new(false));
        let (put, me) = (&place.sql(PUT), &place.sql(ME));
        let (said, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (victim, killed, said, done) = (&victim, &killed, &said, &done);
        let work = place.transact("test", |tx| {
            Box::pin(async move {
                query(put).bind(1).execute(tx.conn()).await?;
                let number: i64 = query(me).fetch_one(tx.conn()).await?.get(0)?;
                victim.lock().unwrap().1 = number;
                said.notify_one();
                done.notified().await;
                if early {
                    query(put).bind(2).execute(tx.conn()).await?;
                }
                Ok(())
            })
        });
        let kill = async {
            said.notified().await;
            let (conn, number) = {
                let mut victim = victim.lock().unwrap();
                (victim.0.take().unwrap(), victim.1)
            };
            sql(conn, &format!("KILL {number}")).await;
            killed.store(true, Ordering::SeqCst);
            done.notify_one();
        };
        let (worked, ()) = tokio::join!(work, kill);
        assert!(killed.load(Ordering::SeqCst));
        match worked {
            Err(StoreError::Unavailable { .. }) if early => {}
            Err(StoreError::Unknown(_)) if !early => {}
            other => panic!("early {early}: {other:?}"),
        }
        assert_eq!(get(&place).await.unwrap(), 0, "before or after, never between");
    }
}

/// Connections that were lost while they were idle are replaced without anybody noticing.
#[tokio::test]
async fn idle_connections_that_were_killed_are_replaced() {
    let one = Process::first().await;
    let place = on(&one.store, 0);
    let (first, second) = (place.conn().await.unwrap(), place.conn().await.unwrap());
    let mut sessions = [first, second];
    let mut killer = connect(one.databases.meta()).await;
    for session in &mut sessions {
        let number: i64 = query(&place.sql(ME)).fetch_one(session).await.unwrap().get(0).unwrap();
        sql(&mut killer, &format!("KILL {number}")).await;
    }
    drop(sessions);
    for _ in 0..4 {
        put(&place, 1).await.unwrap();
    }
    assert_eq!(get(&place).await.unwrap(), 4);
}

#[tokio::test]
async fn two_that_deadlock_both_end() {
    let one = Process::first().await;
    let place = on(&one.store, 0);
    put(&place, 1).await.unwrap();
    put(&place, 2).await.unwrap();
    let met = tokio::sync::Barrier::new(2);
    let both = [(1, 2), (2, 1)].map(|(first, second)| {
        let (place, met, alone) = (&place, &met, AtomicBool::new(false));
        async move {
            let (sql, alone) = (&place.sql(PUT), &alone);
            place
                .transact("test", |tx| {
                    Box::pin(async move {
                        query(sql).bind(first).execute(tx.conn()).await?;
                        if !alone.swap(true, Ordering::SeqCst) {
                            met.wait().await;
                        }
                        query(sql).bind(second).execute(tx.conn()).await.map(|_| ())
                    })
                })
                .await
        }
    });
    for done in futures::future::join_all(both).await {
        done.unwrap();
    }
    assert_eq!(get(&place).await.unwrap(), 6);
}

/// A call that nobody waits for any more leaves no lock behind.
#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let one = Process::first().await;
    let place = on(&one.store, 0);
    let reached = Notify::new();
    let (sql, seen) = (&place.sql(PUT), &reached);
    let dropped = place.transact("test", |tx| {
        Box::pin(async move {
            query(sql).bind(1).execute(tx.conn()).await?;
            seen.notify_one();
            futures::future::pending::<tsp_store::Result<()>>().await
        })
    });
    tokio::select! {
        _ = dropped => panic!("it never ends by itself"),
        () = reached.notified() => {}
    }
    put(&place, 1).await.unwrap();
    assert_eq!(get(&place).await.unwrap(), 1);
}

/// Of the calls for the shards of a database that is unavailable, one is the probe while the others fail at
/// once: it must not be cut off by them.
#[tokio::test]
async fn who_asks_several_shards_at_once_finds_the_database_that_is_back() {
    let hurt = FaultySource::make().await;
    let store = MySqlStore::open(&hurt.options).await.expect("open");
    let runs = store.attempt_store(Arc::new(NodeLease::for_ever()));
    let tasks = [id(2, 1), id(3, 1)];
    all(runs.load(&tasks).await).expect("all is well");
    hurt.own.kill();
    let mut heartbeat = tokio::time::interval(Duration::from_millis(100));
    let away = Instant::now() + 2 * SECOND;
    while Instant::now() < away {
        heartbeat.tick().await;
        all(runs.load(&tasks).await).expect_err("it is away");
    }
    hurt.own.restart().expect("the same server again");
    let end = Instant::now() + 30 * SECOND;
    while let Err(error) = all(runs.load(&tasks).await) {
        assert!(Instant::now() < end, "it is back, and still: {error}");
        heartbeat.tick().await;
    }
}
