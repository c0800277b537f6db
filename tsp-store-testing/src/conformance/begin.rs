//! Begin: queued to executing, for messages that are still good.

use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{Millis, TaskId};
use tsp_store::attempts::{BeginRequest, BeginResult, all};
use tsp_store::catalog::Hold;
use tsp_store::fetching::ClaimRequest;
use tsp_store::tasks::TaskCommand;

use super::fixture::{Fixture, T0, TOKEN, assert_same, at, message};

/// The two ways a message comes: with its row and without.
fn both_ways(task: &Task) -> [BeginRequest; 2] {
    [message(task), BeginRequest { row: None, ..message(task) }]
}

/// The attempt rises, the node and the token are written down.
pub(super) async fn a_good_message_begins_the_next_attempt(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for with_row in [true, false] {
        let queued = fixture.queued(&config).await;
        let mut begin = message(&queued);
        begin.row = begin.row.filter(|_| with_row);
        let BeginResult::Run(task) = fixture.begin_as(fixture.node, begin, at(2)).await else {
            panic!("a claimed task that is due must run");
        };
        assert_eq!((task.status, task.attempt, task.node), (Status::Executing, 1, Some(fixture.node)));
        assert_eq!((task.started_at, task.begun_due_at), (Some(at(2)), Some(T0)));
        assert_eq!((task.token, task.version), (Some(TOKEN), queued.version + 1));
        fixture.check_stored(&task).await;
    }
}

/// Of another version, or of a row that is elsewhere: nothing happens, and the message is dropped.
pub(super) async fn a_stale_message_is_dropped(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let queued = fixture.queued(&config).await;
    let early = BeginRequest { version: queued.version - 1, ..message(&queued) };
    assert_eq!(fixture.begin_as(fixture.node, early, T0).await, BeginResult::Drop(None));
    fixture.check_stored(&queued).await;
    // The row has moved on since it was claimed, and the inline one does not know it.
    let moved = fixture.changed(queued.id, TaskCommand::Postpone { execute_at: T0 }, T0).await;
    for begin in both_ways(&queued) {
        assert_eq!(fixture.begin_as(fixture.node, begin, T0).await, BeginResult::Drop(None));
    }
    fixture.check_stored(&moved).await;
    let cancelled = fixture.changed(queued.id, TaskCommand::Cancel, T0).await;
    for begin in both_ways(&queued) {
        assert_eq!(fixture.begin_as(fixture.node, begin, T0).await, BeginResult::Drop(None));
    }
    fixture.check_stored(&cancelled).await;
    let nobody = BeginRequest { id: TaskId::new(1), version: 1, row: None, token: None };
    assert_eq!(fixture.begin_as(fixture.node, nobody, T0).await, BeginResult::Drop(None));
}

/// A repeated message begins once, in one batch or in two.
pub(super) async fn a_doubled_message_begins_once(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let queued = fixture.queued(&config).await;
    let batch = vec![message(&queued), message(&queued)];
    let answers = all(fixture.store.begin(fixture.node, batch, T0).await).expect("begin");
    assert!(matches!(answers[0], BeginResult::Run(_)), "{answers:?}");
    assert_eq!(answers[1], BeginResult::Drop(None));
    for begin in both_ways(&queued) {
        assert_eq!(fixture.begin_as(fixture.node, begin, T0).await, BeginResult::Drop(None));
    }
    assert_eq!(fixture.stored(queued.id).await.attempt, 1);
}

/// Paused and disabled alike: the row returns to scheduled without an attempt.
pub(super) async fn the_row_of_a_held_config_is_given_back(fixture: &Fixture) {
    for hold in [Hold::Pause { note: None }, Hold::Disable] {
        let config = fixture.config(if hold == Hold::Disable { "disabled" } else { "paused" }).await;
        for with_row in [true, false] {
            let queued = fixture.queued(&config).await;
            fixture.hold(config.id, hold.clone()).await;
            let mut begin = message(&queued);
            begin.row = begin.row.filter(|_| with_row);
            let BeginResult::Drop(Some(task)) = fixture.begin_as(fixture.node, begin, T0).await else {
                panic!("{hold:?}: the row must be given back");
            };
            assert_eq!((task.status, task.attempt, task.due_at), (Status::Scheduled, 0, T0));
            fixture.check_stored(&task).await;
            fixture.changed(task.id, TaskCommand::Cancel, T0).await;
            fixture.hold(config.id, Hold::Resume).await;
            fixture.hold(config.id, Hold::Enable).await;
        }
    }
}

/// Up to a second it waits; what is further ahead goes back.
pub(super) async fn a_row_ahead_of_its_time_waits_or_goes_back(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.create(fixture.new_task(&config, None, at(60))).await;
    let request = ClaimRequest { config: config.id, due_by: at(60), limit: 1 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], T0).await.expect("claim").tasks.remove(0);
    for ms in [1, 1_000] {
        for begin in both_ways(&claimed) {
            let now = at(60).minus(Millis::from_ms(ms));
            assert_eq!(
                fixture.begin_as(fixture.node, begin, now).await,
                BeginResult::Wait(at(60)),
                "{ms} ms ahead"
            );
        }
    }
    fixture.check_stored(&claimed).await;
    let far = at(60).minus(Millis::from_ms(1_001));
    let BeginResult::Drop(Some(task)) = fixture.begin_as(fixture.node, message(&claimed), far).await else {
        panic!("a row that is due in more than a second goes back");
    };
    assert_eq!((task.status, task.due_at), (Status::Scheduled, at(60)));
    fixture.check_stored(&task).await;
}

/// It ends instead of running.
pub(super) async fn what_has_expired_ends_at_its_begin(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for with_row in [true, false] {
        let mut new = fixture.new_task(&config, None, T0);
        new.expire_after = Some(Millis::from_secs(30));
        let task = fixture.create(new).await;
        let mut begin = message(&fixture.claim(&task, at(29)).await);
        begin.row = begin.row.filter(|_| with_row);
        let BeginResult::Drop(Some(task)) = fixture.begin_as(fixture.node, begin, at(30)).await else {
            panic!("an expired task must not run");
        };
        assert_eq!((task.status, task.result), (Status::Ended, Some(EndResult::Expired)));
        fixture.check_stored(&task).await;
    }
}

/// In the order of the batch, good and bad ones mixed.
pub(super) async fn answers_are_in_the_order_of_the_batch(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.queued(&config).await;
    let second = fixture.queued(&config).await;
    let gone = BeginRequest { id: TaskId::new(1), version: 1, row: None, token: None };
    let batch = vec![message(&second), gone, message(&first)];
    let answers = all(fixture.store.begin(fixture.node, batch, T0).await).expect("begin");
    match &answers[..] {
        [BeginResult::Run(one), BeginResult::Drop(None), BeginResult::Run(two)] => {
            assert_eq!([one.id, two.id], [second.id, first.id]);
        }
        other => panic!("run, drop, run: {other:?}"),
    }
}

/// What a worker compares with what it really runs.
pub(super) async fn executing_lists_what_runs_under_a_node(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let other = fixture.store.register_node("other", T0).await.expect("register_node");
    let mine = fixture.executing(&config).await;
    let queued = fixture.queued(&config).await;
    let BeginResult::Run(theirs) = fixture.begin_as(other, message(&queued), T0).await else {
        panic!("a claimed task that is due must run");
    };
    fixture.queued(&config).await;
    fixture.awaiting(&config).await;
    assert_eq!(fixture.running(fixture.node).await, [(mine.id, 1)]);
    assert_eq!(fixture.running(other).await, [(theirs.id, 1)]);
}

/// A message that will not be begun goes back, if it is still the row's.
pub(super) async fn release_gives_back_what_is_claimed_and_nothing_else(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let queued = fixture.queued(&config).await;
    let executing = fixture.executing(&config).await;
    let batch = vec![
        (queued.id, queued.version - 1),
        (executing.id, executing.version),
        (TaskId::new(1), 1),
        (queued.id, queued.version),
        (queued.id, queued.version),
    ];
    let released = fixture.store.release(batch, at(1)).await.expect("release");
    assert_eq!(released.len(), 1, "only the good one, and once: {released:?}");
    assert_eq!((released[0].id, released[0].status), (queued.id, Status::Scheduled));
    fixture.check_stored(&released[0]).await;
    assert_same(&fixture.stored(executing.id).await, &executing, "an executing row stays");
}
