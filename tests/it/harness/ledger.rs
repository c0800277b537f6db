//! The ledger of a chaos test: what callers were promised, against what came.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tsp_core::{Millis, Timestamp};

use super::{APP, Answer, Api, Arrival, Receiver, Reply, Task, TestRng, header};

/// What a submit is due after, at most.
const HORIZON_MS: u64 = 2_500;
/// A caller that is not answered for so long tries the next server.
const CALLER_PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries of one submit.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// What callers were answered: the key that each made, and the id that the service answered with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<HashMap<String, String>>>);

/// Who submits, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) submitters: u64,
    /// Between two submits of one submitter; an outage is not caught up on.
    pub(crate) every: Duration,
    /// Tasks in one submit; with more than one it is a batch.
    pub(crate) tasks: u64,
}

impl Ledger {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// The ids of all accepted tasks.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.lock().values().cloned().collect()
    }

    fn enter(&self, key: String, id: &Value) {
        let id = id.as_str().expect("a task has an id").to_owned();
        self.0.lock().insert(key, id);
    }
}

/// Submitters at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    submitters: JoinSet<()>,
}

impl Load {
    /// Submits to the config `work`, each through any of `apis`, until stopped.
    pub(crate) fn start(apis: &[Api], pace: Pace, ledger: &Ledger) -> Self {
        let stop = watch::Sender::new(false);
        let mut submitters = JoinSet::new();
        for number in 0..pace.submitters {
            let submitter = Submitter { apis: apis.to_vec(), number, pace, ledger: ledger.clone() };
            submitters.spawn(submitter.run(stop.subscribe()));
        }
        Self { stop, submitters }
    }

    /// Waits until the submits on their way have been answered.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.submitters.join_next().await {
            ended.expect("a submitter did not fail");
        }
    }
}

struct Submitter {
    apis: Vec<Api>,
    number: u64,
    pace: Pace,
    ledger: Ledger,
}

impl Submitter {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut rng = TestRng::new(self.number);
        let mut pause = interval(self.pace.every);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 0_u64.. {
            pause.tick().await;
            self.submit(count, &mut rng).await;
            if *stop.borrow_and_update() {
                return;
            }
        }
    }

    fn key(&self, count: u64, element: u64) -> String {
        format!("order-{}-{count}-{element}", self.number)
    }

    /// A submit that is not answered is made again with the same `Idempotency-Key`, as a caller would.
    async fn submit(&self, count: u64, rng: &mut TestRng) {
        let mut tasks = Vec::new();
        for element in 0..self.pace.tasks {
            let due = i64::try_from(rng.below(HORIZON_MS)).expect("it is below the horizon");
            let task = Task::of("work").key(&self.key(count, element)).in_ms(due);
            // `add` lets only the Idempotency-Key stand between a retry and a second task.
            let task = task.payload(json!({ "count": count })).set("on_duplicate_key", json!("add"));
            tasks.push(task.json());
        }
        let batch = self.pace.tasks > 1;
        let (path, body) = if batch {
            (format!("/api/v1/apps/{APP}/tasks/batch"), json!({ "tasks": tasks }))
        } else {
            (format!("/api/v1/apps/{APP}/tasks"), tasks.swap_remove(0))
        };
        let body = body.to_string().into_bytes();
        let headers = [header("idempotency-key", format!("submit-{}-{count}", self.number))];
        let mut pause = interval(TRY_EVERY);
        for turn in usize::try_from(self.number).expect("they are few").. {
            pause.tick().await;
            let api = &self.apis[turn % self.apis.len()];
            let call = api.try_send(Method::POST, &path, &headers, Some(body.clone()));
            if let Ok(Ok(answer)) = timeout(CALLER_PATIENCE, call).await
                && self.take(count, &answer)
            {
                return;
            }
        }
    }

    /// Whether the whole submit has been accepted; a refusal that asks for another try is none.
    fn take(&self, count: u64, answer: &Answer) -> bool {
        match answer.status {
            201 => {
                self.ledger.enter(self.key(count, 0), &answer.json()["task"]["id"]);
                true
            }
            200 => {
                let answer = answer.json();
                let results = answer["results"].as_array().expect("a batch has results");
                let mut all = true;
                for (element, result) in (0..).zip(results) {
                    match result["status"].as_u64() {
                        Some(201) => self.ledger.enter(self.key(count, element), &result["id"]),
                        Some(409 | 503) => all = false,
                        _ => panic!("an element of a batch was answered {result}"),
                    }
                }
                all
            }
            409 | 503 => false,
            other => panic!("a submit was answered {other}: {}", answer.text),
        }
    }
}

/// Answers badly now and then, by the task and not at random, so that every attempt gets its own.
pub(crate) fn decide(arrival: &Arrival) -> Reply {
    match (id_of(arrival) % 17, arrival.attempt()) {
        (0, 1) => Reply::status(500),
        (1, 1) => Reply::Drop,
        (2, 1) => Reply::ok().with("tsp-result", "retry; after=1"),
        _ => Reply::ok(),
    }
}

/// The same, and slowly one time in twenty: longer than it takes to find out what runs and what is lost.
pub(crate) fn decide_slowly(arrival: &Arrival) -> Reply {
    let turn = id_of(arrival) / 17 + i64::from(arrival.attempt());
    let reply = decide(arrival);
    if turn % 20 == 0 { reply.slowly(Millis::from_secs(3 + turn / 20 % 10)) } else { reply }
}

fn id_of(arrival: &Arrival) -> i64 {
    arrival.task().parse().unwrap_or(0)
}

/// A time-out that nothing which [`decide_slowly`] answers reaches.
pub(crate) fn patience() -> Value {
    json!({ "connect": "2s", "total": "20s" })
}

/// The longest that [`decide`] and a retry policy of 200 ms put the next attempt off.
pub(crate) const LONGEST_BACKOFF: Millis = Millis::from_secs(1);

/// Waits for a callback of every promised task.
pub(crate) async fn every_task_arrived(receiver: &Receiver, ledger: &Ledger, patience: Duration) {
    let missing: HashSet<_> = ledger.ids().into_iter().collect();
    let missing = Arc::new(Mutex::new(missing));
    let (left, looked) = (Arc::clone(&missing), Mutex::new(0));
    let all = move |arrivals: &[Arrival]| {
        let (mut missing, mut looked) = (missing.lock(), looked.lock());
        for arrival in &arrivals[*looked..] {
            missing.remove(arrival.task());
        }
        *looked = arrivals.len();
        missing.is_empty()
    };
    let came = timeout(patience, receiver.until_at_last(all)).await;
    let left = left.lock();
    let some: Vec<_> = left.iter().take(5).collect();
    assert!(
        came.is_ok(),
        "{} of {} accepted tasks did not arrive within {patience:?}, such as {some:?}",
        left.len(),
        ledger.len()
    );
}

/// The service made no more tasks than callers had promises. Returns all of them.
pub(crate) async fn one_task_for_each_key(api: &Api, accepted: usize) -> Vec<Value> {
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    let mut tasks = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/apps/{APP}/tasks?config=work&limit=500{cursor}");
        let mut page = api.get(&path).await.expect(200);
        let Value::Array(items) = page["items"].take() else { panic!("a list has items") };
        for task in &items {
            *keys.entry(task["key"].as_str().expect("each has a key").to_owned()).or_default() += 1;
        }
        tasks.extend(items);
        match page["next_cursor"].take() {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    let twice: Vec<_> = keys.iter().filter(|(_, tasks)| **tasks > 1).collect();
    assert!(twice.is_empty(), "one Idempotency-Key made several tasks: {twice:?}");
    assert_eq!(keys.len(), accepted, "every submit was answered in the end");
    tasks
}

/// Nothing came early, no attempt number was sent twice, and numbers rise. What the receiver interrupted may
/// come once more, as the same attempt on a new connection. A process that is cut off may have one send of a
/// task on the wire that is read after the next one's: those are counted and returned.
pub(crate) fn check_arrivals(arrivals: &[Arrival]) -> u64 {
    let mut by_task: HashMap<&str, Vec<&Arrival>> = HashMap::new();
    for arrival in arrivals {
        assert!(arrival.lateness_ms() >= 0, "{} came {} ms early", arrival.task(), -arrival.lateness_ms());
        by_task.entry(arrival.task()).or_default().push(arrival);
    }
    let mut late_sends = 0;
    for (task, of_task) in by_task {
        let again = |at: usize, one: &Arrival| {
            one.dropped && of_task.get(at + 1).is_some_and(|next| next.attempt() == one.attempt())
        };
        let once = of_task.iter().enumerate().filter(|(at, one)| !again(*at, one));
        let attempts: Vec<_> = once.map(|(_, one)| one.attempt()).collect();
        let falls = attempts.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        assert!(falls <= 1, "task {task} was attempted {attempts:?}");
        let mut each = attempts.clone();
        each.sort_unstable();
        each.dedup();
        assert_eq!(each.len(), attempts.len(), "task {task} was sent twice under one number: {attempts:?}");
        late_sends += u64::try_from(falls).unwrap();
    }
    println!("{late_sends} late sends of cut-off processes");
    late_sends
}

/// Every slot of a schedule of one a second came, from the first to the last, as one task each: a call that
/// was cut off is repeated as the next attempt of the same task.
pub(crate) fn check_slots(name: &str, arrivals: &[Arrival]) -> usize {
    let mut slots: BTreeMap<Timestamp, Vec<&Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        slots.entry(arrival.execute_at()).or_default().push(arrival);
    }
    let (first, last) = (slots.keys().next().expect("it fired"), slots.keys().last().expect("it fired"));
    let wanted = last.since(*first).ms() / 1_000 + 1;
    let keys: Vec<_> = slots.keys().collect();
    assert_eq!(i64::try_from(slots.len()), Ok(wanted), "{name}: a slot is missing: {keys:?}");
    for (slot, of_slot) in &slots {
        let same = of_slot.iter().all(|one| one.task() == of_slot[0].task());
        assert!(same, "{name}: {slot} has two tasks");
        let attempts: Vec<_> = of_slot.iter().map(|one| one.attempt()).collect();
        assert!(attempts.is_sorted_by(|a, b| a < b), "{name}: {slot} was attempted {attempts:?}");
    }
    assert!(arrivals.iter().all(|one| one.lateness_ms() >= 0), "{name}: an early callback");
    slots.len()
}
