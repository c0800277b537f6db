//! The HTTP calls of nsqd and nsqlookupd. See `docs/reference/nsq.md`, sections 10 and 11.

mod lookupd;
mod nsqd;
mod request;
mod stats;

pub use lookupd::{Lookup, LookupdHttp, Node};
pub use nsqd::{Info, NsqdHttp};
pub use request::HttpError;
pub use stats::{ChannelStats, Stats, TopicStats};
