//! Prepared statements: the trap is a text that pushes another out of a connection's cache, because the
//! closing of a statement stalls the next one for 40 ms (docs/reference/sql.md section 2).

use sqlx::Row as _;

use crate::connection::session::{Session, query};
use crate::connection::statement_templates::BATCH_SIZES;
use crate::connection::statement_templates::STATEMENTS_OF_SHARD;
use crate::tests::fixture::{Process, shard};
use crate::tests::site::SHARDS;

/// Each a text of its own by its name. With sizes and shards they are more than the 100 of a plain cache.
const TEXTS: [&str; 12] = [
    "-- t0\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t1\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t2\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t3\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t4\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t5\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t6\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t7\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t8\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t9\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t10\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
    "-- t11\nSELECT COUNT(*) FROM task_{shard} WHERE id IN ({list})",
];

/// How many statements this connection has prepared and closed.
async fn prepared(session: &mut Session) -> [i64; 2] {
    let text = "-- counts\nSHOW SESSION STATUS WHERE Variable_name IN ('Com_stmt_prepare', 'Com_stmt_close')";
    let rows = sqlx::raw_sql(text).fetch_all(session.raw().unwrap()).await.unwrap();
    let count = |name: &str| {
        let row = rows.iter().find(|row| row.get::<String, _>(0) == name).expect("the server counts it");
        row.get::<String, _>(1).parse().expect("it is a number")
    };
    [count("Com_stmt_prepare"), count("Com_stmt_close")]
}

#[tokio::test]
async fn every_text_is_prepared_once_and_stays() {
    let one = Process::first().await;
    let shards: Vec<_> =
        (0..SHARDS / 2).map(|number| one.store.context.shard(shard(number)).unwrap()).collect();
    let mut session = shards[0].conn().await.unwrap();
    let sizes = BATCH_SIZES;
    assert!(TEXTS.len() * sizes.len() <= STATEMENTS_OF_SHARD);
    let mut counts = Vec::new();
    for _ in 0..3 {
        for shard in &shards {
            for (text, n) in TEXTS.iter().flat_map(|text| sizes.map(|n| (text, n))) {
                let mut statement = query(&shard.sql_list(text, n));
                for id in 0..n {
                    statement = statement.bind(i64::try_from(id).unwrap());
                }
                statement.fetch_one(&mut session).await.unwrap();
            }
        }
        counts.push(prepared(&mut session).await);
    }
    assert!(counts[0][0] >= i64::try_from(2 * TEXTS.len() * sizes.len()).unwrap(), "{counts:?}");
    assert!(counts.iter().all(|count| *count == counts[0] && count[1] == 0), "{counts:?}");
}
