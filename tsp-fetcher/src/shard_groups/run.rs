//! The loops of a lease manager. They run side by side: an answer that does not come delays no renewal, and
//! no shard group outlives its lease because something else is waited for.

use futures::StreamExt;
use futures::join;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tsp_core::Millis;

use super::lease_manager::LeaseManager;

/// Renewals in one lease, and observations.
const TURNS_PER_LEASE: i64 = 5;

impl LeaseManager {
    /// Keeps shard groups until `stop`, then gives all of them up and returns when nothing runs any more.
    pub async fn run(&self, stop: &CancellationToken) {
        join!(self.renewing(stop), self.looking(stop), self.expiring(stop), self.stopping());
    }

    fn period(&self) -> Millis {
        Millis::from_ms(self.deps.lease.ms() / TURNS_PER_LEASE)
    }

    async fn renewing(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let began = self.deps.time.instant();
            self.renew(began).await;
            let left = self.period().saturating_sub(self.deps.time.instant().since(began));
            stop.run_until_cancelled(tokio::time::sleep(left.to_std())).await;
        }
    }

    /// An observation that takes shard groups is never cut off, or what it took would not be released.
    async fn looking(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let began = self.deps.time.instant();
            let report = self.observe(began).await;
            let left = self.period().saturating_sub(self.deps.time.instant().since(began));
            let left = if report.more { Millis::ZERO } else { left };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(left.to_std()) => {}
                () = self.look_wanted.notified() => {}
            }
        }
        self.begin_leaving();
    }

    async fn expiring(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.expire(self.deps.time.instant());
            let next = self.state.lock().next_end();
            let left = next.map_or(self.period(), |end| end.since(self.deps.time.instant()));
            // A shard group that is new by then has more than a period left.
            stop.run_until_cancelled(tokio::time::sleep(left.min(self.period()).to_std())).await;
        }
    }

    /// Ends the work of shard groups, each on its own, until everything is released.
    async fn stopping(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(job) = self.next_job() {
                under_way.push(self.carry_out(job));
            }
            if under_way.is_empty() && self.state.lock().has_left() {
                return;
            }
            tokio::select! {
                Some(()) = under_way.next() => {}
                () = self.jobs_waiting.notified() => {}
            }
        }
    }
}
