//! States that stand as numbers in SQL, beside what the transitions decide.

use std::collections::BTreeSet;

use tsp_core::task::{NewTask, Origin, Phase, Status, Task};
use tsp_core::transition::{Event, transition};
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::rules::is_plain;

const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

/// Every change that saves few columns, from which state to which: the only ones that SQL may write as a number.
fn plain_changes() -> BTreeSet<(u8, u8)> {
    let new = NewTask {
        id: TaskId::new(1),
        config: ConfigId::new(1),
        key: None,
        execute_at: NOW,
        payload: None,
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    let new = Task::new(new, NOW);
    let version = new.version;
    let events = [
        Event::Claim { epoch: 1 },
        Event::Begin { version, node: NodeId::new(1), runnable: true, token: None },
        Event::Release { version },
        Event::Pause,
    ];
    let mut changes = BTreeSet::new();
    for status in Status::ALL {
        for event in &events {
            let change = transition(&Task { status, ..new.clone() }, event, NOW);
            let change = change.ok().filter(|change| is_plain(change, change.task.status));
            changes.extend(change.map(|change| (status.code(), change.task.status.code())));
        }
    }
    changes
}

/// The statements of `all` that write a state as a number, each by its name. The change is one that a transition
/// decides: from the state that the statement asks for, or from any when it asks for a version. Every number that is
/// compared with a state is one.
///
/// # Panics
/// At the first that is none.
pub fn written(all: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let changes = plain_changes();
    let mut written = Vec::new();
    for sql in all {
        let name = sql.lines().next().unwrap_or_default().trim_start_matches("-- ");
        for code in numbers_after(sql, "status = ").chain(numbers_after(sql, "status BETWEEN ")) {
            assert!(Status::from_code(code.into()).is_some(), "`{name}`: no state has the number {code}");
        }
        let Some((_, set)) = sql.split_once(" SET ") else { continue };
        let (set, asked) = set.split_once("WHERE").unwrap_or((set, ""));
        let Some(to) = numbers_after(set, "status = ").next() else { continue };
        let from = numbers_after(asked, "status = ").next();
        let decided = changes.iter().any(|change| change.1 == to && from.is_none_or(|from| change.0 == from));
        assert!(decided, "`{name}` makes {to} of {from:?}, which no transition does");
        if let Some(phase) = numbers_after(set, "phase = ").next() {
            let of_state = Status::from_code(to.into()).and_then(Status::phase).map(Phase::code);
            assert_eq!(of_state, Some(phase), "`{name}`: the phase is not that of its state");
        }
        written.push(name);
    }
    written
}

fn numbers_after<'t>(text: &'t str, what: &'t str) -> impl Iterator<Item = u8> + 't {
    text.match_indices(what).filter_map(move |(at, _)| {
        let rest = &text[at + what.len()..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_no_transition_makes_is_found() {
        let wrong = "-- a\nUPDATE task SET status = 30 WHERE id = ? AND status = 0";
        let caught = std::panic::catch_unwind(|| written([wrong].into_iter()));
        assert!(
            caught.is_err_and(|said| said
                .downcast_ref::<String>()
                .is_some_and(|said| said.contains("makes 30")))
        );
        let right = [
            "-- b\nUPDATE task SET status = 10, epoch = ? WHERE id = ?",
            "-- c\nUPDATE idempotency SET status = ?",
        ];
        assert_eq!(written(right.into_iter()), ["b"]);
    }
}
