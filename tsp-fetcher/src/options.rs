//! How long a fetcher looks ahead, gathers and waits.

use tsp_core::Millis;

use crate::window::WindowLimits;

/// The times of a fetcher, and how much it holds.
#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// Rows are claimed up to this long before their time.
    pub lookahead: Millis,
    /// At high rates messages are published in ticks of this length; a lone one goes at once.
    pub publish_tick: Millis,
    /// How often memory is compared with the rows.
    pub resync: Millis,
    /// A message without feedback for this long is sent again; doubled for each repeat of a task.
    pub pipe_timeout: Millis,
    /// After the event that a part of the pipe was lost, what was in the pipe by then is sent again when
    /// there is no feedback on it for this long.
    pub lost_timeout: Millis,
    pub window: WindowLimits,
}

impl Default for FetcherOptions {
    fn default() -> Self {
        Self {
            lookahead: Millis::from_secs(1),
            publish_tick: Millis::from_ms(1),
            resync: Millis::from_secs(5),
            pipe_timeout: Millis::from_secs(30),
            lost_timeout: Millis::from_secs(2),
            window: WindowLimits::default(),
        }
    }
}
