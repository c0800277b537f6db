//! The receiver of asynchronous callbacks: some it answers at once, and of the others it says later, by the token,
//! how they ended; or sooner, while the call is still open.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tsp_core::{Millis, Timestamp};

use super::asking::{Apis, CallAnswer};
use crate::harness::{Api, Arrival, Receiver, Reply, TestRng, now, past};

/// What was reported of an accepted call, and the answer.
#[derive(Debug)]
pub(super) struct Completion {
    /// `done` or `retry`.
    pub(super) result: &'static str,
    pub(super) asked: CallAnswer,
}

/// By task and attempt. One that is on its way has no answer yet.
pub(super) type Completions = HashMap<(String, u32), (Timestamp, Option<Completion>)>;

/// Completes what it accepted for as long as it lives.
#[derive(Debug)]
pub(super) struct ScriptedReceiver {
    said: Arc<Mutex<Completions>>,
    _saying: JoinSet<()>,
}

struct Word {
    task: String,
    attempt: u32,
    token: String,
    at: Timestamp,
    result: &'static str,
}

impl ScriptedReceiver {
    /// Answers what comes to `path`.
    pub(super) fn start(apis: &[Api], receiver: &Receiver, path: &str) -> Self {
        let said = Arc::new(Mutex::new(Completions::new()));
        let (tell, words) = mpsc::unbounded_channel();
        let mut saying = JoinSet::new();
        saying.spawn(say_all(Apis::new(apis, 0), words, Arc::clone(&said)));
        receiver.on(path, move |arrival| {
            let (reply, word) = decide(arrival);
            // Nobody listens when the test is over.
            let _ = word.is_some_and(|word| tell.send(word).is_err());
            reply
        });
        Self { said, _saying: saying }
    }

    pub(super) fn said(&self) -> Completions {
        std::mem::take(&mut self.said.lock())
    }
}

/// By the attempt and not at random, so that a run can be read.
fn decide(arrival: &Arrival) -> (Reply, Option<Word>) {
    let task = arrival.task().to_owned();
    let attempt = arrival.attempt();
    let mut rng = TestRng::new(task.parse::<u64>().unwrap_or(0) ^ u64::from(attempt) << 48);
    let token = arrival.header("tsp-completion-token").to_owned();
    let later = Millis::from_ms(i64::try_from(rng.below(1_500)).expect("it is small"));
    let result = if attempt == 1 && rng.below(4) == 0 { "retry" } else { "done" };
    let word = |at| Some(Word { task, attempt, token, at, result });
    match rng.below(4) {
        0 => (Reply::ok(), None),
        // The word is there before the answer to the call is.
        1 => (Reply::status(202).slowly(Millis::from_ms(700)), word(now())),
        _ => (Reply::status(202), word(now().plus(later))),
    }
}

async fn say_all(apis: Apis, mut words: mpsc::UnboundedReceiver<Word>, said: Arc<Mutex<Completions>>) {
    let mut saying = JoinSet::new();
    while let Some(word) = words.recv().await {
        saying.spawn(say(apis.clone(), word, Arc::clone(&said)));
        while let Some(ended) = saying.try_join_next() {
            ended.expect("what was said was heard");
        }
    }
}

async fn say(mut apis: Apis, word: Word, said: Arc<Mutex<Completions>>) {
    past(word.at).await;
    let key = (word.task.clone(), word.attempt);
    said.lock().insert(key.clone(), (now(), None));
    let mut body = json!({ "token": word.token, "result": word.result });
    if word.result == "retry" {
        // As soon as can be: the call may be open still.
        body["after"] = Value::from("0s");
    }
    let asked = apis.post(&format!("/tasks/{}/complete", word.task), &body).await;
    let from = asked.since;
    said.lock().insert(key, (from, Some(Completion { result: word.result, asked })));
}
