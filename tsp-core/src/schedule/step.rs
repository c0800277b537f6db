//! One step of one schedule: which of its slots become occurrences, and where its cursor goes (cron reference,
//! section 11).
//!
//! A [`Fire`] is computed from a cursor and a config as they were read. The store asks in the transaction that
//! saves it: does it still fit, what is to be looked up for it, and with what was found, what is to be written.

use std::collections::BTreeSet;

use super::{Overlap, OverlapDecision, overlap_decision};
use crate::config::TaskConfig;
use crate::ids::ConfigId;
use crate::task::Task;
use crate::time::Timestamp;

/// Where a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub config: ConfigId,
    /// The next slot not yet handled; `None`: the schedule has ended or is not computed yet.
    pub next_fire_at: Option<Timestamp>,
    /// Compare-and-set: each step adds 1.
    pub version: i64,
    /// The version of the config that `next_fire_at` was computed for; 0 for a new cursor.
    pub config_version: i64,
    /// With overlap `queue_one`: the slot that waits for the open occurrence to end.
    pub waiting: Option<Timestamp>,
    /// Slots that were missed since the schedule began.
    pub missed: i64,
}

impl Cursor {
    /// Of a schedule that no step was taken of. The first step makes the row if it is missing.
    pub const fn new(config: ConfigId) -> Self {
        Self { config, next_fire_at: None, version: 1, config_version: 0, waiting: None, missed: 0 }
    }
}

/// A step of one schedule.
#[derive(Debug, Clone)]
pub struct Fire {
    pub config: ConfigId,
    pub cursor_version: i64,
    /// The version of the config this was computed with. A cursor of a newer version is left alone.
    pub config_version: i64,
    pub overlap: Overlap,
    /// The slots to be made, oldest first, each with its task. May be empty: the cursor still moves.
    pub slots: Vec<SlotTask>,
    /// The task for an occurrence that waits (overlap `queue_one`): made if the open one has ended.
    pub waiting: Option<SlotTask>,
    pub missed: i64,
    pub next_fire_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct SlotTask {
    pub task: Box<Task>,
    /// Made beyond the misfire grace.
    pub late: bool,
}

/// What a step is decided by, to be looked up where it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepQuery {
    /// Whether an occurrence with tasks is open. Tasks that were run by hand count.
    pub open: bool,
    /// Which of these slots have been handled.
    pub slots: BTreeSet<Timestamp>,
}

/// What was found of that.
#[derive(Debug, Clone, Default)]
pub struct StepFindings {
    pub open: bool,
    pub handled: BTreeSet<Timestamp>,
}

/// What a step writes, all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleStep {
    /// As it becomes; its version is one above the stored one.
    pub cursor: Cursor,
    /// In the order in which they came about.
    pub occurrences: Vec<NewOccurrence>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewOccurrence {
    pub execute_at: Timestamp,
    /// `None`: overlap leaves the slot out.
    pub task: Option<Box<Task>>,
    pub late: bool,
}

impl Fire {
    /// The cursor of this version goes to `next_fire_at` and nothing is made.
    pub fn without_slots(config: &TaskConfig, cursor_version: i64, next_fire_at: Option<Timestamp>) -> Self {
        Self {
            config: config.id,
            cursor_version,
            config_version: config.version,
            overlap: config.spec.schedule.as_ref().map_or(Overlap::default(), |schedule| schedule.overlap),
            slots: Vec::new(),
            waiting: None,
            missed: 0,
            next_fire_at,
        }
    }

    /// Whether it was computed with the config as it stands, which has a schedule and may fire.
    pub fn fits_config(&self, config: Option<&TaskConfig>) -> bool {
        config.is_some_and(|config| {
            config.version == self.config_version && config.runnable() && config.spec.schedule.is_some()
        })
    }

    /// Whether it was computed from the cursor as it stands.
    pub const fn fits_cursor(&self, cursor: &Cursor) -> bool {
        cursor.version == self.cursor_version && cursor.config_version <= self.config_version
    }

    /// What must be known before [`Fire::step`].
    pub fn wanted(&self, cursor: &Cursor) -> StepQuery {
        let waiting = self.waiting.as_ref().map(|slot| slot.task.execute_at);
        let overlaps = self.overlap != Overlap::Allow && !self.slots.is_empty();
        let open = overlaps || waiting.is_some_and(|at| cursor.waiting == Some(at));
        let slots = self.slots.iter().map(|slot| slot.task.execute_at);
        StepQuery { open, slots: slots.chain(cursor.waiting.filter(|_| open)).collect() }
    }

    /// Takes the step: first the occurrence that waits, then slot after slot, each with what came about before it.
    pub fn step(&self, mut cursor: Cursor, found: StepFindings) -> ScheduleStep {
        let StepFindings { mut open, mut handled } = found;
        let mut occurrences = Vec::new();
        if let Some(slot) = &self.waiting
            && cursor.waiting == Some(slot.task.execute_at)
            && !open
        {
            cursor.waiting = None;
            if handled.insert(slot.task.execute_at) {
                open = true;
                occurrences.push(NewOccurrence::made(slot));
            }
        }
        for slot in &self.slots {
            let at = slot.task.execute_at;
            if cursor.waiting == Some(at) || handled.contains(&at) {
                continue;
            }
            match overlap_decision(self.overlap, open, cursor.waiting) {
                OverlapDecision::Make => {
                    open = true;
                    handled.insert(at);
                    occurrences.push(NewOccurrence::made(slot));
                }
                OverlapDecision::Skip => {
                    handled.insert(at);
                    occurrences.push(NewOccurrence::skipped(at, slot.late));
                }
                OverlapDecision::Wait => {
                    // The one that waited gives way, and runs no more; it is as late as the slot it gives way to.
                    if let Some(before) = cursor.waiting.replace(at)
                        && handled.insert(before)
                    {
                        occurrences.push(NewOccurrence::skipped(before, slot.late));
                    }
                }
            }
        }
        cursor.next_fire_at = self.next_fire_at;
        cursor.version += 1;
        cursor.config_version = self.config_version;
        cursor.missed = cursor.missed.saturating_add(self.missed);
        ScheduleStep { cursor, occurrences }
    }
}

impl NewOccurrence {
    fn made(slot: &SlotTask) -> Self {
        Self { execute_at: slot.task.execute_at, task: Some(slot.task.clone()), late: slot.late }
    }

    fn skipped(execute_at: Timestamp, late: bool) -> Self {
        Self { execute_at, task: None, late }
    }
}

impl ScheduleStep {
    /// The tasks that it makes.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.occurrences.iter().filter_map(|occurrence| occurrence.task.as_deref())
    }
}
