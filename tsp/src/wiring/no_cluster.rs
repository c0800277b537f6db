//! Stands for `cluster` in a build without it: nothing of it can be made, and who asks for it is told so.

#![expect(clippy::unused_async, reason = "as in `cluster`")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tsp_core::{ClusterClock, Name};
use tsp_web::Topology;

use super::dependencies::ProcessDependencies;
use crate::failure::{Failure, Result};
use crate::settings::Settings;

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) subscriber: Option<Arc<NsqSubscriber>>,
    never: Infallible,
}

#[derive(Debug)]
pub(super) struct RunningCluster(Infallible);

#[derive(Debug)]
pub(super) struct NsqSubscriber(Infallible);

#[derive(Debug, Default)]
pub(super) struct KnownNsqds(());

pub(super) async fn open(
    _settings: &Settings,
    _clock: Arc<ClusterClock>,
    _nsqds: &KnownNsqds,
    _queue_name: Name,
) -> Result<ProcessDependencies> {
    Err(Failure::no_cluster())
}

pub(crate) async fn migrate(_settings: &Settings) -> Result<String> {
    Err(Failure::no_cluster())
}

pub(super) fn topology(_deps: &ProcessDependencies, cluster: &Cluster) -> Arc<dyn Topology> {
    match cluster.never {}
}

impl Cluster {
    pub(super) async fn close(&self) {
        match self.never {}
    }
}

impl RunningCluster {
    pub(super) fn start(
        _deps: &ProcessDependencies,
        cluster: &Cluster,
        _settings: &Settings,
    ) -> Result<Self> {
        match cluster.never {}
    }

    pub(super) async fn lost(&mut self) {
        match self.0 {}
    }

    pub(super) async fn stop_fetching(&self) {
        match self.0 {}
    }

    pub(super) async fn stop(self) {
        match self.0 {}
    }
}

impl NsqSubscriber {
    pub(super) async fn close(&self, _grace: Duration) {
        match self.0 {}
    }
}
