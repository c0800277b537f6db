//! Answers kept under an `Idempotency-Key`, in the transaction that does the work.

use bytes::Bytes;
use rusqlite::params;
use tsp_core::Timestamp;
use tsp_store::error::Result;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};

use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    FIND = "-- idempotency_find
    SELECT body_hash, status, body, location FROM idempotency WHERE hash = ? AND expires_at > ?"
        => "SEARCH idempotency USING PRIMARY KEY (hash=?)";

    /// An expired record that was not dropped yet makes room.
    PUT = "-- idempotency_put
    INSERT INTO idempotency (hash, body_hash, status, body, location, expires_at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (hash) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status,
        body = excluded.body, location = excluded.location, expires_at = excluded.expires_at";
}

/// Does `work` unless its key was answered before, and keeps its answer.
pub(crate) fn idempotent<T>(
    tx: &mut Tx<'_>,
    idempotency: Option<IdempotencyRequest<T>>,
    now: Timestamp,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T>,
) -> Result<IdempotencyResult<T>> {
    let Some(idempotency) = idempotency else { return work(tx).map(IdempotencyResult::Fresh) };
    if let Some((body_hash, answer)) = find(tx, &idempotency.hash, now)? {
        return Ok(if body_hash == idempotency.body_hash {
            IdempotencyResult::Replayed(answer)
        } else {
            IdempotencyResult::Mismatch
        });
    }
    let value = work(tx)?;
    if let Some(answer) = (idempotency.render)(&value) {
        tx.conn.prepare(PUT)?.execute_one(params![
            idempotency.hash,
            idempotency.body_hash,
            answer.status,
            &*answer.body,
            answer.location,
            idempotency.expires_at.ms(),
        ])?;
    }
    Ok(IdempotencyResult::Fresh(value))
}

fn find(tx: &Tx<'_>, hash: &[u8; 32], now: Timestamp) -> Result<Option<([u8; 32], StoredAnswer)>> {
    tx.conn.prepare(FIND)?.first(params![hash, now.ms()], |row| {
        let answer = StoredAnswer {
            status: row.get(1)?,
            body: Bytes::from(row.get::<Vec<u8>>(2)?),
            location: row.get(3)?,
        };
        Ok((row.get(0)?, answer))
    })
}
