//! Configs that are parked, on more than one shard.

use tsp_core::config::ConfigSpec;
use tsp_core::task_key::config_shard;
use tsp_core::{Millis, TaskId, Timestamp};
use tsp_store::FetcherStore as _;
use tsp_store::catalog::Catalog as _;
use tsp_store::parks::{Park, ParkEvent};

use crate::tests::fixture::{HOUR, NOW, Process, spec};
use crate::tests::site::{connect, sql};

const LATER: Timestamp = NOW.plus(HOUR);

/// Each owner keeps what it learned on its own shard; one that was not there yet learns it from another.
#[tokio::test]
async fn a_new_owner_learns_of_a_wait_from_another_shard_and_an_end_reaches_all() {
    let one = Process::first().await;
    let app = one.app().await;
    let config = one.config(app, spec("spread")).await;
    let narrow = one.config(app, ConfigSpec { span: 1, ..spec("narrow") }).await;
    let shards: Vec<u16> = (0..one.store.shards()).collect();
    let home = config_shard(config.id, one.store.shards()).get();
    let of = |number| one.fetcher_store("default", number);
    let park = |config| Park { config, since: NOW, until: LATER, by: TaskId::new(7) };
    let (wide, own) = (park(config.id), park(narrow.id));

    of(home).save_parks(vec![ParkEvent::Asked(wide)]).await.unwrap();
    for number in &shards {
        let seen =
            (of(*number).parks(false, NOW).await.unwrap(), of(*number).parks(true, NOW).await.unwrap());
        let here = if *number == home { vec![wide] } else { vec![] };
        assert_eq!(seen.0, here, "shard {number}");
        assert_eq!(seen.1.first(), Some(&wide), "shard {number}, at a takeover");
    }
    assert_eq!(one.store.parked(config.id, NOW).await.unwrap(), Some(wide));

    // One whose tasks are on one shard only concerns nobody else.
    let home_of_narrow = config_shard(narrow.id, one.store.shards()).get();
    of(home_of_narrow).save_parks(vec![ParkEvent::Asked(own)]).await.unwrap();
    for number in shards.iter().filter(|number| **number != home_of_narrow) {
        assert!(!of(*number).parks(true, NOW).await.unwrap().contains(&own), "shard {number}");
    }

    for number in &shards {
        of(*number).save_parks(vec![ParkEvent::Asked(wide)]).await.unwrap();
    }
    let another = one.another().await;
    another.store.unpark(config.id, NOW.plus(Millis::from_ms(5))).await.unwrap();
    for number in &shards {
        let left = of(*number).parks(true, NOW).await.unwrap();
        assert!(!left.contains(&wide), "shard {number}: {left:?}");
    }
    assert_eq!(one.store.parked(narrow.id, NOW).await.unwrap(), Some(own));
}

/// A shard that cannot be asked holds up no takeover.
#[tokio::test]
async fn a_shard_that_is_away_is_left_out() {
    let one = Process::first().await;
    let app = one.app().await;
    one.config(app, spec("spread")).await;
    for number in 0..one.store.shards() {
        one.fetcher_store("default", number).parks(true, NOW).await.unwrap();
    }
    let table = "config_state_003";
    let mut conn = connect(one.databases.source_of(3)).await;
    sql(&mut conn, &format!("RENAME TABLE {table} TO away_{table}")).await;
    for number in 0..3 {
        one.fetcher_store("default", number).parks(true, NOW).await.unwrap();
    }
    one.fetcher_store("default", 3).parks(true, NOW).await.expect_err("its own it needs");
}
