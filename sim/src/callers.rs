//! Callers, operators and receivers: what they do to tasks and configs.

use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey};
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::key_shard;
use tsp_core::transition::{Completion, OutcomeDetail, ProgressReport};
use tsp_core::{Clock, ConfigId, Millis, Name, TaskId, TaskKey, Timestamp};
use tsp_store::Catalog as _;
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, Hold, NewApp, SaveConfig};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore as _};
use tsp_store_testing::memory::MemoryStore;

use crate::checker::Checker;
use crate::plan::Plan;
use crate::process::{Environment, Hints};
use crate::weather::{HoldReason, finish_off};

const KEYS: u64 = 12;
const WRONG_TOKEN: [u8; 32] = [7; 32];

pub(crate) struct Callers {
    /// What operators ask for, by how often.
    commands: Vec<u64>,
    delayed: Vec<ConfigId>,
    cron: Vec<ConfigId>,
    known: Vec<TaskId>,
}

impl Callers {
    /// Makes the app and its configs, before anything can go wrong.
    pub(crate) fn run_until_idle(environment: &Environment, plan: &Plan, now: Timestamp) -> Self {
        let (delayed, cron) = make_configs(&environment.store, now);
        Self { commands: plan.rates.commands.clone(), delayed, cron, known: Vec::new() }
    }

    pub(crate) fn act(
        &mut self,
        environment: &Environment,
        hints: &Hints,
        checker: &mut Checker,
        plan: &Plan,
    ) {
        let now = environment.clock.now();
        match environment.rng.pick(&plan.rates.calls) {
            0 => self.submit(environment, hints, now, checker),
            1 => self.change(environment, hints, now, checker),
            2 => self.hold(environment, hints, now, checker),
            3 => self.edit(environment, hints, now, checker),
            4 => self.make_or_delete(environment, hints, now, checker),
            5 => self.look(environment, hints, now, checker),
            // A receiver may be quicker than its own answer.
            _ => {
                let Some(called) = checker.one_on_wire(&environment.rng) else { return };
                complete(environment, hints, called, now, checker);
            }
        }
    }

    /// What may happen while a step of the process waits for the store.
    pub(crate) fn interrupt(
        &mut self,
        environment: &Environment,
        hints: &Hints,
        checker: &mut Checker,
        plan: &Plan,
    ) {
        if environment.rng.hits(300) {
            environment.clock.step(Millis::from_ms(environment.rng.ms(0, 200)));
        }
        if environment.rng.hits(300) {
            self.act(environment, hints, checker, plan);
        }
    }

    /// Reads, and what is seldom.
    fn look(&self, environment: &Environment, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let (rng, faulty_store, by) = (&environment.rng, &environment.faulty_store, Actor::system());
        let config = self.delayed[rng.index(self.delayed.len())];
        let known = self.known.get(rng.index(self.known.len().max(1))).copied();
        let key = TaskKey::new(&format!("key-{}", rng.below(KEYS))).expect("a good key");
        match (rng.below(6), known) {
            (0, Some(id)) => {
                if let Ok(found) = environment.wait(faulty_store.task(id)) {
                    assert!(found.is_some(), "broken promise: accepted task {id} is not found");
                }
            }
            (1, Some(id)) => {
                if let Ok(attempts) = environment.wait(faulty_store.attempts(id)) {
                    let rise = attempts.windows(2).all(|pair| pair[0].attempt < pair[1].attempt);
                    assert!(rise, "broken promise: the attempts of {id} do not rise: {attempts:?}");
                }
            }
            (2, _) => {
                let found = environment.wait(faulty_store.task_by_key(config, &key));
                checker.note(now, format!("found {}", matches!(found, Ok(Some(_)))));
            }
            (3, _) => {
                let parked = environment.wait(faulty_store.parked(config, now));
                let ended = environment.wait(faulty_store.unpark(config, now)).is_ok();
                hints.inbox.unparked(config, now);
                checker.note(now, format!("unpark {config} {} {ended}", matches!(parked, Ok(Some(_)))));
            }
            (4, _) => {
                let cancelled = environment.wait(faulty_store.cancel_open(config, 3, &by, now));
                checker.note(now, format!("cancel up to 3 of {config}: {}", cancelled.is_ok()));
            }
            _ => {
                let lines = environment.wait(faulty_store.audit_log(5)).map_or(0, |lines| lines.len());
                checker.note(now, format!("{lines} lines"));
            }
        }
    }

    /// Another priority or interval; a schedule is not fired for the past by it.
    fn edit(&self, environment: &Environment, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let at = environment.rng.index(self.delayed.len() + self.cron.len());
        let id = *self.delayed.iter().chain(&self.cron).nth(at).expect("below the count");
        let config = environment.faulty_store.config_cache().config(id).expect("not deleted");
        let mut spec = config.spec.clone();
        spec.priority = u8::try_from(environment.rng.below(5)).unwrap_or(0);
        if let Some(schedule) = &mut spec.schedule {
            let interval = Millis::from_ms(environment.rng.ms(1_000, 4_000));
            schedule.trigger =
                Trigger::Every(Every::new(interval, Timestamp::ZERO).expect("a good interval"));
        }
        let save = SaveConfig { app: config.app_id, spec, expected: ExpectedVersion::Any };
        let done =
            environment.wait(environment.faulty_store.save_config(save, None, &Actor::system(), now)).is_ok();
        checker.note(now, format!("edit {id} {done}"));
        // A hint may be lost.
        if environment.rng.hits(700) {
            hints.inbox.changed(id);
        }
    }

    /// A schedule that comes and goes.
    fn make_or_delete(
        &self,
        environment: &Environment,
        hints: &Hints,
        now: Timestamp,
        checker: &mut Checker,
    ) {
        let by = Actor::system();
        let (app, known) = {
            let any = environment.faulty_store.config_cache().config(self.delayed[0]).expect("not deleted");
            (any.app_id, environment.faulty_store.config_cache().find_config(any.app_id, &name("brief")))
        };
        if let Some(config) = known {
            let _ = environment.wait(environment.faulty_store.delete_config(
                config.id,
                ExpectedVersion::Any,
                &by,
                now,
            ));
            hints.inbox.changed(config.id);
            return checker.note(now, format!("delete {}", config.id));
        }
        let spec = spec("brief", Some((1_000, Overlap::Allow)));
        let save = SaveConfig { app, spec, expected: ExpectedVersion::Absent };
        let _ = environment.wait(environment.faulty_store.save_config(save, None, &by, now));
        if let Some(config) = environment.faulty_store.config_cache().find_config(app, &name("brief")) {
            hints.inbox.changed(config.id);
            checker.note(now, format!("make {}", config.id));
        }
    }

    /// Resumes and enables all, stops the schedules, so that the environment can come to rest.
    pub(crate) fn let_go(&mut self, environment: &Environment, now: Timestamp, checker: &mut Checker) {
        let any = environment.store.config_cache().config(self.delayed[0]).expect("not deleted");
        let brief =
            environment.store.config_cache().find_config(any.app_id, &name("brief")).map(|config| config.id);
        let all: Vec<_> = self.delayed.iter().chain(&self.cron).copied().chain(brief).collect();
        for config in &all {
            environment.weather.held.let_go(*config, HoldReason::Paused);
            environment.weather.held.let_go(*config, HoldReason::Disabled);
        }
        let_all_go(&environment.store, &all, now);
        checker.note(now, "let go");
    }

    fn submit(&mut self, environment: &Environment, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let count = 1 + environment.rng.below(3);
        let batch: Vec<_> = (0..count).filter_map(|_| self.one_submit(environment, hints, now)).collect();
        let Ok(answers) = environment.wait(environment.faulty_store.submit(batch, now)) else {
            // Nobody was promised anything; if it was a reset that was applied, the task may run again.
            self.known.iter().for_each(|id| checker.reopened(*id));
            return checker.note(now, "submit failed");
        };
        for answer in answers {
            let (task, how) = match answer {
                IdempotencyResult::Fresh(SubmitOutcome::Created(task)) => (task, "created"),
                IdempotencyResult::Fresh(SubmitOutcome::Existing(task)) => (task, "existing"),
                IdempotencyResult::Fresh(SubmitOutcome::Reset { task, .. }) => (task, "reset"),
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

    fn one_submit(&self, environment: &Environment, hints: &Hints, now: Timestamp) -> Option<Submit> {
        let rng = &environment.rng;
        let config = self.delayed[rng.index(self.delayed.len())];
        let key = TaskKey::new(&format!("key-{}", rng.below(KEYS))).expect("a good key");
        let shard = key_shard(config, key.as_str(), 1, environment.faulty_store.shards());
        let id = hints.ids.next(shard, now).ok()?;
        let policies = [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add];
        let on_duplicate = policies[rng.index(policies.len())];
        let new = NewTask {
            id,
            config,
            key: rng.hits(800).then_some(key),
            execute_at: now.plus(Millis::from_ms(rng.ms(-500, 4_000))),
            payload: None,
            expire_after: rng.hits(100).then_some(Millis::from_secs(1)),
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, now));
        Some(Submit { task, on_duplicate, own_payload: true, idempotency: None })
    }

    fn change(&mut self, environment: &Environment, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let rng = &environment.rng;
        if self.known.is_empty() {
            return;
        }
        let recent = self.known.len().min(30);
        let id = self.known[self.known.len() - 1 - rng.index(recent)];
        let command = match rng.pick(&self.commands) {
            0 => TaskCommand::Cancel,
            1 => TaskCommand::Pause,
            2 => TaskCommand::Resume,
            3 => TaskCommand::Postpone { execute_at: now.plus(Millis::from_ms(rng.ms(-200, 3_000))) },
            4 => TaskCommand::Run,
            5 => TaskCommand::Replay,
            6 => return complete(environment, hints, with_token(environment).unwrap_or(id), now, checker),
            _ => return progress(environment, with_token(environment).unwrap_or(id), now, checker),
        };
        // A replay may have happened though its answer is lost.
        let may_reopen = command == TaskCommand::Replay;
        let answer = environment.wait(environment.faulty_store.change(
            Subject::Id(id),
            command.clone(),
            &Actor::system(),
            now,
        ));
        match answer {
            Ok(CommandResult::Done { task, outcome_detail }) => {
                if may_reopen {
                    checker.reopened(id);
                }
                match (&command, outcome_detail) {
                    (TaskCommand::Cancel, OutcomeDetail::TooLate) => checker.too_late(&task, now),
                    (TaskCommand::Cancel, _) => checker.cancelled(id, now),
                    _ => checker.note(now, format!("{command:?} {id}")),
                }
                if task.is_open() {
                    hints.inbox.due(task.config, task.due_at);
                }
            }
            Err(_) if may_reopen => checker.reopened(id),
            Ok(_) | Err(_) => {}
        }
    }

    fn hold(&self, environment: &Environment, hints: &Hints, now: Timestamp, checker: &mut Checker) {
        let rng = &environment.rng;
        let at = rng.index(self.delayed.len() + self.cron.len());
        let config = *self.delayed.iter().chain(&self.cron).nth(at).expect("below the count");
        let (hold, why, held) = match rng.below(10) {
            0..4 => (Hold::Pause { note: None }, HoldReason::Paused, true),
            4..8 => (Hold::Resume, HoldReason::Paused, false),
            8 => (Hold::Disable, HoldReason::Disabled, true),
            _ => (Hold::Enable, HoldReason::Disabled, false),
        };
        if !held {
            environment.weather.held.let_go(config, why);
        }
        let answer =
            environment.wait(environment.faulty_store.hold_config(config, hold, &Actor::system(), now));
        if held && answer.is_ok() {
            environment.weather.held.hold(config, why);
        }
        checker.note(now, format!("{why:?} {config} {held} {}", answer.is_ok()));
        hints.inbox.changed(config);
    }
}

/// A task that its receiver may complete.
fn with_token(environment: &Environment) -> Option<TaskId> {
    let open = environment.store.open_tasks();
    let all: Vec<_> = open.into_iter().filter(|task| task.token.is_some()).map(|task| task.id).collect();
    all.get(environment.rng.index(all.len().max(1))).copied()
}

/// The receiver completes, sometimes with a token that is wrong.
pub(crate) fn complete(
    environment: &Environment,
    hints: &Hints,
    id: TaskId,
    now: Timestamp,
    checker: &mut Checker,
) {
    let Some(task) = finish_off(environment.store.task(id)).expect("no faults") else { return };
    // Nobody has a token that was never sent.
    let Some(token) = task.token.filter(|_| checker.was_sent(&task)) else { return };
    let token = if environment.rng.hits(100) { WRONG_TOKEN } else { token };
    let completion = match environment.rng.below(4) {
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
    let command = TaskCommand::Complete { token, completion, jitter_fraction: 0.5 };
    let answer =
        environment.wait(environment.faulty_store.change(Subject::Id(id), command, &Actor::system(), now));
    let done = matches!(answer, Ok(CommandResult::Done { .. }));
    if let Ok(CommandResult::Done { task, .. }) = &answer
        && task.is_open()
    {
        hints.inbox.due(task.config, task.due_at);
    }
    assert!(!(done && token == WRONG_TOKEN), "a wrong token completed {id}");
    checker.note(now, format!("complete {id} {done}"));
}

/// The receiver says how far it is.
fn progress(environment: &Environment, id: TaskId, now: Timestamp, checker: &mut Checker) {
    let Some(task) = finish_off(environment.store.task(id)).expect("no faults") else { return };
    let Some(token) = task.token.filter(|_| checker.was_sent(&task)) else { return };
    let extend = environment.rng.hits(500).then_some(Millis::from_secs(1));
    let report = ProgressReport { percent: Some(50), message: None, extend };
    let command = TaskCommand::Progress { token, report };
    let answer =
        environment.wait(environment.faulty_store.change(Subject::Id(id), command, &Actor::system(), now));
    checker.note(now, format!("progress {id} {}", matches!(answer, Ok(CommandResult::Done { .. }))));
}

/// An app with configs of all kinds: those that tasks are submitted to, and those with a schedule.
pub(crate) fn make_configs(store: &MemoryStore, now: Timestamp) -> (Vec<ConfigId>, Vec<ConfigId>) {
    let app = NewApp { name: name("sim"), description: String::new(), owner: String::new() };
    let saved = finish_off(store.create_app(app, None, &Actor::system(), now));
    let Ok(IdempotencyResult::Fresh(AppSaved::Saved(app))) = saved else { panic!("no app: {saved:?}") };
    let make = |spec| {
        let save = SaveConfig { app: app.id, spec, expected: ExpectedVersion::Absent };
        let saved = finish_off(store.save_config(save, None, &Actor::system(), now));
        let Ok(IdempotencyResult::Fresh(ConfigSaved::Created(config))) = saved else {
            panic!("no config: {saved:?}")
        };
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
        let config = store.config_cache().config(*id).expect("not deleted");
        let mut spec = config.spec.clone();
        if let Some(schedule) = &mut spec.schedule {
            schedule.end_at = Some(now);
        }
        let save = SaveConfig { app: config.app_id, spec, expected: ExpectedVersion::Any };
        finish_off(store.save_config(save, None, &by, now)).expect("no faults");
    }
    for task in store.open_tasks() {
        finish_off(store.change(Subject::Id(task.id), TaskCommand::Resume, &by, now)).expect("no faults");
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
