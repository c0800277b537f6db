//! The domain of TSP: pure values and transitions.
//!
//! Nothing here does IO, runs a future, draws random numbers or serialises, and only [`SystemClock`] reads the machine's
//! clock: time and randomness are arguments. One trait has async methods, the worker's border with its rows
//! ([`work::AttemptStore`]). Every change of a task's state is decided in [`transition`], each step of a schedule in
//! [`schedule::step`], each change of a config in [`config::save`].

pub mod clock;
pub mod config;
pub mod duration;
pub mod egress;
pub mod entropy;
pub mod headers;
pub mod ids;
pub mod name;
pub mod outcome;
pub mod retry;
pub mod schedule;
pub mod task;
pub mod task_key;
pub mod text;
pub mod time;
pub mod transition;
pub mod work;

pub use clock::{
    Clock, ClusterClock, ManualClock, MonotonicClock, MonotonicInstant, SystemClock, VirtualClock,
};
pub use entropy::Entropy;
pub use ids::{AppId, ConfigId, IdGenerator, KeyId, NodeId, ShardId, TaskId};
pub use name::Name;
pub use outcome::{Outcome, Verdict};
pub use task_key::TaskKey;
pub use time::{Millis, Timestamp};
