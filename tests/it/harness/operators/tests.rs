//! A check that finds nothing makes every run look well: here each finds what was done wrong.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tsp_core::{Millis, Timestamp};

use super::FinalState;
use super::asking::CallAnswer;
use super::check::breaches;
use super::receiver::{Completion, Completions};
use super::story::{Act, OperatorCommand, Story};
use crate::harness::{Api, Arrival, Receiver, header, now};

const SECOND: Millis = Millis::from_secs(1);

fn asked(at: Timestamp, status: u16, body: Value) -> CallAnswer {
    CallAnswer { since: at, at, unanswered: 0, status, body }
}

fn story(due: Timestamp, acts: Vec<(OperatorCommand, CallAnswer)>) -> Story {
    let submit = (OperatorCommand::Submit { due }, asked(due, 201, Value::Null));
    let acts = [submit].into_iter().chain(acts);
    let acts = acts.map(|(command, asked)| Act { command, asked: Arc::new(asked) }).collect();
    Story { name: "one", task: "7".to_owned(), acts }
}

/// The attempts from 1, each with its outcome; all began at this time.
fn ending(result: &str, began_at: Timestamp, outcomes: &[&str]) -> FinalState {
    let attempt = |outcome| json!({ "started_at": began_at.to_string(), "node": "3", "outcome": outcome });
    let attempts = (1..).zip(outcomes.iter().map(attempt)).collect();
    FinalState { task: json!({ "state": "ended", "result": result }), attempts }
}

/// So many calls, numbered from 1, that come now.
async fn calls(attempts: u32) -> Vec<Arrival> {
    let (receiver, client) = (Receiver::start().await, Api::new("no key is asked for"));
    client.set_base(&receiver.url(""));
    for attempt in 1..=attempts {
        let attempt = header("tsp-attempt", attempt.to_string());
        client.send(reqwest::Method::POST, "/", &[header("tsp-task-id", "7"), attempt], None).await;
    }
    receiver.arrivals()
}

fn found(
    story: &Story,
    ending: &FinalState,
    calls: &[Arrival],
    said: &Completions,
    is_hit: bool,
) -> Vec<String> {
    let calls: Vec<_> = calls.iter().collect();
    breaches(story, ending, &calls, said, &|_, _, _| is_hit)
}

#[tokio::test]
async fn a_call_in_a_time_that_was_promised_to_be_quiet_is_found() {
    let before = now().plus(Millis::from_secs(-2));
    let (calls, none) = (calls(1).await, Completions::new());
    let cancelled = asked(before.plus(SECOND), 200, json!({ "outcome": "cancelled" }));
    let after = story(before, vec![(OperatorCommand::Cancel, cancelled)]);
    let lost = ending("cancelled", before, &["lost"]);
    let found_of = |story: &Story, ending: &FinalState, is_hit| found(story, ending, &calls, &none, is_hit);
    assert_eq!(found_of(&after, &lost, false), ["attempt 1 came after it was cancelled"]);
    assert_eq!(found_of(&after, &lost, true), [""; 0], "its process was hit, and it had begun before");
    let anew = ending("cancelled", before.plus(Millis::from_secs(2)), &["lost"]);
    assert_eq!(found_of(&after, &anew, true).len(), 1, "it began after the answer");

    let done = ending("succeeded", before, &["done"]);
    let early = story(now().plus(SECOND), Vec::new());
    assert_eq!(found_of(&early, &done, true), ["attempt 1 came before its time"]);
    let to = now().plus(SECOND);
    let postponed = story(before, vec![(OperatorCommand::Postpone { to }, asked(before, 200, Value::Null))]);
    assert_eq!(found_of(&postponed, &done, true), ["attempt 1 came before its new time"]);
    let held = |at: Timestamp| {
        let pause = (OperatorCommand::PauseConfig, asked(at, 200, Value::Null));
        story(before, vec![pause, (OperatorCommand::ResumeConfig, asked(to, 200, Value::Null))])
    };
    assert_eq!(found_of(&held(before), &done, false), [""; 0], "it had begun");
    let late = ending("succeeded", before.plus(Millis::from_secs(2)), &["done"]);
    assert_eq!(found_of(&held(before), &late, false), ["attempt 1 came while its config was paused"]);
}

#[tokio::test]
async fn an_end_that_nobody_was_promised_is_found() {
    let before = now().plus(Millis::from_secs(-2));
    let (calls, none) = (calls(1).await, Completions::new());
    let found_of = |acts, result: &str, outcomes: &[&str]| {
        found(&story(before, acts), &ending(result, before, outcomes), &calls, &none, false).len()
    };
    let replay = |status| vec![(OperatorCommand::Replay, asked(now(), status, Value::Null))];
    let cancel = |outcome| {
        vec![(
            OperatorCommand::Cancel,
            asked(now(), 200, json!({ "outcome": outcome, "task": { "attempt": 1 } })),
        )]
    };
    assert_eq!(found_of(Vec::new(), "succeeded", &["retry", "done"]), 0);
    assert_eq!(found_of(Vec::new(), "failed", &["retry", "done"]), 1);
    assert_eq!(found_of(Vec::new(), "succeeded", &["done", "done"]), 1, "a series too many");
    assert_eq!(found_of(replay(200), "succeeded", &["done", "done"]), 0);
    assert_eq!(found_of(replay(200), "succeeded", &["done"]), 1, "the replay is missing");
    assert_eq!(found_of(replay(409), "succeeded", &["done"]), 1, "it had ended, and nobody else asked");
    assert_eq!(found_of(cancel("too_late"), "succeeded", &["done"]), 0);
    assert_eq!(found_of(cancel("too_late"), "cancelled", &["retry"]), 0);
    assert_eq!(found_of(cancel("cancelled"), "succeeded", &["done"]), 2, "neither the end nor what was done");
}

#[tokio::test]
async fn a_word_of_the_receiver_that_does_not_count_is_found() {
    let before = now().plus(Millis::from_secs(-2));
    let said = |result, status| {
        let completion = Completion { result, asked: asked(now(), status, Value::Null) };
        HashMap::from([(("7".to_owned(), 1), (now(), Some(completion)))])
    };
    let (one, two) = (calls(1).await, calls(2).await);
    let found_of = |said: &Completions, calls: &[Arrival], outcomes: &[&str], is_hit| {
        found(&story(before, Vec::new()), &ending("succeeded", before, outcomes), calls, said, is_hit).len()
    };
    assert_eq!(found_of(&said("done", 200), &one, &["done"], false), 0);
    assert_eq!(found_of(&said("done", 200), &two, &["lost", "done"], true), 1, "it came again");
    assert_eq!(found_of(&said("retry", 200), &two, &["retry", "done"], false), 0);
    assert_eq!(found_of(&said("retry", 200), &one, &["done"], false), 1, "it did not come again");
    assert_eq!(found_of(&said("done", 403), &two, &["lost", "done"], true), 0);
    assert_eq!(found_of(&said("done", 403), &two, &["lost", "done"], false), 1, "nobody was hit");
    assert_eq!(found_of(&said("done", 409), &one, &["done"], true), 1, "it was not lost");
}
