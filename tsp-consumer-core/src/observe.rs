//! The pipeline's measurements. Handles are kept: looking one up by name costs ten times its use.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::RwLock;
use tsp_core::config::TaskConfig;
use tsp_core::ids::IdMap;
use tsp_core::outcome::{OutcomeKind, Verdict};
use tsp_core::task::Task;
use tsp_core::{ConfigId, Timestamp};

/// More configs than this share one lateness series, so that the number of series stays bounded.
const CONFIG_SERIES_MAX: usize = 500;

#[derive(Debug)]
pub(crate) struct Observer {
    lateness: RwLock<IdMap<ConfigId, Histogram>>,
    lateness_of_others: Histogram,
    outcomes: [Counter; OutcomeKind::ALL.len()],
    stage_sent: Histogram,
    stage_finished: Histogram,
    begin_rows: Histogram,
    finish_rows: Histogram,
    /// Outcomes that cannot be saved just now.
    unsaved: Gauge,
    /// Outcomes that were refused alone.
    refused: Counter,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            lateness: RwLock::default(),
            lateness_of_others: histogram!("tsp_lateness_seconds", "app" => "*", "config" => "*"),
            outcomes: OutcomeKind::ALL.map(|kind| counter!("tsp_attempts_total", "outcome" => kind.as_str())),
            stage_sent: histogram!("tsp_stage_seconds", "stage" => "due_to_sent"),
            stage_finished: histogram!("tsp_stage_seconds", "stage" => "sent_to_finished"),
            begin_rows: histogram!("tsp_batch_rows", "step" => "begin"),
            finish_rows: histogram!("tsp_batch_rows", "step" => "finish"),
            unsaved: gauge!("tsp_outcomes_unsaved"),
            refused: counter!("tsp_outcomes_refused_total"),
        }
    }
}

impl Observer {
    /// A callback is sent now.
    pub(crate) fn sent(&self, task: &Task, config: &TaskConfig, now: Timestamp) {
        let late = seconds(now, task.due_at);
        self.stage_sent.record(late);
        {
            let known = self.lateness.read();
            let full = known.len() >= CONFIG_SERIES_MAX;
            if let Some(histogram) = known.get(&config.id).or(full.then_some(&self.lateness_of_others)) {
                histogram.record(late);
                return;
            }
        }
        let mut known = self.lateness.write();
        if known.len() < CONFIG_SERIES_MAX {
            let app = config.app.to_string();
            let name = config.spec.name.to_string();
            let series = histogram!("tsp_lateness_seconds", "app" => app, "config" => name);
            series.record(late);
            known.insert(config.id, series);
        } else {
            self.lateness_of_others.record(late);
        }
    }

    pub(crate) fn finished(&self, row: &Task, verdict: &Verdict) {
        let kind = OutcomeKind::from(verdict.outcome);
        if let Some(at) = OutcomeKind::ALL.iter().position(|other| *other == kind) {
            self.outcomes[at].increment(1);
        }
        if let (Some(start), Some(last)) = (row.started_at, &row.last_outcome) {
            self.stage_finished.record(seconds(last.at, start));
        }
    }

    /// There are `now` outcomes that cannot be saved, and there were `before`.
    pub(crate) fn unsaved(&self, before: usize, now: usize) {
        match now.checked_sub(before) {
            Some(0) => {}
            Some(more) => self.unsaved.increment(rows_as_f64(more)),
            None => self.unsaved.decrement(rows_as_f64(before - now)),
        }
    }

    pub(crate) fn refused(&self) {
        self.refused.increment(1);
    }

    pub(crate) fn begin_batch(&self, rows: usize) {
        self.begin_rows.record(rows_as_f64(rows));
    }

    pub(crate) fn finish_batch(&self, rows: usize) {
        self.finish_rows.record(rows_as_f64(rows));
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of lateness are far below 2^52")]
fn seconds(later: Timestamp, earlier: Timestamp) -> f64 {
    later.since(earlier).ms().max(0) as f64 / 1_000.0
}

fn rows_as_f64(rows: usize) -> f64 {
    f64::from(u32::try_from(rows).unwrap_or(u32::MAX))
}
