//! The brain: claims what is due, fires schedules, rescues what was lost, prunes and audits.
//!
//! [`Fetcher::step`] is one turn. It takes `now`, is idempotent, and is woken by signal (the inbox) and
//! by period. What it holds in memory is a window on the rows, never the truth: a fetcher that forgets
//! everything finds it all again at its next resync.

mod auditor;
mod cron;
mod deadlines;
mod dependencies;
mod due_index;
mod fetcher;
mod flow;
mod holds;
mod options;
mod ownership;
mod park_log;
mod parking;
mod rescue;
mod retention;
mod run;
mod schedules;
pub mod shard_groups;
#[cfg(test)]
mod tests;
mod totals;
mod turns;
mod window;

pub use auditor::{Auditor, Findings};
pub use dependencies::FetcherDependencies;
pub use fetcher::{Fetcher, Report};
pub use holds::HoldsView;
pub use options::FetcherOptions;
pub use retention::RetentionLoop;
pub use run::run;
pub use totals::WindowTotals;
pub use window::WindowLimits;
