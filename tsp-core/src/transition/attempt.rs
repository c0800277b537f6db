//! The life of an attempt: claim, begin, and the ways it is closed, each exactly once.

use crate::ids::NodeId;
use crate::outcome::{
    EXCERPT_BYTES_MAX, Outcome, OutcomeKind, Reason, RetryDelay, Verdict, capped, kept_reason,
};
use crate::retry::{RETRY_AFTER_JITTER, clamp_retry_after, with_jitter};
use crate::task::{AttemptRecord, EndResult, LastOutcome, Progress, Status, Task, TokenHash};
use crate::time::{Millis, Timestamp};

use super::claim::{Claim, Claimable};
use super::{
    BEGIN_WAITS_UP_TO, Change, Completion, OutcomeDetail, ProgressReport, Refusal, Rules, WORKER_LOSSES_MAX,
    age, changed, end, expire, renew, schedule,
};

/// A snooze into the past asks again after this, or it would call in a loop.
const SNOOZE_MIN: Millis = Millis::from_secs(1);

pub(super) fn claim(task: &Task, epoch: i64, now: Timestamp) -> Result<Change, Refusal> {
    if task.status != Status::Scheduled {
        return Err(Refusal::Stale);
    }
    match Claimable::from(task).claim(now) {
        Claim::Expired => Ok(expire(task, now)),
        Claim::Queued { version } => Ok(changed(task, |task| {
            task.version = version;
            task.status = Status::Queued;
            task.epoch = epoch;
        })),
    }
}

pub(super) fn begin(
    task: &Task,
    version: i64,
    node: NodeId,
    runnable: bool,
    token: Option<TokenHash>,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if task.status != Status::Queued || task.version != version {
        return Err(Refusal::Stale);
    }
    if task.is_expired(now) {
        return Ok(expire(task, now));
    }
    let early = task.due_at.since(now);
    if !runnable || early > BEGIN_WAITS_UP_TO {
        return release(task, version);
    }
    if early.is_positive() {
        return Err(Refusal::NotDue { due_at: task.due_at });
    }
    Ok(changed(task, |task| {
        task.status = Status::Executing;
        task.attempt += 1;
        task.node = Some(node);
        task.started_at = Some(now);
        task.begun_due_at = Some(task.due_at);
        task.token = token;
        if let Some(extra) = &mut task.extra {
            extra.progress = None;
        }
    }))
}

pub(super) fn release(task: &Task, version: i64) -> Result<Change, Refusal> {
    if task.status != Status::Queued || task.version != version {
        return Err(Refusal::Stale);
    }
    Ok(changed(task, |task| task.status = Status::Scheduled))
}

pub(super) fn finish(
    task: &Task,
    attempt: u32,
    node: NodeId,
    verdict: &Verdict,
    rules: &Rules<'_>,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if task.status != Status::Executing || task.attempt != attempt || task.node != Some(node) {
        return Err(Refusal::AttemptClosed);
    }
    // By the token of this attempt: the config may have become async, or ceased to be, while it ran.
    let accepted = verdict.outcome == Outcome::Accepted && task.token.is_some();
    match rules.deadline {
        // A reset makes the move at once, and the token void; so does a cancel, by ending it.
        Some(deadline) if accepted && task.next_run().is_none() => Ok(changed(task, |task| {
            age::leave_out_waits(task, false, now);
            task.status = Status::Awaiting;
            task.due_at = now.plus(deadline);
            task.last_outcome = Some(last(task.attempt, OutcomeKind::Accepted, verdict, now));
        })),
        _ => Ok(close(task, &AttemptEnd::from_verdict(verdict), rules, now)),
    }
}

pub(super) fn node_lost(
    task: &Task,
    node: NodeId,
    rules: &Rules<'_>,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if task.status != Status::Executing || task.node != Some(node) {
        return Err(Refusal::AttemptClosed);
    }
    // Only the loss that ends the task bears the hard word.
    let ends =
        task.worker_losses + 1 >= WORKER_LOSSES_MAX && !task.cancel_requested && task.next_run().is_none();
    let closing = AttemptEnd {
        kind: OutcomeKind::Lost,
        step: Step::Lost,
        reason: if ends { "crashes_workers".into() } else { "worker_lost".into() },
        http_status: None,
        excerpt: None,
    };
    Ok(close(task, &closing, rules, now))
}

pub(super) fn complete(
    task: &Task,
    token: &TokenHash,
    completion: &Completion,
    rules: &Rules<'_>,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if task.token.as_ref() != Some(token) {
        return Err(Refusal::WrongToken);
    }
    let closing = AttemptEnd::from_completion(completion);
    if !matches!(task.status, Status::Awaiting | Status::Executing) {
        // The attempt is closed. The same word again is answered alike; another comes too late.
        let same = task
            .last_outcome
            .as_ref()
            .is_some_and(|last| last.attempt == task.attempt && last.kind == closing.kind);
        return Err(if same { Refusal::Unchanged } else { Refusal::AttemptClosed });
    }
    Ok(close(task, &closing, rules, now))
}

pub(super) fn deadline(task: &Task, rules: &Rules<'_>, now: Timestamp) -> Result<Change, Refusal> {
    if task.status != Status::Awaiting || task.due_at > now {
        return Err(Refusal::AttemptClosed);
    }
    let closing = AttemptEnd {
        kind: OutcomeKind::Retry,
        step: Step::Retry(RetryDelay::Backoff),
        reason: "async_timeout".into(),
        http_status: None,
        excerpt: None,
    };
    Ok(close(task, &closing, rules, now))
}

pub(super) fn progress(
    task: &Task,
    token: &TokenHash,
    report: &ProgressReport,
    rules: &Rules<'_>,
    now: Timestamp,
) -> Result<Change, Refusal> {
    if task.token.as_ref() != Some(token) {
        return Err(Refusal::WrongToken);
    }
    if task.status != Status::Awaiting {
        return Err(Refusal::AttemptClosed);
    }
    let message = report.message.as_deref().map(|text| capped(text, EXCERPT_BYTES_MAX).to_owned());
    Ok(changed(task, |task| {
        if let Some(extend) = report.extend {
            let most = rules.deadline.unwrap_or(extend);
            task.due_at = task.due_at.max(now.plus(extend.min(most)));
        }
        // A report that only asks for time says nothing about how far it is.
        if report.percent.is_some() || message.is_some() {
            task.extra_mut().progress = Some(Progress { percent: report.percent, message, at: now });
        }
    }))
}

/// How an attempt is closed.
struct AttemptEnd {
    kind: OutcomeKind,
    step: Step,
    reason: Reason,
    http_status: Option<u16>,
    excerpt: Option<Box<str>>,
}

fn kept_text(text: &str) -> Box<str> {
    capped(text, EXCERPT_BYTES_MAX).into()
}

enum Step {
    Done,
    Fail,
    Retry(RetryDelay),
    Snooze(Timestamp),
    Lost,
}

impl AttemptEnd {
    fn from_verdict(verdict: &Verdict) -> Self {
        let step = match verdict.outcome {
            // A 202 that nobody can complete any more was an answer like any other 2xx.
            Outcome::Done | Outcome::Accepted => Step::Done,
            Outcome::Retry(delay) => Step::Retry(delay),
            Outcome::Fail => Step::Fail,
            Outcome::Snooze { until } => Step::Snooze(until),
        };
        Self {
            kind: verdict.outcome.into(),
            step,
            reason: verdict.reason.clone(),
            http_status: verdict.http_status,
            excerpt: verdict.excerpt.as_deref().map(kept_text),
        }
    }

    fn from_completion(completion: &Completion) -> Self {
        let (kind, step, message) = match completion {
            Completion::Done { message } => (OutcomeKind::Done, Step::Done, message),
            Completion::Retry { after, message } => {
                let delay = after.map_or(RetryDelay::Backoff, RetryDelay::Exactly);
                (OutcomeKind::Retry, Step::Retry(delay), message)
            }
            Completion::Fail { message } => (OutcomeKind::Fail, Step::Fail, message),
        };
        let excerpt = message.as_deref().map(kept_text);
        Self { kind, step, reason: "completed".into(), http_status: None, excerpt }
    }
}

/// Closes the open attempt and says where the row goes: to the reset that waits, to its end because a
/// cancel waits, or where the outcome leads.
fn close(task: &Task, closing: &AttemptEnd, rules: &Rules<'_>, now: Timestamp) -> Change {
    let record = record(task, closing.kind, &closing.reason, now);
    let closed =
        AttemptRecord { http_status: closing.http_status, excerpt: closing.excerpt.clone(), ..record };
    let mut change = changed(task, |task| {
        age::leave_out_waits(task, matches!(closing.step, Step::Lost), now);
        task.last_outcome = Some(last_of(&closed));
        task.node = None;
        if matches!(closing.step, Step::Lost) {
            task.worker_losses += 1;
        }
        if let Some(next) = task.extra.as_mut().and_then(|extra| extra.next.take()) {
            if let Some(payload) = next.payload {
                task.payload = Some(payload);
            }
            task.failed_attempts = 0;
            task.token = None;
            task.cancel_requested = false;
            renew(task, next.execute_at, now);
        } else {
            follow(task, &closing.step, rules, now);
        }
    });
    change.closed = Some(closed);
    change
}

/// Where the outcome alone leads.
fn follow(task: &mut Task, step: &Step, rules: &Rules<'_>, now: Timestamp) {
    match step {
        Step::Done => end(task, EndResult::Succeeded, now),
        _ if task.cancel_requested => end(task, EndResult::Cancelled, now),
        Step::Fail => {
            task.failed_attempts += 1;
            end(task, EndResult::Failed, now);
        }
        Step::Retry(delay) => retry(task, *delay, rules, now),
        Step::Snooze(until) => {
            let due_at = if *until > now { *until } else { now.plus(SNOOZE_MIN) };
            age::leave_out(task, due_at.since(now));
            schedule(task, due_at);
        }
        Step::Lost if task.worker_losses >= WORKER_LOSSES_MAX => end(task, EndResult::Failed, now),
        Step::Lost => schedule(task, now),
    }
}

fn retry(task: &mut Task, delay: RetryDelay, rules: &Rules<'_>, now: Timestamp) {
    task.failed_attempts += 1;
    let policy = task.retry(rules.retry);
    let backoff = with_jitter(policy.base_delay(task.failed_attempts), policy.jitter, rules.jitter_fraction);
    let delay = match delay {
        RetryDelay::Backoff => backoff,
        RetryDelay::Exactly(after) => after,
        RetryDelay::RetryAfter(after) => {
            // A thousand tasks told "120" must not come back in one second.
            let jitter = policy.jitter.min(RETRY_AFTER_JITTER);
            with_jitter(clamp_retry_after(after, backoff), jitter, rules.jitter_fraction)
        }
    };
    // What the receiver asked for beyond our own back-off is its wait, not the policy's.
    let next_age = now.since(task.age_from).saturating_add(delay.min(backoff));
    let too_old = policy.max_age.is_some_and(|most| next_age > most);
    if task.failed_attempts >= policy.max_attempts || too_old {
        end(task, EndResult::Failed, now);
    } else {
        age::leave_out(task, delay.saturating_sub(backoff));
        schedule(task, now.plus(delay));
    }
}

fn last(attempt: u32, kind: OutcomeKind, verdict: &Verdict, now: Timestamp) -> LastOutcome {
    let reason = kept_reason(&verdict.reason);
    LastOutcome { attempt, kind, reason, http_status: verdict.http_status, at: now }
}

/// What the row keeps of a closed attempt.
fn last_of(closed: &AttemptRecord) -> LastOutcome {
    LastOutcome {
        attempt: closed.attempt,
        kind: closed.kind,
        reason: closed.reason.clone(),
        http_status: closed.http_status,
        at: closed.ended_at,
    }
}

/// The open attempt of `task`, closed at `now`.
pub(super) fn record(task: &Task, kind: OutcomeKind, reason: &Reason, now: Timestamp) -> AttemptRecord {
    AttemptRecord {
        task: task.id,
        attempt: task.attempt,
        started_at: task.started_at.unwrap_or(now),
        ended_at: now,
        due_at: task.begun_due_at.unwrap_or(task.due_at),
        node: task.node,
        kind,
        reason: kept_reason(reason),
        http_status: None,
        excerpt: None,
    }
}

/// Closes the attempt of an awaiting row because an operator took the task elsewhere.
pub(super) fn close_awaited(
    task: &Task,
    kind: OutcomeKind,
    now: Timestamp,
    edit: impl FnOnce(&mut Task),
) -> Change {
    let reason: Reason = kind.as_str().into();
    let closed = record(task, kind, &reason, now);
    let task = changed(task, |task| {
        task.last_outcome = Some(last_of(&closed));
        edit(task);
    })
    .task;
    Change { task, closed: Some(closed), outcome_detail: OutcomeDetail::None }
}
