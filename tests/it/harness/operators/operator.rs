//! One who makes tasks and then thinks better of them, again and again.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tsp_core::{Millis, Timestamp};

use super::asking::{Apis, CallAnswer, Looks};
use super::story::{Act, OperatorCommand, Story};
use super::{ERRANDS, REPORTS, retry};
use crate::harness::ledger::patience;
use crate::harness::{APP, Config, Task, TestRng, id_of, now, past};

/// How far ahead an operator plans.
const HORIZON_MS: u64 = 2_500;
/// Tasks that an operator makes under a config of their own.
const BRANCHES: u64 = 3;

pub(super) struct Operator {
    pub(super) number: usize,
    pub(super) apis: Apis,
    pub(super) rng: TestRng,
    /// Where the callbacks of a config of their own come to.
    pub(super) url: String,
}

impl Operator {
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> Vec<Story> {
        let mut stories = Vec::new();
        for count in 0_u32.. {
            if *stop.borrow() {
                break;
            }
            let name = format!("{}-{count}", self.number);
            match self.rng.below(8) {
                0 => stories.push(self.cancels(&name, ERRANDS).await),
                1 => stories.push(self.cancels(&name, REPORTS).await),
                2 => stories.push(self.postpones(&name).await),
                3 => stories.extend(self.resets(&name).await),
                4 => stories.push(self.pauses(&name).await),
                5 => stories.push(self.replays(&name).await),
                6 => stories.extend(self.pauses_a_config(&name).await),
                _ => stories.extend(self.deletes_a_config(&name).await),
            }
        }
        stories
    }

    fn ms(&mut self, end: u64) -> Millis {
        Millis::from_ms(i64::try_from(self.rng.below(end)).expect("it is small"))
    }

    fn soon(&mut self) -> Timestamp {
        now().plus(self.ms(HORIZON_MS))
    }

    async fn idle(&mut self, end_ms: u64) {
        past(now().plus(self.ms(end_ms))).await;
    }

    async fn submit(&mut self, config: &str, key: &str, due: Timestamp, once: &str) -> CallAnswer {
        let task = Task::of(config).key(key).at(due).set("on_duplicate_key", json!("reset")).json();
        self.apis.post_once(&format!("/apps/{APP}/tasks"), &task, once).await
    }

    async fn begin(&mut self, story: &'static str, name: &str, config: &str) -> Story {
        let (due, key) = (self.soon(), format!("{story}-{name}"));
        let asked = self.submit(config, &key, due, &key).await;
        assert_eq!((asked.status, &asked.body["result"]), (201, &json!("created")), "a submit: {asked:?}");
        let task = id_of(&asked.body["task"]);
        let mut begun = Story { name: story, task, acts: Vec::new() };
        begun.add(OperatorCommand::Submit { due }, asked);
        begun
    }

    /// Perhaps too late; and some want it all the same.
    async fn cancels(&mut self, name: &str, config: &str) -> Story {
        let mut story = self.begin(if config == REPORTS { "report" } else { "cancel" }, name, config).await;
        self.idle(HORIZON_MS + 1_000).await;
        // Of the reports most are left to their receiver.
        if config == REPORTS && self.rng.below(4) > 0 {
            return story;
        }
        let asked = self.apis.act(&format!("/tasks/{}/cancel", story.task)).await;
        let cancelled = asked.body["outcome"] == "cancelled";
        story.add(OperatorCommand::Cancel, asked);
        if config == ERRANDS && cancelled && self.rng.below(2) == 0 {
            self.idle(1_000).await;
            let asked = self.apis.act(&format!("/tasks/{}/replay", story.task)).await;
            story.add(OperatorCommand::Replay, asked);
        }
        story
    }

    async fn postpones(&mut self, name: &str) -> Story {
        let mut story = self.begin("postpone", name, ERRANDS).await;
        self.idle(HORIZON_MS).await;
        let to = self.soon();
        let body = json!({ "execute_at": to.to_string() });
        let asked = self.apis.post(&format!("/tasks/{}/postpone", story.task), &body).await;
        story.add(OperatorCommand::Postpone { to }, asked);
        story
    }

    /// By a submit of the same key. One that comes too late makes another task.
    async fn resets(&mut self, name: &str) -> Vec<Story> {
        let mut story = self.begin("reset", name, ERRANDS).await;
        self.idle(HORIZON_MS).await;
        let to = self.soon();
        let key = format!("reset-{name}");
        let asked = self.submit(ERRANDS, &key, to, &format!("{key}-again")).await;
        if asked.body["result"] == "created" {
            let mut other =
                Story { name: "reset too late", task: id_of(&asked.body["task"]), acts: Vec::new() };
            other.add(OperatorCommand::Submit { due: to }, asked);
            return vec![story, other];
        }
        story.add(OperatorCommand::Reset { to }, asked);
        vec![story]
    }

    async fn pauses(&mut self, name: &str) -> Story {
        let mut story = self.begin("pause", name, ERRANDS).await;
        self.idle(HORIZON_MS).await;
        let asked = self.apis.act(&format!("/tasks/{}/pause", story.task)).await;
        let paused = asked.status == 200;
        story.add(OperatorCommand::Pause, asked);
        if paused {
            self.idle(HORIZON_MS).await;
            let asked = self.apis.act(&format!("/tasks/{}/resume", story.task)).await;
            story.add(OperatorCommand::Resume, asked);
        }
        story
    }

    async fn replays(&mut self, name: &str) -> Story {
        let mut story = self.begin("replay", name, ERRANDS).await;
        let path = format!("/tasks/{}", story.task);
        let mut looks = Looks::begin();
        while self.apis.get(&path).await.body["state"] != "ended" {
            looks.next(&story).await;
        }
        let asked = self.apis.act(&format!("{path}/replay")).await;
        story.add(OperatorCommand::Replay, asked);
        story
    }

    /// A config of their own, known everywhere.
    async fn config(&mut self, name: &str) -> String {
        let config = Config::delayed(name, &self.url).set("retry", retry()).set("timeout", patience());
        let configs = format!("/apps/{APP}/configs");
        let asked = self.apis.post_once(&configs, &config.json(), name).await;
        assert_eq!(asked.status, 201, "a config: {asked:?}");
        let path = format!("{configs}/{name}");
        for api in self.apis.all().to_vec() {
            // One by one: another process learns of it a moment later.
            let mut only = Apis::new(&[api], 0);
            let mut looks = Looks::begin();
            while only.get(&path).await.status != 200 {
                looks.next(&path).await;
            }
        }
        path
    }

    async fn pauses_a_config(&mut self, name: &str) -> Vec<Story> {
        let name = format!("parade-{name}");
        let path = self.config(&name).await;
        let mut stories = Vec::new();
        for branch in 0..BRANCHES {
            let branch = format!("{name}-{branch}");
            stories.push(self.begin("config pause", &branch, &name).await);
        }
        self.idle(HORIZON_MS).await;
        let asked = self.apis.act(&format!("{path}/pause")).await;
        add_to_all(&mut stories, &|| OperatorCommand::PauseConfig, asked);
        self.idle(HORIZON_MS).await;
        let asked = self.apis.act(&format!("{path}/resume")).await;
        add_to_all(&mut stories, &|| OperatorCommand::ResumeConfig, asked);
        stories
    }

    /// While others submit to it.
    async fn deletes_a_config(&mut self, name: &str) -> Vec<Story> {
        let name = format!("fleeting-{name}");
        let path = self.config(&name).await;
        let cancel_open = self.rng.below(2) == 0;
        let mut stories = vec![self.begin("config delete", &name, &name).await];
        let due: Vec<_> = (0..BRANCHES).map(|_| self.soon()).collect();
        let mut other = Apis::new(self.apis.all(), self.number);
        let submits = async {
            let mut accepted = Vec::new();
            for (branch, due) in (0..).zip(due) {
                let key = format!("{name}-{branch}");
                let task = Task::of(&name).key(&key).at(due).json();
                let asked = other.post_once(&format!("/apps/{APP}/tasks"), &task, &key).await;
                match asked.status {
                    201 => {
                        let task = id_of(&asked.body["task"]);
                        let mut story = Story { name: "config delete", task, acts: Vec::new() };
                        story.add(OperatorCommand::Submit { due }, asked);
                        accepted.push(story);
                    }
                    // It is closed, or gone.
                    404 | 409 => {}
                    _ => panic!("a submit beside a delete: {asked:?}"),
                }
            }
            accepted
        };
        let deletes = delete(&mut self.apis, &path, cancel_open);
        let (accepted, deleted) = tokio::join!(submits, deletes);
        stories.extend(accepted);
        add_to_all(&mut stories, &|| OperatorCommand::DeleteConfig { cancel_open }, deleted);
        stories
    }
}

/// Until it is done: what runs is waited for.
async fn delete(apis: &mut Apis, path: &str, cancel_open: bool) -> CallAnswer {
    let path = if cancel_open { format!("{path}?cancel_open=true") } else { path.to_owned() };
    let (mut looks, mut unanswered) = (Looks::begin(), 0);
    loop {
        looks.next(&path).await;
        let mut asked = apis.ask(Method::DELETE, &path, None, None).await;
        unanswered += asked.unanswered;
        asked.unanswered = unanswered;
        let open = asked.status == 409 && asked.body["code"] == "has_open_tasks";
        if !open {
            let gone = asked.status == 404 && unanswered > 0;
            assert!(gone || matches!(asked.status, 202 | 204), "a delete: {asked:?}");
            return asked;
        }
    }
}

fn add_to_all(stories: &mut [Story], command: &dyn Fn() -> OperatorCommand, asked: CallAnswer) {
    let asked = Arc::new(asked);
    for story in stories {
        story.acts.push(Act { command: command(), asked: Arc::clone(&asked) });
    }
}

impl Story {
    fn add(&mut self, command: OperatorCommand, asked: CallAnswer) {
        self.acts.push(Act { command, asked: Arc::new(asked) });
    }
}
