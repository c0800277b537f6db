//! The brain: claims what is due, fires schedules, rescues what was lost, prunes and audits.
//!
//! [`Fetcher::step`] is one turn. It takes `now`, is idempotent, and is woken by signal (the inbox) and
//! by period. What it holds in memory is a window on the rows, never the truth: a fetcher that forgets
//! everything finds it all again at its next resync.

mod auditor;
mod cron;
mod fetcher;
mod heads;
mod held;
mod holding;
mod janitor;
pub mod pairs;
mod parked;
mod rescue;
mod run;
#[cfg(test)]
mod tests;
mod totals;
mod turns;
mod window;

pub use auditor::{Auditor, Findings};
pub use fetcher::{Fetcher, FetcherOptions, Parts, Report};
pub use heads::Heads;
pub use held::HeldConfigs;
pub use janitor::Janitor;
pub use run::run;
pub use totals::WindowTotals;
pub use turns::Rank;
pub use window::{Claim, Window, WindowLimits};
