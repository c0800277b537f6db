//! Operators and receivers at the API of one node.

use std::sync::Arc;

use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::key_shard;
use tsp_core::{Clock, ClusterClock, ConfigId, Millis, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{ConfigSaved, Hold};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand};
use tsp_store::{IdSource, WholeStore};

use super::{Environment, pass};
use crate::weather::HoldReason;

/// A barrier that is not passed by then is not answered as passed.
const BARRIER_LOOKS: usize = 100;

struct Operator<'a> {
    environment: &'a Environment,
    faulty_store: &'a Arc<dyn WholeStore>,
    ids: &'a IdSource,
    clock: &'a ClusterClock,
}

/// Acts at random until the faults end.
pub(super) async fn operate(
    environment: &Environment,
    faulty_store: &Arc<dyn WholeStore>,
    ids: &IdSource,
    clock: &ClusterClock,
) {
    let operator = Operator { environment, faulty_store, ids, clock };
    loop {
        let wait = Millis::from_ms(environment.rng.ms(20, 300));
        pass(wait).await;
        if environment.is_calm() {
            continue;
        }
        match environment.rng.pick(&environment.plan.operators) {
            0 => operator.submit().await,
            1 => operator.change().await,
            _ => operator.hold().await,
        }
    }
}

impl Operator<'_> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn submit(&self) {
        let (environment, now) = (self.environment, self.now());
        let Some(submit) = self.one_submit(now) else { return };
        // Whoever is not answered was promised nothing.
        let Ok(answers) = self.faulty_store.submit(vec![submit], now).await else { return };
        for answer in answers {
            let (task, how) = match answer {
                IdempotencyResult::Fresh(SubmitOutcome::Created(task)) => (task, "created"),
                IdempotencyResult::Fresh(SubmitOutcome::Existing(task)) => (task, "existing"),
                IdempotencyResult::Fresh(SubmitOutcome::Reset { task, .. }) => (task, "reset"),
                _ => continue,
            };
            environment.checker.lock().accepted(&task, now, how);
            environment.known.lock().push(task.id);
            environment.inboxes().iter().for_each(|inbox| inbox.due(task.config, task.due_at));
        }
    }

    fn one_submit(&self, now: Timestamp) -> Option<Submit> {
        let rng = &self.environment.rng;
        let config = self.environment.delayed[rng.index(self.environment.delayed.len())];
        let key = TaskKey::new(&format!("key-{}", rng.below(12))).expect("a good key");
        let id = self.ids.next(key_shard(config, key.as_str(), 1, self.faulty_store.shards()), now).ok()?;
        let policies = [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add];
        let on_duplicate = policies[rng.index(policies.len())];
        let new = NewTask {
            id,
            config,
            key: rng.hits(700).then_some(key),
            execute_at: now.plus(Millis::from_ms(rng.ms(-500, 4_000))),
            payload: None,
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, now));
        Some(Submit { task, on_duplicate, own_payload: true, idempotency: None })
    }

    fn recent(&self) -> Option<TaskId> {
        let known = self.environment.known.lock();
        let recent = known.len().min(30);
        (recent > 0).then(|| known[known.len() - 1 - self.environment.rng.index(recent)])
    }

    async fn change(&self) {
        let (environment, now) = (self.environment, self.now());
        let Some(id) = self.recent() else { return };
        let later = now.plus(Millis::from_ms(environment.rng.ms(-200, 3_000)));
        let command = match environment.rng.below(6) {
            0 => TaskCommand::Cancel,
            1 => TaskCommand::Pause,
            2 => TaskCommand::Resume,
            3 => TaskCommand::Postpone { execute_at: later },
            4 => TaskCommand::Run,
            _ => TaskCommand::Replay,
        };
        let asked = format!("{command:?} {id}");
        let answer = self.faulty_store.change(Subject::Id(id), command, &Actor::system(), now).await;
        let Ok(CommandResult::Done { task, .. }) = answer else { return };
        environment.note(now, asked);
        if task.is_open() {
            environment.inboxes().iter().for_each(|inbox| inbox.due(task.config, task.due_at));
        }
    }

    async fn hold(&self) {
        let environment = self.environment;
        let config = environment.configs[environment.rng.index(environment.configs.len())];
        if environment.rng.hits(500) {
            self.pause(config).await;
        } else {
            // What fails is not done, or nobody knows.
            let _ = self.faulty_store.hold_config(config, Hold::Resume, &Actor::system(), self.now()).await;
        }
        environment.inboxes().iter().for_each(|inbox| inbox.changed(config));
    }

    /// Answered when every node that is not dead has applied it.
    async fn pause(&self, config: ConfigId) {
        let hold = Hold::Pause { note: None };
        let saved = self.faulty_store.hold_config(config, hold, &Actor::system(), self.now()).await;
        let Ok(ConfigSaved::Updated(saved)) = saved else { return };
        let seq = self.environment.store_seq();
        for _ in 0..BARRIER_LOOKS {
            if let Ok(true) = self.faulty_store.applied_by_all(seq).await {
                let as_saved = |now: &Arc<TaskConfig>| now.version == saved.version;
                if self.environment.truth(config).as_ref().is_some_and(as_saved) {
                    self.environment.note(self.now(), format!("paused {config}"));
                    self.environment.held.hold(config, HoldReason::Paused);
                }
                return;
            }
            pass(Millis::from_ms(50)).await;
        }
    }
}
