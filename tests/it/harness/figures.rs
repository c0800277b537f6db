//! Figures that a test prints, and the arithmetic behind them.

use std::path::Path;

use tsp_core::Millis;

/// What a slow machine that stands still for a moment may add to a promised time, on the build of the tests. The
/// release build is held to what is promised.
pub(crate) const MACHINE: Millis = Millis::from_secs(if cfg!(debug_assertions) { 5 } else { 0 });

/// How late the build of the tests, which is not optimised, may be on a small machine that begins a crowd of bad
/// callbacks at once. What a bad receiver or name costs those that it can hurt are its time-outs: two seconds for a name,
/// ten for a receiver. The bound of the promise, 25 ms, is held on the release build (`bench --strict`).
pub(crate) const CROWD_MS: i64 = 1_500;

/// The value at rank `q` (0..=100) of unsorted values; 0 of none.
pub(crate) fn percentile(values: &[i64], q: usize) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * q).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The sum of every sample of one metric whose name and labels begin with `prefix`.
pub(crate) fn metric(text: &str, prefix: &str) -> f64 {
    let samples = text.lines().filter(|line| line.starts_with(prefix) && !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
