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

use super::event::Event;
use super::flight::Flight;
use super::keeper::{self, Listed, Shop};
use super::pause::Pause;
use super::shares::{Limits, Load, Shares};
use crate::codec::Command;
use crate::discovery::Addresses;
use crate::metric_names;

/// Room that becomes free is given away this much later, together with what becomes free until then.
const GATHER: Duration = Duration::from_millis(20);
const FAR: Duration = Duration::from_hours(1);

pub(super) struct Manager {
    shop: Shop,
    max_in_flight: Arc<AtomicU32>,
    addresses: Addresses,
    poke: Arc<Notify>,
    keepers: HashMap<String, Listed>,
    shares: Shares,
    pause: Pause,
    ready: Gauge,
    ready_sum: u32,
}

impl Manager {
    pub(super) fn new(
        shop: Shop,
        max_in_flight: Arc<AtomicU32>,
        addresses: Addresses,
        poke: Arc<Notify>,
    ) -> Self {
        Self {
            shop,
            max_in_flight,
            addresses,
            poke,
            keepers: HashMap::new(),
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
                self.keepers.remove(&address);
                self.follow_list();
            }
            Event::Changed | Event::Freed | Event::Close { .. } => {}
        }
    }

    fn follow_list(&mut self) {
        let listed = self.addresses.borrow_and_update().clone().unwrap_or_default();
        for (address, flag) in &self.keepers {
            flag.store(listed.contains(address), Ordering::Release);
        }
        for address in listed {
            if !self.keepers.contains_key(&address) {
                let flag = Listed::new(AtomicBool::new(true));
                self.keepers.insert(address.clone(), flag.clone());
                self.shop.tasks.spawn(keeper::keep(self.shop.clone(), address, flag));
            }
        }
    }

    /// Brings `RDY` in line with what there is; gives the time to look again.
    fn step(&mut self) -> Instant {
        let now = Instant::now();
        self.pause.tick(now);
        self.shop.flights.set_backing_off(!self.pause.is_running());
        let flights = self.shop.flights.all();
        self.shares.retain(|id| flights.contains_key(&id));
        for (id, flight) in &flights {
            if !self.shares.contains(*id) {
                self.shares.join(*id, flight.negotiated.max_rdy_count, now);
            }
        }
        let total = self.max_in_flight.load(Ordering::Acquire);
        let limits = Limits { total, allowed: self.pause.allowed(total) };
        // Asked before looking, so that what is done in between is heard.
        self.shop.bell.ask();
        let step = self.shares.step(limits, now, |id| load(&flights, id));
        if !step.short {
            self.shop.bell.unask();
        }
        for (id, ready) in step.changes {
            if let Some(flight) = flights.get(&id) {
                flight.outbox.tell(Command::Rdy(ready));
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
        self.shop.closing.cancel();
        let flights = self.shop.flights.all();
        let goodbyes = flights.values().map(|flight| {
            flight.outbox.tell(Command::Rdy(0));
            flight.outbox.ask(Command::Cls, None)
        });
        let goodbyes = join_all(goodbyes);
        // The first poll sends all of them, before anything is requeued.
        tokio::pin!(goodbyes);
        let _ = futures::poll!(&mut goodbyes);
        self.shop.inbox.give_back();
        // An nsqd that does not answer is shown the door like the others.
        let _ = timeout_at(drained_by, async {
            goodbyes.await;
            self.drained(events).await;
        })
        .await;
        for flight in flights.values() {
            flight.give_back();
            flight.outbox.shut();
        }
    }

    async fn drained(&self, events: &mut UnboundedReceiver<Event>) {
        loop {
            self.shop.bell.ask();
            if self.shop.flights.in_flight() == 0 {
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

fn load(flights: &BTreeMap<u64, Arc<Flight>>, id: u64) -> Load {
    flights.get(&id).map(|flight| flight.load()).unwrap_or_default()
}
