//! What becomes of a scheduled row at its claim, by the few values that decide it: a claim need not read the whole row.

use crate::task::Task;
use crate::time::{Millis, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimable {
    pub version: i64,
    pub execute_at: Timestamp,
    pub expire_after: Option<Millis>,
    pub attempt: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Queued, under this version.
    Queued { version: i64 },
    /// It ends instead.
    Expired,
}

impl From<&Task> for Claimable {
    fn from(task: &Task) -> Self {
        Self {
            version: task.version,
            execute_at: task.execute_at,
            expire_after: task.expire_after,
            attempt: task.attempt,
        }
    }
}

impl Claimable {
    pub fn claim(self, now: Timestamp) -> Claim {
        if self.is_expired(now) { Claim::Expired } else { Claim::Queued { version: self.version + 1 } }
    }

    /// Its `expire_after` has passed before a first attempt.
    pub(crate) fn is_expired(self, now: Timestamp) -> bool {
        self.attempt == 0 && self.expire_after.is_some_and(|after| self.execute_at.plus(after) <= now)
    }
}
