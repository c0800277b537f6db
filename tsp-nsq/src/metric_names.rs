//! The names under which the `metrics` crate gets to see this crate. A recorder must be installed before a
//! producer or consumer starts.

/// Counter: publishes by `outcome` (`ok`, `error`, `unknown`, `unavailable`), a message of a batch being one.
pub const PUBLISHES: &str = "nsq_publishes_total";
/// Histogram: seconds from handing a `PUB` or `MPUB` to the connection until its answer.
pub const PUBLISH_SECONDS: &str = "nsq_publish_seconds";
/// Gauge: open connections, by `kind` (`producer`, `consumer`).
pub const CONNECTIONS: &str = "nsq_connections";
/// Gauge: what all connections of consumers together may have in flight.
pub const READY: &str = "nsq_ready_count";
/// Gauge: messages received and neither finished nor requeued.
pub const IN_FLIGHT: &str = "nsq_in_flight";
/// Counter: messages received.
pub const RECEIVED: &str = "nsq_messages_received_total";
/// Counter: messages received that had been delivered before.
pub const REDELIVERIES: &str = "nsq_redeliveries_total";
/// Counter: messages that ran into their timeout, or lost their connection, before anybody took them.
pub const EXPIRED: &str = "nsq_messages_expired_total";
/// Counter: `FIN`, `REQ` and `TOUCH` that nsqd refused, by `code`.
pub const ACKNOWLEDGE_ERRORS: &str = "nsq_settle_errors_total";
/// Counter: connections that ended or could not be made, by `cause`.
pub const RECONNECTS: &str = "nsq_reconnects_total";
/// Counter: questions to an nsqlookupd that were not answered.
pub const LOOKUP_FAILURES: &str = "nsq_lookup_failures_total";
