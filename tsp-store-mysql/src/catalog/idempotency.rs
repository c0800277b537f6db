//! Answers of calls on apps and configs kept under an `Idempotency-Key`, in the transaction that does the
//! work.

use bytes::Bytes;
use parking_lot::Mutex;
use tsp_core::Timestamp;
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, Render, StoredAnswer};

use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

const FIND: &str = "-- idempotency_find
SELECT body_hash, status, body, location FROM idempotency WHERE hash = ? AND expires_at > ?";

/// An expired record that was not dropped yet makes room.
const CLEAR: &str = "-- idempotency_clear\nDELETE FROM idempotency WHERE hash = ?";
const PUT: &str = "-- idempotency_put
INSERT INTO idempotency (hash, body_hash, status, body, location, expires_at) VALUES (?, ?, ?, ?, ?, ?)";

/// What is to be recorded, for work that may be retried after a deadlock.
pub(crate) struct MetaRequest<T> {
    idempotency: Option<MetaRecord<T>>,
}

struct MetaRecord<T> {
    hash: [u8; 32],
    body_hash: [u8; 32],
    expires_at: Timestamp,
    render: Mutex<Option<Render<T>>>,
}

impl<T> MetaRequest<T> {
    pub(crate) fn new(idempotency: Option<IdempotencyRequest<T>>) -> Self {
        let held = |IdempotencyRequest { hash, body_hash, expires_at, render }: IdempotencyRequest<T>| {
            MetaRecord { hash, body_hash, expires_at, render: Mutex::new(Some(render)) }
        };
        Self { idempotency: idempotency.map(held) }
    }

    /// The answer of an earlier call under the key.
    pub(crate) async fn find(
        &self,
        tx: &mut Tx<'_>,
        context: &StoreContext,
        now: Timestamp,
    ) -> Result<Option<IdempotencyResult<T>>> {
        let Some(idempotency) = &self.idempotency else { return Ok(None) };
        let sql = context.meta.sql(FIND);
        let row = query(&sql).bind(&idempotency.hash[..]).bind(now.ms()).fetch_optional(tx.conn()).await?;
        let Some(row) = row else { return Ok(None) };
        if row.get::<&[u8]>(0)? != idempotency.body_hash {
            return Ok(Some(IdempotencyResult::Mismatch));
        }
        let status = row.get::<i64>(1)?;
        let status = u16::try_from(status)
            .map_err(|_| StoreError::Internal(format!("a kept answer has status {status}")))?;
        let body = Bytes::from(row.get::<Vec<u8>>(2)?);
        Ok(Some(IdempotencyResult::Replayed(StoredAnswer { status, body, location: row.get(3)? })))
    }

    /// Keeps the answer, if it is one that is kept.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the work came again after its answer was rendered: the rendering
    /// is given once.
    pub(crate) async fn put(&self, tx: &mut Tx<'_>, context: &StoreContext, value: &T) -> Result<()> {
        let Some(idempotency) = &self.idempotency else { return Ok(()) };
        let Some(render) = idempotency.render.lock().take() else {
            return Err(Cause::Busy.because("the catalog was locked by others"));
        };
        let Some(answer) = render(value) else { return Ok(()) };
        query(&context.meta.sql(CLEAR)).bind(&idempotency.hash[..]).execute(tx.conn()).await?;
        query(&context.meta.sql(PUT))
            .bind(&idempotency.hash[..])
            .bind(&idempotency.body_hash[..])
            .bind(i64::from(answer.status))
            .bind(&answer.body[..])
            .bind(answer.location)
            .bind(idempotency.expires_at.ms())
            .execute(tx.conn())
            .await?;
        Ok(())
    }
}
