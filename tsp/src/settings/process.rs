//! `[queue]`, `[fetcher]`, `[node]`, `[log]`, `[runtime]`: what a process is.

use std::num::NonZeroUsize;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tsp_core::Millis;

use super::reader::Reader;
use super::unknown::NOT_BUILT;

const ROLES: [&str; 3] = ["web", "fetcher", "worker"];
const THREADS_MAX: u32 = 256;

/// Keys whose other values come with the cluster shape.
pub(super) fn check_shape(reader: &mut Reader<'_>) {
    reader.parsed("queue.url", |text| match text.split_once(':') {
        Some(("memory", "")) => Ok(()),
        Some(("nsq", _)) => Err(format!("is not built yet: {NOT_BUILT}")),
        _ => Err("must be `memory:`".to_owned()),
    });
    let groups = reader.list("fetcher.groups", |text| Ok(text.to_owned()));
    if groups != ["*"] {
        reader.wrong("fetcher.groups", &format!("is not built yet: {NOT_BUILT}; keep `[\"*\"]`"));
    }
    let roles = reader.list("node.roles", |text| {
        let words = ROLES.map(|role| format!("`{role}`")).join(", ");
        let known = ROLES.contains(&text) || text == "all";
        if known { Ok(text.to_owned()) } else { Err(format!("`{text}` is no role; roles are {words}")) }
    });
    let has = |role: &str| roles.iter().any(|given| given == role);
    if !has("all") && !ROLES.iter().all(|role| has(role)) {
        reader.wrong("node.roles", &format!("less than all is not built yet: {NOT_BUILT}"));
    }
}

#[derive(Debug)]
pub(crate) struct FetcherSettings {
    pub(crate) lookahead: Duration,
    pub(crate) resync: Duration,
}

impl FetcherSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            lookahead: reader.duration("fetcher.lookahead", Millis::from_ms(10)..=Millis::from_secs(10)),
            resync: reader.duration("fetcher.resync", Millis::from_secs(1)..=Millis::from_mins(10)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct NodeSettings {
    /// Empty: the machine's name.
    pub(crate) name: String,
    pub(crate) lease: Duration,
    pub(crate) max_skew: Duration,
}

impl NodeSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            name: reader.text("node.name").to_owned(),
            lease: reader.duration("node.lease", Millis::from_secs(1)..=Millis::from_mins(1)),
            max_skew: reader.duration("node.max_skew", Millis::from_ms(10)..=Millis::from_mins(1)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug)]
pub(crate) struct LogSettings {
    pub(crate) format: LogFormat,
    /// Checked: it parses.
    pub(crate) filter: String,
}

impl LogSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let format = reader.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        let filter = reader.parsed("log.filter", |text| match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("{error}; for example `info` or `info,tsp_worker=debug`")),
        });
        Some(Self { format, filter: filter? })
    }
}

#[derive(Debug)]
pub(crate) struct RuntimeSettings {
    /// 0: chosen by [`RuntimeSettings::workers`].
    workers: usize,
}

impl RuntimeSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let workers = reader.number("runtime.workers", 0..=THREADS_MAX);
        Self { workers: usize::try_from(workers).unwrap_or_default() }
    }

    /// One core is left to the database writer and the fetcher, which have threads of their own.
    pub(crate) fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        if self.workers == 0 { cores.saturating_sub(1).max(1) } else { self.workers }
    }
}
