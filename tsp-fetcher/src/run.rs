//! The fetcher's own thread: it waits exactly, which a runtime's timer of 1 ms would not.

use std::sync::Arc;

use tsp_core::{Clock, Millis, Timestamp};
use tsp_queue::Turn;

use crate::fetcher::{Fetcher, is_passing};

/// After a failed turn.
const AGAIN_AFTER: Millis = Millis::from_ms(200);

/// Runs turns until the inbox is stopped or the shards are somebody else's. To be called on a thread of
/// its own; `block_on` runs a future to its end there.
pub fn run(mut fetcher: Fetcher, clock: &Arc<dyn Clock>, runtime: &tokio::runtime::Handle) {
    let inbox = fetcher.inbox().clone();
    while !inbox.is_stopped() {
        let now = clock.now();
        match runtime.block_on(fetcher.step(now)) {
            Ok(report) if report.deposed => {
                tracing::error!("another process owns the shards now; the fetcher stops");
                return;
            }
            Ok(report) => inbox.wait(report.turn, report.next.since(clock.now())),
            Err(error) => {
                if is_passing(&error) {
                    tracing::warn!(%error, "the fetcher's turn failed, will try again");
                } else {
                    tracing::error!(%error, "the fetcher's turn failed, will try again");
                }
                // Events do not help a store that is unavailable.
                let turn = Turn { events_before: Timestamp::ZERO, wants_room: false };
                inbox.wait(turn, AGAIN_AFTER);
            }
        }
    }
}
