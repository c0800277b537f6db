//! Members over leases in memory. The database's clock is the monotonic one plus what a test adds to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tsp_core::clock::ManualMonotonicClock;
use tsp_core::{Clock, ClusterClock, Millis, MonotonicClock, NodeId, Timestamp};
use tsp_store::cluster::{
    Heartbeat, JoinError, LeaseLoss, LeaseStatus, LeaseStore, Member, MemberOptions, MemberReport, NewNode,
};

use crate::memory::{Fault, MemoryLeases};

const LEASE: Millis = Millis::from_secs(5);
const SECOND: Millis = Millis::from_secs(1);
const EPOCH_MS: i64 = 1_800_000_000_000;

struct Fixture {
    time: Arc<ManualMonotonicClock>,
    step_ms: Arc<AtomicI64>,
    leases: Arc<MemoryLeases>,
}

impl Fixture {
    fn new() -> Self {
        let (time, step_ms) = (Arc::new(ManualMonotonicClock::new()), Arc::new(AtomicI64::new(EPOCH_MS)));
        let (on_time, with_steps) = (time.clone(), step_ms.clone());
        let clock = move |_: &str| {
            Timestamp::from_ms(on_time.instant().ms().saturating_add(with_steps.load(Ordering::SeqCst)))
        };
        Self { time, step_ms, leases: Arc::new(MemoryLeases::new(4, 1, Box::new(clock))) }
    }

    fn clock(&self) -> Arc<ClusterClock> {
        Arc::new(ClusterClock::new(self.time.clone()))
    }

    async fn try_join(&self, clock: &Arc<ClusterClock>) -> Result<Member, JoinError> {
        let new = NewNode {
            name: "n".to_owned(),
            roles: vec!["fetcher".to_owned()],
            version: "1".to_owned(),
            address: None,
        };
        let options =
            MemberOptions { lease: LEASE, max_skew: Millis::from_ms(500), id_slot: true, watches: true };
        let heartbeat = Arc::new(|| Heartbeat { running: 3, ..Heartbeat::default() });
        Member::join(self.leases.clone(), clock.clone(), new, heartbeat, options).await
    }

    async fn join(&self) -> Member {
        self.try_join(&self.clock()).await.unwrap()
    }

    async fn step(&self, member: &mut Member) -> MemberReport {
        member.step(self.time.instant()).await
    }

    /// A second passes, then these step; whom the last one found newly dead.
    async fn second(&self, members: &mut [&mut Member]) -> Vec<NodeId> {
        self.time.advance(SECOND);
        let mut died = Vec::new();
        for member in members {
            died = self.step(member).await.died;
        }
        died
    }

    fn away(&self, call: &'static str) {
        self.leases.set_faults(Box::new(move |asked, _| {
            if asked == call || call == "*" { Fault::Before } else { Fault::None }
        }));
    }
}

#[tokio::test]
async fn the_lease_counts_from_before_the_renewal_was_sent() {
    let fixture = Fixture::new();
    let clock = fixture.clock();
    let mut member = fixture.try_join(&clock).await.unwrap();
    assert_eq!(member.id_slot(), Some(0));
    assert_eq!(member.lease().end_at(), clock.now().plus(LEASE));
    let sent = fixture.time.instant();
    fixture.time.advance(SECOND);
    let report = member.step(sent).await;
    assert!(matches!(report.lease_status, LeaseStatus::Renewed), "{report:?}");
    assert_eq!(member.lease().end_at(), clock.at(sent).plus(LEASE), "asked a second ago");
    let row = &fixture.leases.nodes().await.unwrap()[0];
    assert_eq!((row.renewals, row.heartbeat.running), (2, 3));
}

#[tokio::test]
async fn says_which_config_change_the_database_has() {
    let fixture = Fixture::new();
    let mut member = fixture.join().await;
    fixture.leases.set_config_seq(42);
    assert_eq!(fixture.step(&mut member).await.config_seq, Some(42));
}

#[tokio::test]
async fn whoever_is_not_answered_has_no_lease_for_a_while_and_goes_on_as_the_same_node() {
    let fixture = Fixture::new();
    let clock = fixture.clock();
    let mut member = fixture.try_join(&clock).await.unwrap();
    fixture.away("renew");
    for second in 1..=9 {
        fixture.time.advance(SECOND);
        assert_eq!(member.lease().holds(clock.now()), second < 5, "by its own clock, before anybody steps");
        let report = fixture.step(&mut member).await;
        assert!(matches!(report.lease_status, LeaseStatus::Unanswered(_)), "{report:?}");
    }
    fixture.leases.clear_faults();
    assert!(matches!(fixture.step(&mut member).await.lease_status, LeaseStatus::Renewed));
    assert!(member.lease().holds(clock.now()));
}

#[tokio::test]
async fn a_late_renewal_is_good_while_nobody_has_declared_it_dead() {
    let fixture = Fixture::new();
    let clock = fixture.clock();
    let mut member = fixture.try_join(&clock).await.unwrap();
    fixture.time.advance(Millis::from_secs(20));
    assert!(!member.lease().holds(clock.now()));
    assert!(fixture.step(&mut member).await.lost().is_none());
    assert!(member.lease().holds(clock.now()));
}

#[tokio::test]
async fn who_stands_still_for_a_lease_is_marked_dead_and_starts_under_a_new_id() {
    let fixture = Fixture::new();
    let (mut frozen, mut watcher) = (fixture.join().await, fixture.join().await);
    fixture.second(&mut [&mut frozen, &mut watcher]).await;
    let mut seconds = 0;
    let died = loop {
        let died = fixture.second(&mut [&mut watcher]).await;
        seconds += 1;
        if !died.is_empty() {
            break died;
        }
        assert!(seconds < 8, "not marked dead within 8 s");
    };
    assert_eq!((died, seconds), (vec![frozen.node()], 6), "over only after 5 s, seen a second later");
    assert_eq!(fixture.second(&mut [&mut watcher]).await, [], "told once");

    assert_eq!(fixture.step(&mut frozen).await.lost(), Some(LeaseLoss::MarkedDead));
    let again = fixture.join().await;
    assert!(again.node() > frozen.node());
    assert_eq!((again.id_slot(), watcher.id_slot()), (Some(0), Some(1)), "its slot was free again");
}

#[tokio::test]
async fn a_step_of_the_databases_clock_takes_nothing_from_a_living_node() {
    let fixture = Fixture::new();
    let (mut living, mut watcher) = (fixture.join().await, fixture.join().await);
    fixture.second(&mut [&mut living, &mut watcher]).await;
    fixture.step_ms.fetch_add(60_000, Ordering::SeqCst);
    let died = fixture.second(&mut [&mut watcher]).await;
    assert_eq!(died, [], "its lease is over by the database's clock, but it was renewed a second ago");
    let changed = fixture.step(&mut living).await;
    assert!(matches!(changed.lost(), Some(LeaseLoss::ClockChanged(by)) if by.ms() >= 59_000), "{changed:?}");
    living.leave().await.unwrap();
    let clock = fixture.clock();
    let again = fixture.try_join(&clock).await.unwrap();
    let behind = fixture.time.instant().ms() + EPOCH_MS + 60_000 - clock.now().ms();
    assert!((0..=1).contains(&behind), "never ahead, and behind by what a reading may hide: {behind} ms");
    assert!(again.lease().holds(clock.now()));
}

#[tokio::test]
async fn after_a_break_of_its_own_a_watcher_waits_a_whole_lease() {
    let fixture = Fixture::new();
    let (mut living, mut watcher) = (fixture.join().await, fixture.join().await);
    fixture.second(&mut [&mut living, &mut watcher]).await;
    // The database is unavailable for 4 s: nobody can renew, and it is not their fault.
    fixture.away("*");
    for _ in 0..4 {
        fixture.second(&mut [&mut living, &mut watcher]).await;
    }
    fixture.leases.clear_faults();
    for _ in 0..5 {
        assert_eq!(fixture.second(&mut [&mut watcher]).await, [], "it looks first, and renews later");
    }
    assert!(fixture.second(&mut [&mut living, &mut watcher]).await.is_empty());
    assert!(fixture.step(&mut living).await.lost().is_none());
}

#[tokio::test]
async fn a_lost_answer_is_no_lost_lease() {
    let fixture = Fixture::new();
    let mut member = fixture.join().await;
    fixture.leases.set_faults(Box::new(|call, _| if call == "renew" { Fault::After } else { Fault::None }));
    fixture.time.advance(SECOND);
    assert!(matches!(fixture.step(&mut member).await.lease_status, LeaseStatus::Unanswered(_)));
    fixture.leases.clear_faults();
    assert!(matches!(fixture.step(&mut member).await.lease_status, LeaseStatus::Renewed));
}

#[tokio::test]
async fn whoever_leaves_is_dead_at_once_and_its_slot_free() {
    let fixture = Fixture::new();
    let (leaver, mut watcher) = (fixture.join().await, fixture.join().await);
    let (node, lease) = (leaver.node(), leaver.lease().clone());
    leaver.leave().await.unwrap();
    assert!(!lease.holds(Timestamp::ZERO));
    assert_eq!(fixture.second(&mut [&mut watcher]).await, [node]);
}

#[tokio::test]
async fn without_a_free_slot_it_does_not_stay() {
    let fixture = Fixture::new();
    for _ in 0..64 {
        fixture.join().await;
    }
    assert!(matches!(fixture.try_join(&fixture.clock()).await, Err(JoinError::NoIdSlot)));
    let nodes = fixture.leases.nodes().await.unwrap();
    assert_eq!(nodes.iter().filter(|row| row.dead_at.is_none()).count(), 64);
}
