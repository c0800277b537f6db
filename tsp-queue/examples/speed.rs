//! What a message costs through a real nsqd: published, taken, acknowledged, and reported to the fetcher.
//!
//! ```sh
//! cargo run --release -p tsp-queue --example speed -- [messages=100000] [per_second=10000]
//! ```
//!
//! Messages are published in ticks of a millisecond at the given rate, or as fast as they go with 0. Prints the
//! rate, the CPU time of this process (without nsqd's) per message, and how long messages were on their way.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use peers::Nsqd;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::{ConfigId, Name, ShardId, TaskId};
use tsp_queue::nsq::{NsqContext, NsqEvents, NsqFeedback, NsqOptions, NsqPublisher, NsqSubscriber};
use tsp_queue::{EventRouter, Feedback, FeedbackSink, Inbox, Message, Publisher, Subscriber};

const BATCH: usize = 256;
const TICK: Duration = Duration::from_millis(1);
/// Above the shard in a task's id, so that all are in the first shard.
const NUMBER_SHIFT: u32 = 22;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let total: usize = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let rate: usize = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let nsqd = Nsqd::start()?;
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut options = NsqOptions::new(Arc::new(|| 0.5));
    options.nsqd_tcp = vec![nsqd.tcp_address()];
    options.nsqd_http = vec![nsqd.http_address()];
    let nsq = NsqContext::start(options, tracker.clone(), stop.clone())?;

    let (queue, group) = (Name::default_name(), Name::default_name());
    let room = Arc::new(Notify::new());
    let woken = room.clone();
    let publisher = NsqPublisher::start(&nsq, Arc::new(move || woken.notify_one()), Arc::new(|| {}));
    let subscriber = NsqSubscriber::start(&nsq, &queue, 1_024)?;
    let (event_router, inbox) = (Arc::new(EventRouter::new()), Arc::new(Inbox::new()));
    event_router.register(group.clone(), ShardId::default(), inbox.clone());
    let events = NsqEvents::start(&nsq, std::slice::from_ref(&group), "speed", &event_router)?;
    let feedback = NsqFeedback::start(&nsq, Arc::new(move |_| group.clone()));
    tokio::join!(subscriber.connected(), events.connected());

    let sent = Mutex::new(vec![Instant::now(); total + 1]);
    let (started, cpu) = (Instant::now(), cpu_us());
    let publish = publish(&publisher, &queue, &room, &sent, rate);
    let (failed, mut ways) = tokio::join!(publish, work(&subscriber, &feedback, &sent, total));
    let (wall, cpu) = (started.elapsed(), cpu_us() - cpu);
    let mut heard = inbox.drain().feedback.len();
    let mut ticks = interval(TICK);
    while heard < total && started.elapsed() < wall + Duration::from_secs(2) {
        ticks.tick().await;
        heard += inbox.drain().feedback.len();
    }
    ways.sort_unstable();
    let count = f64::from(u32::try_from(total)?);
    println!("{total} messages in {wall:.2?}: {:.0} a second", count / wall.as_secs_f64());
    println!("CPU of this process: {:.2} us a message", cpu / count);
    println!(
        "on the way: p50 {:?}, p99 {:?}, most {:?}",
        ways[total / 2],
        ways[total * 99 / 100],
        ways[total - 1]
    );
    println!("failed publishes: {failed}, feedback heard: {heard}");
    stop.cancel();
    subscriber.close(Duration::from_secs(1)).await;
    Ok(())
}

/// As a fetcher does: in ticks, and as many as there is room for.
async fn publish(
    publisher: &NsqPublisher,
    queue: &Name,
    room: &Notify,
    sent: &Mutex<Vec<Instant>>,
    rate: usize,
) -> usize {
    let total = sent.lock().len() - 1;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let (mut next, mut failed) = (1, 0);
    while next <= total {
        ticks.tick().await;
        let due = match rate {
            0 => total,
            rate => (usize::try_from(began.elapsed().as_micros()).unwrap_or(usize::MAX) * rate / 1_000_000)
                .min(total),
        };
        let free = publisher.room(queue);
        if free == 0 {
            room.notified().await;
            continue;
        }
        let until = (due + 1).min(next + free.min(4 * BATCH));
        if until <= next {
            continue;
        }
        let ids = next..until;
        sent.lock()[ids.clone()].fill(Instant::now());
        let task = |id: usize| TaskId::new(i64::try_from(id).unwrap_or(0) << NUMBER_SHIFT);
        let messages = ids.clone().map(|id| Message { id: task(id), version: 1, row: None }).collect();
        failed += publisher.publish(queue, messages).await.iter().filter(|result| result.is_err()).count();
        next = until;
    }
    failed
}

/// Takes, acknowledges and reports; gives the time that each message was on its way.
async fn work(
    subscriber: &NsqSubscriber,
    feedback: &NsqFeedback,
    sent: &Mutex<Vec<Instant>>,
    total: usize,
) -> Vec<Duration> {
    let mut ways = Vec::with_capacity(total);
    while ways.len() < total {
        subscriber.ready().await;
        let taken = subscriber.take(BATCH);
        let now = Instant::now();
        {
            let sent = sent.lock();
            let numbers = taken.iter().map(|delivery| delivery.message.id.get() >> NUMBER_SHIFT);
            ways.extend(numbers.filter_map(|number| Some(now - sent[usize::try_from(number).ok()?])));
        }
        let tickets: Vec<_> = taken.iter().map(|delivery| delivery.ticket).collect();
        subscriber.ack(&tickets);
        let said = taken.iter().map(|delivery| Feedback {
            task: delivery.message.id,
            config: Some(ConfigId::new(1)),
            version: delivery.message.version,
            due_again: None,
            awaits_until: None,
            park: None,
        });
        feedback.report(said.collect());
    }
    ways
}

/// CPU time of all threads of this process, where the system has `/proc`; else 0.
fn cpu_us() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let mut total = 0.0;
    for thread in threads.flatten() {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let run: Option<f64> = text.split_whitespace().next().and_then(|text| text.parse().ok());
        total += run.unwrap_or(0.0) / 1e3;
    }
    total
}
