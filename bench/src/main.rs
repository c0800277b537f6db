//! Benchmarks of the real executable, always next to a raw HTTP loop in the same run.
//!
//! The service and the receiver are processes of their own; this one makes the load and does the sums.

mod client;
mod cluster;
mod fill;
mod herd;
mod history;
mod hostile;
mod idle;
mod isolation;
mod keyed;
mod load;
mod many_configs;
mod measure;
mod open;
mod process;
mod raw;
mod receiver;
mod report;
mod rows;
mod scan;
mod service;
mod tasks;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::load::{Burst, steady, submit_batches, submit_singly};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{DeploymentMode, Service};

#[derive(Debug, Parser)]
#[command(about = "Benchmarks TSP beside a raw HTTP loop", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// How often each is run; the table shows every run and the median.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// With so many open tasks in the file: start-up, memory, and the burst and steady figures again.
    #[arg(long, value_name = "TASKS")]
    open: Option<u64>,
    /// Beside so many ended tasks, with random keys: the burst, the steady figures and the submits again.
    #[arg(long, value_name = "TASKS")]
    history: Option<u64>,
    /// Measure a cluster on this machine, MariaDB and nsqd included, in place of the embedded shape.
    #[arg(long)]
    cluster: bool,
    /// Open rows of the tables that `--only scan` compares; as many as 100000000.
    #[arg(long, value_name = "ROWS", value_delimiter = ',', default_value = "100000,10000000")]
    scan: Vec<u64>,
    /// What `--only scan` would take with so many rows, by those that it measures.
    #[arg(long, value_name = "ROWS")]
    extrapolate: Option<u64>,
    /// The rows of `--only scan` have no keys and payloads, so that more of them fit the disk.
    #[arg(long)]
    bare: bool,
    /// The size of `--only configs` (500000 configs), `--only herd` (100000 crons) and `--only keyed` (10000000 ended
    /// tasks), if another.
    #[arg(long, value_name = "ROWS")]
    rows: Option<u64>,
    /// How many configs idle in `--only idle`.
    #[arg(long, value_name = "CONFIGS", default_value_t = 100_000)]
    idle: u64,
    /// Fail if a limit is missed.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Only receive: what the benchmark starts beside itself.
    Receiver {
        /// On all addresses of loopback, and of this machine.
        #[arg(long)]
        everywhere: bool,
    },
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
enum Scenario {
    Raw,
    Burst,
    /// A burst of 100,000 over 200 configs.
    Wide,
    Steady,
    Submit,
    Batch,
    Isolation,
    /// One tenant beside another that does its worst; only when named.
    Hostile,
    /// What a claim costs beside few and many open rows; only when named, once.
    Scan,
    /// Start-up, memory, burst and steady load with many configs; only when named, once.
    Configs,
    /// Many crons that fire in the same second; only when named, once.
    Herd,
    /// Submits and look-ups by key beside many ended tasks; only when named, once.
    Keyed,
    /// What a cluster without work asks its databases; only of a cluster, only when named, once.
    Idle,
}

impl Scenario {
    /// Of itself, and not part of each run.
    fn is_once(self) -> bool {
        matches!(self, Self::Scan | Self::Configs | Self::Herd | Self::Keyed | Self::Idle)
    }

    /// Runs it, if it is one of those, and says what its file is called.
    async fn run_once(self, report: &mut Report, arguments: &Arguments) -> Result<&'static str> {
        let Arguments { cluster, scan, extrapolate, bare, rows, idle, .. } = arguments;
        let rows_or = |usual: u64| rows.unwrap_or(usual);
        let mode = || DeploymentMode::start(*cluster);
        Ok(match self {
            Self::Scan => {
                let sizes = scan::Sizes { rows: scan, extrapolate: *extrapolate, bare: *bare };
                scan::run(report, *cluster, sizes).await.context("scan")?;
                "-scan"
            }
            Self::Configs => {
                many_configs::run(report, &mode()?, rows_or(500_000)).await.context("configs")?;
                "-configs"
            }
            Self::Herd => {
                herd::run(report, &mode()?, rows_or(100_000)).await.context("herd")?;
                "-herd"
            }
            Self::Keyed => {
                keyed::run(report, &mode()?, rows_or(10_000_000)).await.context("keyed")?;
                "-keyed"
            }
            Self::Idle => {
                idle::run(report, *idle).await.context("idle")?;
                "-idle"
            }
            _ => "",
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = measure::runtime(1).and_then(|runtime| match arguments.command {
        Some(Command::Receiver { everywhere }) => runtime.block_on(receiver::serve(everywhere)),
        None => runtime.block_on(run(&arguments)),
    });
    if let Err(error) = done {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(arguments: &Arguments) -> Result<()> {
    let only: BTreeSet<_> = arguments.only.iter().copied().collect();
    // What lies beside brings its own burst and steady load.
    let beside = arguments.open.is_some() || arguments.history.is_some();
    let by_default = |scenario| only.is_empty() && !beside && scenario != Scenario::Hostile;
    let wanted = |scenario| only.contains(&scenario) || by_default(scenario);
    let once: Vec<_> = only.iter().copied().filter(|scenario| scenario.is_once()).collect();
    ensure!(arguments.cluster || !once.contains(&Scenario::Idle), "`idle` is of a cluster: give `--cluster`");
    let mut report = Report::new(if arguments.cluster { report::CLUSTER } else { report::EMBEDDED });
    let mut file = String::from(if arguments.cluster { "latest-cluster" } else { "latest" });
    for scenario in &once {
        println!("once, probe {:.0} ms", report.probe());
        file.push_str(scenario.run_once(&mut report, arguments).await?);
    }
    if once.is_empty() || once.len() < only.len() || beside {
        all_runs(&mut report, arguments, &wanted).await?;
    }
    report.print();
    if only.contains(&Scenario::Hostile) {
        file.push_str("-hostile");
    }
    if arguments.open.is_some() {
        file.push_str("-open");
    }
    if arguments.history.is_some() {
        file.push_str("-history");
    }
    report.save(&format!("{file}.json"))?;
    if arguments.strict { report.verdict() } else { Ok(()) }
}

async fn all_runs(
    report: &mut Report,
    arguments: &Arguments,
    wanted: &impl Fn(Scenario) -> bool,
) -> Result<()> {
    let mode = DeploymentMode::start(arguments.cluster)?;
    for run in 1..=arguments.runs.max(1) {
        println!("run {run} of {}, probe {:.0} ms", arguments.runs.max(1), report.probe());
        one_run(report, &mode, wanted).await.with_context(|| format!("run {run}"))?;
        if let Some(tasks) = arguments.open {
            open::run(report, &mode, tasks).await.context("with open tasks")?;
        }
        if let Some(tasks) = arguments.history {
            history::run(report, &mode, tasks).await.context("with a history")?;
        }
    }
    Ok(())
}

/// Every scenario once, each on a fresh service, so that none inherits the rows of another.
async fn one_run(
    report: &mut Report,
    mode: &DeploymentMode,
    wanted: &impl Fn(Scenario) -> bool,
) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    // The burst is read against the raw loop, so that one runs right before it.
    let raw = if wanted(Scenario::Raw) || wanted(Scenario::Burst) {
        Some(raw::measure(report, &mut receiver).await.context("raw loop")?)
    } else {
        None
    };
    if wanted(Scenario::Burst) {
        let service = Service::start(mode).await?;
        Burst::new("burst").run(report, &service, &mut receiver, raw).await.context("burst")?;
        service.stop().await?;
    }
    if wanted(Scenario::Wide) {
        let service = Service::start(mode).await?;
        Burst::wide("wide burst").run(report, &service, &mut receiver, None).await.context("wide burst")?;
        service.stop().await?;
    }
    if wanted(Scenario::Steady) {
        let service = Service::start(mode).await?;
        steady(report, &service, &mut receiver, "steady").await.context("steady")?;
        service.stop().await?;
    }
    if wanted(Scenario::Submit) {
        let service = Service::start(mode).await?;
        submit_singly(report, &service, "single submits").await.context("single submits")?;
        service.stop().await?;
    }
    if wanted(Scenario::Batch) {
        let service = Service::start(mode).await?;
        submit_batches(report, &service, "batch submits").await.context("batch submits")?;
        service.stop().await?;
    }
    if wanted(Scenario::Isolation) {
        let service = Service::start(mode).await?;
        isolation::run(report, &service, &mut receiver).await.context("isolation")?;
        service.stop().await?;
    }
    if wanted(Scenario::Hostile) {
        hostile::run(report, mode, &mut receiver).await.context("hostile")?;
    }
    receiver.stop().await
}
