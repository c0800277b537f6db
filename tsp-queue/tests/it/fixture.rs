//! nsqds and both ends of a queue over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peers::Nsqd;
use tokio::sync::Notify;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::{Name, TaskId};
use tsp_queue::nsq::{NsqContext, NsqOptions, NsqPublisher, NsqSubscriber};
use tsp_queue::{Delivery, Message, PublishError, Publisher, Subscriber, Ticket};

const LIMIT: Duration = Duration::from_secs(40);

/// Some nsqds, and this process beside them.
pub(crate) struct Fixture {
    pub(crate) nsqds: Vec<Nsqd>,
    pub(crate) options: NsqOptions,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Fixture {
    pub(crate) fn new(count: usize) -> Self {
        let mut options = NsqOptions::new(Arc::new(|| 0.0));
        options.capacity = 100;
        // A publish that is given up may have happened, and its message be there twice.
        options.answer_within = Duration::from_secs(15);
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut fixture = Self { nsqds: Vec::new(), options, tracker, stop };
        for _ in 0..count {
            fixture.add(Nsqd::start().unwrap());
        }
        fixture
    }

    pub(crate) fn add(&mut self, nsqd: Nsqd) {
        self.options.nsqd_tcp.push(nsqd.tcp_address());
        self.options.nsqd_http.push(nsqd.http_address());
        self.nsqds.push(nsqd);
    }

    /// As another process would see them.
    pub(crate) fn nsq(&self) -> Arc<NsqContext> {
        NsqContext::start(self.options.clone(), self.tracker.clone(), self.stop.clone()).unwrap()
    }

    pub(crate) fn publisher(&self) -> WokenPublisher {
        let (calls, lost) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (wake, lose) = (calls.clone(), lost.clone());
        let lose = move || {
            lose.fetch_add(1, Ordering::SeqCst);
        };
        let publisher = NsqPublisher::start(&self.nsq(), Arc::new(move || wake.notify_one()), Arc::new(lose));
        WokenPublisher { publisher, calls, lost }
    }

    pub(crate) async fn subscriber(&self) -> NsqSubscriber {
        let subscriber = NsqSubscriber::start(&self.nsq(), &queue(), 50).unwrap();
        soon(subscriber.connected()).await;
        subscriber
    }
}

/// A publisher, and when it calls for more.
pub(crate) struct WokenPublisher {
    pub(crate) publisher: NsqPublisher,
    pub(crate) calls: Arc<Notify>,
    /// How often it reported an nsqd that was lost.
    pub(crate) lost: Arc<AtomicUsize>,
}

impl WokenPublisher {
    pub(crate) async fn publish(&self, ids: impl IntoIterator<Item = i64>) -> Vec<Result<(), PublishError>> {
        let messages = ids.into_iter().map(message).collect();
        let results = soon(self.publisher.publish(&queue(), messages)).await;
        results.into_iter().map(|result| result.map_err(|(_, error)| error)).collect()
    }

    /// Publishes as a fetcher does, until all is taken.
    pub(crate) async fn insist(&self, ids: impl IntoIterator<Item = i64>) {
        let mut left: Vec<_> = ids.into_iter().map(message).collect();
        let all = async {
            while !left.is_empty() {
                let results = self.publisher.publish(&queue(), std::mem::take(&mut left)).await;
                left.extend(
                    results.into_iter().filter_map(|result| result.err().map(|(message, _)| message)),
                );
                if !left.is_empty() {
                    until(|| self.publisher.room(&queue()) > 0).await;
                }
            }
        };
        soon(all).await;
    }

    pub(crate) async fn settles_at(&self, room: usize) {
        until(|| self.publisher.room(&queue()) == room).await;
    }
}

pub(crate) fn queue() -> Name {
    Name::default_name()
}

fn message(id: i64) -> Message {
    Message { id: TaskId::new(id), version: 1, row: None }
}

/// Takes until there are so many.
pub(crate) async fn collect(subscriber: &NsqSubscriber, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            subscriber.ready().await;
            taken.extend(subscriber.take(count - taken.len()));
        }
    };
    soon(all).await;
    taken
}

pub(crate) fn tickets(deliveries: &[Delivery]) -> Vec<Ticket> {
    deliveries.iter().map(|delivery| delivery.ticket).collect()
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<i64> {
    let mut ids: Vec<_> = deliveries.iter().map(|delivery| delivery.message.id.get()).collect();
    ids.sort_unstable();
    ids
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("it happens soon")
}

/// Another process is to do something and has no way to tell us.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(5));
    let met = async {
        while !condition() {
            ticks.tick().await;
        }
    };
    soon(met).await;
}

/// What nsqd says of the queue.
pub(crate) fn stats(nsqd: &Nsqd) -> String {
    nsqd.get("/stats?format=json&topic=tsp.q.default&include_clients=false&include_mem=false").unwrap()
}
