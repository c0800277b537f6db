//! Begin: 10 → 30 for messages that are still good.

use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{Millis, TaskId};

use super::bed::{Bed, T0, TOKEN, assert_same, at, message};
use crate::catalog::Hold;
use crate::run::{Begin, Begun, all};
use crate::schedule::Want;
use crate::tasks::Wish;

/// The two ways a message comes: with its row and without.
fn both_ways(task: &Task) -> [Begin; 2] {
    [message(task), Begin { row: None, ..message(task) }]
}

/// The attempt rises, the node and the token are written down.
pub(super) async fn a_good_message_begins_the_next_attempt(bed: &Bed) {
    let config = bed.config("close-order").await;
    for with_row in [true, false] {
        let queued = bed.queued(&config).await;
        let mut begin = message(&queued);
        begin.row = begin.row.filter(|_| with_row);
        let Begun::Run(task) = bed.begin_as(bed.node, begin, at(2)).await else {
            panic!("a claimed task that is due must run");
        };
        assert_eq!((task.status, task.attempt, task.node), (Status::Executing, 1, Some(bed.node)));
        assert_eq!((task.started_at, task.begun_due_at), (Some(at(2)), Some(T0)));
        assert_eq!((task.token, task.version), (Some(TOKEN), queued.version + 1));
        bed.check_stored(&task).await;
    }
}

/// Of another version, or of a row that is elsewhere: nothing happens, and the message is dropped.
pub(super) async fn a_stale_message_is_dropped(bed: &Bed) {
    let config = bed.config("close-order").await;
    let queued = bed.queued(&config).await;
    let early = Begin { version: queued.version - 1, ..message(&queued) };
    assert_eq!(bed.begin_as(bed.node, early, T0).await, Begun::Drop(None));
    bed.check_stored(&queued).await;
    // The row has moved on since it was claimed, and the one that travelled does not know it.
    let moved = bed.changed(queued.id, Wish::Postpone { execute_at: T0 }, T0).await;
    for begin in both_ways(&queued) {
        assert_eq!(bed.begin_as(bed.node, begin, T0).await, Begun::Drop(None));
    }
    bed.check_stored(&moved).await;
    let cancelled = bed.changed(queued.id, Wish::Cancel, T0).await;
    for begin in both_ways(&queued) {
        assert_eq!(bed.begin_as(bed.node, begin, T0).await, Begun::Drop(None));
    }
    bed.check_stored(&cancelled).await;
    let nobody = Begin { id: TaskId::new(1), version: 1, row: None, token: None };
    assert_eq!(bed.begin_as(bed.node, nobody, T0).await, Begun::Drop(None));
}

/// A message that comes twice begins once, in one batch or in two.
pub(super) async fn a_doubled_message_begins_once(bed: &Bed) {
    let config = bed.config("close-order").await;
    let queued = bed.queued(&config).await;
    let batch = vec![message(&queued), message(&queued)];
    let answers = all(bed.store.begin(bed.node, batch, T0).await).expect("begin");
    assert!(matches!(answers[0], Begun::Run(_)), "{answers:?}");
    assert_eq!(answers[1], Begun::Drop(None));
    for begin in both_ways(&queued) {
        assert_eq!(bed.begin_as(bed.node, begin, T0).await, Begun::Drop(None));
    }
    assert_eq!(bed.stored(queued.id).await.attempt, 1);
}

/// Paused and disabled alike: the row goes back to 0 without an attempt.
pub(super) async fn the_row_of_a_held_config_is_given_back(bed: &Bed) {
    for hold in [Hold::Pause { note: None }, Hold::Disable] {
        let config = bed.config(if hold == Hold::Disable { "disabled" } else { "paused" }).await;
        for with_row in [true, false] {
            let queued = bed.queued(&config).await;
            bed.hold(config.id, hold.clone()).await;
            let mut begin = message(&queued);
            begin.row = begin.row.filter(|_| with_row);
            let Begun::Drop(Some(task)) = bed.begin_as(bed.node, begin, T0).await else {
                panic!("{hold:?}: the row must be given back");
            };
            assert_eq!((task.status, task.attempt, task.due_at), (Status::Scheduled, 0, T0));
            bed.check_stored(&task).await;
            bed.changed(task.id, Wish::Cancel, T0).await;
            bed.hold(config.id, Hold::Resume).await;
            bed.hold(config.id, Hold::Enable).await;
        }
    }
}

/// Up to a second it waits; what is further ahead goes back.
pub(super) async fn a_row_ahead_of_its_time_waits_or_goes_back(bed: &Bed) {
    let config = bed.config("close-order").await;
    bed.create(bed.new_task(&config, None, at(60))).await;
    let want = Want { config: config.id, due_by: at(60), limit: 1 };
    let claimed = bed.store.claim(bed.owner, vec![want], T0).await.expect("claim").tasks.remove(0);
    for ms in [1, 1_000] {
        for begin in both_ways(&claimed) {
            let now = at(60).minus(Millis::from_ms(ms));
            assert_eq!(bed.begin_as(bed.node, begin, now).await, Begun::Wait(at(60)), "{ms} ms ahead");
        }
    }
    bed.check_stored(&claimed).await;
    let far = at(60).minus(Millis::from_ms(1_001));
    let Begun::Drop(Some(task)) = bed.begin_as(bed.node, message(&claimed), far).await else {
        panic!("a row that is due in more than a second goes back");
    };
    assert_eq!((task.status, task.due_at), (Status::Scheduled, at(60)));
    bed.check_stored(&task).await;
}

/// It ends instead of running.
pub(super) async fn what_has_expired_ends_at_its_begin(bed: &Bed) {
    let config = bed.config("close-order").await;
    for with_row in [true, false] {
        let mut new = bed.new_task(&config, None, T0);
        new.expire_after = Some(Millis::from_secs(30));
        let task = bed.create(new).await;
        let mut begin = message(&bed.claim(&task, at(29)).await);
        begin.row = begin.row.filter(|_| with_row);
        let Begun::Drop(Some(task)) = bed.begin_as(bed.node, begin, at(30)).await else {
            panic!("an expired task must not run");
        };
        assert_eq!((task.status, task.result), (Status::Ended, Some(EndResult::Expired)));
        bed.check_stored(&task).await;
    }
}

/// In the order of the batch, good and bad ones mixed.
pub(super) async fn answers_are_in_the_order_of_the_batch(bed: &Bed) {
    let config = bed.config("close-order").await;
    let first = bed.queued(&config).await;
    let second = bed.queued(&config).await;
    let gone = Begin { id: TaskId::new(1), version: 1, row: None, token: None };
    let batch = vec![message(&second), gone, message(&first)];
    let answers = all(bed.store.begin(bed.node, batch, T0).await).expect("begin");
    match &answers[..] {
        [Begun::Run(one), Begun::Drop(None), Begun::Run(two)] => {
            assert_eq!([one.id, two.id], [second.id, first.id]);
        }
        other => panic!("run, drop, run: {other:?}"),
    }
}

/// What a worker compares with what it really runs.
pub(super) async fn executing_lists_what_runs_under_a_node(bed: &Bed) {
    let config = bed.config("close-order").await;
    let other = bed.store.register_node("other", T0).await.expect("register_node");
    let mine = bed.executing(&config).await;
    let queued = bed.queued(&config).await;
    let Begun::Run(theirs) = bed.begin_as(other, message(&queued), T0).await else {
        panic!("a claimed task that is due must run");
    };
    bed.queued(&config).await;
    bed.awaiting(&config).await;
    assert_eq!(bed.running(bed.node).await, [(mine.id, 1)]);
    assert_eq!(bed.running(other).await, [(theirs.id, 1)]);
}

/// A message that will not be begun goes back, if it is still the row's.
pub(super) async fn release_gives_back_what_is_claimed_and_nothing_else(bed: &Bed) {
    let config = bed.config("close-order").await;
    let queued = bed.queued(&config).await;
    let executing = bed.executing(&config).await;
    let batch = vec![
        (queued.id, queued.version - 1),
        (executing.id, executing.version),
        (TaskId::new(1), 1),
        (queued.id, queued.version),
        (queued.id, queued.version),
    ];
    let released = bed.store.release(batch, at(1)).await.expect("release");
    assert_eq!(released.len(), 1, "only the good one, and once: {released:?}");
    assert_eq!((released[0].id, released[0].status), (queued.id, Status::Scheduled));
    bed.check_stored(&released[0]).await;
    assert_same(&bed.stored(executing.id).await, &executing, "an executing row stays");
}
