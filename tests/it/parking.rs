//! The wait that a receiver asks for by `Retry-After`, and what ends it.

use serde_json::{Value, json};

use crate::harness::{Reply, Scene, Task, backoff, now, only_on, time};

const CONFIG: &str = "/apps/shop/configs/work";

/// A config whose receiver has asked for more than an hour, and a task that is due and waits.
async fn parked(span: u16) -> (Scene, String) {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config.set("retry", backoff(5, "50ms")).set("span", json!(span))).await;
    scene.receiver.script("/work", vec![Reply::status(503).with("retry-after", "31536000"), Reply::ok()]);
    let first = scene.submit(Task::of("work")).await;
    let shown =
        scene.api.wait_until(CONFIG, "the wait".to_owned(), |config| config["parked"].is_object()).await;
    assert_eq!(shown["parked"]["by"], first.as_str());
    let until = time(shown["parked"]["until"].as_str().unwrap());
    let left = until.since(now()).ms();
    assert!((3_500_000..=3_600_000).contains(&left), "an hour at most: {left} ms");
    let waiting = scene.submit(Task::of("work")).await;
    scene.pass_sentinel(500).await;
    assert_eq!(scene.receiver.at("/work").len(), 1, "the waiting one was not called");
    (scene, waiting)
}

/// The waiting task is called, and nothing shows a wait any more.
async fn goes_on(scene: &Scene, waiting: &str) {
    scene.api.wait_for_end(waiting, "succeeded").await;
    assert_eq!(scene.api.get(CONFIG).await.expect(200)["parked"], Value::Null);
}

#[tokio::test]
async fn a_run_of_the_config_ends_it() {
    let (scene, waiting) = parked(1).await;
    scene.api.act(&format!("{CONFIG}/run")).await.expect(201);
    goes_on(&scene, &waiting).await;
}

#[tokio::test]
async fn a_run_of_a_task_ends_it() {
    let (scene, waiting) = parked(0).await;
    scene.api.act(&format!("/tasks/{waiting}/run")).await.expect(200);
    goes_on(&scene, &waiting).await;
}

#[tokio::test]
async fn pause_and_resume_end_it() {
    let (scene, waiting) = parked(0).await;
    for verb in ["pause", "resume"] {
        scene.api.act(&format!("{CONFIG}/{verb}")).await.expect(200);
    }
    goes_on(&scene, &waiting).await;
}

#[tokio::test]
async fn disable_and_enable_end_it() {
    let (scene, waiting) = parked(1).await;
    for verb in ["disable", "enable"] {
        scene.api.act(&format!("{CONFIG}/{verb}")).await.expect(200);
    }
    goes_on(&scene, &waiting).await;
}

#[tokio::test]
async fn another_target_ends_it() {
    let (scene, waiting) = parked(0).await;
    let target = json!({ "target": { "url": scene.receiver.url("/elsewhere") } });
    scene.api.patch(CONFIG, &target).await.expect(200);
    goes_on(&scene, &waiting).await;
    assert_eq!(scene.receiver.nth_at("/elsewhere", 1).await.task(), waiting);
}

/// The tasks of one config are on all shards, each with an owner of its own; one answer is for all of them.
#[tokio::test]
async fn it_holds_on_every_shard_of_the_config() {
    let (scene, _) = parked(0).await;
    let mut others = Vec::new();
    for _ in 0..40 {
        others.push(scene.submit(Task::of("work")).await);
    }
    scene.submit(Task::of("sentinel")).await;
    scene.receiver.nth_at("/sentinel", 2).await;
    assert_eq!(scene.receiver.at("/work").len(), 1, "none of them was called");
    scene.api.act(&format!("{CONFIG}/run")).await.expect(201);
    for id in others {
        goes_on(&scene, &id).await;
    }
}

#[tokio::test]
async fn it_outlives_the_process_and_ends_all_the_same() {
    let (mut scene, waiting) = parked(0).await;
    scene.tsp.kill9().await;
    scene.tsp.restart().await;
    scene.submit(Task::of("sentinel")).await;
    scene.receiver.nth_at("/sentinel", 2).await;
    assert_eq!(scene.receiver.at("/work").len(), 1);
    let shown = scene.api.get(CONFIG).await.expect(200);
    assert!(shown["parked"].is_object(), "{shown:#}");
    scene.api.act(&format!("{CONFIG}/run")).await.expect(201);
    goes_on(&scene, &waiting).await;
}

#[tokio::test]
async fn the_metrics_count_what_is_parked() {
    only_on!(Embedded, "one process shows it");
    let (scene, _) = parked(1).await;
    let one = |metrics: &str| metrics.lines().any(|line| line == "tsp_configs_parked 1");
    scene.tsp.metrics_until("one parked config", one).await;
}
