//! What was lost comes back: messages, answers, processes, waits.

use tsp_core::outcome::{Outcome, OutcomeKind, Verdict};
use tsp_core::task::Status;
use tsp_core::{ConfigId, Millis, TaskId};
use tsp_queue::{Feedback, FeedbackSink, Subscriber};
use tsp_store::attempts::AttemptStore;
use tsp_store::catalog::Catalog as _;
use tsp_store::fetching::EmbeddedOwnership;
use tsp_store::tasks::TaskCommand;
use tsp_store_testing::memory::Fault;

use super::fixture::{Fixture, at, done};
use crate::{FetcherOptions, WindowLimits};

#[test]
fn a_lost_message_is_sent_again_and_each_time_after_twice_the_wait() {
    let options = FetcherOptions { pipe_timeout: Millis::from_secs(30), ..FetcherOptions::default() };
    let mut fixture = Fixture::with(options, 4_096);
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    assert_eq!(fixture.taken(), [id], "and the worker loses it");
    fixture.go_to(at(29_000));
    assert!(fixture.taken().is_empty());
    fixture.go_to(at(30_000));
    assert_eq!(fixture.taken(), [id]);
    fixture.go_to(at(89_999));
    assert!(fixture.taken().is_empty(), "60 s this time");
    fixture.go_to(at(90_000));
    assert_eq!(fixture.work(), [id]);
    assert_eq!(fixture.task(id).attempt, 1);
}

/// Its row was returned and claimed again meanwhile: there will never be feedback on it.
#[test]
fn a_lost_message_of_an_older_version_takes_up_no_room() {
    let window = WindowLimits { in_pipe_per_config: 1, ..WindowLimits::default() };
    let mut fixture = Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    assert_eq!(fixture.taken(), [id], "and the worker loses it");
    fixture.change(id, TaskCommand::Pause);
    fixture.change(id, TaskCommand::Resume);
    fixture.inbox.due(config, at(0));
    fixture.go_to(at(10_000));
    assert_eq!(fixture.work(), [id]);
}

#[test]
fn what_was_in_a_pipe_that_was_lost_is_sent_again_soon() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let (lost, begun, later) =
        (fixture.submit(config, at(0)), fixture.submit(config, at(0)), fixture.submit(config, at(2_500)));
    fixture.run_until_idle();
    let taken = fixture.take();
    let kept = taken.iter().find(|delivery| delivery.message.id == begun).unwrap();
    assert!(fixture.begin(kept, fixture.owner.node).is_some());
    fixture.go_to(at(1_000));
    fixture.inbox.pipe_lost();
    fixture.go_to(at(2_400));
    fixture.inbox.pipe_lost();
    fixture.go_to(at(2_999));
    assert_eq!(fixture.taken(), [later], "too soon, and this one came after both");
    fixture.go_to(at(3_000));
    assert_eq!(fixture.taken(), [lost]);
    fixture.go_to(at(30_000));
    assert!(fixture.taken().is_empty(), "and only this once");
    fixture.inbox.pipe_lost();
    fixture.inbox.pipe_lost();
    fixture.go_to(at(32_000));
    let mut again = fixture.work();
    again.sort_unstable();
    assert_eq!(again, [lost, later], "however often it was lost before");
}

#[test]
fn a_hint_that_comes_before_its_config_is_made_good_when_that_comes() {
    for changed_too in [false, true] {
        let mut fixture = Fixture::new();
        let config = fixture.delayed("one");
        fixture.run_until_idle();
        let id = fixture.submit_silently(config, at(0));
        let known = fixture.cached_config(config);
        let config_cache = fixture.store.config_cache();
        config_cache.remove_config(config, config_cache.seq());
        fixture.inbox.due(config, at(0));
        if changed_too {
            fixture.inbox.changed(config);
        }
        fixture.run_until_idle();
        assert!(fixture.taken().is_empty());
        let config_cache = fixture.store.config_cache();
        config_cache.put_config(known, config_cache.seq());
        fixture.inbox.changed(config);
        fixture.run_until_idle();
        assert_eq!(fixture.work(), [id]);
    }
}

#[test]
fn a_message_that_waits_at_its_worker_is_sent_again_once_and_the_old_one_is_stale() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.submit(config, at(0));
    fixture.run_until_idle();
    let old = fixture.take();
    fixture.go_to(at(30_000));
    let new = fixture.take();
    assert_eq!(new.len(), 1);
    assert!(fixture.begin(&old[0], fixture.owner.node).is_none(), "the old version");
    assert!(fixture.begin(&new[0], fixture.owner.node).is_some());
}

#[test]
fn a_running_attempt_is_left_alone_however_long_it_runs() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    let running = fixture.begin_all();
    fixture.go_to(at(600_000));
    assert_eq!((fixture.status(id), fixture.task(id).attempt), (Status::Executing, 1));
    fixture.finish(&running[0], Verdict::done());
    assert_eq!(fixture.status(id), Status::Ended);
}

#[test]
fn rows_of_an_old_epoch_and_of_dead_nodes_come_back_at_the_first_turn() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let (running, queued, claimed) =
        (fixture.submit(config, at(0)), fixture.submit(config, at(10)), fixture.submit(config, at(400)));
    fixture.run_until_idle();
    fixture.begin_all();
    fixture.go_to(at(10));
    assert_eq!(fixture.status(claimed), Status::Queued);
    fixture.restart();
    let report = fixture.run_until_idle();
    assert_eq!(report.rescued, 3);
    let mut taken = fixture.work();
    taken.sort_unstable();
    assert_eq!(taken, [running, queued]);
    assert_eq!(fixture.task(running).attempt, 2, "a new number");
    assert_eq!(
        (fixture.task(running).worker_losses, fixture.task(running).failed_attempts),
        (1, 0),
        "not the receiver's fault"
    );
    fixture.go_to(at(400));
    assert_eq!(fixture.work(), [claimed]);
}

#[test]
fn rows_of_our_own_epoch_that_we_do_not_remember_come_back() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(400));
    fixture.run_until_idle();
    assert_eq!(fixture.status(id), Status::Queued);
    fixture.forget();
    assert_eq!(fixture.run_until_idle().rescued, 1);
    fixture.go_to(at(400));
    assert_eq!(fixture.work(), [id]);
}

/// The claim has happened and its answer is lost: the very next turn finds the rows.
#[test]
fn a_claim_without_an_answer_costs_nothing_but_a_turn() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.run_until_idle();
    let id = fixture.submit(config, at(0));
    fixture.fail("claim", &[Fault::After]);
    fixture.step().expect_err("the fault");
    assert_eq!(fixture.status(id), Status::Queued, "though nobody knows");
    assert_eq!(fixture.run_until_idle().rescued, 1);
    assert_eq!(fixture.work(), [id]);
}

#[test]
fn a_worker_that_hands_back_without_effect_is_made_good() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    let delivery = fixture.take().pop().unwrap();
    fixture.worker.ack(&[delivery.ticket]);
    fixture.inbox.report(vec![dealt_with(id, config, delivery.message.version)]);
    fixture.go_to(at(5_000));
    assert_eq!(fixture.work(), [id]);
}

/// A worker threw the message of an older version away and says so: what is in the pipe now stays there.
#[test]
fn what_is_said_of_an_older_message_is_not_of_the_newer_one() {
    let window = crate::WindowLimits { in_pipe_per_config: 1, ..crate::WindowLimits::default() };
    let mut fixture = Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let config = fixture.delayed("one");
    let ids = fixture.submit_many(config, &[at(0), at(0)]);
    fixture.run_until_idle();
    let delivery = fixture.take().pop().unwrap();
    fixture.inbox.report(vec![dealt_with(ids[0], config, delivery.message.version - 1)]);
    fixture.run_until_idle();
    assert!(fixture.take().is_empty(), "there is no room for the second one");
    fixture.inbox.report(vec![dealt_with(ids[0], config, delivery.message.version)]);
    fixture.run_until_idle();
    assert_eq!(fixture.take().len(), 1);
}

/// The message is lost, and the row is cancelled before it is published again.
#[test]
fn what_was_sent_again_is_forgotten_when_it_does_not_come_back() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    fixture.take();
    fixture.pause(config);
    fixture.go_to(at(60_000));
    assert_eq!(fixture.status(id), Status::Scheduled, "it was given back");
    assert_eq!(fixture.fetcher.rescue.repeated(), 1);
    fixture.change(id, TaskCommand::Cancel);
    fixture.go_to(at(300_000));
    assert_eq!(fixture.fetcher.rescue.repeated(), 0);
}

fn dealt_with(task: TaskId, config: ConfigId, version: i64) -> Feedback {
    Feedback { task, config: Some(config), version, due_again: None, awaits_until: None, park: None }
}

#[test]
fn lost_feedback_does_not_take_up_room_for_ever() {
    let window = crate::WindowLimits { in_pipe_per_config: 1, ..crate::WindowLimits::default() };
    let mut fixture = Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let config = fixture.delayed("one");
    let ids = fixture.submit_many(config, &[at(0), at(0)]);
    fixture.run_until_idle();
    assert_eq!(fixture.work(), ids[..1]);
    fixture.inbox.drain();
    fixture.go_to(at(4_999));
    assert!(fixture.work().is_empty());
    fixture.go_to(at(5_000));
    assert_eq!(fixture.work(), ids[1..]);
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let mut fixture = Fixture::new();
    let config = fixture.config("async", None, |spec| {
        spec.asynchronous.enabled = true;
        spec.asynchronous.deadline = Millis::from_ms(2_345);
    });
    let ids = [fixture.submit(config, at(0)), fixture.submit(config, at(100))];
    let mut due = Vec::new();
    for id in ids {
        fixture.go_to(fixture.task(id).due_at);
        let running = fixture.begin_all();
        due.push(fixture.finish(&running[0], Verdict::new(Outcome::Accepted, "accepted")).due_at);
    }
    assert_eq!(due, [at(2_345), at(2_445)]);
    let report = fixture.run_until_idle();
    assert!(report.next <= due[0]);
    fixture.go_to(at(2_344));
    assert_eq!(fixture.status(ids[0]), Status::Awaiting);
    let report = fixture.go_to(at(2_345));
    assert_eq!(report.next, at(2_445), "the next deadline");
    let row = fixture.task(ids[0]);
    assert_eq!((row.status, row.due_at, row.failed_attempts), (Status::Queued, at(2_745), 1));
    assert_eq!(row.last_outcome.map(|last| last.kind), Some(OutcomeKind::Retry));
    fixture.go_to(at(2_745));
    assert_eq!(fixture.begin_all().len(), 1);
}

#[test]
fn a_deposed_owner_stops_whatever_it_was_about_to_do() {
    // To claim.
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.run_until_idle();
    done(fixture.store.take_shards(fixture.owner.node, at(0))).unwrap();
    let id = fixture.submit(config, at(0));
    assert!(fixture.run_until_idle().deposed);
    assert_eq!(fixture.status(id), Status::Scheduled);

    // To fire.
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(super::fixture::every(1)), |_| {});
    fixture.run_until_idle();
    done(fixture.store.take_shards(fixture.owner.node, at(0))).unwrap();
    assert!(fixture.go_to(at(1_000)).deposed);
    assert!(fixture.made(config).is_empty());

    // To end a wait.
    let mut fixture = Fixture::new();
    let config = fixture.config("async", None, |spec| spec.asynchronous.enabled = true);
    fixture.submit(config, at(0));
    fixture.run_until_idle();
    let running = fixture.begin_all();
    let row = fixture.finish(&running[0], Verdict::new(Outcome::Accepted, "accepted"));
    fixture.run_until_idle();
    done(fixture.store.take_shards(fixture.owner.node, at(0))).unwrap();
    assert!(fixture.go_to(row.due_at).deposed, "and does not turn in a circle");

    // To rescue.
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(400));
    fixture.run_until_idle();
    done(fixture.store.take_shards(fixture.owner.node, at(0))).unwrap();
    fixture.forget();
    assert!(fixture.run_until_idle().deposed);
    assert_eq!(fixture.status(id), Status::Queued);
    assert!(done(fixture.store.executing(fixture.owner.node, 0)).unwrap().is_empty());
}
