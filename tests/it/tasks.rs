//! Every operation on a task over HTTP, by id, and search.

use serde_json::{Value, json};
use tsp_core::Millis;

use crate::harness::{APP, Gate, Reply, Scene, Task, id_of, now, time};

async fn far(scene: &Scene, key: &str) -> String {
    scene.submit(Task::of("work").key(key).delay("1h")).await
}

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    scene
}

fn actions(task: &Value) -> Vec<&str> {
    let actions = task["actions"].as_array().expect("a task has its actions");
    actions.iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn cancel_is_honest_before_while_and_after() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.receiver.always("/work", Reply::ok().after(&gate));

    let waiting = far(&scene, "waiting").await;
    let answer = scene.api.act(&format!("/tasks/{waiting}/cancel")).await.expect(200);
    assert_eq!(answer["outcome"], "cancelled");
    assert_eq!(answer["task"]["result"], "cancelled");
    let again = scene.api.act(&format!("/tasks/{waiting}/cancel")).await.expect(200);
    assert_eq!(again["outcome"], "already_ended");

    let running = scene.submit(Task::of("work").key("running")).await;
    scene.receiver.nth(1).await;
    let answer = scene.api.act(&format!("/tasks/{running}/cancel")).await.expect(200);
    assert_eq!(answer["outcome"], "too_late");
    gate.open();
    scene.api.wait_for_end(&running, "succeeded").await;
    let after = scene.api.act(&format!("/tasks/{running}/cancel")).await.expect(200);
    assert_eq!(after["outcome"], "already_ended");
    assert_eq!(scene.receiver.count(), 1);
}

#[tokio::test]
async fn a_cancelled_task_is_not_called() {
    let scene = scene().await;
    let (id, due, answer) = scene.act_before_its_time("work", "cancel").await;
    assert_eq!(answer["outcome"], "cancelled");
    scene.pass_sentinel_at(due.plus(Millis::from_ms(500))).await;
    assert!(!scene.was_called(&id), "a cancelled task was called");
}

#[tokio::test]
async fn a_cancelled_running_task_is_not_retried() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.receiver.always("/work", Reply::status(500).after(&gate));
    let id = scene.submit(Task::of("work")).await;
    scene.receiver.nth(1).await;
    let answer = scene.api.act(&format!("/tasks/{id}/cancel")).await.expect(200);
    assert_eq!(answer["outcome"], "too_late");
    gate.open();
    let task = scene.api.wait_for_end(&id, "cancelled").await;
    assert_eq!(task["attempt"], 1, "{task:#}");
}

#[tokio::test]
async fn pause_keeps_a_task_and_resume_lets_it_go() {
    let scene = scene().await;
    let (id, due, paused) = scene.act_before_its_time("work", "pause").await;
    assert_eq!((&paused["state"], &paused["status"]), (&json!("paused"), &json!(40)));
    assert!(actions(&paused).contains(&"resume"), "{paused:#}");
    scene.pass_sentinel_at(due.plus(Millis::from_ms(500))).await;
    assert!(!scene.was_called(&id), "a paused task was called");
    let resumed = scene.api.act(&format!("/tasks/{id}/resume")).await.expect(200);
    assert_ne!(resumed["state"], "paused");
    scene.api.wait_for_end(&id, "succeeded").await;
}

#[tokio::test]
async fn postpone_moves_a_task_later_and_earlier() {
    let scene = scene().await;
    let id = far(&scene, "move").await;
    let due = now().plus(Millis::from_hours(5));
    let path = format!("/tasks/{id}/postpone");
    let later = scene.api.post(&path, &json!({ "execute_at": due.to_string() })).await.expect(200);
    assert_eq!(later["execute_at"], due.to_string().as_str());
    assert_eq!(later["due_at"], due.to_string().as_str());
    let earlier = scene.api.post(&path, &json!({ "delay": "1s" })).await.expect(200);
    let execute_at = time(earlier["execute_at"].as_str().unwrap());
    let arrival = scene.receiver.nth(1).await;
    assert_eq!(arrival.execute_at(), execute_at);
    assert!(arrival.lateness_ms() >= 0, "{} ms early", -arrival.lateness_ms());
}

#[tokio::test]
async fn run_makes_a_task_due_now() {
    let scene = scene().await;
    let id = far(&scene, "now").await;
    let run = scene.api.act(&format!("/tasks/{id}/run")).await.expect(200);
    let arrival = scene.receiver.nth(1).await;
    assert_eq!((arrival.task(), arrival.attempt()), (id.as_str(), 1));
    // The promise moves with it, or the callback would be early.
    assert_eq!(arrival.execute_at(), time(run["execute_at"].as_str().unwrap()));
    assert!(arrival.lateness_ms() >= 0, "{} ms early", -arrival.lateness_ms());
    scene.api.wait_for_end(&id, "succeeded").await;
}

#[tokio::test]
async fn replay_runs_an_ended_task_again_under_its_id() {
    let scene = scene().await;
    let id = scene.submit(Task::of("work").key("again")).await;
    scene.api.wait_for_end(&id, "succeeded").await;
    let open = scene.api.act(&format!("/tasks/{id}/replay")).await.expect(200);
    assert_eq!(open["id"], id.as_str());
    let second = scene.receiver.nth(2).await;
    assert_eq!((second.task(), second.attempt()), (id.as_str(), 2), "the fencing token goes on");
    scene.api.wait_for_end(&id, "succeeded").await;
}

#[tokio::test]
async fn replay_is_refused_while_another_task_holds_the_key() {
    let scene = scene().await;
    let id = scene.submit(Task::of("work").key("held")).await;
    scene.api.wait_for_end(&id, "succeeded").await;
    far(&scene, "held").await;
    scene.api.act(&format!("/tasks/{id}/replay")).await.refused(409, "key_in_use");
}

#[tokio::test]
async fn what_a_state_does_not_allow_is_refused_and_says_what_is() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.receiver.always("/work", Reply::ok().after(&gate));
    let id = scene.submit(Task::of("work")).await;
    scene.receiver.nth(1).await;
    for (action, body) in [("pause", json!({})), ("postpone", json!({ "delay": "1h" })), ("run", json!({}))] {
        let refused = scene.api.post(&format!("/tasks/{id}/{action}"), &body).await;
        let refused = refused.refused(409, "invalid_transition");
        assert!(refused["detail"].to_string().contains("executing"), "{refused}");
    }
    gate.open();
    scene.api.wait_for_end(&id, "succeeded").await;
    for action in ["pause", "resume", "run"] {
        scene.api.act(&format!("/tasks/{id}/{action}")).await.refused(409, "invalid_transition");
    }
    assert!(actions(&scene.api.task(&id).await).contains(&"replay"));
    scene.api.act(&format!("/tasks/{}/run", u64::MAX / 4)).await.refused(404, "not_found");
}

#[tokio::test]
async fn search_finds_open_and_ended_tasks_and_its_pages_miss_none() {
    let scene = scene().await;
    let ended = scene.submit(Task::of("work").key("ended")).await;
    scene.api.wait_for_end(&ended, "succeeded").await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(far(&scene, &format!("open-{number}")).await);
    }
    let search = async |query: &str| {
        let answer = scene.api.get(&format!("/apps/{APP}/tasks?{query}")).await.expect(200);
        answer["items"].as_array().expect("a list has items").iter().map(id_of).collect::<Vec<_>>()
    };
    assert_eq!(search("state=scheduled&order=id").await, ids);
    assert_eq!(search("state=ended").await, [ended.as_str()]);
    assert_eq!(search("result=succeeded&config=work").await, [ended.as_str()]);
    assert_eq!(search("key=open-3").await, [ids[3].as_str()]);
    assert_eq!(search("status=0,50").await.len(), 8);
    assert_eq!(search("config=none-such").await.len(), 0);

    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/apps/{APP}/tasks?limit=3{cursor}");
        let mut page = scene.api.get(&path).await.expect(200);
        found.extend(page["items"].as_array().unwrap().iter().map(id_of));
        match page["next_cursor"].take() {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    let mut all = ids;
    all.push(ended);
    all.sort_by_key(|id| std::cmp::Reverse(id.parse::<u64>().unwrap()));
    assert_eq!(found, all, "newest first, each once");
}

#[tokio::test]
async fn a_batch_answers_for_each_element_alone() {
    let scene = scene().await;
    let tasks = json!({ "tasks": [
        { "config": "work", "key": "a", "delay": "1h" },
        { "config": "work", "key": "a", "delay": "2h" },
        { "config": "no-such" },
        { "config": "work", "delay": "soon" },
        { "config": "work", "colour": "red" },
        { "config": "work", "delay": "1h" },
    ] });
    let answer = scene.api.post(&format!("/apps/{APP}/tasks/batch"), &tasks).await.expect(200);
    let statuses: Vec<_> = answer["results"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [201, 200, 404, 400, 400, 201], "{answer:#}");
    assert_eq!(answer["results"][1]["result"], "existing");
    assert_eq!(answer["results"][3]["error"]["errors"][0]["field"], "delay", "{answer:#}");
    assert_eq!(answer["results"][4]["error"]["code"], "unknown_field", "{answer:#}");
}

#[tokio::test]
async fn each_attempt_is_on_record() {
    let scene = scene().await;
    let id = scene.submit(Task::of("work")).await;
    scene.api.wait_for_end(&id, "succeeded").await;
    let attempts = scene.api.get(&format!("/tasks/{id}/attempts")).await.expect(200);
    assert_eq!(attempts["items"].as_array().map(Vec::len), Some(1), "{attempts:#}");
    let attempt = &attempts["items"][0];
    assert_eq!((&attempt["attempt"], &attempt["outcome"]), (&json!(1), &json!("done")), "{attempts:#}");
    assert!(attempt["duration_ms"].as_i64().is_some_and(|ms| ms >= 0), "{attempts:#}");
    assert!(attempt["lateness_ms"].as_i64().is_some_and(|ms| ms >= 0), "{attempts:#}");
}
