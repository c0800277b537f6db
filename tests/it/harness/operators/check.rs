//! A story against what came.

use serde_json::Value;
use tsp_core::{Millis, Timestamp};

use super::FinalState;
use super::receiver::{Completion, Completions};
use super::story::{Quiet, Runs, Story};
use crate::harness::{Arrival, time};

/// How far two clocks of the service may be apart: `node.max_skew`.
const SKEW: Millis = Millis::from_ms(500);

type Hit<'a> = dyn Fn(&str, Timestamp, Timestamp) -> bool + 'a;

/// What of it was not kept.
pub(super) fn breaches(
    story: &Story,
    ending: &FinalState,
    calls: &[&Arrival],
    said: &Completions,
    hit: &Hit<'_>,
) -> Vec<String> {
    let promise = story.promise();
    let mut broken: Vec<_> = promise.wrong.into_iter().collect();
    for quiet in &promise.quiet {
        let called = calls.iter().filter(|call| quiet.from < call.at && call.at < quiet.to);
        let wrongly = called.filter(|call| !excused(call, quiet, ending, hit));
        broken.extend(wrongly.map(|call| format!("attempt {} came {}", call.attempt(), quiet.why)));
    }
    for call in calls {
        if let Some((_, Some(completion))) = said.get(&(call.task().to_owned(), call.attempt())) {
            broken.extend(check_completion(story, ending, call, calls, completion, hit));
        }
    }
    if !ending.task.is_null() {
        let result = ending.task["result"].as_str().unwrap_or("none");
        if !promise.results.iter().any(|allowed| allowed == result) {
            broken.push(format!("it ended as `{result}`, not as {:?}", promise.results));
        }
        let done = ending.attempts.values().filter(|attempt| attempt["outcome"] == "done").count();
        if !promise.done.contains(&u32::try_from(done).unwrap_or(u32::MAX)) {
            broken.push(format!("{done} attempts were done, not {:?}", promise.done));
        }
        if result == "succeeded" && calls.is_empty() {
            broken.push("it succeeded without a call".to_owned());
        }
    }
    broken
}

/// Whether the attempt had begun before, and had not been closed; or was closed because its process was hit.
fn excused(call: &Arrival, quiet: &Quiet, ending: &FinalState, hit: &Hit<'_>) -> bool {
    let Some(attempt) = ending.attempts.get(&call.attempt()) else {
        // With its config its record has gone.
        return ending.task.is_null() && hit("", quiet.from, call.at);
    };
    let began_at = time(attempt["started_at"].as_str().unwrap_or_default());
    let had_begun = began_at <= quiet.from.plus(SKEW);
    let runs = match quiet.runs {
        Runs::Nothing => false,
        Runs::Attempt(number) => call.attempt() <= number,
        Runs::Begun => had_begun,
    };
    runs || had_begun && was_lost(attempt, call.at, hit)
}

fn was_lost(attempt: &Value, until: Timestamp, hit: &Hit<'_>) -> bool {
    let began_at = time(attempt["started_at"].as_str().unwrap_or_default());
    attempt["outcome"] == "lost" && hit(attempt["node"].as_str().unwrap_or_default(), began_at, until)
}

/// What the receiver said counts, unless the attempt had been taken from it.
fn check_completion(
    story: &Story,
    ending: &FinalState,
    call: &Arrival,
    calls: &[&Arrival],
    completion: &Completion,
    hit: &Hit<'_>,
) -> Option<String> {
    let number = call.attempt();
    let later = calls.iter().any(|other| other.attempt() > number);
    let Completion { result, asked } = completion;
    let attempt = &ending.attempts.get(&number);
    match (asked.status, *result) {
        (200, "done") if later => Some(format!("it came again after attempt {number} was completed")),
        (200, "done") if ending.task["result"] != "succeeded" && !story.has_cancel() => {
            Some(format!("attempt {number} was completed as done"))
        }
        (200, "retry") if !later && !story.has_cancel() => {
            Some(format!("attempt {number} was completed as to be tried again, and was not"))
        }
        (200, _) => None,
        (403 | 409, _) if story.has_cancel() || *result == "retry" && asked.unanswered > 0 => None,
        (403 | 409, _) if attempt.is_some_and(|one| was_lost(one, asked.at, hit)) => None,
        (status, _) => {
            Some(format!("the completion of attempt {number} was answered {status}: {}", asked.body))
        }
    }
}
