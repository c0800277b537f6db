//! What the owner of the shards does, but for schedules.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{Event, Rules};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, Timestamp};

use super::MemoryStore;
use super::state::State;
use crate::catalog::{AUDIT_KEPT, AuditEntry};
use crate::error::Result;
use crate::parks::{self, Park, ParkNews};
use crate::schedule::{
    Audit, Claimed, Cursor, Fire, Fired, FlightMark, Head, InFlight, InFlightPage, Owner, Ownership,
    Partition, ScheduleStore, Want,
};

/// A row at 0 this long after its due time makes the auditor ask why.
const OVERDUE_AFTER: Millis = Millis::from_secs(5);
/// Occurrences are kept this far below the cursor, for a cursor that is recomputed from an earlier time.
const OCCURRENCES_KEPT: Millis = Millis::from_days(1);

#[async_trait]
impl Ownership for MemoryStore {
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
impl ScheduleStore for MemoryStore {
    fn partition(&self) -> Partition {
        Partition::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        self.read("dead_nodes", |state| {
            let alive = |id: &NodeId| state.nodes.iter().any(|node| node.alive && node.id == *id);
            among.iter().copied().filter(|id| !alive(id)).collect()
        })
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.read("heads", |state| {
            state.rows.heads().map(|(config, due_at)| Head { config, due_at }).collect()
        })
    }

    async fn claim(&self, owner: Owner, wants: Vec<Want>, now: Timestamp) -> Result<Claimed> {
        self.write("claim", |state| Ok(state.claim(owner, &wants, now)))
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        self.read("in_flight", |state| {
            let mut left = state.rows.in_flight(after.map(|mark| mark.id)).map(in_flight);
            let rows: Vec<InFlight> = left.by_ref().take(limit).collect();
            let next = left.next().and_then(|_| rows.last().map(FlightMark::from));
            InFlightPage { rows, next }
        })
    }

    async fn rearm(&self, owner: Owner, rows: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        self.write("rearm", |state| {
            Ok(if state.owns(owner) { state.release(&rows, now) } else { Vec::new() })
        })
    }

    async fn lose(&self, owner: Owner, rows: Vec<(TaskId, NodeId)>, now: Timestamp) -> Result<Vec<Task>> {
        self.write("lose", |state| {
            if !state.owns(owner) {
                return Ok(Vec::new());
            }
            let lost = |(id, node): &(TaskId, NodeId)| {
                let config = state.book.config(state.rows.open(*id)?.config);
                let rules = Rules::of(config.as_deref(), 0.0);
                state.apply(*id, &Event::NodeLost { node: *node, rules }, now).ok()
            };
            Ok(rows.iter().filter_map(lost).collect())
        })
    }

    async fn end_waits(&self, owner: Owner, limit: usize, unit: f64, now: Timestamp) -> Result<Vec<Task>> {
        self.write("end_waits", |state| {
            if !state.owns(owner) {
                return Ok(Vec::new());
            }
            let over = state.rows.waiting().take_while(|task| task.due_at <= now).take(limit);
            let over: Vec<_> = over.map(|task| (task.id, task.config)).collect();
            let ended = |(id, config): (TaskId, ConfigId)| {
                let config = state.book.config(config);
                state.apply(id, &Event::Deadline { rules: Rules::of(config.as_deref(), unit) }, now).ok()
            };
            Ok(over.into_iter().filter_map(ended).collect())
        })
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        self.read("next_deadline", |state| state.rows.waiting().next().map(|task| task.due_at))
    }

    async fn parks(&self, _anew: bool, now: Timestamp) -> Result<Vec<Park>> {
        self.read("parks", |state| {
            state.parks.values().map(|(park, _)| *park).filter(|park| park.until > now).collect()
        })
    }

    async fn save_parks(&self, news: Vec<ParkNews>) -> Result<()> {
        self.write("save_parks", |state| {
            for one in news {
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

    async fn fire(&self, owner: Owner, fire: Fire, _now: Timestamp) -> Result<Fired> {
        self.write("fire", |state| state.fire(owner, fire))
    }

    async fn prune(&self, limit: usize, now: Timestamp) -> Result<usize> {
        self.write("prune", |state| Ok(state.prune(limit, now)))
    }

    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        self.read("audit", |state| state.audit(now))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.read("next_due", |state| {
            let head = state.rows.heads().map(|(_, due_at)| due_at).min();
            let deadline = state.rows.waiting().next().map(|task| task.due_at);
            let slot = state.cursors.values().filter_map(|cursor| cursor.next_fire_at).min();
            [head, deadline, slot].into_iter().flatten().min()
        })
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
    fn claim(&mut self, owner: Owner, wants: &[Want], now: Timestamp) -> Claimed {
        if !self.owns(owner) {
            return Claimed { deposed: true, ..Claimed::default() };
        }
        let mut claimed = Claimed::default();
        for want in wants {
            for task in self.rows.due(want.config, want.due_by, want.limit) {
                match self.apply(task.id, &Event::Claim { epoch: owner.epoch }, now) {
                    Ok(task) if task.is_open() => claimed.tasks.push(Box::new(task)),
                    Ok(task) => claimed.expired.push(Box::new(task)),
                    Err(_) => {}
                }
            }
        }
        let configs: BTreeSet<ConfigId> = wants.iter().map(|want| want.config).collect();
        claimed.heads = configs.into_iter().map(|config| (config, self.rows.head(config))).collect();
        claimed
    }

    pub(super) fn save_park(&mut self, news: ParkNews) {
        match news {
            ParkNews::Asked(park) => {
                let (known, ended_at) = self.parks.entry(park.config).or_insert((park, Timestamp::ZERO));
                if park.since > *ended_at && park.until > known.until {
                    *known = park;
                }
            }
            ParkNews::Ended { config, at } => {
                if let Some((known, ended_at)) = self.parks.get_mut(&config).filter(|known| known.1 < at) {
                    known.until = Timestamp::ZERO;
                    *ended_at = at;
                }
            }
        }
    }

    fn prune(&mut self, limit: usize, now: Timestamp) -> usize {
        let over = |task: &&Task| {
            // What a deleted config left behind has nobody who wants it kept.
            let retention =
                self.book.config(task.config).map_or(Millis::ZERO, |config| config.spec.retention);
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

        let line = now.minus(parks::KEPT);
        let over = self.parks.iter().filter(|(_, (park, ended_at))| park.until < line && *ended_at < line);
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
            if self.book.config(task.config).is_none() {
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
