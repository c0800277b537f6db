//! Promises 1 to 6 of DESIGN.md section 2, held against everything that happens.

use std::collections::{BTreeMap, BTreeSet};

use tsp_consumer_core::TaskContext;
use tsp_core::outcome::{OutcomeKind, Verdict};
use tsp_core::schedule::Overlap;
use tsp_core::task::{AttemptRecord, EndResult, Origin, Status, Task};
use tsp_core::{Millis, TaskId, Timestamp};
use tsp_store::TaskStore as _;
use tsp_store_testing::memory::{Ledger, MemoryStore};

use crate::rng::SeededRng;
use crate::weather::finish_off;

/// Reasons that only an answer of the receiver has; the other ways to close an attempt have their own.
const RECEIVER_REASONS: [&str; 5] = ["ok", "http_status", "tsp_result", "gone", "accepted"];

pub(crate) struct Checker {
    seed: u64,
    history: Vec<String>,
    /// Answered 201 or 200: never lost.
    accepted: BTreeSet<TaskId>,
    /// Answered `cancelled`, and not replayed since.
    cancelled: BTreeSet<TaskId>,
    /// Answered `too_late` while this attempt ran, and not reset or replayed since.
    last_attempt: BTreeMap<TaskId, u32>,
    /// The highest attempt that was sent.
    sent: BTreeMap<TaskId, u32>,
    /// Tasks whose receiver once said done.
    done: BTreeSet<TaskId>,
    /// What the receiver answered to each attempt.
    answers: BTreeMap<(TaskId, u32), OutcomeKind>,
    /// Calls that were sent and not answered, and in which life.
    wire: BTreeMap<(TaskId, u32), u32>,
    /// Attempts that were sent, and in which life.
    lives: BTreeMap<(TaskId, u32), u32>,
    /// When each life ended.
    deaths: BTreeMap<u32, Timestamp>,
    /// Attempts that the receiver completed, or may have.
    completed: BTreeSet<(TaskId, u32)>,
    lateness_most: Option<Millis>,
    /// The clock went back over crashes, so that rows tell no order.
    clock_went_back: bool,
}

impl Checker {
    pub(crate) fn new(seed: u64, clock_went_back: bool) -> Self {
        Self {
            seed,
            history: Vec::new(),
            accepted: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            last_attempt: BTreeMap::new(),
            sent: BTreeMap::new(),
            done: BTreeSet::new(),
            answers: BTreeMap::new(),
            wire: BTreeMap::new(),
            lives: BTreeMap::new(),
            deaths: BTreeMap::new(),
            completed: BTreeSet::new(),
            lateness_most: None,
            clock_went_back,
        }
    }

    pub(crate) fn forbid_lateness(&mut self, most: Option<Millis>) {
        self.lateness_most = most;
    }

    pub(crate) fn note(&mut self, now: Timestamp, what: impl AsRef<str>) {
        self.history.push(format!("{} {}", now.ms(), what.as_ref()));
    }

    pub(crate) fn history_len(&self) -> usize {
        self.history.len()
    }

    pub(crate) fn into_history(self) -> Vec<String> {
        self.history
    }

    pub(crate) fn accepted(&mut self, task: &Task, now: Timestamp, how: &str) {
        self.note(now, format!("{how} {} due {}", task.id, task.due_at.ms()));
        self.accepted.insert(task.id);
    }

    pub(crate) fn cancelled(&mut self, task: TaskId, now: Timestamp) {
        self.note(now, format!("cancelled {task}"));
        self.cancelled.insert(task);
    }

    pub(crate) fn too_late(&mut self, task: &Task, now: Timestamp) {
        self.note(now, format!("too_late {} attempt {}", task.id, task.attempt));
        self.last_attempt.insert(task.id, task.attempt);
    }

    /// A reset or replay: the task may run again. Also when its answer was lost: it may have happened.
    pub(crate) fn reopened(&mut self, task: TaskId) {
        self.cancelled.remove(&task);
        self.last_attempt.remove(&task);
    }

    /// A task whose call is not answered.
    pub(crate) fn one_on_wire(&self, rng: &SeededRng) -> Option<TaskId> {
        self.wire.keys().nth(rng.index(self.wire.len().max(1))).map(|(task, _)| *task)
    }

    /// Whether this attempt ever went out.
    pub(crate) fn was_sent(&self, task: &Task) -> bool {
        self.lives.contains_key(&(task.id, task.attempt))
    }

    /// The receiver said done by completion.
    pub(crate) fn completed_done(&mut self, task: TaskId) {
        self.done.insert(task);
    }

    /// The receiver completed this attempt, or may have.
    pub(crate) fn completed(&mut self, task: &Task) {
        self.completed.insert((task.id, task.attempt));
    }

    /// The process of this life is gone.
    pub(crate) fn died(&mut self, life: u32, now: Timestamp) {
        self.note(now, "crash");
        self.deaths.insert(life, now);
    }

    /// An attempt goes out, in this life of the process.
    pub(crate) fn sent(&mut self, context: &TaskContext, life: u32, now: Timestamp, store: &MemoryStore) {
        let task = &context.task;
        let (id, attempt) = (task.id, task.attempt);
        if self.deaths.contains_key(&life) {
            // A ghost: what it had begun is closed, and the receiver tells the two apart by the attempt's number.
            return self.note(now, format!("sent {id} attempt {attempt} by a life that is over"));
        }
        self.note(now, format!("sent {id} attempt {attempt}"));
        self.require(task.execute_at <= now && task.due_at <= now, "never early", task);
        let before = self.sent.insert(id, attempt).unwrap_or(0);
        self.require(attempt > before, "attempts rise", task);
        let row = finish_off(store.task(id)).expect("no faults");
        let runs = row.is_some_and(|row| row.status == Status::Executing && row.attempt == attempt);
        self.require(runs, "what is sent is begun in the store", task);
        let on_wire = self.wire.range((id, 0)..=(id, u32::MAX));
        let free = |(call, life): (&(TaskId, u32), &u32)| {
            self.deaths.contains_key(life) || self.completed.contains(call)
        };
        let alone = on_wire.into_iter().all(free);
        self.require(alone, "one call of a task on the wire at a time", task);
        self.wire.insert((id, attempt), life);
        self.lives.insert((id, attempt), life);
        let closed = finish_off(store.attempts(id)).expect("no faults");
        self.worker_losses(&closed.iter().collect::<Vec<_>>(), task);
        self.require(closed.len() + 1 == attempt as usize, "all earlier attempts are closed", task);
        self.require(!self.cancelled.contains(&id), "no begin after `cancelled`", task);
        let last = self.last_attempt.get(&id).copied().unwrap_or(u32::MAX);
        self.require(attempt <= last, "no new attempt after `too_late`", task);
        if let Some(most) = self.lateness_most {
            self.require(now.since(task.due_at) <= most, "on time", task);
            // A slot whose task is made late is due late; what waits for the open one is so on purpose.
            let overlap = context.config.spec.schedule.as_ref().map(|schedule| schedule.overlap);
            let first = attempt == 1 && task.origin == Origin::Schedule && overlap != Some(Overlap::QueueOne);
            let late = now.since(task.execute_at);
            self.require(!first || late <= most, "a slot's callback is on time", task);
        }
    }

    pub(crate) fn answered(&mut self, context: &TaskContext, verdict: &Verdict, now: Timestamp) {
        let kind = OutcomeKind::from(verdict.outcome);
        self.note(now, format!("answered {} attempt {} {kind}", context.task.id, context.task.attempt));
        self.wire.remove(&(context.task.id, context.task.attempt));
        self.answers.insert((context.task.id, context.task.attempt), kind);
        if matches!(kind, OutcomeKind::Done | OutcomeKind::Accepted) {
            self.done.insert(context.task.id);
        }
    }

    /// The environment has come to rest: nothing is open, and everything adds up.
    pub(crate) fn at_rest(&self, ledger: &Ledger) {
        for id in &self.accepted {
            let ended = ledger.task(*id).is_some_and(|task| !task.is_open());
            assert!(ended, "seed {}: accepted task {id} was lost", self.seed);
        }
        for task in &ledger.ended {
            let closed: Vec<_> = ledger.closed.iter().filter(|record| record.task == task.id).collect();
            let numbers: Vec<u32> = closed.iter().map(|record| record.attempt).collect();
            let expected: Vec<u32> = (1..=task.attempt).collect();
            self.require(numbers == expected, "each attempt is closed exactly once, in order", task);
            for record in closed.iter().filter(|record| RECEIVER_REASONS.contains(&&*record.reason)) {
                let answer = self.answers.get(&(task.id, record.attempt));
                let own = answer == Some(&record.kind);
                self.require(own, "an outcome closes its own attempt", task);
            }
            self.worker_losses(&closed, task);
            let overlap = closed.windows(2).any(|pair| pair[1].started_at < pair[0].ended_at);
            self.require(!overlap || self.clock_went_back, "no two attempts overlap in the store", task);
            if task.result == Some(EndResult::Succeeded) {
                self.require(self.done.contains(&task.id), "succeeded means that the callee said so", task);
            }
        }
        let mut slots = BTreeSet::new();
        for task in ledger.ended.iter().filter(|task| task.origin == Origin::Schedule) {
            let fresh = slots.insert((task.config, task.execute_at));
            self.require(fresh, "a cron occurrence exists exactly once", task);
        }
        // One that overlap left out, or that still waits, has no task.
        for occurrence in ledger.occurrences.iter().filter(|occurrence| occurrence.task.is_some()) {
            let exists = slots.contains(&(occurrence.config, occurrence.execute_at));
            assert!(exists, "seed {}: {occurrence:?} has lost its task", self.seed);
        }
    }

    /// What was sent is lost with its life only; what was begun and not sent is lost with its answer.
    fn worker_losses(&self, closed: &[&AttemptRecord], task: &Task) {
        for record in closed.iter().filter(|record| record.kind == OutcomeKind::Lost) {
            let life = self.lives.get(&(task.id, record.attempt));
            let before = |at: &Timestamp| self.clock_went_back || *at <= record.ended_at;
            let died = life.map(|life| self.deaths.get(life).is_some_and(before));
            self.require(died.unwrap_or(true), "an attempt that runs is lost only with its process", task);
        }
    }

    pub(crate) fn last_of_history(&self) -> String {
        let from = self.history.len().saturating_sub(60);
        format!("last of the history:\n{}", self.history[from..].join("\n"))
    }

    pub(crate) fn require(&self, holds: bool, promise: &str, task: &Task) {
        if !holds {
            let last = self.last_of_history();
            panic!("seed {}: broken promise: {promise}\n{task:#?}\n{last}", self.seed);
        }
    }
}
