//! The task that decides: which nsqds are connected, and which `RDY` each has.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use metrics::Gauge;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection_supervisor::{self, ConsumerContext, ListedFlag};
use super::event::Event;
use super::in_flight_tracker::InFlightTracker;
use super::pause::Pause;
use super::shares::{Limits, Load, Shares};
use crate::codec::Command;
use crate::discovery::Addresses;
use crate::metric_names;

/// Room that becomes free is shared out this much later, together with what becomes free until then.
const GATHER: Duration = Duration::from_millis(20);
const FAR: Duration = Duration::from_hours(1);

pub(super) struct Manager {
    context: ConsumerContext,
    max_in_flight: Arc<AtomicU32>,
    addresses: Addresses,
    poke: Arc<Notify>,
    supervisors: HashMap<String, ListedFlag>,
    shares: Shares,
    pause: Pause,
    ready: Gauge,
    ready_sum: u32,
}

impl Manager {
    pub(super) fn new(
        context: ConsumerContext,
        max_in_flight: Arc<AtomicU32>,
        addresses: Addresses,
        poke: Arc<Notify>,
    ) -> Self {
        Self {
            context,
            max_in_flight,
            addresses,
            poke,
            supervisors: HashMap::new(),
            shares: Shares::default(),
            pause: Pause::default(),
            ready: metrics::gauge!(metric_names::READY),
            ready_sum: 0,
        }
    }

    pub(super) async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        self.follow_list();
        let mut wake = Instant::now();
        let mut list_is_open = true;
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(Event::Close { drained_by, done }) => {
                        self.close(drained_by, &mut events).await;
                        // Whoever asked may have run out of time.
                        let _ = done.send(());
                        return;
                    }
                    Some(Event::Freed) => {
                        wake = wake.min(Instant::now() + GATHER);
                        continue;
                    }
                    Some(event) => self.handle(event),
                    None => return,
                },
                changed = self.addresses.changed(), if list_is_open => match changed {
                    Ok(()) => self.follow_list(),
                    Err(_) => list_is_open = false,
                },
                () = sleep_until(wake) => {}
            }
            wake = self.step();
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::BackOff => self.pause.failed(now),
            Event::Succeeded => self.pause.succeeded(now),
            Event::Lost => self.poke.notify_one(),
            Event::Left(address) => {
                self.supervisors.remove(&address);
                self.follow_list();
            }
            Event::Changed | Event::Freed | Event::Close { .. } => {}
        }
    }

    fn follow_list(&mut self) {
        let listed = self.addresses.borrow_and_update().clone().unwrap_or_default();
        for (address, flag) in &self.supervisors {
            flag.store(listed.contains(address), Ordering::Release);
        }
        for address in listed {
            if !self.supervisors.contains_key(&address) {
                let flag = ListedFlag::new(AtomicBool::new(true));
                self.supervisors.insert(address.clone(), flag.clone());
                self.context.tasks.spawn(connection_supervisor::keep(self.context.clone(), address, flag));
            }
        }
    }

    /// Brings `RDY` in line with what there is; gives the time to look again.
    fn step(&mut self) -> Instant {
        let now = Instant::now();
        self.pause.tick(now);
        self.context.trackers.set_backing_off(!self.pause.is_running());
        let trackers = self.context.trackers.all();
        self.shares.retain(|id| trackers.contains_key(&id));
        for (id, tracker) in &trackers {
            if !self.shares.contains(*id) {
                self.shares.join(*id, tracker.negotiated.max_rdy_count, now);
            }
        }
        let total = self.max_in_flight.load(Ordering::Acquire);
        let limits = Limits { total, allowed: self.pause.allowed(total) };
        // Asked before looking, so that what is done in between is notified.
        self.context.notifier.ask();
        let step = self.shares.step(limits, now, |id| load(&trackers, id));
        if !step.short {
            self.context.notifier.unask();
        }
        for (id, ready) in step.changes {
            if let Some(tracker) = trackers.get(&id) {
                tracker.outbox.tell(Command::Rdy(ready));
            }
        }
        self.measure();
        step.wake.into_iter().chain(self.pause.until()).chain([now + FAR]).min().expect("it is not empty")
    }

    fn measure(&mut self) {
        let sum = self.shares.sum();
        self.ready.increment(f64::from(sum) - f64::from(self.ready_sum));
        self.ready_sum = sum;
    }

    /// Rule 8 of `docs/reference/nsq.md`, section 13.
    async fn close(&mut self, drained_by: Instant, events: &mut UnboundedReceiver<Event>) {
        self.context.closing.cancel();
        let trackers = self.context.trackers.all();
        let close_requests = trackers.values().map(|tracker| {
            tracker.outbox.tell(Command::Rdy(0));
            tracker.outbox.ask(Command::Cls, None)
        });
        let close_requests = join_all(close_requests);
        // The first poll sends all of them, before anything is requeued.
        tokio::pin!(close_requests);
        let _ = futures::poll!(&mut close_requests);
        self.context.inbox.requeue_all();
        // An nsqd that does not answer is closed like the others.
        let _ = timeout_at(drained_by, async {
            close_requests.await;
            self.drained(events).await;
        })
        .await;
        for tracker in trackers.values() {
            tracker.requeue_all();
            tracker.outbox.shut();
        }
    }

    async fn drained(&self, events: &mut UnboundedReceiver<Event>) {
        loop {
            self.context.notifier.ask();
            if self.context.trackers.in_flight() == 0 {
                return;
            }
            // Other events end no message; looking again after them does no harm.
            if events.recv().await.is_none() {
                return;
            }
        }
    }
}

/// The gauge is shared with other consumers of the process.
impl Drop for Manager {
    fn drop(&mut self) {
        self.ready.decrement(f64::from(self.ready_sum));
    }
}

fn load(trackers: &BTreeMap<u64, Arc<InFlightTracker>>, id: u64) -> Load {
    trackers.get(&id).map(|tracker| tracker.load()).unwrap_or_default()
}
