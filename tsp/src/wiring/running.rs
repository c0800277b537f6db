//! A loop of a role, and how to end it.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Debug)]
pub(super) struct RunningTask {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningTask {
    pub(super) fn new(
        tracker: &TaskTracker,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { stop, task: tracker.spawn(task) }
    }

    /// Returns when it has ended without being told to.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "a role of the server has failed");
        }
    }

    /// Tells it to stop and waits until it has.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if !self.task.is_finished()
            && let Err(error) = self.task.await
        {
            tracing::error!(%error, "a role of the server has failed");
        }
    }
}
