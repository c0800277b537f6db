//! What the cases stand on: a store with one app and one owner, ids, and the usual steps of a task, each
//! panicking with its name when the store refuses it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tsp_core::config::{ConfigSpec, OnDuplicateKey, TaskConfig};
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::task_key::{key_shard, keyless_shard};
use tsp_core::{AppId, ConfigId, IdGenerator, Millis, NodeId, ShardId, TaskId, Timestamp};
use tsp_store::WholeStore;
use tsp_store::attempts::{BeginRequest, BeginResult, Finish, FinishResult, all};
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, Hold, NewApp, SaveConfig};
use tsp_store::fetching::{ClaimRequest, Cursor, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{CommandResult, Subject, Submit, SubmitOutcome, TaskCommand};

pub(super) use super::samples::{
    DEADLINE, T0, TOKEN, assert_same, at, by, cron_spec, key, message, name, outcome, plain, spec,
};

/// The store under test and what the cases share.
pub(super) struct Fixture {
    pub(super) store: Arc<dyn WholeStore>,
    pub(super) app: AppId,
    pub(super) node: NodeId,
    pub(super) owner: Owner,
    ids: Mutex<IdGenerator>,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Fixture {
    /// Makes an app `trade` in the empty store, and a node that owns all shards.
    pub(super) async fn new(store: Arc<dyn WholeStore>) -> Self {
        let node = store.register_node("fixture", T0).await.expect("register_node");
        let owner = store.take_shards(node, T0).await.expect("take_shards");
        let ids = Mutex::new(IdGenerator::new(5, T0.minus(Millis::from_secs(1)), Timestamp::MAX));
        let mut fixture = Self { store, app: AppId::default(), node, owner, ids };
        fixture.app = fixture.make_app("trade").await;
        fixture
    }

    pub(super) async fn make_app(&self, app: &str) -> AppId {
        let new = NewApp { name: name(app), description: String::new(), owner: String::new() };
        match self.store.create_app(new, None, &by(), T0).await.expect("create_app") {
            IdempotencyResult::Fresh(AppSaved::Saved(app)) => app.id,
            other => panic!("a new app must be saved: {other:?}"),
        }
    }

    /// A config of `app` as [`spec`] has it.
    pub(super) async fn config(&self, config: &str) -> Arc<TaskConfig> {
        self.config_of(spec(config)).await
    }

    pub(super) async fn config_of(&self, spec: ConfigSpec) -> Arc<TaskConfig> {
        match self.save_config(spec, ExpectedVersion::Absent, T0).await {
            ConfigSaved::Created(config) => config,
            other => panic!("a new config must be created: {other:?}"),
        }
    }

    pub(super) async fn save_config(
        &self,
        spec: ConfigSpec,
        expected: ExpectedVersion,
        now: Timestamp,
    ) -> ConfigSaved {
        let save = SaveConfig { app: self.app, spec, expected };
        match self.store.save_config(save, None, &by(), now).await.expect("save_config") {
            IdempotencyResult::Fresh(saved) => saved,
            other => panic!("no key was given, so no answer can be kept: {other:?}"),
        }
    }

    pub(super) async fn hold(&self, config: ConfigId, hold: Hold) -> Arc<TaskConfig> {
        match self.store.hold_config(config, hold, &by(), T0).await.expect("hold_config") {
            ConfigSaved::Updated(config) => config,
            other => panic!("a hold must update the config: {other:?}"),
        }
    }

    pub(super) fn id(&self, shard: ShardId) -> TaskId {
        self.ids.lock().next(shard, T0).expect("the slot of the fixture never ends")
    }

    /// A task that is not yet submitted, on the home shard of its key.
    pub(super) fn new_task(
        &self,
        config: &TaskConfig,
        key: Option<&str>,
        execute_at: Timestamp,
    ) -> Box<Task> {
        let span = config.spec.span;
        let shard = match key {
            Some(key) => key_shard(config.id, key, span, self.store.shards()),
            None => keyless_shard(config.id, execute_at.ms().unsigned_abs(), span, self.store.shards()),
        };
        let new = NewTask {
            id: self.id(shard),
            config: config.id,
            key: key.map(self::key),
            execute_at,
            payload: Some(Bytes::from_static(br#"{"order": 42}"#)),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        Box::new(Task::new(new, T0))
    }

    pub(super) async fn submit(&self, task: Box<Task>, on_duplicate: OnDuplicateKey) -> SubmitOutcome {
        let submit = Submit { task, on_duplicate, own_payload: true, idempotency: None };
        let mut answers = self.store.submit(vec![submit], T0).await.expect("submit");
        assert_eq!(answers.len(), 1, "one submit has one answer");
        match answers.remove(0) {
            IdempotencyResult::Fresh(answer) => answer,
            other => panic!("no key was given, so no answer can be kept: {other:?}"),
        }
    }

    /// A new task, which must be created.
    pub(super) async fn create(&self, task: Box<Task>) -> Task {
        match self.submit(task, OnDuplicateKey::Ignore).await {
            SubmitOutcome::Created(task) => *task,
            other => panic!("a new task must be created: {other:?}"),
        }
    }

    /// A new task without a key that is due at [`T0`].
    pub(super) async fn scheduled(&self, config: &TaskConfig) -> Task {
        self.create(self.new_task(config, None, T0)).await
    }

    /// Claims exactly this task, the only one of its config that is due.
    pub(super) async fn claim(&self, task: &Task, now: Timestamp) -> Task {
        let request = ClaimRequest { config: task.config, due_by: now, limit: 10 };
        let claimed = self.store.claim(self.owner, vec![request], now).await.expect("claim");
        let found = claimed.tasks.into_iter().find(|claimed| claimed.id == task.id);
        *found.unwrap_or_else(|| {
            panic!("task {} is due at {} and was not claimed at {now}", task.id, task.due_at)
        })
    }

    pub(super) async fn queued(&self, config: &TaskConfig) -> Task {
        let task = self.scheduled(config).await;
        self.claim(&task, T0).await
    }

    pub(super) async fn begin_as(&self, node: NodeId, begin: BeginRequest, now: Timestamp) -> BeginResult {
        let mut answers = all(self.store.begin(node, vec![begin], now).await).expect("begin");
        assert_eq!(answers.len(), 1, "one message has one answer");
        answers.remove(0)
    }

    /// What runs under a node, in all bulkheads.
    pub(super) async fn running(&self, node: NodeId) -> Vec<(TaskId, u32)> {
        let mut running = Vec::new();
        for bulkhead in 0..self.store.bulkheads() {
            running.extend(self.store.executing(node, bulkhead).await.expect("executing"));
        }
        running
    }

    /// Begins a claimed task with [`TOKEN`].
    pub(super) async fn begin(&self, task: &Task, now: Timestamp) -> Task {
        match self.begin_as(self.node, message(task), now).await {
            BeginResult::Run(task) => *task,
            other => panic!("task {} is claimed and due and must run: {other:?}", task.id),
        }
    }

    pub(super) async fn executing(&self, config: &TaskConfig) -> Task {
        let task = self.queued(config).await;
        self.begin(&task, T0).await
    }

    pub(super) async fn finish_as(&self, node: NodeId, finish: Finish, now: Timestamp) -> FinishResult {
        let mut answers = all(self.store.finish(node, vec![finish], now).await).expect("finish");
        assert_eq!(answers.len(), 1, "one outcome has one answer");
        answers.remove(0)
    }

    pub(super) async fn finish(&self, task: &Task, verdict: Verdict, now: Timestamp) -> Task {
        match self.finish_as(self.node, outcome(task, verdict), now).await {
            FinishResult::Saved(task) => *task,
            FinishResult::TooLate => panic!("attempt {} of task {} is open", task.attempt, task.id),
        }
    }

    pub(super) async fn awaiting(&self, config: &TaskConfig) -> Task {
        let task = self.executing(config).await;
        self.finish(&task, Verdict::new(Outcome::Accepted, "accepted"), T0).await
    }

    pub(super) async fn ended(&self, config: &TaskConfig) -> Task {
        let task = self.executing(config).await;
        self.finish(&task, Verdict::done().with_status(200), at(1)).await
    }

    pub(super) async fn change(&self, id: TaskId, command: TaskCommand, now: Timestamp) -> CommandResult {
        self.store.change(Subject::Id(id), command, &by(), now).await.expect("change")
    }

    /// A change that must be made.
    pub(super) async fn changed(&self, id: TaskId, command: TaskCommand, now: Timestamp) -> Task {
        match self.change(id, command.clone(), now).await {
            CommandResult::Done { task, .. } => *task,
            other => panic!("{command:?} of task {id} must be done: {other:?}"),
        }
    }

    /// A task that stands there.
    pub(super) async fn in_state(&self, config: &TaskConfig, status: Status) -> Task {
        let task = match status {
            Status::Scheduled => self.scheduled(config).await,
            Status::Queued => self.queued(config).await,
            Status::Executing => self.executing(config).await,
            Status::Paused => {
                let task = self.scheduled(config).await;
                self.changed(task.id, TaskCommand::Pause, T0).await
            }
            Status::Awaiting => self.awaiting(config).await,
            Status::Ended => self.ended(config).await,
        };
        assert_eq!(task.status, status);
        task
    }

    /// One task in each state; the scheduled one comes last, or the claims of the others would take it along.
    pub(super) async fn one_in_each_state(&self, config: &TaskConfig) -> Vec<Task> {
        let mut tasks = Vec::new();
        for status in Status::ALL.into_iter().rev() {
            tasks.push(self.in_state(config, status).await);
        }
        tasks
    }

    /// The row as the store holds it, open or ended.
    pub(super) async fn stored(&self, id: TaskId) -> Task {
        let task = self.store.task(id).await.expect("task");
        task.unwrap_or_else(|| panic!("task {id} must be found"))
    }

    /// The store must hold exactly this row.
    pub(super) async fn check_stored(&self, task: &Task) {
        assert_same(&self.stored(task.id).await, task, "the row that was answered is the row that is stored");
    }

    pub(super) async fn cursor(&self, config: ConfigId) -> Cursor {
        let cursors = self.store.cursors().await.expect("cursors");
        let found = cursors.into_iter().find(|cursor| cursor.config == config);
        found.unwrap_or_else(|| panic!("config {config} must have a cursor"))
    }

    /// `accepted = open + ended`: no task vanishes and none appears.
    pub(super) async fn check_sums(&self) {
        let audit = self.store.audit(at(0)).await.expect("audit");
        let open: i64 = audit.open.iter().map(|(_, count)| count).sum();
        assert_eq!(audit.accepted, open + audit.ended, "accepted = open + ended must hold: {audit:?}");
    }
}
