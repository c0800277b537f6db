//! The fetcher on its own thread, with the auditor and the retention loop beside it.

use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_fetcher::{Auditor, Fetcher, FetcherOptions, RetentionLoop};
use tsp_queue::Inbox;
use tsp_store::IdSource;
use tsp_store::fetching::FetchScope;

use super::clock::millis;
use super::dependencies::ProcessDependencies;
use super::embedded::Embedded;
use crate::failure::{Failure, Result};
use crate::settings::Settings;

/// A running fetcher.
#[derive(Debug)]
pub(super) struct RunningFetcher {
    inbox: Arc<Inbox>,
    /// Fires, or is dropped, when the thread ends.
    ended: oneshot::Receiver<()>,
}

pub(super) fn start_fetcher(
    deps: &ProcessDependencies,
    embedded: &Embedded,
    settings: &Settings,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<RunningFetcher> {
    let options = FetcherOptions {
        lookahead: millis(settings.fetcher.lookahead),
        resync: millis(settings.fetcher.resync),
        ..FetcherOptions::default()
    };
    let fetcher = Fetcher::new(
        tsp_fetcher::FetcherDependencies {
            store: embedded.store.clone(),
            config_cache: deps.config_cache().clone(),
            shards: deps.store.shards(),
            publisher: embedded.queue.clone(),
            queue: deps.queue_name.clone(),
            inbox: embedded.inbox.clone(),
            ids: deps.ids.clone().unwrap_or_else(IdSource::none),
            entropy: deps.entropy.clone(),
            owner: embedded.owner,
            totals: Arc::default(),
        },
        options,
    );
    tracker.spawn(
        Auditor::new(
            embedded.store.clone(),
            FetchScope::Whole,
            deps.config_cache().clone(),
            deps.store.shards(),
            fetcher.holds(),
        )
        .run(deps.clock(), stop.clone()),
    );
    tracker.spawn(RetentionLoop::new(embedded.store.clone()).run(deps.clock(), stop.clone()));

    let (tell, ended) = oneshot::channel();
    let (clock, runtime) = (deps.clock(), tokio::runtime::Handle::current());
    let thread = thread::Builder::new().name("tsp-fetcher".to_owned()).spawn(move || {
        tsp_fetcher::run(fetcher, &clock, &runtime);
        // Nobody listens any more only when the process is ending.
        let _ = tell.send(());
    });
    thread.map_err(|error| Failure::failed(format!("cannot start the fetcher's thread: {error}")))?;
    Ok(RunningFetcher { inbox: embedded.inbox.clone(), ended })
}

impl RunningFetcher {
    /// Returns when it has ended by itself: it lost its shards, or panicked.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    pub(super) async fn stop(self) {
        self.inbox.stop();
        if !self.ended.is_terminated() {
            let _ = self.ended.await;
        }
    }
}
