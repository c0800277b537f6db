//! The short pipe from fetcher to worker, and the two streams that come back: hints and feedback.
//!
//! The queue holds no time and no payload: a message is `(task id, version)`. The database is the
//! backlog, so a lost message costs a little time and nothing else (DESIGN.md section 3).
//!
//! * [`Publisher`], [`Subscriber`]: the pipe. [`memory::MemoryQueue`] is the one within a process, [`nsq`] the one
//!   between processes.
//! * [`Inbox`]: what the fetcher receives from callers (hints) and workers (feedback).
//! * [`demultiplex`]: one worker's end of the pipe as several branches.
//! * [`EventRouter`]: the inboxes of the fetchers of this process.
//! * [`conformance`]: what a queue means.

pub mod conformance;
mod demultiplexer;
mod event_router;
mod inbox;
pub mod memory;
mod message;
#[cfg(feature = "nsq")]
pub mod nsq;

pub use demultiplexer::{BranchOf, demultiplex};
pub use event_router::EventRouter;
pub use inbox::{Feedback, FeedbackSink, Inbox, InboxEvents, Turn};
pub use message::{Delivery, Message, PublishError, Publisher, Subscriber, Ticket};
