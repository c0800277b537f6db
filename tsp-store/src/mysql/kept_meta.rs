//! Answers of calls on apps and configs kept under an `Idempotency-Key`, in the transaction that does the
//! work.

use bytes::Bytes;
use parking_lot::Mutex;
use sqlx::Row as _;
use tsp_core::Timestamp;

use crate::error::{Cause, Result, StoreError};
use crate::idempotency::{Keep, Kept, Render, StoredAnswer};

use super::core::Core;
use super::session::query;
use super::tx::Tx;

const FIND: &str = "-- idempotency_find
SELECT body_hash, status, body, location FROM idempotency WHERE hash = ? AND expires_at > ?";

/// An expired answer that was not pruned yet makes room.
const CLEAR: &str = "-- idempotency_clear\nDELETE FROM idempotency WHERE hash = ?";
const PUT: &str = "-- idempotency_put
INSERT INTO idempotency (hash, body_hash, status, body, location, expires_at) VALUES (?, ?, ?, ?, ?, ?)";

/// What is to be kept, for work that may come again after a deadlock.
pub(super) struct Keeping<T> {
    keep: Option<Held<T>>,
}

struct Held<T> {
    hash: [u8; 32],
    body_hash: [u8; 32],
    expires_at: Timestamp,
    render: Mutex<Option<Render<T>>>,
}

impl<T> Keeping<T> {
    pub(super) fn new(keep: Option<Keep<T>>) -> Self {
        let held = |Keep { hash, body_hash, expires_at, render }: Keep<T>| Held {
            hash,
            body_hash,
            expires_at,
            render: Mutex::new(Some(render)),
        };
        Self { keep: keep.map(held) }
    }

    /// The answer of an earlier call under the key.
    pub(super) async fn find(&self, tx: &mut Tx<'_>, core: &Core, now: Timestamp) -> Result<Option<Kept<T>>> {
        let Some(keep) = &self.keep else { return Ok(None) };
        let sql = core.meta.sql(FIND);
        let row = query(&sql).bind(&keep.hash[..]).bind(now.ms()).fetch_optional(tx.conn()).await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get::<&[u8], _>(0)? != keep.body_hash {
            return Ok(Some(Kept::Mismatch));
        }
        let status = row.try_get::<i64, _>(1)?;
        let status = u16::try_from(status)
            .map_err(|_| StoreError::Internal(format!("a kept answer has status {status}")))?;
        let body = Bytes::from(row.try_get::<Vec<u8>, _>(2)?);
        Ok(Some(Kept::Replayed(StoredAnswer { status, body, location: row.try_get(3)? })))
    }

    /// Keeps the answer, if it is one that is kept.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the work came again after its answer was rendered: the rendering
    /// is given once.
    pub(super) async fn put(&self, tx: &mut Tx<'_>, core: &Core, value: &T) -> Result<()> {
        let Some(keep) = &self.keep else { return Ok(()) };
        let Some(render) = keep.render.lock().take() else {
            return Err(Cause::Busy.because("the catalog was locked by others"));
        };
        let Some(answer) = render(value) else { return Ok(()) };
        query(&core.meta.sql(CLEAR)).bind(&keep.hash[..]).execute(tx.conn()).await?;
        query(&core.meta.sql(PUT))
            .bind(&keep.hash[..])
            .bind(&keep.body_hash[..])
            .bind(i64::from(answer.status))
            .bind(&answer.body[..])
            .bind(answer.location)
            .bind(keep.expires_at.ms())
            .execute(tx.conn())
            .await?;
        Ok(())
    }
}
