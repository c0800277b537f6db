//! Steps of many schedules: so many share a transaction, and one that fails stops no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use crate::error::{Cause, Result, StoreError};
use crate::fetching::{Fire, FireResult};

/// A transaction takes so many steps, and about so many slots: a single step may have more.
const FIRES_MAX: usize = 100;
const SLOTS_MAX: usize = 1_000;

/// Takes steps in chunks, each by one call of `take`: all of the chunk or none, and no schedule twice. Of a chunk
/// that failed each step is tried alone. The answers are in the order of `fires`.
pub async fn fire_in_chunks<F>(fires: Vec<Fire>, take: impl Fn(Arc<[Fire]>) -> F) -> Vec<Result<FireResult>>
where
    F: Future<Output = Result<Vec<FireResult>>>,
{
    let mut answers = fires.iter().map(|fire| Err(unanswered(fire))).collect::<Vec<_>>();
    let mut left: Vec<(usize, Fire)> = fires.into_iter().enumerate().collect();
    while !left.is_empty() {
        let mut seen = BTreeSet::new();
        let (once, again): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, fire)| seen.insert(fire.config));
        left = again;
        let taken = chunks(once).map(|(indexes, fires)| fire_chunk(indexes, fires, &take));
        for (index, answer) in join_all(taken.collect::<Vec<_>>()).await.into_iter().flatten() {
            answers[index] = answer;
        }
    }
    answers
}

/// The index of each answer with it.
async fn fire_chunk<F>(
    indexes: Vec<usize>,
    fires: Arc<[Fire]>,
    take: &impl Fn(Arc<[Fire]>) -> F,
) -> Vec<(usize, Result<FireResult>)>
where
    F: Future<Output = Result<Vec<FireResult>>>,
{
    let answers: Vec<_> = match take(fires.clone()).await {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(error) if fires.len() > 1 && may_be_of_one(&error) => {
            let alone = fires.iter().map(|fire| async {
                let mut results = take([fire.clone()].into()).await?;
                results.pop().ok_or_else(|| unanswered(fire))
            });
            join_all(alone).await
        }
        Err(error) => fires.iter().map(|_| Err(error.clone())).collect(),
    };
    indexes.into_iter().zip(answers).collect()
}

/// Whether the others of a chunk may get through without the one that failed.
const fn may_be_of_one(error: &StoreError) -> bool {
    match error {
        StoreError::Internal(_) | StoreError::Corrupt { .. } => true,
        StoreError::Unavailable { cause, .. } => matches!(cause, Cause::Busy | Cause::Changed),
        StoreError::Unknown(_) | StoreError::Unusable(_) => false,
    }
}

fn chunks(fires: Vec<(usize, Fire)>) -> impl Iterator<Item = (Vec<usize>, Arc<[Fire]>)> {
    let mut left = fires.into_iter().peekable();
    std::iter::from_fn(move || {
        let (mut indexes, mut chunk, mut slots) = (Vec::new(), Vec::new(), 0);
        while let Some((index, fire)) = left.next_if(|(_, fire)| {
            slots += fire.slots.len();
            chunk.is_empty() || (chunk.len() < FIRES_MAX && slots <= SLOTS_MAX)
        }) {
            indexes.push(index);
            chunk.push(fire);
        }
        (!chunk.is_empty()).then(|| (indexes, chunk.into()))
    })
}

fn unanswered(fire: &Fire) -> StoreError {
    StoreError::Internal(format!("a step of config {} has no answer", fire.config))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use parking_lot::Mutex;
    use tsp_core::ConfigId;
    use tsp_core::schedule::Overlap;
    use tsp_core::schedule::step::SlotTask;
    use tsp_core::task::{NewTask, Origin, Task};
    use tsp_core::{TaskId, Timestamp};

    use super::*;

    fn fire(config: i64, slots: usize) -> Fire {
        let new = NewTask {
            id: TaskId::new(1),
            config: ConfigId::new(config),
            key: None,
            execute_at: Timestamp::ZERO,
            payload: None,
            expire_after: None,
            origin: Origin::Schedule,
            extra: None,
        };
        let slot = SlotTask { task: Box::new(Task::new(new, Timestamp::ZERO)), late: false };
        Fire {
            config: ConfigId::new(config),
            cursor_version: 1,
            config_version: 1,
            overlap: Overlap::Allow,
            slots: vec![slot; slots],
            waiting: None,
            missed: 0,
            next_fire_at: None,
        }
    }

    /// Answers with the error of the first config that has one, and the configs of each call.
    fn taken(
        fires: Vec<Fire>,
        error: impl Fn(i64) -> Option<StoreError>,
    ) -> (Vec<Result<FireResult>>, Vec<Vec<i64>>) {
        let calls = Mutex::new(Vec::new());
        let take = async |fires: Arc<[Fire]>| {
            let configs: Vec<i64> = fires.iter().map(|fire| fire.config.get()).collect();
            calls.lock().push(configs.clone());
            match configs.into_iter().find_map(&error) {
                Some(error) => Err(error),
                None => Ok(fires.iter().map(|_| FireResult::Stale).collect()),
            }
        };
        let answers = fire_in_chunks(fires, take).now_or_never().expect("nothing is waited for");
        (answers, calls.into_inner())
    }

    #[test]
    fn a_chunk_has_so_many_steps_and_slots_and_each_schedule_once() {
        let many = (0..250).map(|config| fire(config, 1)).collect();
        let (answers, calls) = taken(many, |_| None);
        assert_eq!(answers.len(), 250);
        assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let slots = [(1, 600), (2, 400), (3, 1), (4, 5_000), (5, 0), (1, 1), (5, 0), (1, 0)];
        let (answers, calls) = taken(slots.map(|(config, n)| fire(config, n)).to_vec(), |_| None);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(FireResult::Stale))), "{answers:?}");
        assert_eq!(calls, [vec![1, 2], vec![3], vec![4], vec![5], vec![1, 5], vec![1]]);
        assert_eq!(taken(Vec::new(), |_| None).1.len(), 0);
    }

    #[test]
    fn what_fails_with_others_is_tried_alone() {
        let bad = |config| (config == 3).then(|| Cause::Busy.because("its cursor is locked"));
        let (answers, calls) = taken((0..4).map(|config| fire(config, 1)).collect(), bad);
        assert_eq!(calls, [vec![0, 1, 2, 3], vec![0], vec![1], vec![2], vec![3]]);
        assert!(answers[..3].iter().all(Result::is_ok) && answers[3].is_err(), "{answers:?}");
    }

    /// It is away for all of them, and what may have been done is not done again.
    #[test]
    fn a_database_that_is_away_is_asked_once() {
        for error in [Cause::Away.because("it was stopped"), StoreError::Unknown("no answer".to_owned())] {
            let (answers, calls) =
                taken((0..4).map(|config| fire(config, 1)).collect(), |_| Some(error.clone()));
            assert_eq!((answers.iter().filter(|answer| answer.is_err()).count(), calls.len()), (4, 1));
        }
    }
}
