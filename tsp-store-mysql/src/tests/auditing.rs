//! What the auditor counts, and at what cost.

use tokio::time::Instant;
use tsp_core::config::TaskConfig;
use tsp_core::task::Status;
use tsp_store::catalog::Catalog as _;
use tsp_store::fetching::{Audit, AuditorStore as _};

use crate::fetching::auditor::count;
use crate::tests::fixture::{NOW, Process, shard, spec};
use crate::tests::site::{connect, sql};

/// Of these configs, in all states, many of them due at the same time.
async fn fill(process: &Process, config: &TaskConfig, rows: i64) {
    let mut conn = connect(process.databases.source_of(0)).await;
    let text = format!(
        "INSERT INTO task_000 (id, config_id, status, version, due_at, execute_at, first_due_at, created_at, \
         attempt, charged, losses, epoch, node, cancel_requested, origin, sharding_id, sharding_count, key_slot) \
         SELECT seq, {}, ELT(1 + LEAST(seq % 50, 4), 10, 30, 40, 45, 0), 1, IF(seq % 3 = 0, 7, seq % 100), 0, \
         0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 1, 0 FROM seq_1_to_{rows}",
        config.id.get()
    );
    sql(&mut conn, &text).await;
    sql(&mut conn, &format!("INSERT INTO balance_000 VALUES (0, {rows}, 0, 0)")).await;
}

#[tokio::test]
async fn rows_are_counted_page_by_page_as_of_one_moment() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, spec("orders")).await;
    fill(&process, &config, 1_000).await;
    let on = process.store.context.shard(shard(0)).unwrap();
    let mut whole = Audit::default();
    count(&on, 1_000_000, &mut whole).await.unwrap();
    assert_eq!(whole.open.iter().map(|(_, count)| count).sum::<i64>(), 1_000, "{whole:?}");
    assert_eq!((whole.accepted, whole.open.len()), (1_000, 5));
    whole.open.sort_by_key(|(status, _)| status.code());
    for page in [1, 2, 3, 7, 100, 333, 1_000] {
        let mut paged = Audit::default();
        count(&on, page, &mut paged).await.unwrap();
        paged.open.sort_by_key(|(status, _)| status.code());
        assert_eq!(paged, whole, "pages of {page}");
    }
}

#[tokio::test]
async fn a_task_without_a_config_is_counted_in_every_state() {
    let one = Process::first().await;
    let two = one.another().await;
    let app = one.app().await;
    let config = one.config(app, spec("orders")).await;
    fill(&one, &config, 100).await;
    assert!(two.store.config_cache().config(config.id).is_none());
    let of = two.fetcher_store("default", 0);
    assert_eq!(of.audit(NOW).await.unwrap().orphans, [], "it was made elsewhere just now");
    let mut meta = connect(one.databases.meta()).await;
    sql(&mut meta, "DELETE FROM config").await;
    let new = one.another().await;
    assert_eq!(new.fetcher_store("default", 0).audit(NOW).await.unwrap().orphans, [(config.id, 100)]);
    let mut rows = connect(one.databases.source_of(0)).await;
    for (status, left) in [(Status::Scheduled, 8), (Status::Queued, 6), (Status::Executing, 4)] {
        sql(&mut rows, &format!("DELETE FROM task_000 WHERE status = {}", status.code())).await;
        let found = new.fetcher_store("default", 0).audit(NOW).await.unwrap().orphans;
        assert_eq!(found, [(config.id, left)], "{status:?}");
    }
}

/// `TSP_AUDIT_ROWS=10000000 cargo test -p tsp-store -- the_cost_of_an_audit --nocapture` says it for many.
#[tokio::test]
async fn the_cost_of_an_audit() {
    #[expect(clippy::disallowed_methods, reason = "the size of a run is chosen where it is started")]
    let rows = std::env::var("TSP_AUDIT_ROWS").map_or(20_000, |text| text.parse().expect("a number"));
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, spec("orders")).await;
    fill(&process, &config, rows).await;
    let on = process.store.context.shard(shard(0)).unwrap();
    let began = Instant::now();
    let whole = count(&on, i64::MAX, &mut Audit::default()).await.map_err(|error| error.to_string());
    println!("{rows} rows in one statement: {:?}, {whole:?}", began.elapsed());
    for _ in 0..2 {
        let began = Instant::now();
        let mut audit = Audit::default();
        count(&on, 500_000, &mut audit).await.unwrap();
        println!("{rows} rows, pages of 500,000: {:?}", began.elapsed());
        assert_eq!(audit.open.iter().map(|(_, count)| count).sum::<i64>(), rows);
    }
    for _ in 0..2 {
        let began = Instant::now();
        process.fetcher_store("default", 0).audit(NOW).await.unwrap();
        println!("a whole look at {rows} rows: {:?}", began.elapsed());
    }
}
