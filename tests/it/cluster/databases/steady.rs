//! Steady load on both data sources, from before one of them goes bad until after it is well again.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tsp_core::{Millis, Timestamp};

use super::super::Stage;
use super::{ACCEPTED_WITHIN, BESIDE_MS, ProbeConfig, RECOVERY_MS};
use crate::harness::ledger::check_arrivals;
use crate::harness::{APP, Answer, Api, Arrival, PATIENCE, Task, header, id_of, now};

/// Between two tasks of one source that are due: 20 a second of each.
const STEP_MS: i64 = 50;
/// Between two submits to one source.
const SUBMIT_EVERY: Duration = Duration::from_millis(100);
/// So that tables grow.
const PAYLOAD: usize = 2_000;

/// A task that callers were promised.
struct Promise {
    id: String,
    fails: bool,
}

/// One submit while a source is bad, with the key that makes it safe to repeat.
struct Call {
    number: usize,
    fails: bool,
    task: Value,
    /// None if the caller gave up.
    answer: Option<Answer>,
    took: Duration,
    answered_at: Timestamp,
}

pub(super) struct Steady {
    promises: Vec<Promise>,
    calls: JoinSet<Call>,
}

impl Call {
    /// 0 without an answer.
    fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }

    /// The task, if it was accepted.
    fn task(&self) -> Option<String> {
        self.answer.as_ref().filter(|answer| answer.status == 201).map(|answer| id_of(&answer.json()["task"]))
    }
}

impl Steady {
    /// Tasks of both sources, due one after the other from `from` on for `seconds`.
    pub(super) async fn ahead(stage: &Stage, probes: &[ProbeConfig], from: Timestamp, seconds: i64) -> Self {
        let mut promises = Vec::new();
        for fails in [false, true] {
            let of_source: Vec<_> = probes.iter().filter(|probe| probe.fails == fails).collect();
            let steps = (0..seconds * 1_000 / STEP_MS).map(|step| from.plus(Millis::from_ms(step * STEP_MS)));
            let probes = of_source.iter().cycle();
            let tasks: Vec<_> =
                steps.zip(probes).map(|(at, probe)| Task::of(&probe.name).at(at).json()).collect();
            let path = format!("/apps/{APP}/tasks/batch");
            let answer = stage.api.post(&path, &json!({ "tasks": tasks })).await.expect(200);
            let results = answer["results"].as_array().expect("a batch has results");
            promises.extend(results.iter().map(|one| Promise { id: id_of(one), fails }));
        }
        Self { promises, calls: JoinSet::new() }
    }

    /// Submits to both sources, one after the other and without waiting for answers, until `end`.
    pub(super) async fn submit(&mut self, stage: &Stage, probes: &[ProbeConfig], end: Timestamp) {
        let probes_of = |fails| probes.iter().filter(move |probe| probe.fails == fails).cycle();
        let mut tick = interval(SUBMIT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pairs = probes_of(false).zip(probes_of(true)).flat_map(|(well, bad)| [well, bad]);
        for (number, probe) in pairs.enumerate() {
            if !probe.fails {
                tick.tick().await;
            }
            if now() >= end {
                return;
            }
            let payload = json!("x".repeat(PAYLOAD));
            let task = Task::of(&probe.name).in_ms(500).payload(payload).json();
            let (api, fails) = (stage.api.clone(), probe.fails);
            self.calls.spawn(async move {
                let asked = Instant::now();
                let answer = post(&api, number, fails, &task).await;
                Call { number, fails, task, answer, took: asked.elapsed(), answered_at: now() }
            });
        }
    }

    /// What was promised was held: at the well source all along, between `bad_at` and `back_at` too, and
    /// at the bad one soon after. Returns how many submits were
    /// refused or not answered.
    pub(super) async fn judge(mut self, stage: &Stage, bad_at: Timestamp, back_at: Timestamp) -> usize {
        let refused = self.sort(back_at).await;
        let refusals = refused.len();
        self.come_again(&stage.api, refused).await;
        let ids: Vec<_> = self.promises.iter().map(|one| one.id.clone()).collect();
        let arrivals = stage.all_of(&ids).await;
        self.in_time(&arrivals, bad_at, back_at);
        for id in &ids {
            stage.api.wait_for_end(id, "succeeded").await;
        }
        let arrivals = stage.receiver.arrivals();
        check_arrivals(&arrivals);
        let known: HashSet<_> = ids.iter().map(String::as_str).collect();
        assert_eq!(known.len(), ids.len(), "two submits have one task");
        let unknown: Vec<_> = arrivals.iter().map(Arrival::task).filter(|id| !known.contains(id)).collect();
        assert!(unknown.is_empty(), "a refused submit made a task of its own: {unknown:?}");
        refusals
    }

    /// Waits for all answers. What was accepted is promised from now on; what was refused is returned, and
    /// only the bad source refuses.
    async fn sort(&mut self, back_at: Timestamp) -> Vec<Call> {
        let calls = std::mem::take(&mut self.calls).join_all().await;
        let slowest = |fails| {
            let took = calls.iter().filter(|call| call.fails == fails).map(|call| call.took.as_millis());
            took.max().unwrap_or(0)
        };
        let answered = |status, before: bool| {
            let of_bad = calls.iter().filter(|call| call.fails && call.status() == status);
            of_bad.filter(|call| (call.answered_at < back_at) == before).count()
        };
        println!(
            "submits to the bad source: {} accepted while it was bad and {} afterwards, {} refused and {}, {} not \
             answered; the last answer took {} ms, at the well source {} ms",
            answered(201, true),
            answered(201, false),
            answered(503, true),
            answered(503, false),
            answered(0, true) + answered(0, false),
            slowest(true),
            slowest(false)
        );
        assert!(slowest(false) < ACCEPTED_WITHIN.as_millis(), "a submit to the well source waited");
        let mut refused = Vec::new();
        for call in calls {
            if let Some(id) = call.task() {
                self.promises.push(Promise { id, fails: call.fails });
                continue;
            }
            assert!(call.fails, "the well source refused: {:?}", call.answer);
            if let Some(answer) = &call.answer {
                assert_eq!(answer.status, 503, "{answer:?}");
                let wait = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
                assert!(wait.is_some(), "no `Retry-After` in {answer:?}");
            }
            refused.push(call);
        }
        refused
    }

    /// What was refused or not answered is submitted again under its key, as callers would.
    async fn come_again(&mut self, api: &Api, refused: Vec<Call>) {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = interval(Duration::from_millis(50));
        for Call { number, task, .. } in refused {
            let id = loop {
                let answer = post(api, number, true, &task).await.expect("the source is well");
                let (status, text) = (answer.status, &answer.text);
                if status == 201 {
                    break id_of(&answer.json()["task"]);
                }
                assert!([409, 503].contains(&status), "a repeated submit was answered {status} {text}");
                assert!(Instant::now() < deadline, "a repeated submit is refused still: {status} {text}");
                pause.tick().await;
            };
            self.promises.push(Promise { id, fails: true });
        }
    }

    fn in_time(&self, arrivals: &[Arrival], bad_at: Timestamp, back_at: Timestamp) {
        let of = |fails: bool| {
            let ids: HashSet<_> =
                self.promises.iter().filter(|one| one.fails == fails).map(|one| one.id.as_str()).collect();
            arrivals.iter().filter(move |one| one.attempt() == 1 && ids.contains(one.task()))
        };
        let mut beside: Vec<_> =
            of(false).filter(|one| one.execute_at() >= bad_at).map(Arrival::lateness_ms).collect();
        beside.sort_unstable();
        let longest = *beside.last().expect("something was due");
        println!(
            "the well source: {} callbacks, {} ms late in the middle, {longest} ms at most",
            beside.len(),
            beside[beside.len() / 2]
        );
        assert!(longest <= BESIDE_MS, "{longest} ms late on a shard whose database is well");
        let stood: Vec<_> = of(true)
            .filter(|one| one.at >= back_at)
            .map(|one| one.at.since(one.execute_at().max(back_at)).ms())
            .collect();
        let during = of(true).filter(|one| (bad_at..back_at).contains(&one.at)).count();
        let longest = stood.iter().max().copied().unwrap_or(0);
        println!(
            "the bad source: {during} callbacks while it was bad, {} afterwards, the last {longest} ms late",
            stood.len()
        );
        assert!(longest <= RECOVERY_MS, "a callback came {longest} ms after its database was well");
    }
}

/// Nothing if the caller gave up. Only tasks of the bad source have a key: its record may lie on either source.
async fn post(api: &Api, number: usize, with_key: bool, task: &Value) -> Option<Answer> {
    let headers = [header("idempotency-key", format!("beside-{number}"))];
    let headers = if with_key { &headers[..] } else { &[] };
    let body = task.to_string().into_bytes();
    let path = format!("/api/v1/apps/{APP}/tasks");
    match api.try_send(Method::POST, &path, headers, Some(body)).await {
        Ok(answer) => Some(answer),
        Err(error) if error.is_timeout() => None,
        Err(error) => panic!("{path} was not answered: {error:?}"),
    }
}
