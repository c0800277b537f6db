//! People and callees at the API of one node.

use std::sync::Arc;

use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_core::key::key_shard;
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::{Clock, ClusterClock, ConfigId, Millis, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{ConfigSaved, Hold};
use tsp_store::idempotency::Kept;
use tsp_store::tasks::{Actor, Changed, Subject, Submit, Submitted, Wish};
use tsp_store::{IdSource, WholeStore};

use super::{Ground, pass};
use crate::weather::Why;

/// A barrier that is not passed by then is not answered as passed.
const BARRIER_LOOKS: usize = 100;

struct Person<'a> {
    ground: &'a Ground,
    door: &'a Arc<dyn WholeStore>,
    ids: &'a IdSource,
    clock: &'a ClusterClock,
}

/// Does things as long as chance acts.
pub(super) async fn person(
    ground: &Ground,
    door: &Arc<dyn WholeStore>,
    ids: &IdSource,
    clock: &ClusterClock,
) {
    let person = Person { ground, door, ids, clock };
    loop {
        let wait = Millis::from_ms(ground.chance.ms(20, 300));
        pass(wait).await;
        if ground.is_calm() {
            continue;
        }
        match ground.chance.pick(&ground.plan.people) {
            0 => person.submit().await,
            1 => person.change().await,
            _ => person.hold().await,
        }
    }
}

impl Person<'_> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn submit(&self) {
        let (ground, now) = (self.ground, self.now());
        let Some(submit) = self.one_submit(now) else { return };
        // Whoever is not answered was promised nothing.
        let Ok(answers) = self.door.submit(vec![submit], now).await else { return };
        for answer in answers {
            let (task, how) = match answer {
                Kept::Fresh(Submitted::Created(task)) => (task, "created"),
                Kept::Fresh(Submitted::Existing(task)) => (task, "existing"),
                Kept::Fresh(Submitted::Reset { task, .. }) => (task, "reset"),
                _ => continue,
            };
            ground.checker.lock().accepted(&task, now, how);
            ground.known.lock().push(task.id);
            ground.inboxes().iter().for_each(|inbox| inbox.due(task.config, task.due_at));
        }
    }

    fn one_submit(&self, now: Timestamp) -> Option<Submit> {
        let chance = &self.ground.chance;
        let config = self.ground.delayed[chance.index(self.ground.delayed.len())];
        let key = TaskKey::new(&format!("key-{}", chance.below(12))).expect("a good key");
        let id = self.ids.next(key_shard(config, key.as_str(), 1, self.door.shards()), now).ok()?;
        let policies = [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add];
        let on_duplicate = policies[chance.index(policies.len())];
        let new = NewTask {
            id,
            config,
            key: chance.hits(700).then_some(key),
            execute_at: now.plus(Millis::from_ms(chance.ms(-500, 4_000))),
            payload: None,
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, now));
        Some(Submit { task, on_duplicate, own_payload: true, keep: None })
    }

    fn recent(&self) -> Option<TaskId> {
        let known = self.ground.known.lock();
        let recent = known.len().min(30);
        (recent > 0).then(|| known[known.len() - 1 - self.ground.chance.index(recent)])
    }

    async fn change(&self) {
        let (ground, now) = (self.ground, self.now());
        let Some(id) = self.recent() else { return };
        let later = now.plus(Millis::from_ms(ground.chance.ms(-200, 3_000)));
        let wish = match ground.chance.below(6) {
            0 => Wish::Cancel,
            1 => Wish::Pause,
            2 => Wish::Resume,
            3 => Wish::Postpone { execute_at: later },
            4 => Wish::Run,
            _ => Wish::Replay,
        };
        let asked = format!("{wish:?} {id}");
        let answer = self.door.change(Subject::Id(id), wish, &Actor::system(), now).await;
        let Ok(Changed::Done { task, .. }) = answer else { return };
        ground.note(now, asked);
        if task.is_open() {
            ground.inboxes().iter().for_each(|inbox| inbox.due(task.config, task.due_at));
        }
    }

    async fn hold(&self) {
        let ground = self.ground;
        let config = ground.configs[ground.chance.index(ground.configs.len())];
        if ground.chance.hits(500) {
            self.pause(config).await;
        } else {
            // What fails is not done, or nobody knows.
            let _ = self.door.hold_config(config, Hold::Resume, &Actor::system(), self.now()).await;
        }
        ground.inboxes().iter().for_each(|inbox| inbox.changed(config));
    }

    /// Answered when every node that is not dead has applied it.
    async fn pause(&self, config: ConfigId) {
        let hold = Hold::Pause { note: None };
        let saved = self.door.hold_config(config, hold, &Actor::system(), self.now()).await;
        let Ok(ConfigSaved::Updated(saved)) = saved else { return };
        let seq = self.ground.store_seq();
        for _ in 0..BARRIER_LOOKS {
            if let Ok(true) = self.door.applied_by_all(seq).await {
                let as_saved = |now: &Arc<TaskConfig>| now.version == saved.version;
                if self.ground.truth(config).as_ref().is_some_and(as_saved) {
                    self.ground.note(self.now(), format!("paused {config}"));
                    self.ground.held.hold(config, Why::Paused);
                }
                return;
            }
            pass(Millis::from_ms(50)).await;
        }
    }
}
