//! Steps of [`super::model_test`] that change configs and fire schedules, and the audit log of each step.

use std::sync::Arc;

use tsp_core::config::{Kind, TaskConfig};
use tsp_core::{ConfigId, Millis, TaskId, Timestamp};
use tsp_store::catalog::{AuditEntry, ConfigSaved, DeleteResult, ExpectedVersion, SaveConfig};
use tsp_store::fetching::{Cursor, Fire, FireResult};
use tsp_store::idempotency::IdempotencyResult;

use super::fire::slot;
use super::fixture::{by, cron_spec};
use super::model_test::{Answer, Side};
use super::rng::{Edit, FireStep, KnownVersion, SCHEDULED};
use crate::fire_one;

/// Slots are so far apart.
const PERIOD: Millis = Millis::from_secs(10);

/// What an audit entry must be about in some history.
pub(super) fn words_of(entry: &AuditEntry) -> String {
    let detail = match entry.detail.as_str() {
        "" => "",
        detail if detail.starts_with("to ") => " with a time",
        _ => " with a note",
    };
    format!("log of {}{detail}", entry.action)
}

pub(super) fn answer_of(saved: ConfigSaved) -> Answer {
    let words = match saved {
        ConfigSaved::Created(config) | ConfigSaved::Updated(config) => {
            let TaskConfig { spec, paused, version, updated_at, .. } = &*config;
            format!("config saved: {version} at {updated_at}, {paused:?}, {spec:?}")
        }
        ConfigSaved::AlreadyExists => "config there".to_owned(),
        ConfigSaved::VersionMismatch { version } => format!("config version: {version}"),
        ConfigSaved::KindChanged => "config kind".to_owned(),
        ConfigSaved::InUse(open) => format!("config in use: {open}"),
        ConfigSaved::NotFound => "config unknown".to_owned(),
    };
    (words, Vec::new())
}

impl Side<'_> {
    /// The config as it stands, if it does.
    fn stored(&self, config: usize) -> Option<Arc<TaskConfig>> {
        self.fixture.store.config_cache().config(self.configs[config].id)
    }

    fn expected(&self, config: usize, known: KnownVersion) -> ExpectedVersion {
        let version = self.stored(config).map_or(1, |config| config.version);
        match known {
            KnownVersion::Any => ExpectedVersion::Any,
            KnownVersion::Absent => ExpectedVersion::Absent,
            KnownVersion::Right => ExpectedVersion::Version(version),
            KnownVersion::Wrong => ExpectedVersion::Version(version + 1),
        }
    }

    pub(super) async fn save(
        &mut self,
        at: usize,
        edit: Edit,
        known: KnownVersion,
        now: Timestamp,
    ) -> Answer {
        let first = &self.configs[at];
        let mut spec = self.stored(at).map_or_else(|| first.spec.clone(), |config| config.spec.clone());
        match edit {
            Edit::Priority(priority) => spec.priority = priority.min(4),
            Edit::Kind => spec.kind = if at == SCHEDULED { Kind::Delayed } else { Kind::Cron },
            Edit::Span(span) => spec.span = span,
            Edit::Scheduled(false) => spec.schedule = None,
            Edit::Scheduled(true) => spec.schedule = cron_spec("x").schedule,
        }
        let save = SaveConfig { app: first.app_id, spec, expected: self.expected(at, known) };
        match self.fixture.store.save_config(save, None, &by(), now).await.expect("save_config") {
            IdempotencyResult::Fresh(ConfigSaved::Created(config)) => {
                self.configs[at] = config;
                self.answer("config made", &[])
            }
            IdempotencyResult::Fresh(saved) => answer_of(saved),
            other => panic!("no key was given, so no answer can be kept: {other:?}"),
        }
    }

    pub(super) async fn delete(&self, at: usize, known: KnownVersion, now: Timestamp) -> Answer {
        let (id, expected) = (self.configs[at].id, self.expected(at, known));
        let deleted =
            self.fixture.store.delete_config(id, expected, &by(), now).await.expect("delete_config");
        let words = match deleted {
            DeleteResult::Deleted => "config removed".to_owned(),
            other => format!("{other:?}"),
        };
        (words, Vec::new())
    }

    pub(super) async fn cursor(&self) -> Option<Cursor> {
        let config = self.configs[SCHEDULED].id;
        let cursors = self.fixture.store.cursors_of(&[config]).await.expect("cursors_of");
        let all = self.fixture.store.cursors().await.expect("cursors");
        assert!(cursors.iter().all(|cursor| all.contains(cursor)), "{cursors:?} in {all:?}");
        cursors.into_iter().next().map(|cursor| Cursor { config: ConfigId::default(), ..cursor })
    }

    pub(super) async fn fire(&mut self, step: &FireStep, now: Timestamp) -> Answer {
        let config = self.stored(SCHEDULED).unwrap_or_else(|| self.configs[SCHEDULED].clone());
        let cursor = self.cursor().await.unwrap_or_else(|| Cursor::new(config.id));
        let nearest = Timestamp::from_ms(now.ms() - now.ms() % PERIOD.ms());
        let slot_at = |at| {
            let mut slot = slot(self.fixture, &config, at);
            slot.late = step.late;
            slot
        };
        let fire = Fire {
            config: config.id,
            cursor_version: cursor.version + i64::from(step.stale.0),
            config_version: config.version - i64::from(step.stale.1),
            overlap: step.overlap,
            slots: step.slots.iter().map(|n| slot_at(nearest.plus(PERIOD.saturating_mul(*n)))).collect(),
            waiting: cursor.waiting.filter(|_| step.brings_waiting).map(slot_at),
            missed: i64::from(step.late),
            next_fire_at: (!step.ends).then(|| now.plus(PERIOD)),
        };
        match fire_one(&*self.fixture.store, self.fixture.owner, fire, now).await.expect("fire") {
            FireResult::Moved { cursor, made, skipped } => {
                self.tasks.extend(made.iter().map(|task| task.id));
                let cursor = Cursor { config: ConfigId::default(), ..cursor };
                let rows: Vec<_> = made.into_iter().map(|task| *task).collect();
                self.answer(&format!("fired {}: {skipped} skipped, {cursor:?}", rows.len()), &rows)
            }
            FireResult::Stale => self.answer("stale", &[]),
            FireResult::Deposed => self.answer("deposed", &[]),
        }
    }

    /// What the step at `now` left in the audit log, in an order that both sides have, with the numbers of tasks
    /// in place of their ids.
    pub(super) async fn log(&self, now: Timestamp) -> Vec<AuditEntry> {
        let mut limit = 4;
        let mut log = loop {
            let mut log = self.fixture.store.audit_log(limit).await.expect("audit_log");
            let all = log.len();
            log.retain(|entry| entry.at == now);
            if all < limit || log.len() < limit {
                break log;
            }
            limit *= 8;
        };
        for entry in &mut log {
            if let Ok(id) = entry.subject.parse() {
                entry.subject = format!("#{:?}", self.number(TaskId::new(id)));
            }
        }
        log.sort_by(|left, right| (&left.action, &left.subject).cmp(&(&right.action, &right.subject)));
        log
    }
}
