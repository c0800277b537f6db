//! The queue over NSQ, for clusters. nsqd holds no truth: it may lose everything and no task is lost.
//!
//! * [`Nsq`]: the nsqds, by list or by nsqlookupd, as one process uses them.
//! * [`NsqPublisher`], [`NsqSubscriber`]: the pipe, topic `tsp.q.<queue>`, channel `worker`.
//! * [`NsqHints`], [`NsqFeedback`]: events for the fetchers of a group, topics `tsp.hint.<group>#ephemeral`
//!   and `tsp.fb.<group>#ephemeral`.
//! * [`diagnose_nsqd`], [`diagnose_lookupd`]: for operators who want to know what is wrong.
//! * [`NsqEvents`]: both of these on their way into an [`EventRouter`](crate::EventRouter).

mod capacity_tracker;
mod coalescer;
mod context;
mod diagnostics;
mod event_publisher;
mod events;
pub mod metric_names;
mod names;
mod nodes;
mod options;
mod publisher;
mod records;
mod restart_detector;
mod subscriber;

pub use context::NsqContext;
pub use diagnostics::{NsqdFacts, NsqdView, diagnose_lookupd, diagnose_nsqd};
pub use event_publisher::{GroupOf, NsqFeedback, NsqHints};
pub use events::NsqEvents;
pub use nodes::QueueDepth;
pub use options::{NsqError, NsqOptions};
pub use publisher::{NsqPublisher, OnLoss, Wake};
pub use subscriber::NsqSubscriber;
pub use tsp_nsq::KnownNsqds;
