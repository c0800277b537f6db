//! The end of attempts.

use tsp_core::task::Task;
use tsp_core::transition::{Event, Rules, transition};
use tsp_core::{NodeId, Timestamp, Verdict};
use tsp_store::attempts::{Each, Finish, FinishResult};
use tsp_store::error::Result;

use crate::attempts::batch::of_one;
use crate::connection::tx::Tx;

pub(crate) fn finish(
    tx: &mut Tx<'_>,
    node: NodeId,
    batch: Vec<Finish>,
    now: Timestamp,
) -> Result<Each<FinishResult>> {
    batch.into_iter().map(|finish| of_one(finish_one(tx, node, finish, now))).collect()
}

/// The fence is `(executing, attempt, node)`, not the version: a cancel or reset may have come since begin.
/// The inline row is tried first; if the stored one has moved on, it is read and decided again.
fn finish_one(tx: &mut Tx<'_>, node: NodeId, finish: Finish, now: Timestamp) -> Result<FinishResult> {
    let now = finish.ended_at.map_or(now, |ended_at| ended_at.min(now));
    let mut row = finish.row.filter(|row| row.id == finish.id);
    let inline = row.is_some();
    if !inline {
        row = tx.rows.open_task(finish.id)?.map(Box::new);
    }
    let Some(row) = row else { return Ok(FinishResult::TooLate) };
    if let Some(saved) = close(tx, node, &finish.verdict, finish.attempt, finish.jitter_fraction, &row, now)?
    {
        return Ok(FinishResult::Saved(saved));
    }
    if !inline {
        return Ok(FinishResult::TooLate);
    }
    let Some(stored) = tx.rows.open_task(finish.id)? else { return Ok(FinishResult::TooLate) };
    let saved = close(tx, node, &finish.verdict, finish.attempt, finish.jitter_fraction, &stored, now)?;
    Ok(saved.map_or(FinishResult::TooLate, FinishResult::Saved))
}

/// Closes the attempt on `row`. `None`: it is closed, or the stored row is another one.
fn close(
    tx: &mut Tx<'_>,
    node: NodeId,
    verdict: &Verdict,
    attempt: u32,
    jitter_fraction: f64,
    row: &Task,
    now: Timestamp,
) -> Result<Option<Box<Task>>> {
    let config = tx.config(row.config);
    let rules = Rules::of(config.as_deref(), jitter_fraction);
    match transition(row, &Event::Finish { attempt, node, verdict, rules }, now) {
        Ok(change) => tx.rows.save(row.version, change, &mut tx.sums),
        Err(_) => Ok(None),
    }
}
