//! Watches the machine's clock against monotonic time: a sudden change makes tasks early for people or
//! late for receivers, and nobody else would say so.

use std::time::Duration;

use metrics::gauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::Timestamp;

use super::clock::ServerClock;
use super::dependencies::ProcessDependencies;
use crate::settings::NodeSettings;

/// Looks once per lease, as the nodes of a cluster do when they renew theirs.
pub(super) fn watch_clock(
    deps: &ProcessDependencies,
    settings: &NodeSettings,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    // The development clock jumps because it is told to.
    let ServerClock::System(clock) = &deps.clock else { return };
    let (clock, stop) = (clock.clone(), stop.clone());
    let (lease, max_skew) = (settings.lease, settings.max_skew);
    tracker.spawn(async move {
        let mut watch = Watch { wall: clock.machine(), monotonic: Instant::now() };
        while stop.run_until_cancelled(tokio::time::sleep(lease)).await.is_some() {
            let jump_ms = watch.look(clock.machine(), Instant::now());
            report(jump_ms, max_skew);
        }
    });
}

#[derive(Debug)]
struct Watch {
    wall: Timestamp,
    monotonic: Instant,
}

impl Watch {
    /// By how much the wall clock went further than real time did since the last look.
    fn look(&mut self, wall: Timestamp, monotonic: Instant) -> i64 {
        let real = monotonic.saturating_duration_since(self.monotonic);
        let real_ms = i64::try_from(real.as_millis()).unwrap_or(i64::MAX);
        let jump_ms = wall.since(self.wall).ms().saturating_sub(real_ms);
        *self = Self { wall, monotonic };
        jump_ms
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is floating point; jumps stay far below 2^52 ms")]
fn report(jump_ms: i64, max_skew: Duration) {
    gauge!("tsp_clock_jump_seconds").set(jump_ms as f64 / 1_000.0);
    if u128::from(jump_ms.unsigned_abs()) > max_skew.as_millis() {
        tracing::error!(
            jump_ms,
            "the machine's clock changed suddenly; it counts when it lasts a minute: check its time synchronisation"
        );
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::Millis;

    use super::*;

    #[test]
    fn only_a_difference_to_real_time_is_a_jump() {
        let (wall, monotonic) = (Timestamp::from_ms(1_000_000), Instant::now());
        let mut watch = Watch { wall, monotonic };
        let later = monotonic + Duration::from_secs(5);
        assert_eq!(watch.look(wall.plus(Millis::from_secs(5)), later), 0);
        let jumped = wall.plus(Millis::from_secs(3_610));
        assert_eq!(watch.look(jumped, later + Duration::from_secs(5)), 3_600_000);
        let corrected = wall.plus(Millis::from_secs(15));
        assert_eq!(watch.look(corrected, later + Duration::from_secs(10)), -3_600_000);
    }
}
