//! A cluster on a database server as it comes.

use super::Stage;
use crate::harness::cluster::Plan;
use crate::harness::only_on;
use crate::harness::servers::{Databases, ServerPlan};

/// What the server allows to all together.
const ALLOWED: usize = 16_382;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_each_role_on_sixteen_shards_run_on_a_server_with_defaults() {
    only_on!(Cluster, "it is about prepared statements");
    let servers = ServerPlan { databases: Databases::OwnByDefault, nsqds: 1, lookupd: false, edges: false };
    let plan = Plan { servers, webs: 2, fetchers: 2, workers: 2, ..Plan::default() };
    let stage = Stage::new(plan).await;
    let server = stage.cluster.servers().mariadb();
    let status = |name: &str| {
        let said = server.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).expect("it runs");
        said.split_whitespace().last().and_then(|count| count.parse::<usize>().ok()).expect("a number")
    };
    // What a start asks once is not kept.
    let closed_by_starts = status("Com_stmt_close");
    for count in [1, 10, 500] {
        let ids = stage.submit(count, 0, 1).await;
        stage.all_of(&ids).await;
        stage.all_end_well(&ids).await;
    }
    let (prepared, closed) = (status("Prepared_stmt_count"), status("Com_stmt_close") - closed_by_starts);
    println!("{prepared} statements prepared of {ALLOWED}, {closed} closed");
    assert!(prepared > 0 && prepared <= ALLOWED / 2, "{prepared} prepared");
    assert_eq!(closed, 0);
}
