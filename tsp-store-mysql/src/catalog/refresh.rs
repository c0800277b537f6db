//! Reads the change log for callers who find nothing under a name: once for all who wait, and not often.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tsp_store::error::Result;

use crate::catalog::follow::follow;
use crate::context::StoreContext;

/// Looks of a process begin at least so far apart, so that a stream of unknown names costs next to nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The refreshes of a process; held by whoever reads.
#[derive(Debug, Default)]
pub(crate) struct SharedRefresh(Mutex<Option<RefreshRound>>);

#[derive(Debug)]
struct RefreshRound {
    began: Instant,
    /// `None`: it was interrupted.
    answer: Option<Result<()>>,
}

/// Returns after a refresh that began after the call.
pub(crate) async fn refresh(context: &StoreContext, shared_refresh: &SharedRefresh) -> Result<()> {
    let called = Instant::now();
    let mut last = shared_refresh.0.lock().await;
    if let Some(RefreshRound { began, answer }) = &*last {
        if *began >= called
            && let Some(answer) = answer
        {
            return answer.clone();
        }
        sleep_until(*began + PAUSE).await;
    }
    let look = last.insert(RefreshRound { began: Instant::now(), answer: None });
    let answer = follow(context).await.map(|_| ());
    look.answer = Some(answer.clone());
    answer
}
