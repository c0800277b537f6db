use std::sync::Arc;
use std::time::Duration;

use peers::{Nsqd, Nsqlookupd};
use tokio::time::timeout;
use tsp_core::{ConfigId, Millis, Name, ShardId, TaskId, Timestamp};
use tsp_queue::nsq::{NsqEvents, NsqFeedback, NsqHints};
use tsp_queue::{EventRouter, Feedback, FeedbackSink, Inbox, InboxEvents};

use crate::fixture::{Fixture, soon, until};

const CONFIG: ConfigId = ConfigId::new(7);
const OTHER: ConfigId = ConfigId::new(8);

fn group(name: &str) -> Name {
    Name::group(name).unwrap()
}

fn shard(number: u16) -> ShardId {
    ShardId::new(number).unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn everything(nsqd: &Nsqd) -> String {
    nsqd.get("/stats?format=json&include_clients=false&include_mem=false").unwrap()
}

fn said(shard: i64) -> Feedback {
    Feedback {
        task: TaskId::new((1 << 22) | (shard << 13) | 1),
        config: Some(CONFIG),
        version: 3,
        due_again: Some(at(500)),
        awaits_until: None,
        park: Some(Millis::from_secs(3)),
    }
}

/// A process with fetchers.
struct Fetchers {
    event_router: Arc<EventRouter>,
    inbox: Arc<Inbox>,
    _news: NsqEvents,
}

impl Fetchers {
    /// Owns one shard group of group `a`, and listens to groups `a` and `b`.
    async fn start(fixture: &Fixture, node: &str, own: ShardId) -> Self {
        let (event_router, inbox) = (Arc::new(EventRouter::new()), Arc::new(Inbox::new()));
        event_router.register(group("a"), own, inbox.clone());
        let events =
            NsqEvents::start(&fixture.nsq(), &[group("a"), group("b")], node, &event_router).unwrap();
        soon(events.connected()).await;
        // News goes to any one of the nsqds and only to the channels that are there by then: two topics a group.
        let channel = format!("{node}#ephemeral\"");
        until(|| fixture.nsqds.iter().all(|nsqd| everything(nsqd).matches(&channel).count() == 4)).await;
        Self { event_router, inbox, _news: events }
    }

    /// What came, once it is as wanted.
    async fn receives(&self, wanted: impl Fn(&InboxEvents) -> bool) -> InboxEvents {
        let mut all = InboxEvents::default();
        until(|| {
            let some = self.inbox.drain();
            all.due.extend(some.due);
            all.changed.extend(some.changed);
            all.feedback.extend(some.feedback);
            wanted(&all)
        })
        .await;
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_reach_the_owner_and_changes_reach_all() {
    let fixture = Fixture::new(1);
    let fetchers =
        [Fetchers::start(&fixture, "1", shard(0)).await, Fetchers::start(&fixture, "2", shard(1)).await];
    let hints = NsqHints::start(&fixture.nsq());
    hints.due(&group("a"), CONFIG, shard(0), at(10));
    hints.due(&group("a"), CONFIG, shard(1), at(20));
    hints.due(&group("b"), OTHER, shard(0), at(30));
    // The last word, in each of the groups.
    hints.changed(&group("b"), OTHER);
    hints.changed(&group("a"), CONFIG);
    for (fetchers, due_at) in fetchers.iter().zip([10, 20]) {
        let received = fetchers.receives(|all| all.changed.len() == 2).await;
        assert_eq!(received.due.into_iter().collect::<Vec<_>>(), [(CONFIG, at(due_at))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_reaches_the_owner_of_the_task() {
    let fixture = Fixture::new(2);
    let fetchers =
        [Fetchers::start(&fixture, "1", shard(0)).await, Fetchers::start(&fixture, "2", shard(1)).await];
    let feedback = NsqFeedback::start(&fixture.nsq(), Arc::new(|_| group("a")));
    feedback.report(vec![said(0), said(1), said(2), said(1)]);
    // Of no known config: it goes to the groups that were spoken to.
    let gone = Feedback { config: None, ..said(1) };
    feedback.report(vec![gone.clone()]);
    let first = fetchers[0].receives(|all| !all.feedback.is_empty()).await;
    let mut second = fetchers[1].receives(|all| all.feedback.len() == 3).await.feedback;
    assert_eq!(first.feedback, [said(0)]);
    // They may come by one nsqd or the other, so in any order.
    second.sort_by_key(|feedback| feedback.config.is_none());
    assert_eq!(second, [said(1), said(1), gone]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_group_that_moved_hears_at_its_new_owner() {
    let fixture = Fixture::new(1);
    let [old, new] =
        [Fetchers::start(&fixture, "1", shard(0)).await, Fetchers::start(&fixture, "2", shard(1)).await];
    old.event_router.unregister(&group("a"), shard(0));
    new.event_router.register(group("a"), shard(0), new.inbox.clone());
    let feedback = NsqFeedback::start(&fixture.nsq(), Arc::new(|_| group("a")));
    feedback.report(vec![said(0)]);
    new.receives(|all| all.feedback == [said(0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_message_holds_arrives_whole() {
    const MANY: i64 = 5_000;
    let fixture = Fixture::new(1);
    let fetchers = Fetchers::start(&fixture, "1", shard(0)).await;
    let feedback = NsqFeedback::start(&fixture.nsq(), Arc::new(|_| group("a")));
    feedback.report(
        (1..=MANY).map(|config| Feedback { config: Some(ConfigId::new(config)), ..said(0) }).collect(),
    );
    let received = fetchers.receives(|all| all.feedback.len() >= 5_000).await;
    let mut configs: Vec<_> = received.feedback.iter().filter_map(|said| Some(said.config?.get())).collect();
    configs.sort_unstable();
    assert_eq!(configs, (1..=MANY).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_flow_again_after_nsqd_was_killed() {
    let fixture = Fixture::new(1);
    let fetchers = Fetchers::start(&fixture, "1", shard(0)).await;
    let hints = NsqHints::start(&fixture.nsq());
    fixture.nsqds[0].kill();
    // Lost, and nobody waits for it.
    hints.due(&group("a"), OTHER, shard(0), at(1));
    fixture.nsqds[0].restart().unwrap();
    let received = fetchers
        .receives(|all| {
            hints.changed(&group("a"), CONFIG);
            all.changed.contains(&CONFIG)
        })
        .await;
    assert_eq!(received.changed.into_iter().collect::<Vec<_>>(), [CONFIG]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hint_is_lost_with_one_of_two_nsqds() {
    const EACH: i64 = 200;
    let fixture = Fixture::new(2);
    let fetchers = Fetchers::start(&fixture, "1", shard(0)).await;
    // Both have had hints.
    let hints = NsqHints::start(&fixture.nsq());
    for config in 1..=10 {
        hints.due(&group("a"), ConfigId::new(config), shard(0), at(1));
        fetchers.receives(|all| all.due.contains_key(&ConfigId::new(config))).await;
    }
    fixture.nsqds[0].kill();
    for config in 11..=EACH {
        hints.due(&group("a"), ConfigId::new(config), shard(0), at(1));
    }
    fetchers.receives(|all| (11..=EACH).all(|config| all.due.contains_key(&ConfigId::new(config)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_heard_soon_after_a_start_with_lookups() {
    let lookupd = Nsqlookupd::start().unwrap();
    let told = format!("--lookupd-tcp-address={}", lookupd.tcp_address());
    let mut fixture = Fixture::new(0);
    fixture.options.lookupd_http = vec![lookupd.http_address()];
    fixture.nsqds = (0..2).map(|_| Nsqd::start_with(&[&told]).unwrap()).collect();
    until(|| lookupd.get("/nodes").is_ok_and(|nodes| nodes.matches("broadcast_address").count() == 2)).await;
    // Well within the fifteen seconds after which lookups are asked again.
    let limit = Duration::from_secs(10);
    let fetchers = timeout(limit, Fetchers::start(&fixture, "1", shard(0))).await.expect("soon");
    let hints = NsqHints::start(&fixture.nsq());
    for config in 1..=4 {
        hints.due(&group("a"), ConfigId::new(config), shard(0), at(1));
        let heard = fetchers.receives(|all| all.due.contains_key(&ConfigId::new(config)));
        timeout(limit, heard).await.expect("soon");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_program_is_skipped() {
    let fixture = Fixture::new(1);
    let fetchers = Fetchers::start(&fixture, "1", shard(0)).await;
    let body = b"due 7 0\nnonsense\ndue 7 0 99\n";
    fixture.nsqds[0].post("/pub?topic=tsp.hint.a%23ephemeral", body).unwrap();
    let received = fetchers.receives(|all| !all.due.is_empty()).await;
    assert_eq!(received.due[&CONFIG], at(99));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_is_sent_when_the_process_stops() {
    let fixture = Fixture::new(1);
    let fetchers = Fetchers::start(&fixture, "1", shard(0)).await;
    let mut worker = Fixture::new(0);
    worker.options = fixture.options.clone();
    worker.options.event_tick = std::time::Duration::from_mins(1);
    let feedback = NsqFeedback::start(&worker.nsq(), Arc::new(|_| group("a")));
    feedback.report(vec![said(0)]);
    fetchers.receives(|all| all.feedback.len() == 1).await;
    feedback.report(vec![said(0)]);
    worker.stop.cancel();
    worker.tracker.close();
    soon(worker.tracker.wait()).await;
    fetchers.receives(|all| all.feedback.len() == 1).await;
}

#[tokio::test]
async fn bad_names_are_refused() {
    let fixture = Fixture::new(1);
    let event_router = Arc::new(EventRouter::new());
    assert!(NsqEvents::start(&fixture.nsq(), &[group("a")], "no node", &event_router).is_err());
    let long = Name::new(&"g".repeat(64)).unwrap();
    assert!(NsqEvents::start(&fixture.nsq(), &[long], "1", &event_router).is_err());
}
