//! Logs on standard error, and the recorder behind `/metrics`.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Result};
use crate::settings::{LogFormat, LogSettings};

/// Without it the recorder would keep every single value.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Lateness and stages: from a millisecond to an hour, close together where health is.
const LATENESS_BUCKETS: [f64; 18] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0,
];
/// One statement: from tens of microseconds to seconds.
const STORE_BUCKETS: [f64; 13] =
    [0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
const ROWS_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Renders the metrics.
#[derive(Debug, Clone)]
pub(super) struct Metrics(PrometheusHandle);

pub(super) fn install(settings: &LogSettings) -> Result<Metrics> {
    install_log(settings)?;
    install_recorder().map(Metrics)
}

fn install_log(settings: &LogSettings) -> Result {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|error| Failure::usage(format!("`log.filter` = `{}`: {error}", settings.filter)))?;
    // Standard output belongs to `ready:`.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match settings.format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|error| Failure::failed(format!("cannot start the log: {error}")))
}

fn install_recorder() -> Result<PrometheusHandle> {
    let buckets = [
        (Matcher::Full("tsp_lateness_seconds".to_owned()), LATENESS_BUCKETS.as_slice()),
        (Matcher::Full("tsp_stage_seconds".to_owned()), &LATENESS_BUCKETS),
        (Matcher::Suffix("_rows".to_owned()), &ROWS_BUCKETS),
        // Also what is not named here: a histogram without buckets would become a summary.
        (Matcher::Suffix("_seconds".to_owned()), &STORE_BUCKETS),
    ];
    let failed = |error| Failure::failed(format!("cannot start the metrics: {error}"));
    let mut builder = PrometheusBuilder::new();
    for (matcher, values) in buckets {
        builder = builder.set_buckets_for_metric(matcher, values).map_err(failed)?;
    }
    builder.install_recorder().map_err(failed)
}

impl Metrics {
    #[cfg(test)]
    pub(super) fn of(handle: PrometheusHandle) -> Self {
        Self(handle)
    }

    pub(super) fn handle(&self) -> PrometheusHandle {
        self.0.clone()
    }

    pub(super) fn keep_up(&self, tracker: &TaskTracker, stop: &CancellationToken) {
        let (handle, stop) = (self.0.clone(), stop.clone());
        tracker.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_EVERY)).await.is_some() {
                handle.run_upkeep();
            }
        });
    }
}
