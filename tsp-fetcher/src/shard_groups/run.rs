//! The loop of a lease manager, and one turn of it. What is due is started, and nothing that is under way is waited
//! for: an answer that does not come delays no renewal, and no shard group outlives its lease because of it.

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tsp_core::{Millis, MonotonicInstant};
use tsp_store::cluster::ShardGroup;

use super::lease_manager::{LeaseManager, LeaseManagerReport};
use super::work_schedule::{Work, WorkSchedule};

/// Renewals in one lease, and observations.
const TURNS_PER_LEASE: i64 = 5;

/// Work that has ended.
enum WorkResult {
    Renewed { lost: Vec<ShardGroup> },
    Observed(LeaseManagerReport),
    Job,
}

type PendingWork<'m> = FuturesUnordered<BoxFuture<'m, WorkResult>>;

impl LeaseManager {
    /// Keeps shard groups until `stop`, then gives all of them up and returns when nothing runs any more.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut schedule = self.schedule(self.deps.time.instant());
        let mut under_way = PendingWork::new();
        loop {
            let now = self.deps.time.instant();
            self.turn(&mut schedule, &under_way, now);
            let (next, left) = {
                let state = self.state.lock();
                (schedule.next(&state), state.has_left())
            };
            if left && under_way.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                Some(done) = under_way.next() => match done {
                    WorkResult::Renewed { .. } => schedule.renewed(),
                    WorkResult::Observed(report) => {
                        schedule.observed();
                        if report.more {
                            schedule.want_observation();
                        }
                    }
                    WorkResult::Job => {}
                },
                () = sleep(next.map(|next| next.since(now))) => {}
                () = self.look_wanted.notified() => schedule.want_observation(),
                () = self.jobs_waiting.notified() => {}
                // An observation that takes shard groups is not cut off, or what it took would not be released.
                () = stop.cancelled(), if !left => self.state.lock().leave(),
            }
        }
    }

    /// One turn of [`LeaseManager::run`], to its end: stops what is over, renews, reads all shard groups, takes and
    /// gives up, and does what stopping needs.
    pub async fn step(&self, now: MonotonicInstant) -> LeaseManagerReport {
        let mut schedule = self.schedule(now);
        let mut under_way = PendingWork::new();
        let mut lost = self.turn(&mut schedule, &under_way, now);
        let mut report = LeaseManagerReport::default();
        while let Some(done) = under_way.next().await {
            match done {
                WorkResult::Renewed { lost: more } => lost.extend(more),
                WorkResult::Observed(observed) => report = observed,
                WorkResult::Job => {}
            }
            // The jobs that came of it; neither a renewal nor an observation comes again.
            self.turn(&mut schedule, &under_way, now);
        }
        LeaseManagerReport { lost, ..report }
    }

    fn schedule(&self, now: MonotonicInstant) -> WorkSchedule {
        WorkSchedule::new(Millis::from_ms(self.deps.lease.ms() / TURNS_PER_LEASE), now)
    }

    /// Stops what is over and starts what is due. What is over.
    fn turn<'m>(
        &'m self,
        schedule: &mut WorkSchedule,
        under_way: &PendingWork<'m>,
        now: MonotonicInstant,
    ) -> Vec<ShardGroup> {
        let lost = self.expire(now);
        let due = schedule.due(&mut self.state.lock(), now);
        for work in due {
            under_way.push(self.work(work, now).boxed());
        }
        lost
    }

    async fn work(&self, work: Work, now: MonotonicInstant) -> WorkResult {
        match work {
            Work::Renew => WorkResult::Renewed { lost: self.renew(now).await },
            Work::Observe => WorkResult::Observed(self.observe(now).await),
            Work::Job(job) => {
                self.carry_out(job).await;
                WorkResult::Job
            }
        }
    }
}

async fn sleep(length: Option<Millis>) {
    match length {
        Some(length) => tokio::time::sleep(length.to_std()).await,
        None => std::future::pending().await,
    }
}
