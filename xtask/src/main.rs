//! Checks of the repository itself: layers, maps, documents, claims, imports, statements, sizes, shares, words. Run by `cargo xtask check`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod claims;
mod documents;
mod imports;
mod layers;
mod lexer;
mod map;
mod ratchet;
mod shares;
mod sizes;
mod source;
mod statements;
mod words;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks of the repository itself")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check layers, maps, documents, claims, imports, statements, sizes, shares and words
    Check,
    /// Print how many lines each crate has, and how many of them are not tests
    Lines,
}

/// What one check found. No problems means it passed.
struct Outcome {
    summary: String,
    problems: Vec<String>,
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Check => check(),
        Command::Lines => {
            print!("{}", shares::table(&workspace::load()?.sources()?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check() -> Result<ExitCode> {
    let workspace = workspace::load()?;
    let sources = workspace.sources()?;
    let ratchet = ratchet::Ratchet::read(&workspace.root.join("xtask/ratchet.toml"))?;

    let outcomes = [
        ("layers", layers::check(&workspace.packages)),
        ("map", map::check(&workspace)?),
        ("documents", documents::check(&workspace, &sources)?),
        ("claims", claims::check(&sources)),
        ("imports", imports::check(&sources, &ratchet.circles)),
        ("statements", statements::check(&sources)),
        ("sizes", sizes::check(&sources, &ratchet)),
        ("shares", shares::check(&sources)),
        ("words", words::check(&sources)),
    ];
    let mut passed = true;
    for (name, outcome) in outcomes {
        for problem in &outcome.problems {
            eprintln!("{name}: {problem}");
        }
        let verdict = if outcome.problems.is_empty() { "ok" } else { "FAILED" };
        println!("{name}: {verdict}, {}", outcome.summary);
        passed &= outcome.problems.is_empty();
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
