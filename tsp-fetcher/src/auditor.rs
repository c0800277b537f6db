//! Re-derives what should have happened, and counts the holes (promise 7: nothing stops silently).

use std::sync::{Arc, OnceLock};

use metrics::{Label, gauge};
use tokio_util::sync::CancellationToken;
use tsp_core::task::Status;
use tsp_core::{Clock, Millis, Timestamp};
use tsp_store::fetching::{Audit, Cursor, FetchScope};
use tsp_store::{AuditorStore, ConfigCache, Result};

use crate::holds::HoldsView;

const EVERY: std::time::Duration = std::time::Duration::from_secs(15);
/// At most a tenth of the time is spent on counting: three seconds for ten million rows (an
/// estimate) leave half a minute.
const PAUSE_PER_LOOK: u32 = 10;
/// A hole is reported within a minute; an audit that is older is reported as well.
const AGE_MAX: std::time::Duration = std::time::Duration::from_mins(1);
/// A cursor this far behind is a hole: its fetcher should have moved it.
const CURSOR_PATIENCE: Millis = Millis::from_secs(30);
/// A config that was released this short a time ago is still catching up.
const HELD_PATIENCE: Millis = Millis::from_secs(10);
/// What an outage has left behind is given this long from the first audit on.
const START_PATIENCE: Millis = Millis::from_secs(10);

pub struct Auditor {
    store: Arc<dyn AuditorStore>,
    fetch_scope: FetchScope,
    config_cache: Arc<ConfigCache>,
    shards: u16,
    holds: HoldsView,
    first_look: OnceLock<Timestamp>,
}

impl std::fmt::Debug for Auditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auditor")
    }
}

/// What does not add up. All zero in health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    /// `accepted - open - ended`: tasks that are nowhere, or twice.
    pub imbalance: i64,
    /// Open tasks overdue without a stated reason.
    pub overdue: i64,
    /// Enabled schedules whose cursor is missing, of an old config, or behind.
    pub schedules: i64,
    /// Open tasks whose config is not there.
    pub orphans: i64,
}

impl Findings {
    pub fn unaccounted(self) -> i64 {
        self.imbalance.abs() + self.overdue + self.schedules + self.orphans
    }
}

impl Auditor {
    /// `fetch_scope`: what `store` counts. `holds`: what the fetcher holds back. `shards`: of the whole store.
    pub fn new(
        store: Arc<dyn AuditorStore>,
        fetch_scope: FetchScope,
        config_cache: Arc<ConfigCache>,
        shards: u16,
        holds: HoldsView,
    ) -> Self {
        Self { store, fetch_scope, config_cache, shards, holds, first_look: OnceLock::new() }
    }

    /// One audit; publishes the gauges.
    pub async fn step(&self, now: Timestamp) -> Result<Findings> {
        let audit = self.store.audit(now).await?;
        let catching_up = now < self.first_look.get_or_init(|| now).plus(START_PATIENCE);
        let findings = Findings {
            imbalance: audit.accepted - audit.ended - audit.open.iter().map(|(_, count)| count).sum::<i64>(),
            overdue: if catching_up { 0 } else { self.unexplained(&audit, now) },
            schedules: if catching_up { 0 } else { self.broken_schedules(&audit.cursors, now) },
            orphans: audit.orphans.iter().map(|(_, count)| count).sum(),
        };
        publish(&self.fetch_scope, &audit, findings);
        if findings.unaccounted() > 0 {
            tracing::error!(
                imbalance = findings.imbalance,
                overdue = findings.overdue,
                schedules = findings.schedules,
                orphans = findings.orphans,
                "the auditor found something unaccounted for"
            );
        }
        Ok(findings)
    }

    pub async fn run(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let age = gauge!("tsp_audit_age_seconds", labels(&self.fetch_scope).iter());
        let mut looked = tokio::time::Instant::now();
        loop {
            let began = tokio::time::Instant::now();
            match self.step(clock.now()).await {
                Ok(_) => looked = began,
                Err(error) if began - looked >= AGE_MAX => {
                    tracing::error!(%error, ago = ?began - looked, "the auditor has not run for long");
                }
                Err(error) => tracing::warn!(%error, "the auditor could not run, will try again"),
            }
            age.set(looked.elapsed().as_secs_f64());
            // It counts rows: where there are very many it runs less often.
            let pause = EVERY.max(began.elapsed() * PAUSE_PER_LOOK);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn unexplained(&self, audit: &Audit, now: Timestamp) -> i64 {
        let lately = now.minus(HELD_PATIENCE);
        let unexplained = audit.overdue.iter().filter(|(config, _)| {
            let config = self.config_cache.config(*config);
            config.is_some_and(|config| config.runnable() && !self.holds.was_held(&config, lately))
        });
        unexplained.map(|(_, count)| count).sum()
    }

    fn broken_schedules(&self, cursors: &[Cursor], now: Timestamp) -> i64 {
        let late = now.minus(CURSOR_PATIENCE);
        let cursors: std::collections::HashMap<_, _> =
            cursors.iter().map(|cursor| (cursor.config, cursor)).collect();
        let configs = self.config_cache.all_configs();
        let broken = configs.iter().filter(|config| {
            let asked = config.spec.schedule.is_some() && config.runnable() && config.updated_at < late;
            asked
                && self.fetch_scope.schedules(config, self.shards)
                && cursors.get(&config.id).is_none_or(|cursor| {
                    let behind = cursor.next_fire_at.is_some_and(|next| next < late);
                    cursor.config_version < config.version || behind
                })
        });
        i64::try_from(broken.count()).unwrap_or(i64::MAX)
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point; counts stay far below 2^52")]
fn publish(fetch_scope: &FetchScope, audit: &Audit, findings: Findings) {
    let labels = labels(fetch_scope);
    gauge!("tsp_unaccounted", labels.iter()).set(findings.unaccounted() as f64);
    let overdue: i64 = audit.overdue.iter().map(|(_, count)| count).sum();
    gauge!("tsp_tasks_overdue", labels.iter()).set(overdue as f64);
    for status in Status::ALL.into_iter().filter(|status| *status != Status::Ended) {
        let count =
            audit.open.iter().filter(|(other, _)| *other == status).map(|(_, count)| count).sum::<i64>();
        let labels = labels.iter().cloned().chain([Label::new("state", status.as_str())]);
        gauge!("tsp_tasks_open", labels.collect::<Vec<_>>()).set(count as f64);
    }
}

/// An embedded store has one series of each; in a cluster the sum over all shard groups is what counts.
fn labels(fetch_scope: &FetchScope) -> Vec<Label> {
    match fetch_scope {
        FetchScope::Whole => Vec::new(),
        FetchScope::ShardGroup(shard_group) => {
            let (group, shard) = (shard_group.group.to_string(), shard_group.shard.get().to_string());
            vec![Label::new("group", group), Label::new("shard", shard)]
        }
    }
}
