//! Clocks, CPU and memory.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

/// Ticks per second of the figures in /proc; the same on every Linux in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Wall time in microseconds: arrivals are set against promised times, which are wall times too.
pub(crate) fn wall_us() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "arrivals are measured finer than the domain's clock tells"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Time for measuring durations.
pub(crate) fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
    Instant::now()
}

/// A time as the API reads it.
pub(crate) fn rfc3339(ms: i64) -> String {
    tsp_core::Timestamp::from_ms(ms).to_string()
}

/// Waits until the wall clock shows `us`.
pub(crate) async fn until(us: i64) {
    let left = u64::try_from(us - wall_us()).unwrap_or(0);
    tokio::time::sleep(Duration::from_micros(left)).await;
}

/// A runtime with so many workers.
pub(crate) fn runtime(workers: usize) -> Result<Runtime> {
    let mut builder = if workers == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().context("cannot make a runtime")
}

/// CPU seconds of a whole process so far, ended threads included (the fields `utime` and `stime` of
/// /proc/<pid>/stat sum the threads; `schedstat` would count the first one only).
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    // The name in parentheses may hold blanks; what follows it does not.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("`{path}` has no name"))?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> {
        let field = fields.get(index).with_context(|| format!("`{path}` is too short"))?;
        field.parse().with_context(|| format!("`{path}` holds `{field}`"))
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// One line of /proc/<pid>/status in MiB: `VmRSS` now, `VmHWM` at its highest.
pub(crate) fn memory_mib(pid: u32, line: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let found = text.lines().find_map(|all| all.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("`{path}` has no `{line}`"))? / 1_024.0)
}

/// A fixed piece of work: how long it takes tells how fast the machine is just now. In ms.
pub(crate) fn probe() -> f64 {
    let start = instant();
    let mut mixed = 0x9E37_79B9_7F4A_7C15_u64;
    for step in 0..100_000_000_u64 {
        mixed = (mixed ^ step).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(23);
    }
    std::hint::black_box(mixed);
    start.elapsed().as_secs_f64() * 1_000.0
}

/// The value below which this part of them lies; 0 of none.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts stay far below 2^52"
    )]
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// A pseudo-random number from a count: scatters without a generator to carry about.
pub(crate) fn scatter(count: u64) -> u64 {
    let mut mixed = count.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 31)
}
