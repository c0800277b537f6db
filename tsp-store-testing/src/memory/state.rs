//! All tables, and what several traits need of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsp_core::task::Task;
use tsp_core::transition::{Event, Refusal, transition};
use tsp_core::{AppId, ConfigId, KeyId, Name, NodeId, TaskId, Timestamp};
use tsp_store::catalog::{ApiKey, AuditEntry};
use tsp_store::config_cache::ConfigCache;
use tsp_store::fetching::{Cursor, Owner};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};
use tsp_store::parks::Park;
use tsp_store::tasks::Actor;

use super::ledger::{Ledger, NodeRow, Occurrence};
use super::rows::Rows;

#[derive(Debug)]
pub(super) struct State {
    pub(super) shards: u16,
    /// Holds the apps and configs themselves: there is no other table of them.
    pub(super) config_cache: Arc<ConfigCache>,
    pub(super) rows: Rows,
    pub(super) answers: BTreeMap<[u8; 32], IdempotencyRecord>,
    pub(super) cursors: BTreeMap<ConfigId, Cursor>,
    pub(super) occurrences: BTreeMap<(ConfigId, Timestamp), Occurrence>,
    /// With the time of the last end.
    pub(super) parks: BTreeMap<ConfigId, (Park, Timestamp)>,
    pub(super) nodes: Vec<NodeRow>,
    /// Of the last taking of the shards.
    pub(super) owner: Option<Owner>,
    pub(super) keys: BTreeMap<KeyId, StoredKey>,
    pub(super) slots: BTreeMap<u8, Timestamp>,
    /// Oldest first.
    pub(super) audit_log: Vec<AuditEntry>,
    pub(super) config_seq: i64,
    /// The last id given to an app, a config or a key; never used again.
    last_id: i64,
}

#[derive(Debug)]
pub(super) struct IdempotencyRecord {
    body_hash: [u8; 32],
    pub(super) expires_at: Timestamp,
    answer: StoredAnswer,
}

#[derive(Debug)]
pub(super) struct StoredKey {
    pub(super) key: ApiKey,
    pub(super) hash: [u8; 32],
}

impl State {
    pub(super) fn new(shards: u16, config_cache: Arc<ConfigCache>) -> Self {
        Self {
            shards,
            config_cache,
            rows: Rows::default(),
            answers: BTreeMap::new(),
            cursors: BTreeMap::new(),
            occurrences: BTreeMap::new(),
            parks: BTreeMap::new(),
            nodes: Vec::new(),
            owner: None,
            keys: BTreeMap::new(),
            slots: BTreeMap::new(),
            audit_log: Vec::new(),
            config_seq: 0,
            last_id: 0,
        }
    }

    pub(super) fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn next_seq(&mut self) -> i64 {
        self.config_seq += 1;
        self.config_seq
    }

    /// Asks for the transition of an open row and saves it.
    pub(super) fn apply(&mut self, id: TaskId, event: &Event<'_>, now: Timestamp) -> Result<Task, Refusal> {
        let task = self.rows.open(id).ok_or(Refusal::AlreadyEnded)?;
        let change = transition(task, event, now)?;
        Ok(self.rows.save(change))
    }

    pub(super) fn owns(&self, owner: Owner) -> bool {
        self.owner == Some(owner)
    }

    pub(super) fn note(
        &mut self,
        by: &Actor,
        now: Timestamp,
        action: &str,
        subject: String,
        detail: impl Into<String>,
    ) {
        self.audit_log.push(AuditEntry {
            at: now,
            actor: by.0.clone(),
            action: action.to_owned(),
            subject,
            detail: detail.into(),
        });
    }

    /// What was answered under this key before, if that still counts.
    pub(super) fn recorded<T, A>(
        &self,
        idempotency: Option<&IdempotencyRequest<A>>,
        now: Timestamp,
    ) -> Option<IdempotencyResult<T>> {
        let idempotency = idempotency?;
        let kept = self.answers.get(&idempotency.hash).filter(|kept| kept.expires_at > now)?;
        Some(if kept.body_hash == idempotency.body_hash {
            IdempotencyResult::Replayed(kept.answer.clone())
        } else {
            IdempotencyResult::Mismatch
        })
    }

    /// Keeps the answer if its caller wants that.
    pub(super) fn record<T>(&mut self, idempotency: Option<IdempotencyRequest<T>>, answer: &T) {
        let Some(idempotency) = idempotency else { return };
        if let Some(answer) = (idempotency.render)(answer) {
            let kept = IdempotencyRecord {
                body_hash: idempotency.body_hash,
                expires_at: idempotency.expires_at,
                answer,
            };
            self.answers.insert(idempotency.hash, kept);
        }
    }

    pub(super) fn app_name(&self, id: AppId) -> Option<Name> {
        self.config_cache.app_by_id(id).map(|app| app.name.clone())
    }

    pub(super) fn register_node(&mut self, name: &str, now: Timestamp) -> NodeId {
        for node in &mut self.nodes {
            node.alive = false;
        }
        let last = self.nodes.last().map_or(0, |node| node.id.get());
        let id = NodeId::new(last + 1);
        self.nodes.push(NodeRow { id, name: name.to_owned(), started_at: now, alive: true });
        id
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            open: self.rows.all_open().cloned().collect(),
            ended: self.rows.all_ended().cloned().collect(),
            closed: self.rows.all_closed().cloned().collect(),
            cursors: self.cursors.values().cloned().collect(),
            occurrences: self.occurrences.values().copied().collect(),
            nodes: self.nodes.clone(),
            owner: self.owner,
            audit_log: self.audit_log.clone(),
        }
    }
}
