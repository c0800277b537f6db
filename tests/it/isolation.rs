//! Receivers that are dead, slow, breaking off or far too talkative hurt nobody but themselves.

use serde_json::json;
use tsp_core::Millis;

use crate::harness::figures::{CROWD_MS, percentile, resident_kib};
use crate::harness::{
    APP, Arrival, Config, Gate, Reply, Scene, Task, Tsp, backoff, now, turn, usual_timeout,
};

const TASKS: usize = 400;
const EVERY_MS: i64 = 10;
const ROUNDS: usize = 3;
/// What the service may take beside its bad receivers, on top of what it took alone.
const MEMORY_KIB: u64 = 200 * 1024;

/// Submits a steady stream to `name` and returns the lateness of each callback in ms.
async fn stream(scene: &Scene, name: &str) -> Vec<i64> {
    scene.delayed(name, |config| config).await;
    let start = now().plus(Millis::from_ms(1_500));
    for first in (0..TASKS).step_by(200) {
        let due = |number: usize| start.plus(Millis::from_ms(i64::try_from(number).unwrap() * EVERY_MS));
        let tasks: Vec<_> =
            (first..first + 200).map(|number| Task::of(name).at(due(number)).json()).collect();
        let path = format!("/apps/{APP}/tasks/batch");
        scene.api.post(&path, &json!({ "tasks": tasks })).await.expect(200);
    }
    let path = format!("/{name}");
    scene.receiver.nth_at(&path, TASKS).await;
    scene.receiver.at(&path).iter().map(Arrival::lateness_ms).collect()
}

/// The bad receivers, by config, with how many tasks each gets in a round.
const BAD: [(&str, usize); 4] = [("dead", 600), ("slow", 600), ("dropping", 600), ("huge", 20)];

async fn make_bad_configs(scene: &Scene) {
    for (name, _) in BAD {
        let url = match name {
            "dead" => "http://127.0.0.1:1999/".to_owned(),
            answering => scene.receiver.url(&format!("/{answering}")),
        };
        let config =
            Config::delayed(name, &url).set("retry", backoff(3, "500ms")).set("timeout", usual_timeout());
        scene.api.config(APP, config).await;
    }
}

async fn flood(scene: &Scene, name: &str, tasks: usize) {
    let tasks: Vec<_> = (0..tasks).map(|_| Task::of(name).in_ms(800).json()).collect();
    let path = format!("/apps/{APP}/tasks/batch");
    scene.api.post(&path, &json!({ "tasks": tasks })).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accept_bad_receivers_do_not_make_another_config_late() {
    let _machine = turn::alone().await;
    let scene = Scene::on(Tsp::start_alone(Tsp::settings()).await).await;
    let alone = stream(&scene, "alone").await;
    let memory_alone = resident_kib(scene.tsp.pid());

    let never = Gate::closed();
    scene.receiver.always("/slow", Reply::ok().after(&never));
    scene.receiver.always("/dropping", Reply::Drop);
    scene.receiver.always("/huge", Reply::Body(100 << 20));
    make_bad_configs(&scene).await;
    let p99_alone = percentile(&alone, 99);
    let allowed = (2 * p99_alone).max(CROWD_MS);
    let mut seen = Vec::new();
    // One slow sync of a shared disk is 1 % of a stream; a receiver that hurts others hurts every round.
    for round in 0..ROUNDS {
        for (name, tasks) in BAD {
            flood(&scene, name, tasks).await;
        }
        let beside = stream(&scene, &format!("beside-{round}")).await;
        assert!(alone.iter().chain(&beside).all(|late| *late >= 0), "an early callback");
        seen.push(percentile(&beside, 99));
        if seen[round] <= allowed {
            break;
        }
    }
    let memory_beside = resident_kib(scene.tsp.pid());

    println!("lateness p99 alone {p99_alone} ms, beside bad receivers {seen:?} ms");
    println!("memory alone {} MiB, beside {} MiB", memory_alone >> 10, memory_beside >> 10);
    let kept = seen.iter().any(|p99| *p99 <= allowed);
    assert!(kept, "p99 beside bad receivers is {seen:?} ms in {ROUNDS} rounds, {allowed} ms are allowed");
    assert!(memory_beside <= memory_alone + MEMORY_KIB, "memory grew to {memory_beside} KiB");
    for name in ["slow", "dropping", "huge"] {
        assert!(!scene.receiver.at(&format!("/{name}")).is_empty(), "`{name}` was never called");
    }
}
