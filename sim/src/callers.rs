//! Callers, operators and callees: what people do to tasks and configs.

use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey};
use tsp_core::key::key_shard;
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::transition::{Completion, Note, ProgressReport};
use tsp_core::{Clock, ConfigId, Millis, Name, TaskId, TaskKey, Timestamp};
use tsp_store::Catalog as _;
use tsp_store::catalog::{AppSaved, ConfigSaved, Expected, Hold, NewApp, SaveConfig};
use tsp_store::idempotency::Kept;
use tsp_store::memory::MemoryStore;
use tsp_store::tasks::{Actor, Changed, Subject, Submit, Submitted, TaskStore as _, Wish};

use crate::checker::Checker;
use crate::plan::Plan;
use crate::process::{Ground, Hints};
use crate::weather::{Why, finish_off};

const KEYS: u64 = 12;
const WRONG_TOKEN: [u8; 32] = [7; 32];

pub(crate) struct Callers {
    /// What people ask for, by how often.
    wishes: Vec<u64>,
    delayed: Vec<ConfigId>,
    cron: Vec<ConfigId>,
    known: Vec<TaskId>,
}

impl Callers {
    /// Makes the app and its configs, before anything can go wrong.
    pub(crate) fn settle(ground: &Ground, plan: &Plan, now: Timestamp) -> Self {
        let (delayed, cron) = make_configs(&ground.store, now);
        Self { wishes: plan.rates.wishes.clone(), delayed, cron, known: Vec::new() }
    }

    pub(crate) fn act(&mut self, ground: &Ground, hints: &Hints, checker: &mut Checker, plan: &Plan) {
        let now = ground.clock.now();
        match ground.chance.pick(&plan.rates.calls) {
            0 => self.submit(ground, hints, now, checker),
            1 => self.change(ground, hints, now, checker),
            2 => self.hold(ground, hints, now, checker),
            3 => self.edit(ground, hints, now, checker),
            4 => self.make_or_delete(ground, hints, now, checker),
            5 => self.look(ground, hints, now, checker),
            // A callee may be quicker than its own answer.
            _ => {
                let Some(called) = checker.one_on_wire(&ground.chance) else { return };
                complete(ground, hints, called, now, checker);
            }
        }
    }

    /// What may happen while a step of the process waits for the store.
    pub(crate) fn interrupt(&mut self, ground: &Ground, hints: &Hints, checker: &mut Checker, plan: &Plan) {
        if ground.chance.hits(300) {
            ground.clock.step(Millis::from_ms(ground.chance.ms(0, 200)));
        }
        if ground.chance.hits(300) {
            self.act(ground, hints, checker, plan);
        }
    }

    /// Reads, and what is seldom.
    fn look(&self, ground: &Ground, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let (chance, door, by) = (&ground.chance, &ground.door, Actor::system());
        let config = self.delayed[chance.index(self.delayed.len())];
        let known = self.known.get(chance.index(self.known.len().max(1))).copied();
        let key = TaskKey::new(&format!("key-{}", chance.below(KEYS))).expect("a good key");
        match (chance.below(6), known) {
            (0, Some(id)) => {
                if let Ok(found) = ground.wait(door.task(id)) {
                    assert!(found.is_some(), "broken promise: accepted task {id} is not found");
                }
            }
            (1, Some(id)) => {
                if let Ok(attempts) = ground.wait(door.attempts(id)) {
                    let rise = attempts.windows(2).all(|pair| pair[0].attempt < pair[1].attempt);
                    assert!(rise, "broken promise: the attempts of {id} do not rise: {attempts:?}");
                }
            }
            (2, _) => {
                let found = ground.wait(door.task_by_key(config, &key));
                checker.note(now, format!("found {}", matches!(found, Ok(Some(_)))));
            }
            (3, _) => {
                let parked = ground.wait(door.parked(config, now));
                let ended = ground.wait(door.unpark(config, now)).is_ok();
                hints.inbox.unparked(config, now);
                checker.note(now, format!("unpark {config} {} {ended}", matches!(parked, Ok(Some(_)))));
            }
            (4, _) => {
                let cancelled = ground.wait(door.cancel_open(config, 3, &by, now));
                checker.note(now, format!("cancel up to 3 of {config}: {}", cancelled.is_ok()));
            }
            _ => {
                let lines = ground.wait(door.audit_log(5)).map_or(0, |lines| lines.len());
                checker.note(now, format!("{lines} lines"));
            }
        }
    }

    /// Another priority or interval; a schedule is not fired for the past by it.
    fn edit(&self, ground: &Ground, hints: &Hints, now: Timestamp, checker: &mut Checker) {
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
        let done = ground.wait(ground.door.save_config(save, None, &Actor::system(), now)).is_ok();
        checker.note(now, format!("edit {id} {done}"));
        // A hint may be lost.
        if ground.chance.hits(700) {
            hints.inbox.changed(id);
        }
    }

    /// A schedule that comes and goes.
    fn make_or_delete(&self, ground: &Ground, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let by = Actor::system();
        let (app, known) = {
            let any = ground.door.book().config(self.delayed[0]).expect("not deleted");
            (any.app_id, ground.door.book().find_config(any.app_id, &name("brief")))
        };
        if let Some(config) = known {
            let _ = ground.wait(ground.door.delete_config(config.id, Expected::Any, &by, now));
            hints.inbox.changed(config.id);
            return checker.note(now, format!("delete {}", config.id));
        }
        let spec = spec("brief", Some((1_000, Overlap::Allow)));
        let save = SaveConfig { app, spec, expected: Expected::Absent };
        let _ = ground.wait(ground.door.save_config(save, None, &by, now));
        if let Some(config) = ground.door.book().find_config(app, &name("brief")) {
            hints.inbox.changed(config.id);
            checker.note(now, format!("make {}", config.id));
        }
    }

    /// Resumes and enables all, stops the schedules, so that the world can come to rest.
    pub(crate) fn let_go(&mut self, ground: &Ground, now: Timestamp, checker: &mut Checker) {
        let any = ground.store.book().config(self.delayed[0]).expect("not deleted");
        let brief = ground.store.book().find_config(any.app_id, &name("brief")).map(|config| config.id);
        let all: Vec<_> = self.delayed.iter().chain(&self.cron).copied().chain(brief).collect();
        for config in &all {
            ground.weather.held.let_go(*config, Why::Paused);
            ground.weather.held.let_go(*config, Why::Disabled);
        }
        let_all_go(&ground.store, &all, now);
        checker.note(now, "let go");
    }

    fn submit(&mut self, ground: &Ground, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let count = 1 + ground.chance.below(3);
        let batch: Vec<_> = (0..count).filter_map(|_| self.one_submit(ground, hints, now)).collect();
        let Ok(answers) = ground.wait(ground.door.submit(batch, now)) else {
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
            hints.inbox.due(task.config, task.due_at);
        }
    }

    fn one_submit(&self, ground: &Ground, hints: &Hints, now: Timestamp) -> Option<Submit> {
        let chance = &ground.chance;
        let config = self.delayed[chance.index(self.delayed.len())];
        let key = TaskKey::new(&format!("key-{}", chance.below(KEYS))).expect("a good key");
        let shard = key_shard(config, key.as_str(), 1, ground.door.shards());
        let id = hints.ids.next(shard, now).ok()?;
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

    fn change(&mut self, ground: &Ground, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let chance = &ground.chance;
        if self.known.is_empty() {
            return;
        }
        let recent = self.known.len().min(30);
        let id = self.known[self.known.len() - 1 - chance.index(recent)];
        let wish = match chance.pick(&self.wishes) {
            0 => Wish::Cancel,
            1 => Wish::Pause,
            2 => Wish::Resume,
            3 => Wish::Postpone { execute_at: now.plus(Millis::from_ms(chance.ms(-200, 3_000))) },
            4 => Wish::Run,
            5 => Wish::Replay,
            6 => return complete(ground, hints, with_token(ground).unwrap_or(id), now, checker),
            _ => return progress(ground, with_token(ground).unwrap_or(id), now, checker),
        };
        // A replay may have happened though its answer is lost.
        let may_reopen = wish == Wish::Replay;
        let answer = ground.wait(ground.door.change(Subject::Id(id), wish.clone(), &Actor::system(), now));
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
                    hints.inbox.due(task.config, task.due_at);
                }
            }
            Err(_) if may_reopen => checker.reopened(id),
            Ok(_) | Err(_) => {}
        }
    }

    fn hold(&self, ground: &Ground, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let chance = &ground.chance;
        let at = chance.index(self.delayed.len() + self.cron.len());
        let config = *self.delayed.iter().chain(&self.cron).nth(at).expect("below the count");
        let (hold, why, held) = match chance.below(10) {
            0..4 => (Hold::Pause { note: None }, Why::Paused, true),
            4..8 => (Hold::Resume, Why::Paused, false),
            8 => (Hold::Disable, Why::Disabled, true),
            _ => (Hold::Enable, Why::Disabled, false),
        };
        if !held {
            ground.weather.held.let_go(config, why);
        }
        let answer = ground.wait(ground.door.hold_config(config, hold, &Actor::system(), now));
        if held && answer.is_ok() {
            ground.weather.held.hold(config, why);
        }
        checker.note(now, format!("{why:?} {config} {held} {}", answer.is_ok()));
        hints.inbox.changed(config);
    }
}

/// A task that its callee may complete.
fn with_token(ground: &Ground) -> Option<TaskId> {
    let open = ground.store.open_tasks();
    let all: Vec<_> = open.into_iter().filter(|task| task.token.is_some()).map(|task| task.id).collect();
    all.get(ground.chance.index(all.len().max(1))).copied()
}

/// The callee completes, sometimes with a token that is wrong.
pub(crate) fn complete(ground: &Ground, hints: &Hints, id: TaskId, now: Timestamp, checker: &mut Checker) {
    let Some(task) = finish_off(ground.store.task(id)).expect("no faults") else { return };
    // Nobody has a token that was never sent.
    let Some(token) = task.token.filter(|_| checker.was_sent(&task)) else { return };
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
    let answer = ground.wait(ground.door.change(Subject::Id(id), wish, &Actor::system(), now));
    let done = matches!(answer, Ok(Changed::Done { .. }));
    if let Ok(Changed::Done { task, .. }) = &answer
        && task.is_open()
    {
        hints.inbox.due(task.config, task.due_at);
    }
    assert!(!(done && token == WRONG_TOKEN), "a wrong token completed {id}");
    checker.note(now, format!("complete {id} {done}"));
}

/// The callee says how far it is.
fn progress(ground: &Ground, id: TaskId, now: Timestamp, checker: &mut Checker) {
    let Some(task) = finish_off(ground.store.task(id)).expect("no faults") else { return };
    let Some(token) = task.token.filter(|_| checker.was_sent(&task)) else { return };
    let extend = ground.chance.hits(500).then_some(Millis::from_secs(1));
    let report = ProgressReport { percent: Some(50), message: None, extend };
    let wish = Wish::Progress { token, report };
    let answer = ground.wait(ground.door.change(Subject::Id(id), wish, &Actor::system(), now));
    checker.note(now, format!("progress {id} {}", matches!(answer, Ok(Changed::Done { .. }))));
}

/// An app with configs of all kinds: those that tasks are submitted to, and those with a schedule.
pub(crate) fn make_configs(store: &MemoryStore, now: Timestamp) -> (Vec<ConfigId>, Vec<ConfigId>) {
    let app = NewApp { name: name("sim"), description: String::new(), owner: String::new() };
    let saved = finish_off(store.create_app(app, None, &Actor::system(), now));
    let Ok(Kept::Fresh(AppSaved::Saved(app))) = saved else { panic!("no app: {saved:?}") };
    let make = |spec| {
        let save = SaveConfig { app: app.id, spec, expected: Expected::Absent };
        let saved = finish_off(store.save_config(save, None, &Actor::system(), now));
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
    (delayed, cron)
}

/// Resumes and enables all, ends the schedules and resumes the tasks, so that everything can come to rest.
pub(crate) fn let_all_go(store: &MemoryStore, configs: &[ConfigId], now: Timestamp) {
    let by = Actor::system();
    for id in configs {
        for hold in [Hold::Resume, Hold::Enable] {
            finish_off(store.hold_config(*id, hold, &by, now)).expect("no faults");
        }
        // A config with an end in the past makes nothing more, and its open tasks still run.
        let config = store.book().config(*id).expect("not deleted");
        let mut spec = config.spec.clone();
        if let Some(schedule) = &mut spec.schedule {
            schedule.end_at = Some(now);
        }
        let save = SaveConfig { app: config.app_id, spec, expected: Expected::Any };
        finish_off(store.save_config(save, None, &by, now)).expect("no faults");
    }
    for task in store.open_tasks() {
        finish_off(store.change(Subject::Id(task.id), Wish::Resume, &by, now)).expect("no faults");
    }
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
