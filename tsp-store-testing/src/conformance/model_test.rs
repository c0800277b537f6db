//! Random histories: the store under test and the memory store take the same steps and must answer alike.
//!
//! The other cases say what a store means one rule at a time; this one looks for what they forgot. Ids
//! differ between stores, so rows are compared with their ids replaced by their number in the history.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, Timestamp};
use tsp_store::attempts::{BeginRequest, BeginResult, Finish, FinishResult};
use tsp_store::catalog::ExpectedVersion;
use tsp_store::fetching::ClaimRequest;
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::search::{Order, Scope, TaskQuery};
use tsp_store::tasks::{CommandResult, Subject, Submit, SubmitOutcome, TaskCommand};

use super::fixture::{Fixture, T0, by, cron_spec, key, message, outcome, plain, spec};
use super::model_test_configs::{answer_of, words_of};
use super::rng::{CommandRng, SCHEDULED, Step, verdict};
use crate::memory::MemoryStore;

const HISTORIES: u64 = 16;
const STEPS: usize = 400;
/// All rows are compared after this many steps.
const COMPARED_EVERY: usize = 50;

/// What the histories must lead to, or they prove little.
const WORDS: [&str; 32] = [
    "claimed 1 expired 1 heads [None]",
    "config in use",
    "config kind",
    "config made",
    "config removed",
    "config saved",
    "config there",
    "config unknown",
    "config version",
    "created",
    "done None",
    "done TooLate",
    "drop",
    "existing",
    "fired 0",
    "fired 1",
    "fired 2",
    "held by Some",
    "log of config.pause with a note",
    "refused AlreadyEnded",
    "refused AttemptClosed",
    "refused NotAllowed",
    "refused Unchanged",
    "refused WrongToken",
    "reset",
    "reset after the current",
    "run",
    "saved",
    "stale",
    "log of task.postpone with a time",
    "too late",
    "wait until",
];

/// Several histories, each from its own seed; the message of a failure names the seed and the step.
pub(super) async fn random_histories_are_answered_as_by_the_memory_store(fixture: &Fixture) {
    let mut heard = BTreeSet::new();
    for seed in 0..HISTORIES {
        let model = Fixture::new(Arc::new(MemoryStore::new(fixture.store.shards()))).await;
        let mut rng = CommandRng(seed);
        let mut left = Side::new(fixture, seed).await;
        let mut right = Side::new(&model, seed).await;
        // No two steps are at one time, so that each has its own audit entries.
        let mut now = T0.plus(Millis::from_mins(30).saturating_mul(i64::try_from(seed).unwrap_or(0)));
        for number in 0..STEPS {
            let step = rng.step();
            now = now.plus(Millis::from_ms(1));
            if let Step::Wait(length) = step {
                now = now.plus(length);
                continue;
            }
            let answers = (left.take(&step, now).await, right.take(&step, now).await);
            assert_eq!(answers.0, answers.1, "seed {seed}, step {number}: {step:?} at {now}");
            let logs = (left.log(now).await, right.log(now).await);
            assert_eq!(logs.0, logs.1, "seed {seed}, step {number}: log of {step:?} at {now}");
            heard.insert(answers.0.0.split([':', '{', '(']).next().unwrap_or_default().trim().to_owned());
            heard.extend(logs.0.iter().map(words_of));
            if number % COMPARED_EVERY == 0 || number + 1 == STEPS {
                let rows = (left.rows(now).await, right.rows(now).await);
                for (left, right) in rows.0.iter().zip(&rows.1) {
                    assert_eq!(left, right, "seed {seed}: after step {number}, {step:?}");
                }
            }
        }
        left.clear(now).await;
    }
    for words in WORDS {
        assert!(heard.contains(words), "the histories never lead to `{words}`, only to {heard:?}");
    }
}

/// One of the two stores, with what its steps have made.
pub(super) struct Side<'a> {
    pub(super) fixture: &'a Fixture,
    /// As they were first saved.
    pub(super) configs: Vec<Arc<TaskConfig>>,
    pub(super) tasks: Vec<TaskId>,
    messages: Vec<Task>,
    begun: Vec<Task>,
}

/// A row with its attempts, or what lists and counts say.
#[derive(Debug, PartialEq)]
enum StoreView {
    Row(Option<Box<Task>>, Vec<AttemptRecord>),
    Lists(String),
}

/// What a step answered: in words, and the rows it showed.
pub(super) type Answer = (String, Vec<Task>);

impl<'a> Side<'a> {
    async fn new(fixture: &'a Fixture, seed: u64) -> Self {
        let mut configs = Vec::new();
        for name in ["one", "two"] {
            let mut spec = spec(&format!("{name}-{seed}"));
            // On one shard, so that the order of ids is the order of submits on both sides.
            spec.span = 1;
            spec.retention = Millis::from_mins(10);
            spec.asynchronous.enabled = name == "one";
            configs.push(fixture.config_of(spec).await);
        }
        let mut cron = cron_spec(&format!("cron-{seed}"));
        cron.retention = Millis::from_mins(10);
        configs.push(fixture.config_of(cron).await);
        Self { fixture, configs, tasks: Vec::new(), messages: Vec::new(), begun: Vec::new() }
    }

    async fn take(&mut self, step: &Step, now: Timestamp) -> Answer {
        let store = &self.fixture.store;
        match step {
            Step::Wait(_) => (String::new(), Vec::new()),
            Step::Submit { .. } => self.submit(step, now).await,
            Step::Claim { .. } => self.claim(step, now).await,
            Step::Begin { message, with_row } => self.begin(*message, *with_row, now).await,
            Step::Finish { begun, with_row, outcome } => self.finish(*begun, *with_row, *outcome, now).await,
            Step::Release { message } => {
                let batch = self.message(*message).map(|task| (task.id, task.version)).into_iter();
                let rows = store.release(batch.collect(), now).await.expect("release");
                self.answer("released", &rows)
            }
            Step::ReturnToScheduled { message } => {
                let batch = self.message(*message).map(|task| (task.id, task.version)).into_iter();
                let rows = store
                    .return_to_scheduled(self.fixture.owner, batch.collect(), now)
                    .await
                    .expect("return_to_scheduled");
                self.answer("rearmed", &rows)
            }
            Step::MarkWorkerLost { begun } => {
                let batch =
                    from_end(&self.begun, *begun).map(|task| (task.id, self.fixture.node)).into_iter();
                let rows =
                    store.mark_worker_lost(self.fixture.owner, batch.collect(), now).await.expect("lose");
                self.answer("lost", &rows)
            }
            Step::EndWaits => {
                let mut rows = store.end_waits(self.fixture.owner, 1_000, 0.5, now).await.expect("end_waits");
                rows.sort_by_key(|task| task.id);
                self.answer("ended", &rows)
            }
            Step::Change { task, command } => match self.tasks.get(task % self.tasks.len().max(1)) {
                Some(id) => self.change(Subject::Id(*id), command, now).await,
                None => self.answer("no task yet", &[]),
            },
            Step::ChangeByKey { config, key, command } => {
                let subject = Subject::Key(self.configs[*config].id, super::fixture::key(&key.to_string()));
                self.change(subject, command, now).await
            }
            Step::Hold { config, hold } => {
                let id = self.configs[*config].id;
                let saved = store.hold_config(id, hold.clone(), &by(), now).await.expect("hold_config");
                answer_of(saved)
            }
            Step::Save { config, edit, expected } => self.save(*config, *edit, *expected, now).await,
            Step::Delete { config, expected } => self.delete(*config, *expected, now).await,
            Step::Fire(fire) => self.fire(fire, now).await,
            Step::CancelOpen { config } => {
                let id = self.configs[*config].id;
                let cancelled = store.cancel_open(id, 1_000, &by(), now).await.expect("cancel_open");
                (format!("{cancelled:?}"), Vec::new())
            }
            Step::RetentionDrop => {
                while store.apply_retention(1_000, now).await.expect("prune") > 0 {}
                (String::new(), Vec::new())
            }
        }
    }

    async fn submit(&mut self, step: &Step, now: Timestamp) -> Answer {
        let Step::Submit { config, key, policy, offset, expires } = step else {
            unreachable!("called for submits alone")
        };
        let key = key.map(|key| key.to_string());
        let mut task = self.fixture.new_task(&self.configs[*config], key.as_deref(), now.plus(*offset));
        task.due_at = task.execute_at.max(now);
        task.expire_after = expires.then_some(Millis::from_secs(45));
        let id = task.id;
        let submit = Submit { task, on_duplicate: *policy, own_payload: true, idempotency: None };
        let answer = self.fixture.store.submit(vec![submit], now).await.expect("submit").remove(0);
        match answer {
            IdempotencyResult::Fresh(SubmitOutcome::Created(task)) => {
                self.tasks.push(id);
                self.answer("created", &[*task])
            }
            IdempotencyResult::Fresh(SubmitOutcome::Existing(task)) => self.answer("existing", &[*task]),
            IdempotencyResult::Fresh(SubmitOutcome::Reset { task, after_current }) => {
                self.answer(if after_current { "reset after the current" } else { "reset" }, &[*task])
            }
            other => self.answer(&format!("{other:?}"), &[]),
        }
    }

    async fn claim(&mut self, step: &Step, now: Timestamp) -> Answer {
        let Step::Claim { config, limit, ahead } = step else { unreachable!("called for claims alone") };
        let request =
            ClaimRequest { config: self.configs[*config].id, due_by: now.plus(*ahead), limit: *limit };
        let claimed = self.fixture.store.claim(self.fixture.owner, vec![request], now).await.expect("claim");
        let tasks: Vec<Task> = claimed.tasks.into_iter().map(|task| *task).collect();
        let expired: Vec<Task> = claimed.expired.into_iter().map(|task| *task).collect();
        self.messages.extend(tasks.iter().cloned());
        let earliest_due: Vec<_> = claimed.earliest_due.iter().map(|(_, earliest)| *earliest).collect();
        let words = format!("claimed {} expired {} heads {earliest_due:?}", tasks.len(), expired.len());
        self.answer(&words, &[tasks, expired].concat())
    }

    fn message(&self, back: usize) -> Option<&Task> {
        from_end(&self.messages, back)
    }

    async fn begin(&mut self, back: usize, with_row: bool, now: Timestamp) -> Answer {
        let Some(task) = self.message(back) else { return self.answer("no message yet", &[]) };
        let mut begin: BeginRequest = message(task);
        begin.row = begin.row.filter(|_| with_row);
        match self.fixture.begin_as(self.fixture.node, begin, now).await {
            BeginResult::Run(task) => {
                self.begun.push(Task::clone(&task));
                self.answer("run", &[*task])
            }
            BeginResult::Wait(until) => self.answer(&format!("wait until: {until}"), &[]),
            BeginResult::Drop(row) => {
                self.answer("drop", &row.map(|task| *task).into_iter().collect::<Vec<_>>())
            }
        }
    }

    async fn finish(&mut self, back: usize, with_row: bool, number: usize, now: Timestamp) -> Answer {
        let Some(task) = from_end(&self.begun, back) else { return self.answer("nothing begun yet", &[]) };
        let mut finish: Finish = outcome(task, verdict(number, now));
        finish.row = finish.row.filter(|_| with_row);
        match self.fixture.finish_as(self.fixture.node, finish, now).await {
            FinishResult::Saved(task) => self.answer("saved", &[*task]),
            FinishResult::TooLate => self.answer("too late", &[]),
        }
    }

    async fn change(&self, subject: Subject, command: &TaskCommand, now: Timestamp) -> Answer {
        match self.fixture.store.change(subject, command.clone(), &by(), now).await.expect("change") {
            CommandResult::Done { task, outcome_detail } => {
                self.answer(&format!("done {outcome_detail:?}"), &[*task])
            }
            CommandResult::Refused { task, why } => self.answer(&format!("refused {why:?}"), &[*task]),
            CommandResult::KeyInUse { holder } => {
                self.answer(&format!("held by {:?}", self.number(holder)), &[])
            }
            CommandResult::ConfigDisabled => self.answer("disabled", &[]),
            CommandResult::NotFound => self.answer("not found", &[]),
        }
    }

    pub(super) fn answer(&self, words: &str, rows: &[Task]) -> Answer {
        (words.to_owned(), rows.iter().map(|task| self.same(task)).collect())
    }

    pub(super) fn number(&self, id: TaskId) -> Option<usize> {
        self.tasks.iter().position(|task| *task == id)
    }

    /// The row with its ids replaced by numbers that both sides share.
    fn same(&self, task: &Task) -> Task {
        let number = self.number(task.id).and_then(|number| i64::try_from(number).ok());
        let config = self.configs.iter().position(|config| config.id == task.config);
        Task {
            id: TaskId::new(number.unwrap_or(-1)),
            config: ConfigId::new(config.and_then(|config| i64::try_from(config).ok()).unwrap_or(-1)),
            key_slot: task.key_slot.signum(),
            node: task.node.map(|node| self.same_node(node)),
            epoch: i64::from(task.epoch == self.fixture.owner.epoch),
            ..plain(task)
        }
    }

    fn same_node(&self, node: NodeId) -> NodeId {
        NodeId::new(i64::from(node == self.fixture.node))
    }

    /// Every row with its attempts, what searches and lists show, and the auditor's counts.
    async fn rows(&self, now: Timestamp) -> Vec<StoreView> {
        let store = &self.fixture.store;
        let mut shown = Vec::new();
        for (number, id) in self.tasks.iter().enumerate() {
            let row = store.task(*id).await.expect("task").map(|task| self.same(&task));
            let mut attempts = store.attempts(*id).await.expect("attempts");
            for attempt in &mut attempts {
                attempt.task = TaskId::new(i64::try_from(number).unwrap_or(-1));
                attempt.node = attempt.node.map(|node| self.same_node(node));
            }
            shown.push(StoreView::Row(row.map(Box::new), attempts));
        }
        let mut words = String::new();
        for config in &self.configs {
            for order in [Order::IdDesc, Order::DueAsc, Order::EndedDesc] {
                let _ = writeln!(words, "{order:?} {:?}", self.found(config.id, order).await);
            }
            for text in 0..4 {
                let task = store.task_by_key(config.id, &key(&text.to_string())).await.expect("task_by_key");
                let _ = writeln!(words, "key {text}: {:?}", task.and_then(|task| self.number(task.id)));
            }
        }
        let in_flight = store.in_flight(None, 1_000).await.expect("in_flight").rows.len();
        let running = self.fixture.running(self.fixture.node).await.len();
        let audit = store.audit(now).await.expect("audit");
        let earliest_due = store.earliest_due().await.expect("earliest_due");
        let mut due: Vec<_> = earliest_due.iter().map(|earliest| earliest.due_at).collect();
        due.sort_unstable();
        let next = (due, store.next_deadline().await);
        let _ = writeln!(words, "{in_flight} in flight, {running} run, {:?} open, {next:?}", audit.open);
        let _ = writeln!(words, "{:?}", self.cursor().await);
        shown.push(StoreView::Lists(words));
        shown
    }

    async fn found(&self, config: ConfigId, order: Order) -> Vec<Option<usize>> {
        let query = TaskQuery {
            scope: Scope::Config(config),
            key: None,
            statuses: Vec::new(),
            results: Vec::new(),
            due_from: None,
            due_to: None,
            created_from: None,
            created_to: None,
            parent: None,
            order,
            after: None,
            limit: 500,
        };
        let page = self.fixture.store.search(query).await.expect("search");
        page.tasks.iter().map(|task| self.number(task.id)).collect()
    }

    /// Ends all tasks, so that the next history begins without them.
    async fn clear(&self, now: Timestamp) {
        let store = &self.fixture.store;
        for config in &self.configs {
            store.cancel_open(config.id, 1_000, &by(), now).await.expect("cancel_open");
        }
        let running = self.fixture.running(self.fixture.node).await;
        let lost = running.into_iter().map(|(id, _)| (id, self.fixture.node)).collect();
        store.mark_worker_lost(self.fixture.owner, lost, now).await.expect("lose");
        let cron = self.configs[SCHEDULED].id;
        store.delete_config(cron, ExpectedVersion::Any, &by(), now).await.expect("delete_config");
    }
}

fn from_end(tasks: &[Task], back: usize) -> Option<&Task> {
    tasks.iter().rev().nth(back % tasks.len().max(1))
}
