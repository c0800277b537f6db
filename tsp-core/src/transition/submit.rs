//! Which tasks a config takes, new ones and ended ones that open again, and where they stand among the tasks of
//! their key (DESIGN.md section 5.4).

use super::{Change, Event, transition};
use crate::config::{OnDuplicateKey, TaskConfig};
use crate::ids::TaskId;
use crate::task::Task;
use crate::task_key::is_home;
use crate::time::Timestamp;

/// Why a config, as it stands, takes no such new task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitRefusal {
    ConfigGone,
    ConfigDisabled,
    /// The config's span was changed since the task's id was made.
    NotAtHome,
}

/// The key slot to insert a new task with: 0 makes it the canonical one of its key, its own id one beside.
///
/// `promised`: its id was given out already, so it is made on its shard even if that is no home of it any more,
/// beside what holds the key there.
pub fn admit(
    task: &Task,
    config: Option<&TaskConfig>,
    shards: u16,
    promised: bool,
) -> Result<i64, SubmitRefusal> {
    let config = config.ok_or(SubmitRefusal::ConfigGone)?;
    if !config.spec.enabled {
        return Err(SubmitRefusal::ConfigDisabled);
    }
    if is_home(task.config, task.key.as_ref(), config.spec.span, shards, task.id.shard()) {
        Ok(0)
    } else if promised {
        Ok(task.id.get())
    } else {
        Err(SubmitRefusal::NotAtHome)
    }
}

/// Whether a new task with the id of a `stored` one, open or ended, is the same submit again: its first answer was
/// lost. If it is not, ids are given out twice.
pub fn is_repeated(task: &Task, stored: &Task) -> bool {
    stored.config == task.config && stored.key == task.key
}

/// What is done about a new task whose key is held.
#[derive(Debug, Clone, PartialEq)]
pub enum Clash {
    /// Insert it with this key slot. If that is refused as well, rows contradict each other.
    Insert { key_slot: i64 },
    /// The holder is the answer.
    Existing(Box<Task>),
    /// The holder is changed, and is the answer.
    Reset(Box<Change>),
}

/// Decides about a new task that was refused under its key slot and whose id is new. `holder`: the open task that
/// holds its key; not asked for with `add`. `own_payload`: the submit brought the payload, so a reset moves it.
pub fn clash(
    task: &Task,
    on_duplicate: OnDuplicateKey,
    own_payload: bool,
    holder: Option<Task>,
    now: Timestamp,
) -> Clash {
    // Whoever held it is gone again.
    let free = Clash::Insert { key_slot: task.key_slot };
    match (on_duplicate, holder) {
        (OnDuplicateKey::Add, _) => Clash::Insert { key_slot: task.id.get() },
        (_, None) => free,
        (OnDuplicateKey::Ignore, Some(holder)) => Clash::Existing(Box::new(holder)),
        (OnDuplicateKey::Reset, Some(holder)) => {
            let payload = task.payload.clone().filter(|_| own_payload);
            let reset = Event::Reset { execute_at: task.execute_at, payload };
            transition(&holder, &reset, now).map_or(free, |change| Clash::Reset(Box::new(change)))
        }
    }
}

/// Why an ended task does not open again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReopenRefusal {
    ConfigGone,
    ConfigDisabled,
    KeyInUse { holder: TaskId },
}

/// The key slot of an ended task that opens again. `holder`: the open task that holds its key.
pub fn reopen(
    task: &Task,
    config: Option<&TaskConfig>,
    shards: u16,
    holder: Option<TaskId>,
) -> Result<i64, ReopenRefusal> {
    let config = config.ok_or(ReopenRefusal::ConfigGone)?;
    if !config.spec.enabled {
        return Err(ReopenRefusal::ConfigDisabled);
    }
    if task.key.is_none() || task.key_slot != 0 {
        return Ok(task.key_slot);
    }
    if !is_home(task.config, task.key.as_ref(), config.spec.span, shards, task.id.shard()) {
        // Its shard is no longer the key's home.
        return Ok(task.id.get());
    }
    holder.map_or(Ok(0), |holder| Err(ReopenRefusal::KeyInUse { holder }))
}
