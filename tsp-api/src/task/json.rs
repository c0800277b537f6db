//! Writes the documents of [`crate::task`] straight from rows.
//!
//! No document is built first and no payload becomes a tree: a submit's answer costs one pass over the row.

use serde::ser::{Error as _, SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tsp_core::task::{AttemptRecord, LastOutcome, Origin, Progress, Task};

/// The JSON of [`crate::task::Task`].
#[derive(Debug, Clone, Copy)]
pub struct TaskJson<'a> {
    pub task: &'a Task,
    pub app: &'a str,
    pub config: &'a str,
    /// Whether the payload is shown.
    pub payload: bool,
}

impl Serialize for TaskJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = self.task;
        // JSON needs no count, and an exact one would only repeat the conditions below.
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("id", &Shown(task.id))?;
        out.serialize_entry("app", self.app)?;
        out.serialize_entry("config", self.config)?;
        out.serialize_entry("key", &task.key.as_ref().map(tsp_core::TaskKey::as_str))?;
        out.serialize_entry("status", &task.status.code())?;
        out.serialize_entry("state", task.status.as_str())?;
        out.serialize_entry("result", &task.result.map(tsp_core::task::EndResult::as_str))?;
        out.serialize_entry("execute_at", &Shown(task.execute_at))?;
        out.serialize_entry("due_at", &Shown(task.due_at))?;
        out.serialize_entry("created_at", &Shown(task.created_at))?;
        out.serialize_entry("started_at", &task.started_at.map(Shown))?;
        out.serialize_entry("ended_at", &task.ended_at.map(Shown))?;
        out.serialize_entry("attempt", &task.attempt)?;
        out.serialize_entry("version", &task.version)?;
        out.serialize_entry("sharding_id", &task.sharding_id)?;
        out.serialize_entry("sharding_count", &task.sharding_count)?;
        out.serialize_entry("parent_id", &task.parent.map(Shown))?;
        if self.payload {
            out.serialize_entry("payload", &task.payload.as_deref().map(Raw))?;
        }
        out.serialize_entry("last_outcome", &task.last_outcome.as_ref().map(Outcome))?;
        out.serialize_entry("actions", &Actions(task))?;
        if task.origin != Origin::Submit {
            out.serialize_entry("origin", task.origin.as_str())?;
        }
        if let Some(progress) = task.extra.as_ref().and_then(|extra| extra.progress.as_ref()) {
            out.serialize_entry("progress", &Reported(progress))?;
        }
        out.end()
    }
}

/// What `Display` writes, as a JSON string.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Bytes that are JSON already. They are looked at once more, so that a damaged row is an error and never
/// a broken answer.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(self.0)
            .map_err(|error| S::Error::custom(format!("a stored payload is no json: {error}")))?;
        raw.serialize(serializer)
    }
}

struct Outcome<'a>(&'a LastOutcome);

impl Serialize for Outcome<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let last = self.0;
        let mut out = serializer.serialize_struct("LastOutcome", 5)?;
        out.serialize_field("attempt", &last.attempt)?;
        out.serialize_field("outcome", last.kind.as_str())?;
        out.serialize_field("reason", &*last.reason)?;
        match &last.http_status {
            Some(status) => out.serialize_field("http_status", status)?,
            None => out.skip_field("http_status")?,
        }
        out.serialize_field("at", &Shown(last.at))?;
        out.end()
    }
}

struct Actions<'a>(&'a Task);

impl Serialize for Actions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let actions = self.0.status.actions();
        let mut out = serializer.serialize_seq(Some(actions.len()))?;
        for action in actions {
            out.serialize_element(action.as_str())?;
        }
        out.end()
    }
}

struct Reported<'a>(&'a Progress);

impl Serialize for Reported<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        if let Some(percent) = self.0.percent {
            out.serialize_entry("percent", &percent)?;
        }
        if let Some(message) = &self.0.message {
            out.serialize_entry("message", message)?;
        }
        out.serialize_entry("at", &Shown(self.0.at))?;
        out.end()
    }
}

/// The JSON of [`crate::task::Attempt`].
#[derive(Debug, Clone, Copy)]
pub struct AttemptJson<'a>(pub &'a AttemptRecord);

impl Serialize for AttemptJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("attempt", &record.attempt)?;
        out.serialize_entry("started_at", &Shown(record.started_at))?;
        out.serialize_entry("ended_at", &Shown(record.ended_at))?;
        out.serialize_entry("node", &record.node.map(Shown))?;
        out.serialize_entry("outcome", record.kind.as_str())?;
        out.serialize_entry("reason", &*record.reason)?;
        if let Some(status) = record.http_status {
            out.serialize_entry("http_status", &status)?;
        }
        if let Some(excerpt) = &record.excerpt {
            out.serialize_entry("response_excerpt", excerpt)?;
        }
        // A begin may wait for the due time to the millisecond, never go ahead of it.
        out.serialize_entry("lateness_ms", &record.started_at.since(record.due_at).ms().max(0))?;
        out.serialize_entry("duration_ms", &record.ended_at.since(record.started_at).ms().max(0))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tsp_core::outcome::OutcomeKind;
    use tsp_core::task::{EndResult, NewTask, Status, TaskExtra};
    use tsp_core::{ConfigId, NodeId, TaskId, TaskKey, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    fn task() -> Task {
        let new = NewTask {
            id: TaskId::new(7_301),
            config: ConfigId::new(1),
            key: TaskKey::new("order-\"42\"").ok(),
            execute_at: NOW,
            payload: Some(Bytes::from_static(b"{\"order\": 42.50}")),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        Task::new(new, NOW)
    }

    fn json(task: &Task, payload: bool) -> String {
        serde_json::to_string(&TaskJson { task, app: "trade", config: "close-order", payload }).unwrap()
    }

    #[test]
    fn a_new_task_reads_as_the_contract_says() {
        assert_eq!(
            json(&task(), true),
            "{\"id\":\"7301\",\"app\":\"trade\",\"config\":\"close-order\",\"key\":\"order-\\\"42\\\"\",\
             \"status\":0,\"state\":\"scheduled\",\"result\":null,\
             \"execute_at\":\"2026-11-21T10:30:00.000Z\",\"due_at\":\"2026-11-21T10:30:00.000Z\",\
             \"created_at\":\"2026-11-21T10:30:00.000Z\",\"started_at\":null,\"ended_at\":null,\
             \"attempt\":0,\"version\":1,\"sharding_id\":0,\"sharding_count\":1,\"parent_id\":null,\
             \"payload\":{\"order\": 42.50},\"last_outcome\":null,\
             \"actions\":[\"cancel\",\"pause\",\"postpone\",\"run\"]}"
        );
        assert!(!json(&task(), false).contains("payload"));
    }

    #[test]
    fn what_is_written_is_read_by_a_client() {
        let mut task = task();
        task.status = Status::Ended;
        task.result = Some(EndResult::Failed);
        task.ended_at = Some(NOW);
        task.origin = Origin::Run;
        task.last_outcome = Some(LastOutcome {
            attempt: 2,
            kind: OutcomeKind::Lost,
            reason: "worker_lost".into(),
            http_status: None,
            at: NOW,
        });
        task.extra = Some(Box::new(TaskExtra {
            progress: Some(Progress { percent: Some(7), message: None, at: NOW }),
            ..TaskExtra::default()
        }));
        let read: crate::task::Task = serde_json::from_str(&json(&task, true)).unwrap();
        assert_eq!(read.result, Some(crate::task::TaskResult::Failed));
        assert_eq!(read.payload.unwrap().get(), "{\"order\": 42.50}");
        assert_eq!(read.last_outcome.unwrap().reason, "worker_lost");
        assert_eq!(read.progress.unwrap().percent, Some(7));
        assert_eq!(read.origin, Some(crate::task::TaskOrigin::Run));
    }

    #[test]
    fn a_damaged_payload_is_an_error_and_not_a_broken_answer() {
        let mut task = task();
        task.payload = Some(Bytes::from_static(b"{\"a\":"));
        let shown = TaskJson { task: &task, app: "a", config: "c", payload: true };
        assert!(serde_json::to_string(&shown).is_err());
    }

    #[test]
    fn the_words_are_those_of_the_domain() {
        use crate::task as wire;
        for status in Status::ALL {
            assert!(wire::TaskState::parse(status.as_str()).is_some());
            assert!(status.actions().iter().all(|a| wire::TaskAction::parse(a.as_str()).is_some()));
        }
        assert!(EndResult::ALL.iter().all(|result| wire::TaskResult::parse(result.as_str()).is_some()));
        assert!(OutcomeKind::ALL.iter().all(|kind| wire::OutcomeWord::parse(kind.as_str()).is_some()));
        for outcome in wire::change::CancelOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn an_attempt_has_lateness_and_duration() {
        let record = AttemptRecord {
            task: TaskId::new(1),
            attempt: 1,
            started_at: Timestamp::from_ms(1_005),
            ended_at: Timestamp::from_ms(1_025),
            due_at: Timestamp::from_ms(1_000),
            node: Some(NodeId::new(3)),
            kind: OutcomeKind::Done,
            reason: "ok".into(),
            http_status: Some(200),
            excerpt: None,
        };
        let read: crate::task::Attempt =
            serde_json::from_str(&serde_json::to_string(&AttemptJson(&record)).unwrap()).unwrap();
        assert_eq!((read.lateness_ms, read.duration_ms), (5, 20));
        assert_eq!(read.node, Some(crate::id::Id(3)));
    }
}
