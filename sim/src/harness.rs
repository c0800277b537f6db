//! The harness: the process, its callers, its receivers, and the rng that moves them.

use std::sync::Arc;

use tsp_consumer_core::{EndedAttempt, TaskContext};
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::{Clock, Millis, Timestamp};
use tsp_queue::Ticket;
use tsp_store::WholeStore;
use tsp_store_testing::memory::MemoryStore;

use crate::broken::BrokenStore;
use crate::callers::Callers;
use crate::checker::Checker;
use crate::clock::SimClock;
use crate::coverage::Coverage;
use crate::faulty_store::FaultyStore;
use crate::plan::Plan;
use crate::process::{Environment, Process};
use crate::rng::SeededRng;
use crate::weather::{Waits, Weather};

/// When every history begins: a Saturday, so nothing special.
pub(crate) const START: Timestamp = Timestamp::from_ms(1_795_257_000_000);
/// When nothing goes wrong any more, all that is due is done within this time, whatever went wrong before.
const REST_WITHIN: Millis = Millis::from_secs(600);
/// What the auditor may not explain it counts from its second audit on, if that comes so much later.
const AUDIT_AGAIN: Millis = Millis::from_secs(15);

/// What came of a history.
#[derive(Debug, PartialEq, Eq)]
pub struct Story {
    pub history: Vec<String>,
    pub coverage: Coverage,
    /// How long it took to come to rest.
    pub rested_after: Millis,
}

/// A call on its way.
#[derive(Debug)]
struct PendingCall {
    ends_at: Timestamp,
    /// The life of the process that sent it; another life does not get the answer.
    life: u32,
    context: TaskContext,
    ticket: Ticket,
    verdict: Verdict,
}

pub struct Harness {
    plan: Plan,
    environment: Environment,
    process: Option<Process>,
    /// The fetcher of an earlier life that does not know that it is over.
    ghost: Option<Process>,
    life: u32,
    starts_at: Timestamp,
    wire: Vec<PendingCall>,
    callers: Callers,
    /// From now on receivers are well.
    calm: bool,
    pub(crate) checker: Checker,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Harness {
    pub fn new(plan: Plan) -> Self {
        let store = Arc::new(MemoryStore::new(16));
        let inner: Arc<dyn WholeStore> = match plan.bug {
            None => store.clone(),
            Some(bug) => Arc::new(BrokenStore::new(store.clone(), bug)),
        };
        let rng = Arc::new(SeededRng::new(plan.seed));
        let weather = Arc::new(Weather::new(rng.clone(), Waits::ByTurns, Arc::default()));
        let environment = Environment {
            store,
            faulty_store: Arc::new(FaultyStore { inner, weather: weather.clone() }),
            weather,
            clock: Arc::new(SimClock::at(START)),
            rng,
        };
        let mut harness = Self {
            callers: Callers::run_until_idle(&environment, &plan, START),
            checker: Checker::new(plan.seed, plan.clock_steps_ms > 0),
            environment,
            process: None,
            ghost: None,
            life: 0,
            starts_at: START,
            wire: Vec::new(),
            calm: false,
            plan,
        };
        harness.start_process();
        harness.environment.weather.set(harness.plan.faults);
        harness
    }

    /// Acts at random, then brings everything to rest and checks it.
    pub fn run(mut self) -> Story {
        for _ in 0..self.plan.acts {
            self.act();
        }
        self.rest()
    }

    /// As [`Harness::run`], but every act is followed by all that it causes, so that lateness means
    /// something: it is checked against `most`.
    pub fn run_promptly(mut self, most: Millis) -> Story {
        self.checker.forbid_lateness(Some(most));
        for _ in 0..self.plan.acts {
            let until = self.now().plus(Millis::from_ms(self.environment.rng.ms(0, 40)));
            while self.now() < until {
                self.run_until_idle();
                let next = self.next_event().unwrap_or(until).min(until);
                self.environment.clock.advance_to(next.max(self.now().plus(Millis::from_ms(1))));
            }
            self.run_until_idle();
            self.callers_act();
        }
        // What operators do now comes without hints: the resync finds it, late.
        self.checker.forbid_lateness(None);
        self.rest()
    }

    /// Nothing goes wrong any more: all that is due is done in time, and adds up.
    fn rest(mut self) -> Story {
        self.environment.weather.calm();
        self.check_begun();
        self.calm = true;
        if self.process.is_none() {
            self.start_process();
        }
        self.callers.let_go(&self.environment, self.now(), &mut self.checker);
        let rested_after = self.come_to_rest();
        let ledger = self.environment.store.dump();
        self.checker.at_rest(&ledger);
        self.nothing_is_unaccounted_for();
        let coverage = std::mem::take(&mut *self.environment.weather.coverage.lock());
        Story { history: self.checker.into_history(), coverage, rested_after }
    }

    fn now(&self) -> Timestamp {
        self.environment.clock.now()
    }

    fn act(&mut self) {
        match self.environment.rng.pick(&self.plan.rates.acts) {
            0 => self.environment.clock.step(Millis::from_ms(self.environment.rng.ms(0, 60))),
            1 => self.fetch(),
            2 => self.begin(),
            3 => self.answer_one(),
            4 => self.finish(),
            5 => self.callers_act(),
            6 => self.crash_or_jump(),
            _ => self.keep(),
        }
        if self.process.is_none() && self.now() >= self.starts_at {
            self.start_process();
        }
    }

    /// What is seldom: the retention loop, the auditor, messages that are handed back, and what the database does long
    /// after it was asked.
    fn keep(&mut self) {
        let now = self.now();
        self.environment.weather.let_late_happen();
        self.check_begun();
        let Some(process) = &mut self.process else { return };
        process.keep(now);
        if self.environment.rng.hits(300) {
            let hints = process.hints.clone();
            let (environment, callers) = (&self.environment, &mut self.callers);
            let (plan, checker) = (&self.plan, &mut self.checker);
            process.hand_back(now, &mut || callers.interrupt(environment, &hints, checker, plan));
        }
    }

    fn crash_or_jump(&mut self) {
        let jump = Millis::from_ms(self.environment.rng.ms(0, 4_000));
        if self.plan.crashes > 0 && self.process.is_some() && self.environment.rng.hits(300) {
            self.plan.crashes -= 1;
            // What the database was asked it has done, or never does.
            self.environment.weather.let_late_happen();
            self.check_begun();
            self.checker.died(self.life, self.now());
            let process = self.process.take();
            self.ghost = process.filter(|_| self.environment.rng.hits(500));
            let most = self.plan.clock_steps_ms;
            if most > 0 {
                self.environment.clock.step(Millis::from_ms(self.environment.rng.ms(-most, most)));
            }
            self.starts_at = self.now().plus(jump);
        } else {
            self.environment.clock.step(jump);
        }
    }

    fn start_process(&mut self) {
        let now = self.now();
        if let Ok(process) = Process::start(&self.environment, &self.plan, now) {
            self.life += 1;
            self.process = Some(process);
            self.checker.note(now, "start");
        }
    }

    fn callers_act(&mut self) {
        let Some(process) = &self.process else { return };
        self.callers.act(&self.environment, &process.hints, &mut self.checker, &self.plan);
    }

    fn check_begun(&mut self) {
        if let Some(task) = self.environment.weather.held.take_begun() {
            self.checker.require(false, "no begin after an answered pause", &task);
        }
    }

    fn fetch(&mut self) {
        let now = self.now();
        if self.process.is_some()
            && let Some(ghost) = &mut self.ghost
            && let Ok(report) = ghost.fetch(now, &mut || {})
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
        let Some(process) = &mut self.process else { return };
        let hints = process.hints.clone();
        let (environment, callers) = (&self.environment, &mut self.callers);
        let (plan, checker) = (&self.plan, &mut self.checker);
        let _ = process.fetch(now, &mut || callers.interrupt(environment, &hints, checker, plan));
    }

    fn begin(&mut self) {
        let now = self.now();
        let Some(process) = &mut self.process else { return };
        let hints = process.hints.clone();
        let (environment, callers) = (&self.environment, &mut self.callers);
        let (plan, checker) = (&self.plan, &mut self.checker);
        let sent = process.begin(now, &mut || callers.interrupt(environment, &hints, checker, plan));
        self.check_begun();
        let now = self.now();
        for sent in sent {
            self.checker.sent(&sent.context, self.life, now, &self.environment.store);
            let verdict = self.answer(now);
            let slow = !self.calm && self.environment.rng.hits(self.plan.slow_per_mille);
            let (least, most) = if slow { (3_000, 12_000) } else { (0, 300) };
            let ends_at = now.plus(Millis::from_ms(self.environment.rng.ms(least, most)));
            let (context, ticket) = (sent.context, sent.ticket);
            self.wire.push(PendingCall { ends_at, life: self.life, context, ticket, verdict });
        }
    }

    fn answer(&self, now: Timestamp) -> Verdict {
        let verdict = answer(&self.environment.rng, &self.plan.rates.answers, now);
        if self.calm {
            return Verdict::done();
        }
        Verdict { park: verdict.park.filter(|_| !self.plan.healthy), ..verdict }
    }

    /// One call that is over: its answer reaches the life that sent it, or nobody.
    fn answer_one(&mut self) {
        let now = self.now();
        let Some(at) = self.wire.iter().position(|call| call.ends_at <= now) else { return };
        let call = self.wire.remove(at);
        self.checker.answered(&call.context, &call.verdict, now);
        if let Some(process) = self.process.as_mut().filter(|_| self.life == call.life) {
            let (task, verdict) = (call.context.task, call.verdict);
            process.executed(EndedAttempt { ended_at: now, task, ticket: call.ticket, verdict });
        }
    }

    fn finish(&mut self) {
        let now = self.now();
        let Some(process) = self.process.as_mut().filter(|process| process.has_outcomes()) else { return };
        let hints = process.hints.clone();
        let (environment, callers) = (&self.environment, &mut self.callers);
        let (plan, checker) = (&self.plan, &mut self.checker);
        process.finish(now, &mut || callers.interrupt(environment, &hints, checker, plan));
    }

    /// Everything that can happen now, until nothing more does.
    fn run_until_idle(&mut self) {
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
            let more = |process: &Process| process.began || process.next_event() <= self.now();
            let more = self.process.as_ref().is_some_and(more);
            if before == self.checker.history_len() && !more {
                return;
            }
        }
    }

    fn next_event(&self) -> Option<Timestamp> {
        let turn = self.process.as_ref().map(Process::next_event);
        self.wire.iter().map(|call| call.ends_at).chain(turn).min()
    }

    /// How long it took.
    fn come_to_rest(&mut self) -> Millis {
        let (from, late) = (self.now(), self.now().plus(REST_WITHIN));
        while self.now() < late {
            self.run_until_idle();
            if self.wire.is_empty() && self.environment.store.open_tasks().is_empty() {
                return self.now().since(from);
            }
            self.pass();
        }
        let open = self.environment.store.open_tasks();
        let last = self.checker.last_of_history();
        panic!(
            "seed {}: broken promise: the world does not come to rest; still open: {open:#?}\n{last}",
            self.plan.seed
        );
    }

    fn pass(&self) {
        let next = self.next_event().unwrap_or_else(|| self.now());
        self.environment.clock.advance_to(next.max(self.now().plus(Millis::from_ms(1))));
    }

    fn nothing_is_unaccounted_for(&mut self) {
        let until = self.now().plus(AUDIT_AGAIN);
        let now = self.now();
        let mut look = self.process.as_mut().and_then(|process| process.keep(now));
        while self.now() < until {
            self.run_until_idle();
            self.pass();
            look = self.process.as_mut().and_then(|process| process.keep(self.environment.clock.now()));
        }
        let unaccounted = look.map(tsp_fetcher::Findings::unaccounted);
        assert_eq!(unaccounted, Some(0), "seed {}: broken promise: {look:?}", self.plan.seed);
    }
}

/// What the receiver says.
pub(crate) fn answer(rng: &SeededRng, rates: &[u64], now: Timestamp) -> Verdict {
    match rng.pick(rates) {
        0 => Verdict::done(),
        1 => Verdict::retry("http_status").with_status(500),
        2 => {
            let after = RetryDelay::Exactly(Millis::from_ms(rng.ms(0, 3_000)));
            Verdict::new(Outcome::Retry(after), "tsp_result")
        }
        3 => {
            let after = Millis::from_ms(rng.ms(0, 2_000));
            let outcome = Outcome::Retry(RetryDelay::RetryAfter(after));
            Verdict { park: Some(after), ..Verdict::new(outcome, "http_status") }
        }
        4 => Verdict::fail("gone"),
        5 => {
            let until = now.plus(Millis::from_ms(rng.ms(-1_000, 3_000)));
            Verdict::new(Outcome::Snooze { until }, "tsp_result")
        }
        _ => Verdict::new(Outcome::Accepted, "accepted"),
    }
}
