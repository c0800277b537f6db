//! The worker framework: one pipeline on batches, with the handler left open.
//!
//! **receive → begin → run → outcome → finish → ack → feedback.** A [`TaskHandler`] is what a user
//! writes; an [`AttemptStore`] begins and finishes for it. [`Pipeline`] holds the two batched steps, pure
//! of time and tasks of the runtime, so that a simulation drives them; [`Worker`] runs them.

mod begin;
mod compartment;
mod finish;
mod handler;
mod intake;
mod observe;
mod permits;
mod pipeline;
mod running;
#[cfg(test)]
mod tests;
mod unsaved;
mod worker;

pub use handler::{Fence, TaskContext, TaskHandler};
pub use intake::{Intake, Item};
pub use permits::Permits;
pub use pipeline::{
    BeginReport, BegunAttempt, EndedAttempt, LoadResult, Pipeline, PipelineDependencies, SaveFailure,
};
pub use tsp_core::work::{AttemptStore, Configs, Each, SendLease, WorkError};
pub use worker::{Worker, WorkerOptions};
