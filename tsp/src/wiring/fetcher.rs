//! The fetcher on its own thread, with the auditor and the janitor beside it.

use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_fetcher::{Auditor, Fetcher, FetcherOptions, Janitor};
use tsp_queue::Inbox;
use tsp_store::IdSource;

use super::clock::millis;
use super::embedded::Embedded;
use super::parts::Parts;
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
    parts: &Parts,
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
        tsp_fetcher::Parts {
            store: embedded.store.clone(),
            book: parts.book().clone(),
            shards: parts.store.shards(),
            publisher: embedded.queue.clone(),
            queue: parts.queue_name.clone(),
            inbox: embedded.inbox.clone(),
            ids: parts.ids.clone().unwrap_or_else(IdSource::none),
            entropy: parts.entropy.clone(),
            owner: embedded.owner,
            totals: Arc::default(),
        },
        options,
    );
    tracker.spawn(
        Auditor::new(embedded.store.clone(), parts.book().clone(), parts.store.shards(), fetcher.holds())
            .run(parts.clock(), stop.clone()),
    );
    tracker.spawn(Janitor::new(embedded.store.clone()).run(parts.clock(), stop.clone()));

    let (tell, ended) = oneshot::channel();
    let (clock, runtime) = (parts.clock(), tokio::runtime::Handle::current());
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
