//! NSQ as the queue of a process, and the ports on it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, Entropy, Name, ShardId, TaskId, Timestamp};
use tsp_queue::demultiplex;
use tsp_queue::nsq::{GroupOf, KnownNsqds, NsqContext, NsqHints, NsqOptions, NsqSubscriber};
use tsp_store::ConfigCache;
use tsp_store::cluster::NodeLease;
use tsp_store_mysql::MySqlStore;
use tsp_web::WakeHints;

use crate::failure::{Failure, Result};
use crate::settings::{NsqSettings, QueueSettings, Settings};
use crate::wiring::dependencies::PipelineParts;

/// Messages in the pipe beyond those that run, so that no worker waits for the fetcher.
const PIPE_AHEAD: usize = 4_096;
/// The most messages that nsqd gives to one connection.
const RDY_MAX: usize = 2_500;

pub(super) fn connect(
    settings: &Settings,
    name: &str,
    nsqds: &KnownNsqds,
    entropy: &Arc<dyn Entropy>,
    (tracker, stop): (&TaskTracker, &CancellationToken),
) -> Result<Arc<NsqContext>> {
    let QueueSettings::Nsq(nsq) = &settings.queue else {
        return Err(Failure::usage("a cluster needs `queue.url = \"nsq:\"`"));
    };
    let options = NsqOptions { known_nsqds: nsqds.clone(), ..options(nsq, settings, name, entropy) };
    NsqContext::start(options, tracker.clone(), stop.clone())
        .map_err(|error| Failure::usage(error.to_string()))
}

fn options(nsq: &NsqSettings, settings: &Settings, name: &str, entropy: &Arc<dyn Entropy>) -> NsqOptions {
    let entropy = entropy.clone();
    NsqOptions {
        nsqd_tcp: nsq.nsqd_tcp.clone(),
        nsqd_http: nsq.nsqd_http.clone(),
        lookupd_http: nsq.lookupd_http.clone(),
        capacity: settings.worker.concurrency.saturating_add(PIPE_AHEAD),
        msg_timeout: nsq.msg_timeout,
        client_id: name.to_owned(),
        hostname: name.to_owned(),
        ..NsqOptions::new(Arc::new(move || entropy.jitter_fraction()))
    }
}

/// How many messages a worker holds: those that run, and some more so that no permit waits.
pub(super) fn max_in_flight(concurrency: usize) -> u32 {
    let ahead = (concurrency / 4).clamp(16, 512);
    u32::try_from(concurrency.saturating_add(ahead).min(4 * RDY_MAX)).unwrap_or(u32::MAX)
}

/// One pipeline for the shards of each data source.
pub(super) fn pipelines(
    whole: &Arc<NsqSubscriber>,
    store: &MySqlStore,
    settings: &Settings,
    lease: &Arc<NodeLease>,
) -> Vec<PipelineParts> {
    let attempt_stores = store.attempt_stores(lease);
    let pipelines_of_shards: HashMap<ShardId, usize> = (0..)
        .zip(&attempt_stores)
        .flat_map(|(pipeline, attempt_store)| {
            attempt_store.shards().iter().map(move |shard| (*shard, pipeline))
        })
        .collect();
    let pipeline_of = move |task: TaskId| pipelines_of_shards.get(&task.shard()).copied().unwrap_or(0);
    // A pipeline that stands still leaves half of what may be in flight to the others.
    let bound = max_in_flight(settings.worker.concurrency) as usize / 2;
    let branches = demultiplex(whole.clone(), attempt_stores.len(), bound, Arc::new(pipeline_of));
    let pipeline = |(subscriber, store)| PipelineParts { subscriber, store: Arc::new(store) };
    branches.into_iter().zip(attempt_stores).map(pipeline).collect()
}

/// The group of a config; of one that is not known here, the group that every config begins in.
pub(super) fn group_of(config_cache: &Arc<ConfigCache>) -> GroupOf {
    let config_cache = config_cache.clone();
    let default = Name::default_name();
    Arc::new(move |config: ConfigId| {
        config_cache
            .config(config)
            .map_or_else(|| default.clone(), |config: Arc<TaskConfig>| config.spec.group.clone())
    })
}

/// Hints go to the fetchers of the config's group, wherever they are.
pub(super) struct GroupHints {
    pub(super) hints: NsqHints,
    pub(super) group_of: GroupOf,
}

impl std::fmt::Debug for GroupHints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupHints")
    }
}

impl WakeHints for GroupHints {
    fn wake(&self, config: ConfigId, shard: ShardId, due_at: Timestamp) {
        self.hints.due(&(self.group_of)(config), config, shard, due_at);
    }

    fn config_changed(&self, config: ConfigId) {
        self.hints.changed(&(self.group_of)(config), config);
    }

    fn unparked(&self, config: ConfigId, at: Timestamp) {
        self.hints.unparked(&(self.group_of)(config), config, at);
    }
}
