//! The queue over NSQ, for clusters. nsqd holds no truth: it may lose everything and no task is lost.
//!
//! * [`Nsq`]: the nsqds, by list or by nsqlookupd, as one process uses them.
//! * [`NsqPublisher`], [`NsqSubscriber`]: the pipe, topic `tsp.q.<queue>`, channel `worker`.
//! * [`NsqHints`], [`NsqFeedback`]: what is told to the fetchers of a group, topics `tsp.hint.<group>#ephemeral`
//!   and `tsp.fb.<group>#ephemeral`.
//! * [`look_at_nsqd`], [`look_at_lookupd`]: for people who want to know what is wrong.
//! * [`NsqNews`]: both of these on their way into a [`Switchboard`](crate::Switchboard).

mod account;
mod gather;
mod hub;
mod lives;
mod look;
pub mod metric_names;
mod names;
mod news;
mod nodes;
mod options;
mod publisher;
mod sender;
mod subscriber;
mod text;

pub use hub::Nsq;
pub use look::{NsqdFacts, NsqdView, look_at_lookupd, look_at_nsqd};
pub use news::NsqNews;
pub use nodes::QueueDepth;
pub use options::{NsqError, NsqOptions};
pub use publisher::{Lost, NsqPublisher, Wake};
pub use sender::{GroupOf, NsqFeedback, NsqHints};
pub use subscriber::NsqSubscriber;
pub use tsp_nsq::KnownNsqds;
