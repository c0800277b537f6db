//! Rows of which no two columns hold the same, so that no two of them are mixed up.

use bytes::Bytes;
use tsp_core::outcome::OutcomeKind;
use tsp_core::task::{AttemptRecord, EndResult, LastOutcome, Origin, Status, Task};
use tsp_core::transition::{Change, OutcomeDetail};
use tsp_core::{Millis, NodeId, TaskId, Timestamp};

const fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(1_795_257_000_000 + ms)
}

/// `task` with its id, config and key, and a value of its own in each column.
pub fn open(mut task: Task) -> Task {
    task.extra_mut().traceparent = Some("00-1-2-01".to_owned());
    Task {
        status: Status::Awaiting,
        version: 101,
        due_at: at(1),
        execute_at: at(2),
        age_from: at(3),
        created_at: at(4),
        attempt: 102,
        failed_attempts: 103,
        worker_losses: 104,
        epoch: 105,
        node: Some(NodeId::new(106)),
        cancel_requested: true,
        origin: Origin::Run,
        sharding_id: 107,
        sharding_count: 108,
        parent: Some(TaskId::new(109)),
        key_slot: 110,
        started_at: Some(at(5)),
        begun_due_at: Some(at(6)),
        expire_after: Some(Millis::from_ms(111)),
        token: Some([112; 32]),
        last_outcome: Some(LastOutcome {
            attempt: 113,
            kind: OutcomeKind::Snooze,
            reason: "later".into(),
            http_status: Some(503),
            at: at(7),
        }),
        payload: Some(Bytes::from_static(b"{\"n\":114}")),
        ..task
    }
}

/// The end of `task`, with the attempt that it closes.
pub fn end(task: &Task) -> Change {
    let task = Task {
        status: Status::Ended,
        version: task.version + 1,
        node: None,
        cancel_requested: false,
        result: Some(EndResult::Cancelled),
        ended_at: Some(at(8)),
        ..task.clone()
    };
    let closed = AttemptRecord {
        task: task.id,
        attempt: 201,
        started_at: at(9),
        ended_at: at(10),
        due_at: at(11),
        node: Some(NodeId::new(202)),
        kind: OutcomeKind::Fail,
        reason: "no".into(),
        http_status: Some(404),
        excerpt: Some("nothing here".into()),
    };
    Change { task, closed: Some(closed), outcome_detail: OutcomeDetail::None }
}
