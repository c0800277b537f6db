//! Idle is free: configs that have nothing to do cost no statements.

use reqwest::Method;
use tokio::task::JoinSet;
use tsp_core::Millis;

use crate::harness::figures::{metric, resident_kib};
use crate::harness::{APP, Config, Scene, Task, Tsp, now, only_on, past, seldom, turn};

const CONFIGS: usize = 100_000;
const CALLERS: usize = 32;
const LOOK: Millis = Millis::from_secs(10);
/// So often it is checked whether all that a start does is over.
const LOOKS: usize = 12;
/// Renewing a lease and a resync are what an idle service may do.
const STATEMENTS_PER_SECOND: f64 = 10.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accept_a_hundred_thousand_idle_configs_cost_a_few_statements_a_second() {
    only_on!(Embedded, "the figure is promised for one process on its file");
    let _machine = turn::alone().await;
    let mut scene = Scene::on(Tsp::start_alone(Tsp::settings()).await).await;
    let begun = now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let api = scene.api.clone();
        let url = scene.receiver.url("/idle");
        callers.spawn(async move {
            for number in (caller..CONFIGS).step_by(CALLERS) {
                let name = format!("idle-{number}");
                // Half of them by schedule: a cursor far ahead must cost no more than none.
                let config = if number % 2 == 0 {
                    Config::delayed(&name, &url)
                } else {
                    Config::cron(&name, &url, &seldom())
                };
                let path = format!("/api/v1/apps/{APP}/configs");
                let body = config.json().to_string().into_bytes();
                let answer = api.try_send(Method::POST, &path, &[], Some(body)).await;
                let answer = answer.unwrap_or_else(|e| panic!("`{name}` was not answered: {e:?}"));
                assert_eq!(answer.status, 201, "{name}: {}", answer.text);
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller did not fail");
    }
    println!("{CONFIGS} configs made in {} s", now().since(begun).ms() / 1_000);
    // A start has things to read that an idle service has not.
    scene.tsp.stop().await;
    let stopped = now();
    scene.tsp.restart().await;
    println!("started with them in {} ms", now().since(stopped).ms());
    let statements = async || (metric(&scene.api.metrics().await, "tsp_store_seconds_count"), now());
    let (mut before, mut rates) = (statements().await, Vec::<f64>::new());
    assert!(before.0 > 0.0, "the metric `tsp_store_seconds_count` is missing");
    while rates.last().is_none_or(|rate| *rate > STATEMENTS_PER_SECOND) {
        assert!(rates.len() < LOOKS, "{rates:?} statements a second for nothing to do");
        past(before.1.plus(LOOK)).await;
        let after = statements().await;
        let seconds = after.1.since(before.1).to_std().as_secs_f64();
        rates.push((after.0 - before.0) / seconds);
        before = after;
    }
    println!("{rates:.1?} statements a second after a start, {} MiB", resident_kib(scene.tsp.pid()) >> 10);

    // And it still knows all of them.
    scene.submit(Task::of("idle-99998")).await;
    assert_eq!(scene.receiver.nth(1).await.header("tsp-config"), "idle-99998");
}
