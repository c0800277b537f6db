//! The begin of attempts.

use tsp_core::task::Status;
use tsp_core::transition::{Event, Refusal, transition};
use tsp_core::{NodeId, Timestamp};
use tsp_store::attempts::{BeginRequest, BeginResult, Each};
use tsp_store::error::Result;
use tsp_store::rules::is_plain;

use crate::attempts::batch::of_one;
use crate::connection::tx::Tx;

/// An error that is not a bad row's own ends the command: what was done of it is rolled back.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    node: NodeId,
    batch: Vec<BeginRequest>,
    now: Timestamp,
) -> Result<Each<BeginResult>> {
    batch.into_iter().map(|begin| of_one(begin_one(tx, node, begin, now))).collect()
}

fn begin_one(tx: &mut Tx<'_>, node: NodeId, begin: BeginRequest, now: Timestamp) -> Result<BeginResult> {
    let inline = begin.row.filter(|row| row.id == begin.id && row.version == begin.version);
    let row = match inline {
        Some(row) => *row,
        None => match tx.rows.open_task(begin.id)? {
            Some(row) => row,
            None => return Ok(BeginResult::Drop(None)),
        },
    };
    let runnable = tx.config(row.config).is_some_and(|config| config.runnable());
    let event = Event::Begin { version: begin.version, node, runnable, token: begin.token };
    let change = match transition(&row, &event, now) {
        Ok(change) => change,
        Err(Refusal::NotDue { due_at }) => return Ok(BeginResult::Wait(due_at)),
        Err(_) => return Ok(BeginResult::Drop(None)),
    };
    if is_plain(&change, Status::Executing) {
        // A row of another version than the message's is stale, whether it came inline or was read.
        let begun = tx.rows.save_begun(row.version, &change.task)?;
        return Ok(if begun { BeginResult::Run(Box::new(change.task)) } else { BeginResult::Drop(None) });
    }
    Ok(BeginResult::Drop(tx.rows.save(row.version, change, &mut tx.sums)?))
}
