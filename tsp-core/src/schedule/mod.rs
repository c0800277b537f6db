//! When a config fires by itself: cron expressions, fixed intervals, and what to do with slots that were
//! missed or that meet an occurrence still open.
//!
//! A *slot* is a scheduled instant; it becomes the `execute_at` of an occurrence. Everything here is pure:
//! the caller brings the time and makes a [`step::Fire`] of the slots that [`Schedule::plan`] names; a store
//! carries out what becomes of it. An expression is read into the times it names on the calendar
//! (`fields`, `calendar`, `days`), and those are mapped to instants of its zone (`search`). `golden.rs` fixes what
//! expressions mean, and `quartz.rs` compares them with Quartz itself.

mod calendar;
mod cron;
mod days;
mod error;
mod every;
mod fields;
mod misfire;
mod overlap;
mod preview;
mod search;
mod spec;
pub mod step;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod quartz;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod step_tests;

pub use cron::{CronSpec, Dialect, EXPR_CHARS_MAX};
pub use error::ScheduleError;
pub use every::{Every, INTERVAL_MAX, INTERVAL_MIN};
pub use misfire::{FIRE_ALL_MAX, FirePlan, Misfire, MisfirePolicy, Slot};
pub use overlap::{Overlap, OverlapDecision, overlap_decision};
pub use preview::{Fire, PREVIEW_FIRES_MAX};
pub use spec::{Schedule, Trigger};
