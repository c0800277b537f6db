//! What becomes of a callback that was not well received.

use serde_json::{Value, json};
use tsp_core::Millis;

use crate::harness::{APP, Config, Gate, Reply, Scene, Task, backoff, now, past};

async fn scene(retry: Value) -> Scene {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config.set("retry", retry)).await;
    scene
}

/// The milliseconds between the first two arrivals.
async fn first_gap(scene: &Scene) -> i64 {
    let (first, second) = (scene.receiver.nth(1).await, scene.receiver.nth(2).await);
    assert_eq!((first.task(), first.attempt() + 1), (second.task(), second.attempt()));
    assert_eq!(first.execute_at(), second.execute_at(), "a retry does not change the promised time");
    second.at.since(first.at).ms()
}

#[tokio::test]
async fn a_failed_callback_is_repeated_until_it_succeeds() {
    let scene = scene(backoff(5, "300ms")).await;
    // What breaks on a kept-alive connection is sent once more on a new one, as the same attempt.
    let replies = vec![Reply::status(500), Reply::Drop, Reply::Drop, Reply::status(404), Reply::ok()];
    scene.receiver.script("/work", replies);
    let id = scene.submit(Task::of("work")).await;
    scene.receiver.nth(5).await;
    let arrivals = scene.receiver.arrivals();
    let numbers: Vec<_> = arrivals.iter().map(crate::harness::Arrival::attempt).collect();
    assert_eq!(numbers, [1, 2, 2, 3, 4]);
    for pair in arrivals.windows(2).filter(|pair| pair[0].attempt() != pair[1].attempt()) {
        let gap = pair[1].at.since(pair[0].at).ms();
        assert!(gap >= 300, "attempt {} came after {gap} ms", pair[1].attempt());
    }
    let task = scene.api.wait_for_end(&id, "succeeded").await;
    assert_eq!(task["attempt"], 4);
    let attempts = scene.api.get(&format!("/tasks/{id}/attempts")).await.expect(200);
    let outcomes: Vec<_> = attempts["items"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["retry", "retry", "retry", "done"], "{attempts:#}");
}

#[tokio::test]
async fn attempts_are_used_up() {
    let scene = scene(backoff(3, "50ms")).await;
    scene.receiver.always("/work", Reply::status(500));
    let id = scene.submit(Task::of("work")).await;
    let task = scene.api.wait_for_end(&id, "failed").await;
    assert_eq!(task["attempt"], 3, "{task:#}");
    assert_eq!(scene.receiver.count(), 3);
}

#[tokio::test]
async fn a_submit_overrides_the_retry_policy() {
    let scene = scene(backoff(5, "50ms")).await;
    scene.receiver.always("/work", Reply::status(500));
    let id = scene.submit(Task::of("work").set("retry", json!({ "max_attempts": 2 }))).await;
    scene.api.wait_for_end(&id, "failed").await;
    assert_eq!(scene.receiver.count(), 2);
}

#[tokio::test]
async fn some_answers_end_a_task_at_once() {
    let mut retry = backoff(5, "50ms");
    retry["non_retryable_status"] = json!([400, 418]);
    let scene = scene(retry).await;
    for status in [410, 418, 400, 301, 304] {
        scene.receiver.always("/work", Reply::status(status).with("location", "http://127.0.0.1:1/"));
        let id = scene.submit(Task::of("work")).await;
        let task = scene.api.wait_for_end(&id, "failed").await;
        assert_eq!(task["attempt"], 1, "{status}: {task:#}");
        assert_eq!(task["last_outcome"]["http_status"], status, "{task:#}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let scene = scene(backoff(5, "50ms")).await;
    let elsewhere = scene.receiver.url("/elsewhere");
    scene.receiver.always("/work", Reply::status(307).with("location", elsewhere));
    let id = scene.submit(Task::of("work")).await;
    scene.api.wait_for_end(&id, "failed").await;
    assert_eq!(scene.receiver.at("/elsewhere").len(), 0);
}

#[tokio::test]
async fn retry_after_is_honoured_and_parks_the_config() {
    let scene = scene(backoff(5, "50ms")).await;
    scene.receiver.script("/work", vec![Reply::status(503).with("retry-after", "2"), Reply::ok()]);
    let first = scene.submit(Task::of("work")).await;
    let task = scene.receiver.nth(1).await;
    // Once it is shown the owner knows it. A machine that stands still may miss it.
    scene
        .api
        .wait_until(&format!("/apps/{APP}/configs/work"), "the wait".to_owned(), |config| {
            config["parked"].is_object() || scene.receiver.count() > 1
        })
        .await;
    let parked = scene.submit(Task::of("work").in_ms(300)).await;
    let gap = first_gap_of(&scene, &first).await;
    assert!(gap >= 2_000, "the retry came after {gap} ms");
    let all = scene
        .receiver
        .until("the parked task".to_owned(), {
            let parked = parked.clone();
            move |all| all.iter().any(|one| one.task() == parked)
        })
        .await;
    let parked_at = all.iter().find(|one| one.task() == parked).unwrap().at;
    let waited = parked_at.since(task.at).ms();
    assert!(waited >= 1_900, "another task of the parked config was called after {waited} ms");
}

async fn first_gap_of(scene: &Scene, id: &str) -> i64 {
    let wanted = id.to_owned();
    let all = scene
        .receiver
        .until("the second attempt".to_owned(), move |all| {
            all.iter().any(|one| one.task() == wanted && one.attempt() == 2)
        })
        .await;
    let mut of_task = all.iter().filter(|one| one.task() == id).map(|one| one.at);
    let (first, second) = (of_task.next().unwrap(), of_task.next().unwrap());
    second.since(first).ms()
}

#[tokio::test]
async fn retry_after_has_no_meaning_elsewhere() {
    let scene = scene(backoff(5, "100ms")).await;
    scene.receiver.script("/work", vec![Reply::status(500).with("retry-after", "60"), Reply::ok()]);
    scene.submit(Task::of("work")).await;
    let gap = first_gap(&scene).await;
    assert!((100..20_000).contains(&gap), "{gap} ms");
}

#[tokio::test]
async fn a_result_header_decides_whatever_the_status() {
    let scene = scene(backoff(4, "50ms")).await;
    let cases = [
        (Reply::status(500).with("tsp-result", "done"), "succeeded", 1, "tsp_result"),
        (Reply::ok().with("tsp-result", "fail"), "failed", 1, "tsp_result"),
        (Reply::status(410).with("tsp-result", "Done"), "succeeded", 1, "tsp_result"),
        // What cannot be read is neither done nor given up.
        (Reply::status(410).with("tsp-result", "done; soon"), "failed", 4, "bad_result"),
    ];
    for (reply, result, attempt, reason) in cases {
        scene.receiver.always("/work", reply.clone());
        let id = scene.submit(Task::of("work")).await;
        let task = scene.api.wait_for(&id, "ended").await;
        assert_eq!(
            (&task["result"], &task["attempt"]),
            (&json!(result), &json!(attempt)),
            "{reply:?}: {task:#}"
        );
        assert_eq!(task["last_outcome"]["reason"], reason, "{reply:?}");
    }
}

#[tokio::test]
async fn a_receiver_may_choose_when_to_be_asked_again() {
    let scene = scene(backoff(4, "50ms")).await;
    scene.receiver.script("/work", vec![Reply::ok().with("tsp-result", "retry; after=1"), Reply::ok()]);
    scene.submit(Task::of("work")).await;
    let gap = first_gap(&scene).await;
    assert!(gap >= 1_000, "asked again after {gap} ms");
}

#[tokio::test]
async fn a_snooze_is_not_a_failure() {
    let scene = scene(backoff(1, "50ms")).await;
    let until = now().plus(Millis::from_ms(1_500));
    let snooze = Reply::ok().with("tsp-result", format!("snooze; until={until}"));
    scene.receiver.script("/work", vec![snooze, Reply::ok()]);
    let id = scene.submit(Task::of("work")).await;
    let second = scene.receiver.nth(2).await;
    assert!(second.at >= until, "woken {} ms early", until.since(second.at).ms());
    let task = scene.api.wait_for_end(&id, "succeeded").await;
    assert_eq!(task["attempt"], 2, "one attempt was allowed and a snooze charges none: {task:#}");
}

#[tokio::test]
async fn a_slow_answer_is_a_time_out() {
    let scene = Scene::new().await;
    let timeout = json!({ "connect": "500ms", "total": "600ms" });
    // Attempts enough for a machine on which the quick answer is slow as well.
    let change = |config: Config| config.set("timeout", timeout).set("retry", backoff(20, "50ms"));
    scene.delayed("work", change).await;
    let gate = Gate::closed();
    scene.receiver.script("/work", vec![Reply::ok().after(&gate), Reply::ok()]);
    let id = scene.submit(Task::of("work")).await;
    let gap = first_gap(&scene).await;
    assert!(gap >= 600, "{gap} ms");
    scene.api.wait_for_end(&id, "succeeded").await;
    let attempts = scene.api.get(&format!("/tasks/{id}/attempts")).await.expect(200);
    assert_eq!(attempts["items"][0]["reason"], "timeout", "{attempts:#}");
    gate.open();
}

#[tokio::test]
async fn a_task_that_expired_is_not_called() {
    let mut scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    // Time enough for the kill, also on a machine that stands still for a while.
    let due = now().plus(Millis::from_secs(3));
    let id = scene.submit(Task::of("work").at(due).set("expire_after", json!("100ms"))).await;
    let kept = scene.submit(Task::of("work").at(due)).await;
    scene.tsp.kill9().await;
    // The outage lasts past the expiry because the harness waits for the moment on the clock.
    past(due.plus(Millis::from_ms(300))).await;
    scene.tsp.restart().await;
    scene.api.wait_for_end(&kept, "succeeded").await;
    scene.api.wait_for_end(&id, "expired").await;
    assert_eq!(scene.receiver.count(), 1);
}
