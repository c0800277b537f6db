//! What is counted here, beside what [`tsp_nsq::metric_names`] names.

/// Counter: messages that are no task and were thrown away.
pub const BAD_MESSAGES: &str = "tsp_queue_bad_messages_total";
/// Counter: messages that had left their connection when they were acknowledged, and may be delivered again.
pub const STALE: &str = "tsp_queue_stale_total";
/// Counter: hints and feedback dropped for want of room before they were sent, by `kind` (`hint`, `feedback`).
pub const EVENTS_DROPPED: &str = "tsp_news_dropped_total";
/// Counter: hints and feedback that no nsqd took, by `kind`.
pub const EVENTS_LOST: &str = "tsp_news_lost_total";
/// Counter: records of hints and feedback that could not be read, by `kind`.
pub const EVENTS_BAD: &str = "tsp_news_bad_lines_total";
