//! `[queue]`, `[fetcher]`, `[node]`, `[log]`, `[runtime]`: what a process is.

use std::num::NonZeroUsize;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tsp_core::{Millis, Name};

use super::queue::QueueSettings;
use super::reader::Reader;

const THREADS_MAX: u32 = 256;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) web: bool,
    pub(crate) fetcher: bool,
    pub(crate) worker: bool,
}

impl Roles {
    const NAMES: [&str; 3] = ["web", "fetcher", "worker"];

    fn read(reader: &mut Reader<'_>) -> Self {
        let given = reader.list("node.roles", |text| {
            let words = Self::NAMES.map(|role| format!("`{role}`")).join(", ");
            let known = Self::NAMES.contains(&text) || text == "all";
            if known { Ok(text.to_owned()) } else { Err(format!("`{text}` is no role; roles are {words}")) }
        });
        if given.is_empty() {
            reader.wrong("node.roles", "must name one role at least");
        }
        let has = |role: &str| given.iter().any(|given| given == role || given == "all");
        Self { web: has("web"), fetcher: has("fetcher"), worker: has("worker") }
    }

    /// The roles by name.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let has = [self.web, self.fetcher, self.worker];
        Self::NAMES.into_iter().zip(has).filter_map(|(name, has)| has.then_some(name)).collect()
    }

    fn is_all(self) -> bool {
        self.web && self.fetcher && self.worker
    }
}

/// What goes only together with a cluster's store, or only without.
pub(super) fn check_shape(
    reader: &mut Reader<'_>,
    cluster: bool,
    queue: &QueueSettings,
    fetcher: &FetcherSettings,
    node: &NodeSettings,
) {
    let embedded = "needs a cluster: set `store.meta.url` and `store.sources`";
    match queue {
        QueueSettings::Memory if cluster => {
            reader.wrong("queue.url", "must be `nsq:` in a cluster (`store.meta.url` is set)");
        }
        QueueSettings::Nsq(_) if !cluster => reader.wrong("queue.url", embedded),
        _ => {}
    }
    if !cluster && !node.roles.is_all() {
        reader.wrong("node.roles", &format!("less than all {embedded}"));
    }
    if !cluster && fetcher.groups != ["*"] {
        reader.wrong("fetcher.groups", embedded);
    }
}

#[derive(Debug)]
pub(crate) struct FetcherSettings {
    pub(crate) lookahead: Duration,
    pub(crate) resync: Duration,
    /// By name; `*` for all.
    pub(crate) groups: Vec<String>,
}

impl FetcherSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            lookahead: reader.duration("fetcher.lookahead", Millis::from_ms(10)..=Millis::from_secs(10)),
            resync: reader.duration("fetcher.resync", Millis::from_secs(1)..=Millis::from_mins(10)),
            groups: reader.list("fetcher.groups", |text| match Name::group(text) {
                _ if text == "*" => Ok(text.to_owned()),
                Ok(_) => Ok(text.to_owned()),
                Err(error) => Err(format!("`{text}`: a group's name {error}")),
            }),
        }
    }
}

#[derive(Debug)]
pub(crate) struct NodeSettings {
    /// Empty: the machine's name.
    pub(crate) name: String,
    pub(crate) roles: Roles,
    pub(crate) lease: Duration,
    pub(crate) max_skew: Duration,
}

impl NodeSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            name: reader.text("node.name").to_owned(),
            roles: Roles::read(reader),
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
