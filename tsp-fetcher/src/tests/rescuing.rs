//! What was lost comes back: messages, answers, processes, waits.

use tsp_core::outcome::{Outcome, OutcomeKind, Verdict};
use tsp_core::task::Status;
use tsp_core::{ConfigId, Millis, TaskId};
use tsp_queue::{Feedback, FeedbackSink, Subscriber};
use tsp_store::catalog::Catalog as _;
use tsp_store::memory::Fault;
use tsp_store::run::RunStore;
use tsp_store::schedule::Ownership;
use tsp_store::tasks::Wish;

use super::bed::{Bed, at, done};
use crate::{FetcherOptions, WindowLimits};

#[test]
fn a_lost_message_is_sent_again_and_each_time_after_twice_the_wait() {
    let options = FetcherOptions { pipe_timeout: Millis::from_secs(30), ..FetcherOptions::default() };
    let mut bed = Bed::with(options, 4_096);
    let config = bed.delayed("one");
    let id = bed.submit(config, at(0));
    bed.settle();
    assert_eq!(bed.taken(), [id], "and the worker loses it");
    bed.go_to(at(29_000));
    assert!(bed.taken().is_empty());
    bed.go_to(at(30_000));
    assert_eq!(bed.taken(), [id]);
    bed.go_to(at(89_999));
    assert!(bed.taken().is_empty(), "60 s this time");
    bed.go_to(at(90_000));
    assert_eq!(bed.work(), [id]);
    assert_eq!(bed.task(id).attempt, 1);
}

/// Its row was given back and claimed again meanwhile: nobody will ever be heard to have dealt with it.
#[test]
fn a_lost_message_of_an_older_version_takes_up_no_room() {
    let window = WindowLimits { in_pipe_per_config: 1, ..WindowLimits::default() };
    let mut bed = Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let config = bed.delayed("one");
    let id = bed.submit(config, at(0));
    bed.settle();
    assert_eq!(bed.taken(), [id], "and the worker loses it");
    bed.change(id, Wish::Pause);
    bed.change(id, Wish::Resume);
    bed.inbox.due(config, at(0));
    bed.go_to(at(10_000));
    assert_eq!(bed.work(), [id]);
}

#[test]
fn what_was_in_a_pipe_that_was_lost_is_sent_again_soon() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let (lost, begun, later) =
        (bed.submit(config, at(0)), bed.submit(config, at(0)), bed.submit(config, at(2_500)));
    bed.settle();
    let taken = bed.take();
    let kept = taken.iter().find(|delivery| delivery.message.id == begun).unwrap();
    assert!(bed.begin(kept, bed.owner.node).is_some());
    bed.go_to(at(1_000));
    bed.inbox.pipe_lost();
    bed.go_to(at(2_400));
    bed.inbox.pipe_lost();
    bed.go_to(at(2_999));
    assert_eq!(bed.taken(), [later], "too soon, and this one came after both");
    bed.go_to(at(3_000));
    assert_eq!(bed.taken(), [lost]);
    bed.go_to(at(30_000));
    assert!(bed.taken().is_empty(), "and only this once");
    bed.inbox.pipe_lost();
    bed.inbox.pipe_lost();
    bed.go_to(at(32_000));
    let mut again = bed.work();
    again.sort_unstable();
    assert_eq!(again, [lost, later], "however often it was lost before");
}

#[test]
fn a_hint_that_comes_before_its_config_is_made_good_when_that_comes() {
    for changed_too in [false, true] {
        let mut bed = Bed::new();
        let config = bed.delayed("one");
        bed.settle();
        let id = bed.submit_silently(config, at(0));
        let known = bed.book_config(config);
        let book = bed.store.book();
        book.remove_config(config, book.seq());
        bed.inbox.due(config, at(0));
        if changed_too {
            bed.inbox.changed(config);
        }
        bed.settle();
        assert!(bed.taken().is_empty());
        let book = bed.store.book();
        book.put_config(known, book.seq());
        bed.inbox.changed(config);
        bed.settle();
        assert_eq!(bed.work(), [id]);
    }
}

#[test]
fn a_message_that_waits_at_its_worker_is_sent_again_once_and_the_old_one_is_stale() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.submit(config, at(0));
    bed.settle();
    let old = bed.take();
    bed.go_to(at(30_000));
    let new = bed.take();
    assert_eq!(new.len(), 1);
    assert!(bed.begin(&old[0], bed.owner.node).is_none(), "the old version");
    assert!(bed.begin(&new[0], bed.owner.node).is_some());
}

#[test]
fn a_running_attempt_is_left_alone_however_long_it_runs() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(0));
    bed.settle();
    let running = bed.begin_all();
    bed.go_to(at(600_000));
    assert_eq!((bed.status(id), bed.task(id).attempt), (Status::Executing, 1));
    bed.finish(&running[0], Verdict::done());
    assert_eq!(bed.status(id), Status::Ended);
}

#[test]
fn rows_of_an_old_epoch_and_of_dead_nodes_come_back_at_the_first_turn() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let (running, queued, claimed) =
        (bed.submit(config, at(0)), bed.submit(config, at(10)), bed.submit(config, at(400)));
    bed.settle();
    bed.begin_all();
    bed.go_to(at(10));
    assert_eq!(bed.status(claimed), Status::Queued);
    bed.restart();
    let report = bed.settle();
    assert_eq!(report.rescued, 3);
    let mut taken = bed.work();
    taken.sort_unstable();
    assert_eq!(taken, [running, queued]);
    assert_eq!(bed.task(running).attempt, 2, "a new number");
    assert_eq!((bed.task(running).losses, bed.task(running).charged), (1, 0), "not the callee's fault");
    bed.go_to(at(400));
    assert_eq!(bed.work(), [claimed]);
}

#[test]
fn rows_of_our_own_epoch_that_we_do_not_remember_come_back() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(400));
    bed.settle();
    assert_eq!(bed.status(id), Status::Queued);
    bed.forget();
    assert_eq!(bed.settle().rescued, 1);
    bed.go_to(at(400));
    assert_eq!(bed.work(), [id]);
}

/// The claim has happened and its answer is lost: the very next turn finds the rows.
#[test]
fn a_claim_without_an_answer_costs_nothing_but_a_turn() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.settle();
    let id = bed.submit(config, at(0));
    bed.fail("claim", &[Fault::After]);
    bed.step().expect_err("the fault");
    assert_eq!(bed.status(id), Status::Queued, "though nobody knows");
    assert_eq!(bed.settle().rescued, 1);
    assert_eq!(bed.work(), [id]);
}

#[test]
fn a_worker_that_hands_back_without_effect_is_made_good() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(0));
    bed.settle();
    let delivery = bed.take().pop().unwrap();
    bed.worker.ack(&[delivery.ticket]);
    bed.inbox.report(vec![dealt_with(id, config, delivery.message.version)]);
    bed.go_to(at(5_000));
    assert_eq!(bed.work(), [id]);
}

/// A worker threw the message of an older version away and says so: what is in the pipe now stays there.
#[test]
fn what_is_said_of_an_older_message_is_not_of_the_newer_one() {
    let window = crate::WindowLimits { in_pipe_per_config: 1, ..crate::WindowLimits::default() };
    let mut bed = Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let config = bed.delayed("one");
    let ids = bed.submit_many(config, &[at(0), at(0)]);
    bed.settle();
    let delivery = bed.take().pop().unwrap();
    bed.inbox.report(vec![dealt_with(ids[0], config, delivery.message.version - 1)]);
    bed.settle();
    assert!(bed.take().is_empty(), "there is no room for the second one");
    bed.inbox.report(vec![dealt_with(ids[0], config, delivery.message.version)]);
    bed.settle();
    assert_eq!(bed.take().len(), 1);
}

/// The message is lost, and the row is cancelled before it is published again.
#[test]
fn what_was_sent_again_is_forgotten_when_it_does_not_come_back() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(0));
    bed.settle();
    bed.take();
    bed.pause(config);
    bed.go_to(at(60_000));
    assert_eq!(bed.status(id), Status::Scheduled, "it was given back");
    assert_eq!(bed.fetcher.rescue.repeated(), 1);
    bed.change(id, Wish::Cancel);
    bed.go_to(at(300_000));
    assert_eq!(bed.fetcher.rescue.repeated(), 0);
}

fn dealt_with(task: TaskId, config: ConfigId, version: i64) -> Feedback {
    Feedback { task, config: Some(config), version, due_again: None, awaits_until: None, park: None }
}

#[test]
fn lost_feedback_does_not_take_up_room_for_ever() {
    let window = crate::WindowLimits { in_pipe_per_config: 1, ..crate::WindowLimits::default() };
    let mut bed = Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let config = bed.delayed("one");
    let ids = bed.submit_many(config, &[at(0), at(0)]);
    bed.settle();
    assert_eq!(bed.work(), ids[..1]);
    bed.inbox.drain();
    bed.go_to(at(4_999));
    assert!(bed.work().is_empty());
    bed.go_to(at(5_000));
    assert_eq!(bed.work(), ids[1..]);
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let mut bed = Bed::new();
    let config = bed.config("async", None, |spec| {
        spec.asynchronous.enabled = true;
        spec.asynchronous.deadline = Millis::from_ms(2_345);
    });
    let ids = [bed.submit(config, at(0)), bed.submit(config, at(100))];
    let mut due = Vec::new();
    for id in ids {
        bed.go_to(bed.task(id).due_at);
        let running = bed.begin_all();
        due.push(bed.finish(&running[0], Verdict::new(Outcome::Accepted, "accepted")).due_at);
    }
    assert_eq!(due, [at(2_345), at(2_445)]);
    let report = bed.settle();
    assert!(report.next <= due[0]);
    bed.go_to(at(2_344));
    assert_eq!(bed.status(ids[0]), Status::Awaiting);
    let report = bed.go_to(at(2_345));
    assert_eq!(report.next, at(2_445), "the next deadline");
    let row = bed.task(ids[0]);
    assert_eq!((row.status, row.due_at, row.charged), (Status::Queued, at(2_745), 1));
    assert_eq!(row.last_outcome.map(|last| last.kind), Some(OutcomeKind::Retry));
    bed.go_to(at(2_745));
    assert_eq!(bed.begin_all().len(), 1);
}

#[test]
fn a_deposed_owner_stops_whatever_it_was_about_to_do() {
    // To claim.
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.settle();
    done(bed.store.take_shards(bed.owner.node, at(0))).unwrap();
    let id = bed.submit(config, at(0));
    assert!(bed.settle().deposed);
    assert_eq!(bed.status(id), Status::Scheduled);

    // To fire.
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(super::bed::every(1)), |_| {});
    bed.settle();
    done(bed.store.take_shards(bed.owner.node, at(0))).unwrap();
    assert!(bed.go_to(at(1_000)).deposed);
    assert!(bed.made(config).is_empty());

    // To end a wait.
    let mut bed = Bed::new();
    let config = bed.config("async", None, |spec| spec.asynchronous.enabled = true);
    bed.submit(config, at(0));
    bed.settle();
    let running = bed.begin_all();
    let row = bed.finish(&running[0], Verdict::new(Outcome::Accepted, "accepted"));
    bed.settle();
    done(bed.store.take_shards(bed.owner.node, at(0))).unwrap();
    assert!(bed.go_to(row.due_at).deposed, "and does not turn in a circle");

    // To rescue.
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(400));
    bed.settle();
    done(bed.store.take_shards(bed.owner.node, at(0))).unwrap();
    bed.forget();
    assert!(bed.settle().deposed);
    assert_eq!(bed.status(id), Status::Queued);
    assert!(done(bed.store.executing(bed.owner.node, 0)).unwrap().is_empty());
}
