//! Rows behind one lock, moved by the state machine itself; calls that fail when the test says so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, TaskConfig};
use tsp_core::outcome::Verdict;
use tsp_core::retry::RetryPolicy;
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::transition::{Completion, Event, Refusal, Rules, transition};
use tsp_core::work::{
    AttemptStore, BeginRequest, BeginResult, Configs, Each, Finish, FinishResult, SendLease, WorkError,
};
use tsp_core::{AppId, ConfigId, Entropy, ManualClock, Millis, Name, NodeId, TaskId, Timestamp};
use tsp_queue::memory::MemoryQueue;
use tsp_queue::{Feedback, FeedbackSink, Message, Publisher};

use crate::{Pipeline, PipelineDependencies, TaskContext, TaskHandler};

pub(super) const T0: Timestamp = Timestamp::from_ms(1_795_257_000_000);
pub(super) const NODE: NodeId = NodeId::new(7);

pub(super) const fn at(after_ms: i64) -> Timestamp {
    T0.plus(Millis::from_ms(after_ms))
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does nothing.
    Before,
    /// It is done and its answer lost.
    After,
}

/// An answer that the test holds back.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldAnswer {
    held: Arc<Notify>,
    go: Arc<Notify>,
}

impl HeldAnswer {
    /// It is done, and its caller waits.
    pub(super) async fn is_held(&self) {
        self.held.notified().await;
    }

    pub(super) fn let_go(&self) {
        self.go.notify_one();
    }
}

#[derive(Debug, Default)]
pub(super) struct Rows {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<TaskId, Task>,
    configs: HashMap<ConfigId, Arc<TaskConfig>>,
    faults: HashMap<&'static str, Vec<Fault>>,
    calls: HashMap<&'static str, usize>,
    lease_over: bool,
    /// Calls that are not answered: a name, and the bulkhead.
    still: HashSet<(&'static str, usize)>,
    /// A finish with one of these is refused.
    refused: HashSet<TaskId>,
    /// 0 is 1.
    bulkheads: usize,
    held_begin: Option<HeldAnswer>,
}

impl Rows {
    /// The next calls of this name fail.
    pub(super) fn fail(&self, call: &'static str, faults: &[Fault]) {
        self.state.lock().faults.insert(call, faults.to_vec());
    }

    pub(super) fn calls(&self, call: &'static str) -> usize {
        self.state.lock().calls.get(call).copied().unwrap_or(0)
    }

    pub(super) fn task(&self, id: i64) -> Task {
        self.state.lock().tasks[&TaskId::new(id)].clone()
    }

    pub(super) fn status(&self, id: i64) -> Status {
        self.task(id).status
    }

    /// Whatever is begun from now on may not be sent.
    pub(super) fn end_lease(&self) {
        self.state.lock().lease_over = true;
    }

    /// A call of this name for this bulkhead is not answered from now on.
    pub(super) fn stand_still(&self, call: &'static str, bulkhead: usize) {
        self.state.lock().still.insert((call, bulkhead));
    }

    async fn stands_still(&self, call: &'static str, task: Option<&TaskId>) {
        let bulkhead = task.map_or(0, |task| self.bulkhead(*task));
        if self.state.lock().still.contains(&(call, bulkhead)) {
            std::future::pending::<()>().await;
        }
    }

    /// No batch of outcomes with one of this task is saved, and its row cannot be read.
    pub(super) fn refuse(&self, id: i64) {
        self.state.lock().refused.insert(TaskId::new(id));
    }

    /// A task's bulkhead is the remainder of its id.
    pub(super) fn split_in(&self, bulkheads: usize) {
        self.state.lock().bulkheads = bulkheads;
    }

    /// One call, with an answer for each element. As in a database, one that is refused takes the others with it.
    fn each<I, T>(
        &self,
        call: &'static str,
        batch: &[I],
        id: impl Fn(&I) -> TaskId,
        work: impl Fn(&I, &mut State) -> T,
    ) -> Each<T> {
        if call == "finish" && batch.iter().any(|item| self.state.lock().refused.contains(&id(item))) {
            *self.state.lock().calls.entry(call).or_default() += 1;
            return batch.iter().map(|_| Err(WorkError::Refused("refused as scripted".to_owned()))).collect();
        }
        match self.call(call, |state| batch.iter().map(|item| work(item, state)).collect::<Vec<_>>()) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The next begin is done and not answered.
    pub(super) fn hold_begin(&self) -> HeldAnswer {
        let held = HeldAnswer::default();
        self.state.lock().held_begin = Some(held.clone());
        held
    }

    /// The receiver wants to be asked again at once, though its call may still run.
    pub(super) fn complete_with_retry(&self, id: i64, now: Timestamp) {
        let mut state = self.state.lock();
        let task = TaskId::new(id);
        let token = state.tasks[&task].token.expect("begun with a token");
        let completion = Completion::Retry { after: Some(Millis::ZERO), message: None };
        let rules = Rules { retry: &RetryPolicy::default(), jitter_fraction: 0.0, deadline: None };
        state.apply(task, &Event::Complete { token: &token, completion, rules }, now).expect("its token");
    }

    /// The row goes from scheduled into the pipe.
    fn claim(&self, id: i64, now: Timestamp) -> Task {
        self.state.lock().apply(TaskId::new(id), &Event::Claim { epoch: 1 }, now).expect("at 0")
    }

    pub(super) fn drop_config(&self, id: i64) {
        self.state.lock().configs.remove(&ConfigId::new(id));
    }

    fn call<T>(&self, call: &'static str, work: impl FnOnce(&mut State) -> T) -> Result<T, WorkError> {
        let mut state = self.state.lock();
        *state.calls.entry(call).or_default() += 1;
        let faults = state.faults.get_mut(call).filter(|faults| !faults.is_empty());
        match faults.map(|faults| faults.remove(0)) {
            None => Ok(work(&mut state)),
            Some(Fault::Before) => Err(WorkError::Unavailable(format!("`{call}` fails as scripted"))),
            Some(Fault::After) => {
                work(&mut state);
                Err(WorkError::Unknown(format!("the answer of `{call}` is lost as scripted")))
            }
        }
    }
}

impl State {
    fn apply(&mut self, id: TaskId, event: &Event<'_>, now: Timestamp) -> Result<Task, Refusal> {
        let change = transition(self.tasks.get(&id).ok_or(Refusal::Stale)?, event, now)?;
        self.tasks.insert(id, change.task.clone());
        Ok(change.task)
    }

    fn begin(&mut self, begin: &BeginRequest, now: Timestamp) -> BeginResult {
        let event = Event::Begin { version: begin.version, node: NODE, runnable: true, token: begin.token };
        match self.apply(begin.id, &event, now) {
            Ok(row) if row.status == Status::Executing => BeginResult::Run(Box::new(row)),
            Ok(row) => BeginResult::Drop(Some(Box::new(row))),
            Err(Refusal::NotDue { due_at }) => BeginResult::Wait(due_at),
            Err(_) => BeginResult::Drop(None),
        }
    }

    fn lost(&mut self, (id, attempt): (TaskId, u32), now: Timestamp) -> Option<Task> {
        let retry = RetryPolicy::default();
        let rules = Rules { retry: &retry, jitter_fraction: 0.0, deadline: None };
        self.tasks.get(&id).filter(|row| row.attempt == attempt)?;
        self.apply(id, &Event::NodeLost { node: NODE, rules }, now).ok()
    }

    fn finish(&mut self, finish: &Finish, now: Timestamp) -> FinishResult {
        let (retry, verdict) = (RetryPolicy::default(), &finish.verdict);
        let rules = Rules { retry: &retry, jitter_fraction: 0.0, deadline: Some(Millis::from_secs(60)) };
        let event = Event::Finish { attempt: finish.attempt, node: NODE, verdict, rules };
        self.apply(finish.id, &event, now)
            .map_or(FinishResult::TooLate, |row| FinishResult::Saved(Box::new(row)))
    }
}

impl Configs for Rows {
    fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.state.lock().configs.get(&id).cloned()
    }
}

impl SendLease for Rows {
    fn may_send(&self, _now: Timestamp) -> bool {
        !self.state.lock().lease_over
    }
}

#[async_trait]
impl AttemptStore for Rows {
    fn bulkheads(&self) -> usize {
        self.state.lock().bulkheads.max(1)
    }

    fn bulkhead(&self, task: TaskId) -> usize {
        part_of(task, self.state.lock().bulkheads)
    }

    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        self.stands_still("load", ids.first()).await;
        let row = |id: &TaskId, state: &mut State| {
            let corrupt = || WorkError::Corrupt {
                table: "task",
                column: "extra",
                id: id.get(),
                why: "as scripted".to_owned(),
            };
            if state.refused.contains(id) {
                Err(corrupt())
            } else {
                Ok(state.tasks.get(id).cloned().map(Box::new))
            }
        };
        self.each("load", ids, |id| *id, row).into_iter().map(Result::flatten).collect()
    }

    async fn begin(&self, _node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> {
        self.stands_still("begin", batch.first().map(|begin| &begin.id)).await;
        let begun = self.each("begin", &batch, |begin| begin.id, |begin, state| state.begin(begin, now));
        let held = self.state.lock().held_begin.take();
        if let Some(answer) = held {
            answer.held.notify_one();
            answer.go.notified().await;
        }
        begun
    }

    async fn finish(&self, _node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        self.stands_still("finish", batch.first().map(|finish| &finish.id)).await;
        self.each("finish", &batch, |finish| finish.id, |finish, state| state.finish(finish, now))
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError> {
        self.call("release", |state| {
            let release = |(id, version)| state.apply(id, &Event::Release { version }, now).ok();
            batch.into_iter().filter_map(release).collect()
        })
    }

    async fn executing(&self, _node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError> {
        self.call("executing", |state| {
            let rows = state.tasks.values().filter(|row| row.status == Status::Executing);
            let rows = rows.filter(|row| part_of(row.id, state.bulkheads) == bulkhead);
            rows.map(|row| (row.id, row.attempt)).collect()
        })
    }

    async fn release_orphans(
        &self,
        _node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, WorkError> {
        self.call("give_back", |state| rows.into_iter().filter_map(|row| state.lost(row, now)).collect())
    }
}

#[derive(Debug)]
struct FeedbackChannel(mpsc::UnboundedSender<Feedback>);

impl FeedbackSink for FeedbackChannel {
    fn report(&self, batch: Vec<Feedback>) {
        for said in batch {
            // A test that is over listens no more.
            let _ = self.0.send(said);
        }
    }
}

#[derive(Debug)]
struct CountingEntropy;

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for (byte, value) in bytes.iter_mut().zip(1..) {
            *byte = value;
        }
    }
}

pub(super) struct Fixture {
    pub(super) rows: Arc<Rows>,
    pub(super) queue: Arc<MemoryQueue>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) told: mpsc::UnboundedReceiver<Feedback>,
    tell: mpsc::UnboundedSender<Feedback>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let fixture = Self {
            rows: Arc::new(Rows::default()),
            queue: Arc::new(MemoryQueue::new([name("default")], 100)),
            clock: Arc::new(ManualClock::at(T0)),
            told,
            tell,
        };
        for (id, is_async) in [(1, false), (2, false), (3, true)] {
            let config = Arc::new(config(id, is_async));
            fixture.rows.state.lock().configs.insert(config.id, config);
        }
        fixture
    }

    pub(super) fn pipeline(&self) -> Pipeline {
        let subscriber = Arc::new(self.queue.subscribe(&name("default")).expect("just made"));
        Pipeline::new(PipelineDependencies {
            store: self.rows.clone(),
            node: NODE,
            lease: self.rows.clone(),
            configs: self.rows.clone(),
            subscriber,
            feedback: Arc::new(FeedbackChannel(self.tell.clone())),
            clock: self.clock.clone(),
            entropy: Arc::new(CountingEntropy),
        })
    }

    /// A claimed row and its message, which brings the row or not.
    pub(super) async fn publish(&self, id: i64, config: i64, due_at: Timestamp, with_row: bool) {
        let task = claimed(id, config, due_at);
        self.rows.state.lock().tasks.insert(task.id, task.clone());
        let row = with_row.then(|| Box::new(task.clone()));
        self.send(Message { id: task.id, version: task.version, row }).await;
    }

    /// The next attempt of a task that is scheduled again.
    pub(super) async fn publish_again(&self, id: i64, now: Timestamp) {
        let task = Box::new(self.rows.claim(id, now));
        self.send(Message { id: task.id, version: task.version, row: Some(task) }).await;
    }

    pub(super) async fn send(&self, message: Message) {
        let results = self.queue.publish(&name("default"), vec![message]).await;
        assert!(results.iter().all(Result::is_ok), "the queue has room: {results:?}");
    }

    /// Messages that wait, and those that are out.
    pub(super) fn depth(&self) -> (usize, usize) {
        self.queue.depth(&name("default")).expect("the queue")
    }

    /// The feedback on the next task.
    pub(super) async fn said(&mut self) -> Feedback {
        self.told.recv().await.expect("feedback")
    }
}

/// Each call waits for the test's answer; a call whose answer is dropped panics.
#[derive(Debug)]
pub(super) struct ScriptedReceiver(mpsc::UnboundedSender<Call>);

#[derive(Debug)]
pub(super) struct Call {
    pub(super) context: TaskContext,
    pub(super) answer: oneshot::Sender<Verdict>,
}

impl ScriptedReceiver {
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Call>) {
        let (calls, called) = mpsc::unbounded_channel();
        (Arc::new(Self(calls)), called)
    }
}

#[async_trait]
impl TaskHandler for ScriptedReceiver {
    async fn execute(&self, task: &TaskContext) -> Verdict {
        let (answer, answered) = oneshot::channel();
        self.0.send(Call { context: task.clone(), answer }).expect("the test listens");
        answered.await.expect("a handler that panics")
    }
}

impl Call {
    pub(super) fn id(&self) -> i64 {
        self.context.task.id.get()
    }

    pub(super) fn done(self) {
        self.answer.send(Verdict::done()).expect("the handler waits");
    }
}

fn claimed(id: i64, config: i64, due_at: Timestamp) -> Task {
    let new = NewTask {
        id: TaskId::new(id),
        config: ConfigId::new(config),
        key: None,
        execute_at: due_at,
        payload: None,
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    let task = Task::new(new, T0);
    transition(&task, &Event::Claim { epoch: 1 }, T0).expect("a new task can be claimed").task
}

fn part_of(task: TaskId, bulkheads: usize) -> usize {
    usize::try_from(task.get()).expect("an id is positive") % bulkheads.max(1)
}

fn name(text: &str) -> Name {
    Name::queue(text).expect("a good name")
}

fn config(id: i64, is_async: bool) -> TaskConfig {
    let asynchronous = AsyncPolicy { enabled: is_async, ..AsyncPolicy::default() };
    let target = HttpTarget::post("http://receiver.test/");
    let spec = ConfigSpec { asynchronous, ..ConfigSpec::new(name("config"), target) };
    TaskConfig {
        id: ConfigId::new(id),
        app_id: AppId::new(1),
        app: name("trade"),
        spec,
        paused: None,
        version: 1,
        created_at: T0,
        updated_at: T0,
    }
}
