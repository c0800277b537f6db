//! NSQ as the queue of a process, and the ports on it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, Entropy, Name, ShardId, TaskId, Timestamp};
use tsp_queue::nsq::{GroupOf, KnownNsqds, Nsq, NsqHints, NsqOptions, NsqSubscriber};
use tsp_queue::split;
use tsp_store::ConfigBook;
use tsp_store::cluster::NodeLease;
use tsp_store::mysql::MySqlStore;
use tsp_web::WakeHints;

use crate::failure::{Failure, Result};
use crate::settings::{NsqSettings, QueueSettings, Settings};
use crate::wiring::parts::Line;

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
) -> Result<Arc<Nsq>> {
    let QueueSettings::Nsq(nsq) = &settings.queue else {
        return Err(Failure::usage("a cluster needs `queue.url = \"nsq:\"`"));
    };
    let options = NsqOptions { known_nsqds: nsqds.clone(), ..options(nsq, settings, name, entropy) };
    Nsq::start(options, tracker.clone(), stop.clone()).map_err(|error| Failure::usage(error.to_string()))
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
        ..NsqOptions::new(Arc::new(move || entropy.unit()))
    }
}

/// How many messages a worker holds: those that run, and some more so that no lane waits.
pub(super) fn max_in_flight(concurrency: usize) -> u32 {
    let ahead = (concurrency / 4).clamp(16, 512);
    u32::try_from(concurrency.saturating_add(ahead).min(4 * RDY_MAX)).unwrap_or(u32::MAX)
}

/// One line for the shards of each data source.
pub(super) fn lines(
    whole: &Arc<NsqSubscriber>,
    store: &MySqlStore,
    settings: &Settings,
    lease: &Arc<NodeLease>,
) -> Vec<Line> {
    let runners = store.runners(lease);
    let lines_of_shards: HashMap<ShardId, usize> = (0..)
        .zip(&runners)
        .flat_map(|(line, runner)| runner.shards().iter().map(move |shard| (*shard, line)))
        .collect();
    let line_of = move |task: TaskId| lines_of_shards.get(&task.shard()).copied().unwrap_or(0);
    // A line that stands still leaves half of what may be in flight to the others.
    let bound = max_in_flight(settings.worker.concurrency) as usize / 2;
    let parts = split(whole.clone(), runners.len(), bound, Arc::new(line_of));
    let line = |(subscriber, store)| Line { subscriber, store: Arc::new(store) };
    parts.into_iter().zip(runners).map(line).collect()
}

/// The group of a config; of one that is not known here, the group that every config begins in.
pub(super) fn group_of(book: &Arc<ConfigBook>) -> GroupOf {
    let book = book.clone();
    let default = Name::lane();
    Arc::new(move |config: ConfigId| {
        book.config(config)
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
