//! The nsqds of a cluster, as one process uses them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::Name;
use tsp_nsq::Producer;

use super::names;
use super::nodes::{Nodes, QueueDepth};
use super::options::{NsqError, NsqOptions};

/// What publisher, subscribers, hints, feedback and events of a process share: one producer, and the list of
/// nsqds. Nothing is connected before it is used.
#[derive(Debug)]
pub struct NsqContext {
    pub(crate) options: NsqOptions,
    pub(crate) producer: Producer,
    pub(crate) nodes: Nodes,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl NsqContext {
    /// Must be called within a tokio runtime. All background tasks run on `tracker` and end with `stop`; close
    /// the subscribers first.
    pub fn start(
        options: NsqOptions,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, NsqError> {
        options.check()?;
        let producer = Producer::start(options.nsqds(), options.producer());
        let nodes = Nodes::start(&options, &tracker, &stop);
        Ok(Arc::new(Self { options, producer, nodes, tracker, stop }))
    }

    /// What the nsqds hold of a queue now. Those that do not answer are left out, and counted.
    pub async fn depth(&self, queue: &Name) -> QueueDepth {
        match names::queue_topic(queue) {
            Ok(topic) => self.nodes.survey(&topic, &names::worker_channel(), false).await.depth,
            Err(_) => QueueDepth::default(),
        }
    }
}
