//! Benchmarks of the real executable, always next to a raw HTTP loop in the same run.
//!
//! The service and the receiver are processes of their own; this one makes the load and does the sums.

mod client;
mod cluster;
mod isolation;
mod load;
mod measure;
mod open;
mod process;
mod raw;
mod receiver;
mod report;
mod service;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use crate::cluster::Servers;
use crate::load::{burst, steady, submit_batches, submit_singly};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{Service, Shape};

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
    /// Measure a cluster on this machine, MariaDB and nsqd included, in place of the embedded shape.
    #[arg(long)]
    cluster: bool,
    /// Fail if a limit is missed.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Only receive: what the benchmark starts beside itself.
    Receiver,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
enum Scenario {
    Raw,
    Burst,
    Steady,
    Submit,
    Batch,
    Isolation,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = measure::runtime(1).and_then(|runtime| match arguments.command {
        Some(Command::Receiver) => runtime.block_on(receiver::serve()),
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
    let wanted = |scenario| match arguments.open {
        // The open scenario brings its own burst and steady load.
        Some(_) => only.contains(&scenario),
        None => only.is_empty() || only.contains(&scenario),
    };
    let shape = if arguments.cluster { Shape::Cluster(Servers::start()?) } else { Shape::Embedded };
    let mut report = Report::new(match shape {
        Shape::Embedded => report::EMBEDDED,
        Shape::Cluster(_) => report::CLUSTER,
    });
    for run in 1..=arguments.runs.max(1) {
        println!("run {run} of {}, probe {:.0} ms", arguments.runs.max(1), report.probe());
        one_run(&mut report, &shape, &wanted).await.with_context(|| format!("run {run}"))?;
        if let Some(tasks) = arguments.open {
            open::run(&mut report, &shape, tasks).await.context("with open tasks")?;
        }
    }
    report.print();
    let kind = if arguments.cluster { "-cluster" } else { "" };
    let open = if arguments.open.is_some() { "-open" } else { "" };
    report.save(&format!("latest{kind}{open}.json"))?;
    if arguments.strict { report.verdict() } else { Ok(()) }
}

/// Every scenario once, each on a fresh service, so that none inherits the rows of another.
async fn one_run(report: &mut Report, shape: &Shape, wanted: &impl Fn(Scenario) -> bool) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    // The burst is read against the raw loop, so that one runs right before it.
    let raw = if wanted(Scenario::Raw) || wanted(Scenario::Burst) {
        Some(raw::measure(report, &mut receiver).await.context("raw loop")?)
    } else {
        None
    };
    if wanted(Scenario::Burst) {
        let service = Service::start(shape).await?;
        burst(report, &service, &mut receiver, "burst", raw).await.context("burst")?;
        service.stop().await?;
    }
    if wanted(Scenario::Steady) {
        let service = Service::start(shape).await?;
        steady(report, &service, &mut receiver, "steady").await.context("steady")?;
        service.stop().await?;
    }
    if wanted(Scenario::Submit) {
        let service = Service::start(shape).await?;
        submit_singly(report, &service).await.context("single submits")?;
        service.stop().await?;
    }
    if wanted(Scenario::Batch) {
        let service = Service::start(shape).await?;
        submit_batches(report, &service).await.context("batch submits")?;
        service.stop().await?;
    }
    if wanted(Scenario::Isolation) {
        let service = Service::start(shape).await?;
        isolation::run(report, &service, &mut receiver).await.context("isolation")?;
        service.stop().await?;
    }
    receiver.stop().await
}
