//! What goes wrong between a process and the store, and how long it takes.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tsp_core::ConfigId;
#[cfg(test)]
use tsp_core::Millis;
use tsp_core::task::Task;
use tsp_core::work::{BeginResult, Each};
use tsp_store::{Cause, Result, StoreError};

use crate::coverage::{CallFate, Coverage, Move};
use crate::rng::SeededRng;

/// How often what happens to a call, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultRates {
    pub before: u64,
    pub instead: u64,
    pub after: u64,
    pub late: u64,
    pub cut: u64,
    /// Calls that take a while, so that something else happens meanwhile.
    pub slow: u64,
    /// Batches that fail in part.
    pub split: u64,
    /// Not zero: some methods fail often and some never, by this number.
    pub focus: u64,
}

/// What a call may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// A write that may also happen after its caller has given it up.
    MayBeLate,
}

/// Why nothing of a config begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HoldReason {
    Paused,
    Disabled,
}

/// What operators were answered about configs, against what is begun.
#[derive(Default)]
pub(crate) struct HoldLog {
    /// Configs that were answered to be paused, or disabled.
    held: Mutex<BTreeSet<(ConfigId, HoldReason)>>,
    /// What was begun in spite of that.
    begun: Mutex<Option<Box<Task>>>,
}

impl HoldLog {
    /// It was answered that nothing of the config begins.
    pub(crate) fn hold(&self, config: ConfigId, why: HoldReason) {
        self.held.lock().insert((config, why));
    }

    pub(crate) fn let_go(&self, config: ConfigId, why: HoldReason) {
        self.held.lock().remove(&(config, why));
    }

    pub(crate) fn begun(&self, answers: &Each<BeginResult>) {
        let held = self.held.lock();
        for answer in answers {
            if let Ok(BeginResult::Run(task)) = answer
                && [HoldReason::Paused, HoldReason::Disabled]
                    .iter()
                    .any(|why| held.contains(&(task.config, *why)))
            {
                *self.begun.lock() = Some(task.clone());
            }
        }
    }

    pub(crate) fn take_begun(&self) -> Option<Box<Task>> {
        self.begun.lock().take()
    }
}

/// How a call takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Its future is polled again.
    ByTurns,
    /// On the timer of the runtime that it runs in.
    #[cfg(test)]
    ByTimer,
}

pub(crate) struct Weather {
    rng: Arc<SeededRng>,
    waits: Waits,
    rates: Mutex<FaultRates>,
    late: Mutex<Vec<BoxFuture<'static, ()>>>,
    /// The future of the present step is to be dropped.
    cut: AtomicBool,
    pub(crate) coverage: Mutex<Coverage>,
    pub(crate) held: Arc<HoldLog>,
}

impl Weather {
    pub(crate) fn new(rng: Arc<SeededRng>, waits: Waits, held: Arc<HoldLog>) -> Self {
        Self {
            rng,
            waits,
            rates: Mutex::default(),
            late: Mutex::default(),
            cut: AtomicBool::new(false),
            coverage: Mutex::default(),
            held,
        }
    }

    pub(crate) fn set(&self, rates: FaultRates) {
        *self.rates.lock() = rates;
    }

    /// From now on nothing goes wrong. What is late happens.
    pub(crate) fn calm(&self) {
        self.set(FaultRates::default());
        self.let_late_happen();
    }

    pub(crate) fn let_late_happen(&self) {
        let late = std::mem::take(&mut *self.late.lock());
        for work in late {
            finish_off(work);
        }
    }

    pub(crate) fn may_split(&self) -> bool {
        let per_mille = self.rates.lock().split;
        per_mille > 0 && self.rng.hits(per_mille)
    }

    fn fault(&self, call: &'static str, kind: Kind) -> Option<CallFate> {
        let rates = *self.rates.lock();
        let all = [rates.before, rates.instead, rates.after, rates.late, rates.cut, rates.cut];
        if all.iter().sum::<u64>() == 0 {
            return None;
        }
        let weight = weight(call, rates.focus);
        let mut left = self.rng.below(4_000);
        let met = [
            CallFate::Before,
            CallFate::Instead,
            CallFate::After,
            CallFate::Late,
            CallFate::CutBefore,
            CallFate::CutAfter,
        ]
        .into_iter();
        let hit = met.zip(all).find(|(_, rate)| {
            let hit = left < rate * weight;
            left = left.saturating_sub(rate * weight);
            hit
        });
        let met = hit.map(|(met, _)| met)?;
        match (kind, met) {
            (Kind::Read, CallFate::After | CallFate::Late) => Some(CallFate::Before),
            (Kind::Write, CallFate::Late) => Some(CallFate::After),
            (_, met) => Some(met),
        }
    }

    async fn pause(&self) {
        let slow = self.rates.lock().slow;
        match self.waits {
            Waits::ByTurns => {
                while slow > 0 && self.rng.hits(slow) {
                    yield_once().await;
                }
            }
            #[cfg(test)]
            Waits::ByTimer => {
                if slow > 0 && self.rng.hits(slow) {
                    let most = if self.rng.hits(20) { 3_000 } else { 60 };
                    crate::cluster::pass(Millis::from_ms(self.rng.ms(1, most))).await;
                }
            }
        }
    }

    /// A call with whatever happens to it.
    pub(crate) async fn ask<T: Send, E: From<StoreError> + Send>(
        &self,
        (call, kind): (&'static str, Kind),
        moves: Vec<Move>,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let met = self.fault(call, kind);
        let mut asked = PendingCall { weather: self, moves, happened: false, answered: false };
        self.pause().await;
        if met == Some(CallFate::CutBefore) {
            self.be_cut().await;
        }
        let answer = match met {
            Some(CallFate::Before) => Err(Cause::Away.because(format!("`{call}` failed by a fault")).into()),
            Some(CallFate::Instead) => {
                Err(StoreError::Internal(format!("`{call}` is refused by a fault")).into())
            }
            Some(CallFate::Late) => {
                self.late.lock().push(Box::pin(async move {
                    // Nobody is there to receive it.
                    let _ = work.await;
                }));
                Err(StoreError::Unknown(format!("`{call}` is late by a fault")).into())
            }
            Some(CallFate::After) => {
                work.await?;
                let lost = format!("the answer of `{call}` was lost by a fault");
                Err(StoreError::Unknown(lost).into())
            }
            Some(CallFate::CutBefore | CallFate::CutAfter) | None => work.await,
        };
        asked.happened = true;
        self.pause().await;
        if met == Some(CallFate::CutAfter) {
            self.be_cut().await;
        }
        asked.answered = true;
        if let Some(met) = met {
            self.coverage.lock().note(&asked.moves, met);
        }
        answer
    }

    async fn be_cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }

    /// Polls a step to its end; `between` is what happens while it waits. `None`: it was dropped on its way.
    pub(crate) fn drive<T>(&self, step: impl Future<Output = T>, between: &mut dyn FnMut()) -> Option<T> {
        let mut step = pin!(step);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = step.as_mut().poll(&mut context) {
                return Some(done);
            }
            if self.cut.swap(false, Ordering::Relaxed) {
                return None;
            }
            between();
        }
    }

    /// The same with nothing between.
    pub(crate) fn wait<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        self.drive(step, &mut || {})
    }
}

/// How often a method fails, in quarters of the rate.
fn weight(call: &str, focus: u64) -> u64 {
    if focus == 0 {
        return 4;
    }
    let mixed = call.bytes().fold(focus, |sum, byte| SeededRng::new(sum ^ u64::from(byte)).next());
    [0, 0, 2, 8][(mixed % 4) as usize]
}

/// A future that waits for nothing but its turn.
pub(crate) fn finish_off<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// A call on its way; says so when it is dropped there.
struct PendingCall<'a> {
    weather: &'a Weather,
    moves: Vec<Move>,
    happened: bool,
    answered: bool,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let met = if self.happened { CallFate::CutAfter } else { CallFate::CutBefore };
            self.weather.coverage.lock().note(&self.moves, met);
        }
    }
}
