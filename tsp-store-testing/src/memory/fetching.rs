//! What the owner of the shards does, but for schedules.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{Event, Rules};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, Timestamp};
use tsp_store::catalog::{AUDIT_KEPT, AuditEntry};
use tsp_store::error::Result;
use tsp_store::fetching::{
    Audit, AuditorStore, ClaimRequest, ClaimResult, Cursor, EarliestDue, EmbeddedOwnership, FetchScope,
    FetcherStore, Fire, FireResult, FlightMark, InFlight, InFlightPage, OCCURRENCES_KEPT, OVERDUE_AFTER,
    Owner, RetentionStore,
};
use tsp_store::parks::{self, Park, ParkEvent};

use super::MemoryStore;
use super::state::State;

#[async_trait]
impl EmbeddedOwnership for MemoryStore {
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        self.write("register_node", |state| Ok(state.register_node(name, now)))
    }

    async fn take_shards(&self, node: NodeId, _now: Timestamp) -> Result<Owner> {
        self.write("take_shards", |state| {
            let epoch = state.owner.map_or(0, |owner| owner.epoch) + 1;
            let owner = Owner { node, epoch };
            state.owner = Some(owner);
            Ok(owner)
        })
    }
}

#[async_trait]
impl FetcherStore for MemoryStore {
    fn fetch_scope(&self) -> FetchScope {
        FetchScope::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        self.read("dead_nodes", |state| {
            let alive = |id: &NodeId| state.nodes.iter().any(|node| node.alive && node.id == *id);
            among.iter().copied().filter(|id| !alive(id)).collect()
        })
    }

    async fn earliest_due(&self) -> Result<Vec<EarliestDue>> {
        self.read("heads", |state| {
            state.rows.earliest_due().map(|(config, due_at)| EarliestDue { config, due_at }).collect()
        })
    }

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        self.write("claim", |state| Ok(state.claim(owner, &requests, now)))
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        self.read("in_flight", |state| {
            let mut left = state.rows.in_flight(after.map(|mark| mark.id)).map(in_flight);
            let rows: Vec<InFlight> = left.by_ref().take(limit).collect();
            let next = left.next().and_then(|_| rows.last().map(FlightMark::from));
            InFlightPage { rows, next }
        })
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write("rearm", |state| {
            Ok(if state.owns(owner) { state.release(&rows, now) } else { Vec::new() })
        })
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write("lose", |state| {
            if !state.owns(owner) {
                return Ok(Vec::new());
            }
            let lost = |(id, node): &(TaskId, NodeId)| {
                let config = state.config_cache.config(state.rows.open(*id)?.config);
                let rules = Rules::of(config.as_deref(), 0.0);
                state.apply(*id, &Event::NodeLost { node: *node, rules }, now).ok()
            };
            Ok(rows.iter().filter_map(lost).collect())
        })
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write("end_waits", |state| {
            if !state.owns(owner) {
                return Ok(Vec::new());
            }
            let over = state.rows.waiting().take_while(|task| task.due_at <= now).take(limit);
            let over: Vec<_> = over.map(|task| (task.id, task.config)).collect();
            let ended = |(id, config): (TaskId, ConfigId)| {
                let config = state.config_cache.config(config);
                state
                    .apply(id, &Event::Deadline { rules: Rules::of(config.as_deref(), jitter_fraction) }, now)
                    .ok()
            };
            Ok(over.into_iter().filter_map(ended).collect())
        })
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        self.read("next_deadline", |state| state.rows.waiting().next().map(|task| task.due_at))
    }

    async fn parks(&self, _reread: bool, now: Timestamp) -> Result<Vec<Park>> {
        self.read("parks", |state| {
            state.parks.values().map(|(park, _)| *park).filter(|park| park.until > now).collect()
        })
    }

    async fn save_parks(&self, events: Vec<ParkEvent>) -> Result<()> {
        self.write("save_parks", |state| {
            for one in events {
                state.save_park(one);
            }
            Ok(())
        })
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        self.read("cursors", |state| state.cursors.values().cloned().collect())
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        self.read("cursors_of", |state| {
            configs.iter().filter_map(|config| state.cursors.get(config)).cloned().collect()
        })
    }

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, _now: Timestamp) -> Vec<Result<FireResult>> {
        fires.iter().map(|fire| self.write("fire", |state| state.fire(owner, fire))).collect()
    }
}

#[async_trait]
impl RetentionStore for MemoryStore {
    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize> {
        self.write("prune", |state| Ok(state.apply_retention(limit, now)))
    }
}

#[async_trait]
impl AuditorStore for MemoryStore {
    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        self.read("audit", |state| state.audit(now))
    }
}

fn in_flight(task: &Task) -> InFlight {
    InFlight {
        id: task.id,
        config: task.config,
        status: task.status,
        due_at: task.due_at,
        version: task.version,
        epoch: task.epoch,
        node: task.node,
        attempt: task.attempt,
    }
}

impl State {
    fn claim(&mut self, owner: Owner, requests: &[ClaimRequest], now: Timestamp) -> ClaimResult {
        if !self.owns(owner) {
            return ClaimResult { deposed: true, ..ClaimResult::default() };
        }
        let mut claimed = ClaimResult::default();
        for request in requests {
            for task in self.rows.due(request.config, request.due_by, request.limit) {
                match self.apply(task.id, &Event::Claim { epoch: owner.epoch }, now) {
                    Ok(task) if task.is_open() => claimed.tasks.push(Box::new(task)),
                    Ok(task) => claimed.expired.push(Box::new(task)),
                    Err(_) => {}
                }
            }
        }
        let configs: BTreeSet<ConfigId> = requests.iter().map(|request| request.config).collect();
        claimed.earliest_due =
            configs.into_iter().map(|config| (config, self.rows.earliest(config))).collect();
        claimed
    }

    pub(super) fn save_park(&mut self, events: ParkEvent) {
        match events {
            ParkEvent::Asked(park) => {
                let (known, ended_at) = self.parks.entry(park.config).or_insert((park, Timestamp::ZERO));
                if park.since > *ended_at && park.until > known.until {
                    *known = park;
                }
            }
            ParkEvent::Ended { config, at } => {
                if let Some((known, ended_at)) = self.parks.get_mut(&config).filter(|known| known.1 < at) {
                    known.until = Timestamp::ZERO;
                    *ended_at = at;
                }
            }
        }
    }

    fn apply_retention(&mut self, limit: usize, now: Timestamp) -> usize {
        let over = |task: &&Task| {
            // What a deleted config left behind has nobody who wants it kept.
            let retention =
                self.config_cache.config(task.config).map_or(Millis::ZERO, |config| config.spec.retention);
            task.ended_at.is_some_and(|ended_at| ended_at.plus(retention) <= now)
        };
        let tasks: Vec<TaskId> = self.rows.all_ended().filter(over).take(limit).map(|task| task.id).collect();
        for id in &tasks {
            self.rows.forget(*id);
        }
        let mut left = limit - tasks.len();

        let expired = self.answers.iter().filter(|(_, kept)| kept.expires_at <= now).take(left);
        let expired: Vec<[u8; 32]> = expired.map(|(hash, _)| *hash).collect();
        left -= expired.len();
        for hash in &expired {
            self.answers.remove(hash);
        }

        // Those of a config that is gone, all.
        let below = |(config, at): &&(ConfigId, Timestamp)| {
            self.cursors.get(config).is_none_or(|cursor| {
                at.plus(OCCURRENCES_KEPT) < cursor.next_fire_at.map_or(now, |next| next.min(now))
            })
        };
        let below: Vec<_> = self.occurrences.keys().filter(below).take(left).copied().collect();
        for key in &below {
            self.occurrences.remove(key);
        }
        left -= below.len();

        let old = |entry: &&AuditEntry| entry.at.plus(AUDIT_KEPT) <= now;
        let old = self.audit_log.iter().take(left).take_while(old).count();
        self.audit_log.drain(..old);
        left -= old;

        let cutoff = now.minus(parks::KEPT);
        let over =
            self.parks.iter().filter(|(_, (park, ended_at))| park.until < cutoff && *ended_at < cutoff);
        let over: Vec<ConfigId> = over.take(left).map(|(config, _)| *config).collect();
        for config in &over {
            self.parks.remove(config);
        }
        tasks.len() + expired.len() + below.len() + old + over.len()
    }

    fn audit(&self, now: Timestamp) -> Audit {
        let mut open: BTreeMap<Status, i64> = BTreeMap::new();
        let mut overdue: BTreeMap<ConfigId, i64> = BTreeMap::new();
        let mut orphans: BTreeMap<ConfigId, i64> = BTreeMap::new();
        for task in self.rows.all_open() {
            *open.entry(task.status).or_default() += 1;
            if task.status == Status::Scheduled && task.due_at.plus(OVERDUE_AFTER) < now {
                *overdue.entry(task.config).or_default() += 1;
            }
            if self.config_cache.config(task.config).is_none() {
                *orphans.entry(task.config).or_default() += 1;
            }
        }
        Audit {
            accepted: self.rows.accepted,
            ended: self.rows.ended_ever,
            open: open.into_iter().collect(),
            overdue: overdue.into_iter().collect(),
            orphans: orphans.into_iter().collect(),
            cursors: self.cursors.values().cloned().collect(),
        }
    }
}
