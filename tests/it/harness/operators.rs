//! Operators beside the load of a chaos test: they cancel, reset, postpone, pause, resume and replay,
//! complete what was accepted, pause and delete configs; and what each of them was answered is held against
//! what came.

mod asking;
mod check;
mod operator;
mod receiver;
mod story;
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tsp_core::{Millis, Timestamp};

use super::ledger::{decide, patience};
use super::{APP, Api, Arrival, Config, Receiver, Reply, TestRng, backoff};
use asking::{Apis, Looks};
use operator::Operator;
use receiver::{Completions, ScriptedReceiver};
use story::Story;

const ERRANDS: &str = "errands";
const REPORTS: &str = "reports";
const OPERATORS: usize = 12;

/// Operators at work.
#[derive(Debug)]
pub(crate) struct Operators {
    stop: watch::Sender<bool>,
    at_work: JoinSet<Vec<Story>>,
    scripted_receiver: ScriptedReceiver,
    apis: Apis,
}

/// What they did, when all of it has ended.
#[derive(Debug)]
pub(crate) struct Stories {
    stories: Vec<(Story, FinalState)>,
    said: Completions,
}

/// What the service says of a task at last; nothing if its config is gone.
#[derive(Debug)]
struct FinalState {
    task: Value,
    attempts: HashMap<u32, Value>,
}

impl Operators {
    /// Each does one thing after another, through any of `apis`, until stopped.
    pub(crate) async fn start(apis: &[Api], receiver: &Receiver, rng: &mut TestRng) -> Self {
        let config = |name: &str| {
            let config = Config::delayed(name, &receiver.url(&format!("/{name}")));
            config.set("retry", retry()).set("timeout", patience())
        };
        apis[0].config(APP, config(ERRANDS)).await;
        apis[0]
            .config(APP, config(REPORTS).set("async", json!({ "enabled": true, "deadline": "15m" })))
            .await;
        for api in apis {
            for name in [ERRANDS, REPORTS] {
                let path = format!("/apps/{APP}/configs/{name}");
                api.wait_until(&path, format!("`{name}` everywhere"), |_| true).await;
            }
        }
        let own = format!("/{ERRANDS}");
        receiver.on(&own, decide_in_a_while);
        let scripted_receiver = ScriptedReceiver::start(apis, receiver, &format!("/{REPORTS}"));
        let stop = watch::Sender::new(false);
        let mut operators = JoinSet::new();
        for number in 0..OPERATORS {
            let (apis, rng) = (Apis::new(apis, number), TestRng::new(rng.next()));
            let operator = Operator { number, apis, rng, url: receiver.url(&own) };
            operators.spawn(operator.run(stop.subscribe()));
        }
        Self { stop, at_work: operators, scripted_receiver, apis: Apis::new(apis, 0) }
    }

    /// Waits until each has done what they are at, and all their tasks have ended.
    pub(crate) async fn stop(mut self) -> Stories {
        self.stop.send_replace(true);
        let mut stories = Vec::new();
        while let Some(told) = self.at_work.join_next().await {
            for story in told.expect("an operator did not fail") {
                let ending = self.end_of(&story).await;
                stories.push((story, ending));
            }
        }
        Stories { stories, said: self.scripted_receiver.said() }
    }

    /// A pause that nobody was answered may have come after all else; it is taken back.
    async fn end_of(&mut self, story: &Story) -> FinalState {
        let path = format!("/tasks/{}", story.task);
        let (mut task, mut looks) = (Value::Null, Looks::begin());
        while task["state"] != "ended" {
            looks.next(&(story, &task)).await;
            let asked = self.apis.get(&path).await;
            if asked.status == 404 && story.has_lost_its_config() {
                return FinalState { task: Value::Null, attempts: HashMap::new() };
            }
            assert_eq!(asked.status, 200, "a task that was accepted: {asked:?}, {story:?}");
            task = asked.body;
            if task["state"] == "paused" && story.has_stray_pause() {
                self.apis.act(&format!("{path}/resume")).await;
            } else if task["state"] == "scheduled" && story.has_stray_pause() {
                let config = task["config"].as_str().expect("it has a config");
                self.apis.act(&format!("/apps/{APP}/configs/{config}/resume")).await;
            }
        }
        let asked = self.apis.get(&format!("{path}/attempts")).await;
        let items = asked.body["items"].as_array().unwrap_or_else(|| panic!("no attempts: {asked:?}"));
        let number = |item: &Value| u32::try_from(item["attempt"].as_u64().expect("a number")).expect("few");
        FinalState { task, attempts: items.iter().map(|item| (number(item), item.clone())).collect() }
    }
}

impl Stories {
    /// Every answer was true. `hit` says whether the process with this id was hit in this time.
    pub(crate) fn check(&self, arrivals: &[Arrival], hit: impl Fn(&str, Timestamp, Timestamp) -> bool) {
        let mut by_task: HashMap<&str, Vec<&Arrival>> = HashMap::new();
        for arrival in arrivals {
            by_task.entry(arrival.task()).or_default().push(arrival);
        }
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        let mut broken = Vec::new();
        for (story, ending) in &self.stories {
            *kinds.entry(story.name).or_default() += 1;
            let calls = by_task.get(story.task.as_str()).map_or(&[][..], Vec::as_slice);
            let found = check::breaches(story, ending, calls, &self.said, &hit);
            broken.extend(found.into_iter().map(|what| format!("{what}:\n{story:#?}\n{ending:#?}")));
        }
        let unanswered: u32 = self.stories.iter().flat_map(|(story, _)| story.unanswered()).sum();
        println!(
            "people: {} tasks {kinds:?}, {} completions, {unanswered} questions without an answer",
            self.stories.len(),
            self.said.len()
        );
        let count = broken.len();
        broken.truncate(3);
        assert!(broken.is_empty(), "{count} answers to people were not true:\n{}", broken.join("\n"));
    }

    /// Whether the receiver had said how this attempt ended, so that the next may come beside it.
    pub(crate) fn completed(&self, call: &Arrival, before: Timestamp) -> bool {
        let said = self.said.get(&(call.task().to_owned(), call.attempt()));
        said.is_some_and(|(from, _)| *from <= before)
    }
}

fn retry() -> Value {
    backoff(50, "200ms")
}

/// As the load's receiver does, and slowly now and then: so that some who act come too late.
fn decide_in_a_while(arrival: &Arrival) -> Reply {
    let mut rng =
        TestRng::new(arrival.task().parse::<u64>().unwrap_or(0) ^ u64::from(arrival.attempt()) << 48);
    match rng.below(20) {
        0..4 => decide(arrival).slowly(Millis::from_ms(800)),
        // Longer than it takes to find out what runs and what is lost.
        4 => decide(arrival).slowly(Millis::from_secs(6)),
        _ => decide(arrival),
    }
}
