//! The figures of all runs: a table for people, JSON for later, and the limits they are held to.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::measure;
use crate::receiver::Summary;

/// A figure must be at least, or at most, this.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// A scenario, a figure of it, and what was promised.
pub(crate) type Promise = (&'static str, &'static str, Limit);

/// What was promised for two cores.
pub(crate) const EMBEDDED: &[Promise] = &[
    ("burst", "drain / raw loop", Limit::AtLeast(0.45)),
    ("burst", "CPU per callback", Limit::AtMost(0.08)),
    ("burst, open tasks", "CPU per callback", Limit::AtMost(0.08)),
    ("steady", "CPU per callback", Limit::AtMost(0.3)),
    ("steady", "late p50", Limit::AtMost(2.0)),
    ("steady", "late p99", Limit::AtMost(8.0)),
    ("steady, open tasks", "CPU per callback", Limit::AtMost(0.3)),
    ("steady, open tasks", "late p50", Limit::AtMost(2.0)),
    ("steady, open tasks", "late p99", Limit::AtMost(8.0)),
    ("single submits", "rate", Limit::AtLeast(15_000.0)),
    ("batch submits", "rate", Limit::AtLeast(80_000.0)),
    ("isolation", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("dead names", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("hosts, 1024 files", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("hosts, 4096 files", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("open tasks", "start-up", Limit::AtMost(5.0)),
    ("open tasks", "memory, highest", Limit::AtMost(300.0)),
    ("open tasks", "burst CPU / empty", Limit::AtMost(1.2)),
    ("open tasks", "steady CPU / empty", Limit::AtMost(1.2)),
];

/// The same for a cluster with everything on one machine of two cores.
pub(crate) const CLUSTER: &[Promise] = &[
    ("burst", "drain", Limit::AtLeast(9_000.0)),
    ("steady", "late p50", Limit::AtMost(8.0)),
    ("steady", "late p99", Limit::AtMost(40.0)),
    ("dead names", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("hosts, 1024 files", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("hosts, 4096 files", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("frozen shard", "p99 beside / allowed", Limit::AtMost(1.0)),
    ("scan", "rows read, most / fewest", Limit::AtMost(1.0)),
    ("scan", "time, largest / smallest", Limit::AtMost(1.3)),
    // What its tables are asked; leases, nodes and the config log are asked once for all shards.
    ("idle", "its tables, a shard", Limit::AtMost(1.0)),
];

/// One figure over all runs.
#[derive(Debug, Serialize)]
struct Row {
    scenario: String,
    figure: String,
    unit: &'static str,
    runs: Vec<f64>,
}

impl Row {
    fn median(&self) -> f64 {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.len() % 2, sorted.get(middle)) {
            (0, Some(upper)) => f64::midpoint(sorted[middle - 1], *upper),
            (_, Some(value)) => *value,
            (_, None) => 0.0,
        }
    }

    /// The limit of this figure in words, and whether the median keeps it.
    fn verdict(&self, promises: &[Promise]) -> Option<(String, bool)> {
        let (.., limit) = promises
            .iter()
            .find(|(scenario, figure, _)| *scenario == self.scenario && *figure == self.figure)?;
        Some(match *limit {
            Limit::AtLeast(least) => (format!(">= {}", shown(least)), self.median() >= least),
            Limit::AtMost(most) => (format!("<= {}", shown(most)), self.median() <= most),
        })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    promises: &'static [Promise],
    probe_ms: Vec<f64>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(promises: &'static [Promise]) -> Self {
        Self { promises, probe_ms: Vec::new(), rows: Vec::new() }
    }

    /// Measures how fast the machine is now, and keeps it beside the figures.
    pub(crate) fn probe(&mut self) -> f64 {
        let ms = measure::probe();
        self.probe_ms.push(ms);
        ms
    }

    pub(crate) fn add(&mut self, scenario: &str, figure: &str, unit: &'static str, value: f64) {
        println!("  {scenario}: {figure} {} {unit}", shown(value));
        let same = |row: &&mut Row| row.scenario == scenario && row.figure == figure;
        if let Some(row) = self.rows.iter_mut().find(same) {
            row.runs.push(value);
        } else {
            let (scenario, figure) = (scenario.to_owned(), figure.to_owned());
            self.rows.push(Row { scenario, figure, unit, runs: vec![value] });
        }
    }

    /// Arrival minus promised time.
    pub(crate) fn lateness(&mut self, scenario: &str, summary: &Summary) {
        let figures = [
            ("late p50", summary.p50_us),
            ("late p99", summary.p99_us),
            ("late p99.9", summary.p999_us),
            ("late max", summary.max_us),
        ];
        for (figure, us) in figures {
            let ms = f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0;
            self.add(scenario, figure, "ms", ms);
        }
    }

    pub(crate) fn print(&self) {
        let mut table = String::new();
        // Writing into a string does not fail.
        let _ = writeln!(table, "\nprobe {} ms", all(&self.probe_ms));
        let head = ("", "", "median", "", "limit", "runs");
        let _ = writeln!(
            table,
            "{:<35} {:<26} {:>12} {:<8} {:<18} {}",
            head.0, head.1, head.2, head.3, head.4, head.5
        );
        for row in &self.rows {
            let verdict = row.verdict(self.promises).map_or(String::new(), |(limit, kept)| {
                format!("{limit} {}", if kept { "ok" } else { "MISSED" })
            });
            let _ = writeln!(
                table,
                "{:<35} {:<26} {:>12} {:<8} {verdict:<18} {}",
                row.scenario,
                row.figure,
                shown(row.median()),
                row.unit,
                all(&row.runs)
            );
        }
        println!("{table}");
    }

    /// Beside the source, where the recorded runs are kept too.
    pub(crate) fn save(&self, name: &str) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(name);
        std::fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        println!("written to `{}`", path.display());
        Ok(())
    }

    pub(crate) fn verdict(&self) -> Result<()> {
        let missed: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.verdict(self.promises).is_some_and(|(_, kept)| !kept))
            .map(|row| format!("{}: {}", row.scenario, row.figure))
            .collect();
        ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
        Ok(())
    }
}

fn all(values: &[f64]) -> String {
    values.iter().map(|value| shown(*value)).collect::<Vec<_>>().join("  ")
}

/// As many digits as mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_held_to_the_limit() {
        let row = |runs: &[f64]| Row {
            scenario: "steady".to_owned(),
            figure: "late p50".to_owned(),
            unit: "ms",
            runs: runs.to_vec(),
        };
        assert_eq!(row(&[1.0, 9.0, 1.5]).verdict(EMBEDDED), Some(("<= 2.00".to_owned(), true)));
        assert_eq!(row(&[1.0, 4.0]).verdict(EMBEDDED), Some(("<= 2.00".to_owned(), false)));
    }
}
