//! One candidate after another, the first that succeeds wins: addresses of a name (RFC 8305) and name servers.

use std::future::Future;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

/// Starts the next candidate when one has failed, or when none has succeeded for `head_start`; those that
/// run go on. The last failure if all fail, `None` without candidates. Whoever loses is dropped.
pub(crate) async fn race<C, T, E, F>(
    candidates: impl IntoIterator<Item = C>,
    head_start: Duration,
    mut attempt: impl FnMut(C) -> F,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut running = FuturesUnordered::new();
    let mut failure = None;
    for candidate in candidates {
        running.push(attempt(candidate));
        match timeout(head_start, running.next()).await {
            Ok(Some(Ok(value))) => return Some(Ok(value)),
            Ok(Some(Err(error))) => failure = Some(error),
            Ok(None) | Err(_) => {}
        }
    }
    while let Some(result) = running.next().await {
        match result {
            Ok(value) => return Some(Ok(value)),
            Err(error) => failure = Some(error),
        }
    }
    failure.map(Err)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    const HEAD_START: Duration = Duration::from_millis(250);

    /// Races candidates that take so long and end so, and says which ones started when.
    async fn run(
        plan: &[(u64, Result<(), ()>)],
    ) -> (Option<Result<usize, usize>>, Vec<(usize, Duration)>, Duration) {
        let (begin, started) = (Instant::now(), Mutex::new(Vec::new()));
        let answer = race(0..plan.len(), HEAD_START, |index| {
            started.lock().push((index, begin.elapsed()));
            async move {
                let (takes, result) = plan[index];
                if takes == u64::MAX {
                    pending::<()>().await;
                }
                let _ = timeout(Duration::from_millis(takes), pending::<()>()).await;
                result.map(|()| index).map_err(|()| index)
            }
        })
        .await;
        (answer, started.into_inner(), begin.elapsed())
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_starts_after_a_head_start_or_at_once_after_a_failure() {
        let (answer, started, took) = run(&[(u64::MAX, Ok(())), (10, Ok(())), (0, Ok(()))]).await;
        assert_eq!((answer, took), (Some(Ok(1)), ms(260)));
        assert_eq!(started, [(0, ms(0)), (1, ms(250))]);

        let (answer, started, took) = run(&[(5, Err(())), (10, Ok(()))]).await;
        assert_eq!((answer, took), (Some(Ok(1)), ms(15)));
        assert_eq!(started, [(0, ms(0)), (1, ms(5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_one_may_still_win() {
        let (answer, _, took) = run(&[(300, Ok(())), (u64::MAX, Ok(()))]).await;
        assert_eq!((answer, took), (Some(Ok(0)), ms(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_failure_is_the_answer() {
        let (answer, _, took) = run(&[(400, Err(())), (20, Err(()))]).await;
        assert_eq!((answer, took), (Some(Err(0)), ms(400)));
        assert_eq!(run(&[]).await.0, None);
    }
}
