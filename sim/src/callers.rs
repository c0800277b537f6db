//! Callers, operators and callees: what people do to tasks and configs.

use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey};
use tsp_core::key::key_shard;
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::transition::{Completion, Note};
use tsp_core::{ConfigId, Millis, Name, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{AppSaved, ConfigSaved, Expected, Hold, NewApp, SaveConfig};
use tsp_store::idempotency::Kept;
use tsp_store::tasks::{Actor, Changed, Subject, Submit, Submitted, Wish};

use crate::checker::Checker;
use crate::process::{Ground, Process, now_or_never};

const KEYS: u64 = 12;
const WRONG_TOKEN: [u8; 32] = [7; 32];

pub(crate) struct Callers {
    delayed: Vec<ConfigId>,
    cron: Vec<ConfigId>,
    known: Vec<TaskId>,
}

impl Callers {
    /// Makes the app and its configs, before anything can go wrong.
    pub(crate) fn settle(ground: &Ground, now: Timestamp) -> Self {
        let app = NewApp { name: name("sim"), description: String::new(), owner: String::new() };
        let saved = now_or_never(ground.door.create_app(app, None, &Actor::system(), now));
        let Ok(Kept::Fresh(AppSaved::Saved(app))) = saved else { panic!("no app: {saved:?}") };
        let make = |spec| {
            let save = SaveConfig { app: app.id, spec, expected: Expected::Absent };
            let saved = now_or_never(ground.door.save_config(save, None, &Actor::system(), now));
            let Ok(Kept::Fresh(ConfigSaved::Created(config))) = saved else { panic!("no config: {saved:?}") };
            config.id
        };
        let mut asynchronous = spec("async", None);
        asynchronous.asynchronous = AsyncPolicy { enabled: true, deadline: Millis::from_secs(2) };
        let delayed = vec![make(spec("plain", None)), make(asynchronous)];
        let cron = vec![
            make(spec("every-allow", Some((2_000, Overlap::Allow)))),
            make(spec("every-skip", Some((1_000, Overlap::Skip)))),
            make(spec("every-queue", Some((1_000, Overlap::QueueOne)))),
        ];
        Self { delayed, cron, known: Vec::new() }
    }

    pub(crate) fn act(
        &mut self,
        ground: &Ground,
        process: &Process,
        now: Timestamp,
        checker: &mut Checker,
        healthy: bool,
    ) {
        match ground.chance.below(if healthy { 92 } else { 100 }) {
            0..55 => self.submit(ground, process, now, checker),
            55..92 => self.change(ground, process, now, checker),
            92..96 => self.hold(ground, process, now, checker),
            96..98 => self.edit(ground, process, now, checker),
            _ => self.make_or_delete(ground, process, now, checker),
        }
    }

    /// Another priority or interval; a schedule is not fired for the past by it.
    fn edit(&self, ground: &Ground, process: &Process, now: Timestamp, checker: &mut Checker) {
        let at = ground.chance.index(self.delayed.len() + self.cron.len());
        let id = *self.delayed.iter().chain(&self.cron).nth(at).expect("below the count");
        let config = ground.door.book().config(id).expect("not deleted");
        let mut spec = config.spec.clone();
        spec.priority = u8::try_from(ground.chance.below(5)).unwrap_or(0);
        if let Some(schedule) = &mut spec.schedule {
            let interval = Millis::from_ms(ground.chance.ms(1_000, 4_000));
            schedule.trigger =
                Trigger::Every(Every::new(interval, Timestamp::ZERO).expect("a good interval"));
        }
        let save = SaveConfig { app: config.app_id, spec, expected: Expected::Any };
        let done = now_or_never(ground.door.save_config(save, None, &Actor::system(), now)).is_ok();
        checker.note(now, format!("edit {id} {done}"));
        // A hint may be lost.
        if ground.chance.hits(700) {
            process.inbox.changed(id);
        }
    }

    /// A schedule that comes and goes.
    fn make_or_delete(&self, ground: &Ground, process: &Process, now: Timestamp, checker: &mut Checker) {
        let by = Actor::system();
        let (app, known) = {
            let any = ground.door.book().config(self.delayed[0]).expect("not deleted");
            (any.app_id, ground.door.book().find_config(any.app_id, &name("brief")))
        };
        if let Some(config) = known {
            let _ = now_or_never(ground.door.delete_config(config.id, Expected::Any, &by, now));
            process.inbox.changed(config.id);
            return checker.note(now, format!("delete {}", config.id));
        }
        let spec = spec("brief", Some((1_000, Overlap::Allow)));
        let save = SaveConfig { app, spec, expected: Expected::Absent };
        let _ = now_or_never(ground.door.save_config(save, None, &by, now));
        if let Some(config) = ground.door.book().find_config(app, &name("brief")) {
            process.inbox.changed(config.id);
            checker.note(now, format!("make {}", config.id));
        }
    }

    /// Resumes and enables all, stops the schedules, so that the world can come to rest.
    pub(crate) fn let_go(&mut self, ground: &Ground, now: Timestamp, checker: &mut Checker) {
        let by = Actor::system();
        for config in self.delayed.iter().chain(&self.cron) {
            checker.let_go(*config);
            now_or_never(ground.door.hold_config(*config, Hold::Resume, &by, now)).expect("no faults");
        }
        for task in ground.store.dump().open {
            now_or_never(ground.door.change(Subject::Id(task.id), Wish::Resume, &by, now))
                .expect("no faults");
        }
        let any = ground.door.book().config(self.delayed[0]).expect("not deleted");
        let brief = ground.door.book().find_config(any.app_id, &name("brief")).map(|config| config.id);
        for config in self.cron.iter().chain(&brief) {
            // A config with an end in the past makes nothing more, and its open tasks still run.
            let config = ground.door.book().config(*config).expect("not deleted");
            let mut spec = config.spec.clone();
            if let Some(schedule) = &mut spec.schedule {
                schedule.end_at = Some(now);
            }
            let save = SaveConfig { app: config.app_id, spec, expected: Expected::Any };
            now_or_never(ground.door.save_config(save, None, &by, now)).expect("no faults");
        }
        checker.note(now, "let go");
    }

    fn submit(&mut self, ground: &Ground, process: &Process, now: Timestamp, checker: &mut Checker) {
        let count = 1 + ground.chance.below(3);
        let batch: Vec<_> = (0..count).filter_map(|_| self.one_submit(ground, process, now)).collect();
        let Ok(answers) = now_or_never(ground.door.submit(batch, now)) else {
            // Nobody was promised anything; if it was a reset that was applied, the task may run again.
            self.known.iter().for_each(|id| checker.reopened(*id));
            return checker.note(now, "submit failed");
        };
        for answer in answers {
            let (task, how) = match answer {
                Kept::Fresh(Submitted::Created(task)) => (task, "created"),
                Kept::Fresh(Submitted::Existing(task)) => (task, "existing"),
                Kept::Fresh(Submitted::Reset { task, .. }) => (task, "reset"),
                _ => continue,
            };
            if how == "reset" {
                checker.reopened(task.id);
            }
            checker.accepted(&task, now, how);
            self.known.push(task.id);
            process.inbox.due(task.config, task.due_at);
        }
    }

    fn one_submit(&self, ground: &Ground, process: &Process, now: Timestamp) -> Option<Submit> {
        let chance = &ground.chance;
        let config = self.delayed[chance.index(self.delayed.len())];
        let key = TaskKey::new(&format!("key-{}", chance.below(KEYS))).expect("a good key");
        let shard = key_shard(config, key.as_str(), 1, ground.door.shards());
        let id = process.ids.next(shard, now).ok()?;
        let policies = [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add];
        let on_duplicate = policies[chance.index(policies.len())];
        let new = NewTask {
            id,
            config,
            key: chance.hits(800).then_some(key),
            execute_at: now.plus(Millis::from_ms(chance.ms(-500, 4_000))),
            payload: None,
            expire_after: chance.hits(100).then_some(Millis::from_secs(1)),
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, now));
        Some(Submit { task, on_duplicate, own_payload: true, keep: None })
    }

    fn change(&mut self, ground: &Ground, process: &Process, now: Timestamp, checker: &mut Checker) {
        let chance = &ground.chance;
        if self.known.is_empty() {
            return;
        }
        let recent = self.known.len().min(30);
        let id = self.known[self.known.len() - 1 - chance.index(recent)];
        let wish = match chance.below(8) {
            0 | 1 => Wish::Cancel,
            2 => Wish::Pause,
            3 => Wish::Resume,
            4 => Wish::Postpone { execute_at: now.plus(Millis::from_ms(chance.ms(-200, 3_000))) },
            5 => Wish::Run,
            6 => Wish::Replay,
            _ => return complete(ground, process, id, now, checker),
        };
        // A replay may have happened though its answer is lost.
        let may_reopen = wish == Wish::Replay;
        let answer = now_or_never(ground.door.change(Subject::Id(id), wish.clone(), &Actor::system(), now));
        match answer {
            Ok(Changed::Done { task, note }) => {
                if may_reopen {
                    checker.reopened(id);
                }
                match (&wish, note) {
                    (Wish::Cancel, Note::TooLate) => checker.too_late(&task, now),
                    (Wish::Cancel, _) => checker.cancelled(id, now),
                    _ => checker.note(now, format!("{wish:?} {id}")),
                }
                if task.is_open() {
                    process.inbox.due(task.config, task.due_at);
                }
            }
            Err(_) if may_reopen => checker.reopened(id),
            Ok(_) | Err(_) => {}
        }
    }

    fn hold(&self, ground: &Ground, process: &Process, now: Timestamp, checker: &mut Checker) {
        let chance = &ground.chance;
        let at = chance.index(self.delayed.len() + self.cron.len());
        let config = *self.delayed.iter().chain(&self.cron).nth(at).expect("below the count");
        let pause = chance.hits(400);
        let hold = if pause { Hold::Pause { note: None } } else { Hold::Resume };
        if !pause {
            checker.let_go(config);
        }
        let answer = now_or_never(ground.door.hold_config(config, hold, &Actor::system(), now));
        if pause && answer.is_ok() {
            checker.held(config, now);
        }
        process.inbox.changed(config);
    }
}

/// The callee completes, sometimes with a token that is wrong.
pub(crate) fn complete(
    ground: &Ground,
    process: &Process,
    id: TaskId,
    now: Timestamp,
    checker: &mut Checker,
) {
    let Some(task) = ground.store.dump().task(id).cloned() else { return };
    let Some(token) = task.token else { return };
    let token = if ground.chance.hits(100) { WRONG_TOKEN } else { token };
    let completion = match ground.chance.below(4) {
        0 => Completion::Done { message: None },
        1 => Completion::Retry { after: None, message: None },
        2 => Completion::Retry { after: Some(Millis::ZERO), message: None },
        _ => Completion::Fail { message: None },
    };
    if matches!(completion, Completion::Done { .. }) {
        checker.completed_done(id);
    }
    if token != WRONG_TOKEN {
        checker.completed(&task);
    }
    let wish = Wish::Complete { token, completion, unit: 0.5 };
    let answer = now_or_never(ground.door.change(Subject::Id(id), wish, &Actor::system(), now));
    let done = matches!(answer, Ok(Changed::Done { .. }));
    if let Ok(Changed::Done { task, .. }) = &answer
        && task.is_open()
    {
        process.inbox.due(task.config, task.due_at);
    }
    assert!(!(done && token == WRONG_TOKEN), "a wrong token completed {id}");
    checker.note(now, format!("complete {id} {done}"));
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn spec(config: &str, schedule: Option<(i64, Overlap)>) -> ConfigSpec {
    let schedule = schedule.map(|(interval_ms, overlap)| {
        let every = Every::new(Millis::from_ms(interval_ms), Timestamp::ZERO).expect("a good interval");
        Schedule { overlap, ..Schedule::new(Trigger::Every(every)) }
    });
    let delays = [200, 500, 1_000].map(Millis::from_ms).to_vec();
    ConfigSpec {
        kind: if schedule.is_some() { Kind::Cron } else { Kind::Delayed },
        schedule,
        retry: RetryPolicy { max_attempts: 4, backoff: Backoff::List(delays), ..RetryPolicy::default() },
        ..ConfigSpec::new(name(config), HttpTarget::post("http://sim.test/"))
    }
}
