//! Looks at the change log for callers who find nothing under a name: one look for all who wait, and not often.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::error::Result;

use super::core::Core;
use super::follow::follow;

/// Looks of a process begin at least so far apart, so that a stream of unknown names costs next to nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The looks of a process; held by whoever looks.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Option<Look>>);

#[derive(Debug)]
struct Look {
    began: Instant,
    /// `None`: it was broken off.
    answer: Option<Result<()>>,
}

/// Returns after a look that began after the call.
pub(super) async fn refresh(core: &Core, looks: &Looks) -> Result<()> {
    let called = Instant::now();
    let mut last = looks.0.lock().await;
    if let Some(Look { began, answer }) = &*last {
        if *began >= called
            && let Some(answer) = answer
        {
            return answer.clone();
        }
        sleep_until(*began + PAUSE).await;
    }
    let look = last.insert(Look { began: Instant::now(), answer: None });
    let answer = follow(core).await.map(|_| ());
    look.answer = Some(answer.clone());
    answer
}
