//! What a claim costs beside few and many open rows: the product's own statements, on tables that are filled by the
//! database.
//!
//! The due scan must not notice what is not due: the rows it reads are the same whatever else is open.

mod file;
mod shard;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peers::MariaDb;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::FetcherStore;
use tsp_store::fetching::{ClaimRequest, Owner};

use crate::cluster::status;
use crate::measure::{instant, quantile, wall_us};
use crate::report::Report;

const CONFIGS: u64 = 100;
/// The due rows of a round are of so many configs; the next round has the next ones.
const DUE_CONFIGS: u64 = 5;
const DUE_EACH: u64 = 100;
const DUE: u64 = DUE_CONFIGS * DUE_EACH;
/// Until each config had its turn.
const TURN: u64 = CONFIGS / DUE_CONFIGS;
/// Rounds that count; one turn before them makes connections, prepares statements and reads what is read by each.
const ROUNDS: u64 = 10 * TURN;
/// Rows of a config that become due in a round, all of them.
const DUE_COPIES: u64 = (TURN + ROUNDS) / TURN * DUE_EACH;
const ROUND_MS: i64 = 1_000;
/// As many as the fetcher would ask for, and more than there are: the scan ends where nothing more is due.
const LIMIT: usize = 1_000;
/// How often the earliest due times of all configs are read.
const HEADS: usize = 200;
const DAY_MS: i64 = 86_400_000;
const MONTH_MS: i64 = 30 * DAY_MS;

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes<'a> {
    /// Open rows of the tables.
    pub(crate) rows: &'a [u64],
    /// Say what so many rows would take, too.
    pub(crate) extrapolate: Option<u64>,
    /// Rows without keys and payloads.
    pub(crate) bare: bool,
}

impl Sizes<'_> {
    /// Of each config, the due rows aside.
    fn copies(rows: u64) -> u64 {
        rows.div_ceil(CONFIGS) + DUE_COPIES
    }
}

pub(crate) async fn run(report: &mut Report, is_cluster: bool, sizes: Sizes<'_>) -> Result<()> {
    ensure!(!sizes.rows.is_empty(), "no number of rows was given");
    if is_cluster { shard::run(report, sizes).await } else { file::run(report, sizes).await }
}

/// When a row is due, from its number within its config (1, 2, …) and the place of its config (0, 1, …): the first ones
/// of each config in the rounds, all others at some time of the month after.
fn due(number: &str, place: &str, divide: &str, first_round: i64) -> String {
    let later = first_round + DAY_MS;
    format!(
        "CASE WHEN {number} <= {DUE_COPIES} \
         THEN {first_round} + (({number} - 1) {divide} {DUE_EACH} * {TURN} + {place} {divide} {DUE_CONFIGS}) \
             * {ROUND_MS} + {number} % {ROUND_MS} \
         ELSE {later} + ({number} * {CONFIGS} + {place}) * 1597334677 % {MONTH_MS} END"
    )
}

/// Tomorrow: nobody claims by the clock what the rounds are about.
fn first_round() -> i64 {
    wall_us() / 1_000 + DAY_MS
}

/// A table with open rows, of which those of each round become due together.
struct Filled {
    name: String,
    rows: u64,
    store: Arc<dyn FetcherStore>,
    owner: Owner,
    /// By their places.
    configs: Vec<ConfigId>,
    first_round: i64,
}

#[derive(Debug, Default)]
struct Times {
    /// A claimed task each, in us.
    claims: Vec<f64>,
    /// All of them, in ms.
    heads: Vec<f64>,
}

/// By turns, so that all have the same machine. `server` counts the rows that are read.
async fn measure(
    report: &mut Report,
    tables: &[Filled],
    server: Option<&MariaDb>,
    extrapolate: Option<u64>,
) -> Result<()> {
    let mut times: Vec<Times> = tables.iter().map(|_| Times::default()).collect();
    let mut reads = vec![Vec::new(); tables.len()];
    for round in 0..TURN + ROUNDS {
        for ((table, times), reads) in tables.iter().zip(&mut times).zip(&mut reads) {
            let (took, read) = table.counted(round, server).await.with_context(|| table.name.clone())?;
            if round >= TURN {
                times.claims.push(took.as_secs_f64() * 1e6 / f64::from(u32::try_from(DUE)?));
                reads.extend(read);
            }
        }
    }
    for _ in 0..HEADS {
        for (table, times) in tables.iter().zip(&mut times) {
            let start = instant();
            let heads = table.store.earliest_due().await?.len();
            times.heads.push(start.elapsed().as_secs_f64() * 1_000.0);
            ensure!(heads == table.configs.len(), "{heads} configs have an earliest due time");
        }
    }
    for ((table, times), reads) in tables.iter().zip(&times).zip(&reads) {
        for (figure, unit, value) in figures(times) {
            report.add(&table.name, &figure, unit, value);
        }
        if server.is_some() {
            report.add(&table.name, "rows read per task", "", quantile(reads, 0.5));
        }
    }
    compare(report, &times, &reads);
    if let Some(rows) = extrapolate {
        say_extrapolated(report, tables, &times, rows)?;
    }
    Ok(())
}

fn figures(times: &Times) -> [(String, &'static str, f64); 4] {
    let of =
        |what, unit, values: &[f64], part, label| (format!("{what}, {label}"), unit, quantile(values, part));
    let (claim, heads) = ("time per claimed task", "earliest due times");
    [
        of(claim, "us", &times.claims, 0.5, "p50"),
        of(claim, "us", &times.claims, 0.99, "p99"),
        of(heads, "ms", &times.heads, 0.5, "p50"),
        of(heads, "ms", &times.heads, 0.99, "p99"),
    ]
}

fn compare(report: &mut Report, times: &[Times], reads: &[Vec<f64>]) {
    let medians: Vec<f64> = times.iter().map(|times| quantile(&times.claims, 0.5)).collect();
    if let [smallest, .., largest] = medians[..] {
        report.add("scan", "time, largest / smallest", "", largest / smallest);
    }
    let reads: Vec<f64> =
        reads.iter().filter(|reads| !reads.is_empty()).map(|reads| quantile(reads, 0.5)).collect();
    if reads.len() > 1 {
        let most = reads.iter().copied().fold(0.0, f64::max);
        let fewest = reads.iter().copied().fold(f64::INFINITY, f64::min);
        report.add("scan", "rows read, most / fewest", "", most / fewest);
    }
}

fn say_extrapolated(report: &mut Report, tables: &[Filled], times: &[Times], rows: u64) -> Result<()> {
    ensure!(tables.len() > 1, "`--extrapolate` goes by two sizes or more: give them to `--scan`");
    let from: Vec<_> = tables.iter().map(|table| table.rows.to_string()).collect();
    println!("  {rows} rows: not measured, but extrapolated from {} rows", from.join(", "));
    let all: Vec<_> = times.iter().map(figures).collect();
    // The slowest hundredth is the machine's mood, which no line goes through.
    for (at, (figure, unit, _)) in all[0].iter().enumerate().filter(|(_, figure)| figure.0.ends_with("p50")) {
        let points: Vec<_> =
            tables.iter().zip(&all).map(|(table, figures)| (table.rows, figures[at].2)).collect();
        report.add(&format!("scan, {rows} rows, EXTRAPOLATED"), figure, unit, extrapolated(&points, rows));
    }
    Ok(())
}

/// On the line through these that is nearest to them, over the logarithm of the rows: with it grow the levels of a tree.
fn extrapolated(points: &[(u64, f64)], rows: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let log = |rows: u64| (rows.max(1) as f64).ln();
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(rows, _)| log(*rows)).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, value)| value).sum::<f64>() / count;
    let across: f64 = points.iter().map(|(rows, value)| (log(*rows) - mean_x) * (value - mean_y)).sum();
    let square: f64 = points.iter().map(|(rows, _)| (log(*rows) - mean_x).powi(2)).sum();
    let slope = if square > 0.0 { across / square } else { 0.0 };
    mean_y + slope * (log(rows) - mean_x)
}

impl Filled {
    /// A claim, and the rows that were read for each of its tasks: those of the whole server but for what it takes to ask.
    async fn counted(&self, round: u64, server: Option<&MariaDb>) -> Result<(Duration, Option<f64>)> {
        let Some(server) = server else { return Ok((self.claim(round).await?, None)) };
        let read = || status(server, "Handler\\_read%");
        let (asked, before) = (read()?, read()?);
        let took = self.claim(round).await?;
        let rows = read()? - before - (before - asked);
        Ok((took, Some(rows / f64::from(u32::try_from(DUE)?))))
    }

    /// Claims all that is due in this round.
    async fn claim(&self, round: u64) -> Result<Duration> {
        let due_by = self.first_round + (i64::try_from(round)? + 1) * ROUND_MS - 1;
        let due_by = Timestamp::from_ms(due_by);
        let configs = self.configs.iter().cycle().skip(usize::try_from(round % TURN * DUE_CONFIGS)?);
        let requests = configs.take(usize::try_from(DUE_CONFIGS)?);
        let requests =
            requests.map(|config| ClaimRequest { config: *config, due_by, limit: LIMIT }).collect();
        let start = instant();
        let claimed = self.store.claim(self.owner, requests, due_by).await?;
        let took = start.elapsed();
        ensure!(!claimed.deposed, "the lease is not ours");
        let tasks = claimed.tasks.len() + claimed.bare.len();
        ensure!(tasks as u64 == DUE, "{tasks} of {DUE} due rows were claimed");
        Ok(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_extrapolated_lies_on_the_line_over_the_logarithm() {
        let close = |value: f64, wanted: f64| assert!((value - wanted).abs() < 1e-9, "{value}, not {wanted}");
        close(extrapolated(&[(1_000_000, 10.0), (10_000_000, 12.0)], 100_000_000), 14.0);
        close(extrapolated(&[(1_000, 5.0), (10_000, 5.0), (100_000, 5.0)], 1_000_000), 5.0);
        close(extrapolated(&[(1_000, 5.0), (1_000, 7.0)], 1_000_000), 6.0);
    }
}
