//! A world: the process, its callers, its callees, and the chance that moves them.

use std::sync::Arc;

use tsp_consumer_core::{Executed, TaskContext};
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::{ManualClock, Millis, Timestamp};
use tsp_queue::Ticket;
use tsp_store::WholeStore;
use tsp_store::memory::{Fault, MemoryStore};

use crate::broken::{Broken, Bug};
use crate::callers::{Callers, complete};
use crate::chance::Chance;
use crate::checker::Checker;
use crate::process::{Ground, Process};

/// Where every world begins: a Saturday, so nothing special.
const START: Timestamp = Timestamp::from_ms(1_795_257_000_000);
/// More time than any world needs to come to rest.
const CALM_AT_MOST: Millis = Millis::from_mins(30);

/// What happens in a world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Acts of chance before the world comes to rest.
    pub acts: usize,
    pub crashes: u32,
    pub lose_per_mille: u64,
    pub double_per_mille: u64,
    /// Store calls that fail, half of them after they were applied.
    pub faults_per_mille: u64,
    /// Nothing holds a callback back: room for all, and nobody asks to wait.
    pub healthy: bool,
    /// A rule that is left out.
    pub bug: Option<Bug>,
}

impl Plan {
    /// Everything goes wrong now and then; how often depends on the seed.
    pub fn rough(seed: u64) -> Self {
        let chance = Chance::new(seed ^ 0x005e_ed0f_70ff);
        Self {
            seed,
            acts: 3_000,
            crashes: u32::try_from(chance.below(5)).unwrap_or(0),
            lose_per_mille: chance.below(200),
            double_per_mille: chance.below(200),
            faults_per_mille: chance.below(60),
            healthy: false,
            bug: None,
        }
    }

    /// Nothing goes wrong.
    pub fn smooth(seed: u64) -> Self {
        Self {
            seed,
            acts: 1_500,
            crashes: 0,
            lose_per_mille: 0,
            double_per_mille: 0,
            faults_per_mille: 0,
            healthy: true,
            bug: None,
        }
    }
}

/// A call on its way.
#[derive(Debug)]
struct OnWire {
    ends_at: Timestamp,
    /// The life of the process that sent it; another life does not hear the answer.
    life: u32,
    context: TaskContext,
    ticket: Ticket,
    verdict: Verdict,
}

pub struct World {
    plan: Plan,
    ground: Ground,
    process: Option<Process>,
    /// The fetcher of an earlier life that does not know that it is over.
    ghost: Option<Process>,
    life: u32,
    starts_at: Timestamp,
    wire: Vec<OnWire>,
    callers: Callers,
    pub(crate) checker: Checker,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let store = Arc::new(MemoryStore::new(16));
        let door: Arc<dyn WholeStore> = match plan.bug {
            None => store.clone(),
            Some(bug) => Arc::new(Broken::new(store.clone(), bug)),
        };
        let ground = Ground {
            store,
            door,
            clock: Arc::new(ManualClock::at(START)),
            chance: Arc::new(Chance::new(plan.seed)),
        };
        let mut world = Self {
            callers: Callers::settle(&ground, START),
            checker: Checker::new(plan.seed),
            ground,
            process: None,
            ghost: None,
            life: 0,
            starts_at: START,
            wire: Vec::new(),
            plan,
        };
        world.start_process();
        world.break_the_store();
        world
    }

    /// Lets chance act, then brings the world to rest and checks everything. Returns the history.
    pub fn run(mut self) -> Vec<String> {
        for _ in 0..self.plan.acts {
            self.act();
        }
        self.ground.store.clear_faults();
        self.callers.let_go(&self.ground, self.now(), &mut self.checker);
        if self.process.is_none() {
            self.start_process();
        }
        self.come_to_rest();
        self.checker.at_rest(&self.ground.store.dump());
        self.checker.into_history()
    }

    /// As [`World::run`], but every act is followed by all that it causes, so that lateness means
    /// something: it is checked against `most`.
    pub fn run_promptly(mut self, most: Millis) -> Vec<String> {
        self.checker.forbid_lateness(Some(most));
        for _ in 0..self.plan.acts {
            let until = self.now().plus(Millis::from_ms(self.ground.chance.ms(0, 40)));
            while self.now() < until {
                self.settle();
                let next = self.next_event().unwrap_or(until).min(until);
                self.ground.clock.advance_to(next.max(self.now().plus(Millis::from_ms(1))));
            }
            self.settle();
            self.callers_act();
        }
        // What people do now comes without hints: the resync finds it, late.
        self.checker.forbid_lateness(None);
        self.callers.let_go(&self.ground, self.now(), &mut self.checker);
        self.come_to_rest();
        self.checker.at_rest(&self.ground.store.dump());
        self.checker.into_history()
    }

    fn now(&self) -> Timestamp {
        use tsp_core::Clock;
        self.ground.clock.now()
    }

    fn act(&mut self) {
        match self.ground.chance.below(100) {
            0..25 => self.ground.clock.advance(Millis::from_ms(self.ground.chance.ms(0, 60))),
            25..45 => self.fetch(),
            45..63 => self.begin(),
            63..78 => self.answer_one(),
            78..90 => self.finish(),
            90..99 => self.callers_act(),
            _ => self.crash_or_jump(),
        }
        if self.process.is_none() && self.now() >= self.starts_at {
            self.start_process();
        }
    }

    fn crash_or_jump(&mut self) {
        let jump = Millis::from_ms(self.ground.chance.ms(0, 4_000));
        if self.plan.crashes > 0 && self.process.is_some() && self.ground.chance.hits(300) {
            self.plan.crashes -= 1;
            self.checker.died(self.life, self.now());
            let process = self.process.take();
            self.ghost = process.filter(|_| self.ground.chance.hits(500));
            self.starts_at = self.now().plus(jump);
        } else {
            self.ground.clock.advance(jump);
        }
    }

    fn start_process(&mut self) {
        let now = self.now();
        if let Ok(process) = Process::start(&self.ground, &self.plan, now) {
            self.life += 1;
            self.process = Some(process);
            self.checker.note(now, "start");
        }
    }

    fn break_the_store(&self) {
        let (chance, per_mille) = (self.ground.chance.clone(), self.plan.faults_per_mille);
        self.ground.store.set_faults(Box::new(move |_| match chance.below(2_000) {
            n if n < per_mille => Fault::Before,
            n if n < 2 * per_mille => Fault::After,
            _ => Fault::None,
        }));
    }

    fn callers_act(&mut self) {
        let now = self.now();
        let Some(process) = &self.process else { return };
        let chance = &self.ground.chance;
        // A callee may be quicker than its own answer.
        if !self.plan.healthy && !self.wire.is_empty() && chance.hits(150) {
            let called = self.wire[chance.index(self.wire.len())].context.task.id;
            complete(&self.ground, process, called, now, &mut self.checker);
        } else {
            self.callers.act(&self.ground, process, now, &mut self.checker, self.plan.healthy);
        }
    }

    fn fetch(&mut self) {
        let now = self.now();
        if self.process.is_some()
            && let Some(ghost) = &mut self.ghost
            && let Ok(report) = ghost.fetch(now)
        {
            assert!(
                report.claimed + report.fired + report.rescued == 0,
                "seed {}: broken promise: nothing is done under an epoch that is over: {report:?}",
                self.plan.seed
            );
            if report.deposed {
                self.ghost = None;
            }
        }
        if let Some(process) = &mut self.process {
            let _ = process.fetch(now);
        }
    }

    fn begin(&mut self) {
        let now = self.now();
        let Some(process) = &mut self.process else { return };
        for sent in process.begin(now) {
            self.checker.sent(&sent.context, self.life, now, &self.ground.store.dump());
            let mut verdict = answer(&self.ground.chance, now);
            if self.plan.healthy {
                verdict.park = None;
            }
            // Some last longer than it takes to compare what runs with the rows.
            let slow = !self.plan.healthy && self.ground.chance.hits(50);
            let (least, most) = if slow { (3_000, 12_000) } else { (0, 300) };
            let ends_at = now.plus(Millis::from_ms(self.ground.chance.ms(least, most)));
            let (context, ticket) = (sent.context, sent.ticket);
            self.wire.push(OnWire { ends_at, life: self.life, context, ticket, verdict });
        }
    }

    /// One call that is over: its answer reaches the life that sent it, or nobody.
    fn answer_one(&mut self) {
        let now = self.now();
        let Some(at) = self.wire.iter().position(|call| call.ends_at <= now) else { return };
        let call = self.wire.remove(at);
        self.checker.answered(&call.context, &call.verdict, now);
        if let Some(process) = self.process.as_mut().filter(|_| self.life == call.life) {
            let (task, verdict) = (call.context.task, call.verdict);
            process.executed(Executed { ended_at: now, task, ticket: call.ticket, verdict });
        }
    }

    fn finish(&mut self) {
        let now = self.now();
        if let Some(process) = self.process.as_mut().filter(|process| process.has_outcomes()) {
            process.finish(now);
        }
    }

    /// Everything that can happen now, until nothing more does.
    fn settle(&mut self) {
        for _ in 0..100 {
            let before = self.checker.history_len();
            self.fetch();
            self.begin();
            while self.wire.iter().any(|call| call.ends_at <= self.now()) {
                self.answer_one();
            }
            while self.process.as_ref().is_some_and(Process::has_outcomes) {
                self.finish();
            }
            let turn_now = self.process.as_ref().is_some_and(|process| process.next_event() <= self.now());
            if before == self.checker.history_len() && !turn_now {
                return;
            }
        }
    }

    fn next_event(&self) -> Option<Timestamp> {
        let turn = self.process.as_ref().map(Process::next_event);
        self.wire.iter().map(|call| call.ends_at).chain(turn).min()
    }

    fn come_to_rest(&mut self) {
        let late = self.now().plus(CALM_AT_MOST);
        while self.now() < late {
            self.settle();
            if self.wire.is_empty() && self.ground.store.dump().open.is_empty() {
                return;
            }
            let next = self.next_event().unwrap_or_else(|| self.now());
            self.ground.clock.advance_to(next.max(self.now().plus(Millis::from_ms(1))));
        }
        let open = self.ground.store.dump().open;
        panic!(
            "seed {}: broken promise: the world does not come to rest; still open: {open:#?}",
            self.plan.seed
        );
    }
}

/// What the callee says.
fn answer(chance: &Chance, now: Timestamp) -> Verdict {
    match chance.below(100) {
        0..60 => Verdict::done(),
        60..75 => Verdict::retry("http_status").with_status(500),
        75..80 => {
            let after = RetryDelay::Exactly(Millis::from_ms(chance.ms(0, 3_000)));
            Verdict::new(Outcome::Retry(after), "tsp_result")
        }
        80..84 => {
            let after = Millis::from_ms(chance.ms(0, 2_000));
            let outcome = Outcome::Retry(RetryDelay::RetryAfter(after));
            Verdict { park: Some(after), ..Verdict::new(outcome, "http_status") }
        }
        84..88 => Verdict::fail("gone"),
        88..94 => {
            let until = now.plus(Millis::from_ms(chance.ms(-1_000, 3_000)));
            Verdict::new(Outcome::Snooze { until }, "tsp_result")
        }
        _ => Verdict::new(Outcome::Accepted, "accepted"),
    }
}
