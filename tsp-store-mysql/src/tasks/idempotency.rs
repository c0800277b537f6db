//! Answers kept under an `Idempotency-Key` (DESIGN.md section 6).
//!
//! Those of calls on apps and configs are in meta, kept by the transaction that does the work.
//!
//! Those of submits are in the shard that their hash picks. On one data source with the task, both are of one
//! transaction. Else the record comes first, with the id that the task will have; then the task; then the
//! answer. Whoever finds a record without an answer makes the task with that same id, so however often this
//! is interrupted and begun again, there is one task.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;
use tsp_core::{ShardId, TaskId, Timestamp};
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, Render, StoredAnswer};
use tsp_store::tasks::SubmitOutcome;

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::statement_templates::{ROWS_MAX, batch_size};
use crate::connection::tx::Tx;
use crate::context::StoreContext;

type Hash = [u8; 32];

const FIND: &str = "-- idempotency_find
SELECT hash, body_hash, task_id, expires_at, status, body, location FROM idempotency_{shard}
WHERE hash IN ({list})";
const FIND_LOCKED: &str = "-- idempotency_lock
SELECT hash, body_hash, task_id, expires_at, status, body, location FROM idempotency_{shard}
WHERE hash = ? FOR UPDATE";
const PUT: &str = "-- idempotency_put
INSERT INTO idempotency_{shard} (hash, body_hash, task_id, expires_at, status, body, location) VALUES {rows}";
const PUT_WIDTH: usize = 7;
/// An expired record that was not dropped yet makes room.
const DROP_EXPIRED: &str = "-- idempotency_drop_expired
DELETE FROM idempotency_{shard} WHERE hash = ? AND expires_at <= ?";
const ANSWER: &str = "-- idempotency_answer
UPDATE idempotency_{shard} SET status = ?, body = ?, location = ?
WHERE hash = ? AND task_id = ? AND status IS NULL";
const FORGET: &str = "-- idempotency_forget
DELETE FROM idempotency_{shard} WHERE hash = ? AND task_id = ? AND status IS NULL";

const META_FIND: &str = "-- idempotency_find
SELECT body_hash, status, body, location FROM idempotency WHERE hash = ? AND expires_at > ?";
const META_DROP: &str = "-- idempotency_clear\nDELETE FROM idempotency WHERE hash = ?";
const META_PUT: &str = "-- idempotency_put
INSERT INTO idempotency (hash, body_hash, status, body, location, expires_at) VALUES (?, ?, ?, ?, ?, ?)";

/// An idempotency key, and the body it came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) hash: Hash,
    body_hash: Hash,
    expires_at: Timestamp,
}

impl Key {
    fn split<T>(request: IdempotencyRequest<T>) -> (Self, Render<T>) {
        let IdempotencyRequest { hash, body_hash, expires_at, render } = request;
        (Self { hash, body_hash, expires_at }, render)
    }

    /// The shard that keeps the record.
    pub(crate) fn shard(&self, shards: u16) -> ShardId {
        home(&self.hash, shards)
    }
}

/// The shard that keeps the record of a hash; shorter than 8 bytes it is none of ours.
pub(crate) fn home(hash: &[u8], shards: u16) -> ShardId {
    let head = hash.first_chunk().copied().unwrap_or_default();
    let number = u64::from_le_bytes(head) % u64::from(shards.max(1));
    u16::try_from(number).ok().and_then(ShardId::new).unwrap_or_default()
}

/// An [`IdempotencyRequest`] that is asked for its answer once, in however many transactions it is tried.
pub(crate) struct PendingAnswer {
    pub(crate) key: Key,
    render: Option<Render<SubmitOutcome>>,
    rendered: Option<(SubmitOutcome, Option<StoredAnswer>)>,
}

impl PendingAnswer {
    pub(crate) fn new(idempotency: IdempotencyRequest<SubmitOutcome>) -> Self {
        let (key, render) = Key::split(idempotency);
        Self { key, render: Some(render), rendered: None }
    }

    fn render(&mut self, submitted: &SubmitOutcome) -> Result<Option<StoredAnswer>> {
        if let Some(render) = self.render.take() {
            let answer = render(submitted);
            self.rendered = Some((submitted.clone(), answer));
        }
        match &self.rendered {
            Some((of, answer)) if of == submitted => Ok(answer.clone()),
            // It was asked in a transaction that did not come to its end, and the record has changed since.
            _ => Err(Cause::Changed.because("the answer changed while it was saved")),
        }
    }
}

/// What is known of a key before the work is done.
#[derive(Debug, PartialEq)]
pub(crate) enum LookupResult {
    New,
    Stored(IdempotencyResult<SubmitOutcome>),
    /// The key was taken for this id, and it is not known what became of it.
    Started(TaskId),
}

struct IdempotencyRecord {
    hash: Hash,
    body_hash: Hash,
    task: TaskId,
    expires_at: Timestamp,
    answer: Option<StoredAnswer>,
}

impl IdempotencyRecord {
    fn read(row: &Row) -> Result<Self> {
        let answered = row.get::<Option<i64>>(4)?.is_some();
        Ok(Self {
            hash: hash(row.get(0)?)?,
            body_hash: hash(row.get(1)?)?,
            task: TaskId::new(row.get(2)?),
            expires_at: Timestamp::from_ms(row.get(3)?),
            answer: answered.then(|| read_answer(row, 4)).transpose()?,
        })
    }

    fn found(&self, key: &Key) -> LookupResult {
        if self.body_hash != key.body_hash {
            return LookupResult::Stored(IdempotencyResult::Mismatch);
        }
        match &self.answer {
            Some(answer) => LookupResult::Stored(IdempotencyResult::Replayed(answer.clone())),
            None => LookupResult::Started(self.task),
        }
    }
}

/// Of status, body and location, which stand in a row from `column` on.
fn read_answer(row: &Row, column: usize) -> Result<StoredAnswer> {
    let status: i64 = row.get(column)?;
    let status = u16::try_from(status)
        .map_err(|_| StoreError::Internal(format!("{status} is no status of an answer")))?;
    let body = Bytes::from(row.get::<Vec<u8>>(column + 1)?);
    Ok(StoredAnswer { status, body, location: row.get(column + 2)? })
}

fn hash(bytes: &[u8]) -> Result<Hash> {
    Hash::try_from(bytes).map_err(|_| StoreError::Internal("a kept hash is not 32 bytes".to_owned()))
}

/// Looks up many keys, each at its `now`, and makes room where a record has expired.
pub(crate) async fn find(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    wanted: Vec<(Key, Timestamp)>,
) -> Result<HashMap<Hash, LookupResult>> {
    let mut found = HashMap::with_capacity(wanted.len());
    let mut by_shard: BTreeMap<ShardId, Vec<(Key, Timestamp)>> = BTreeMap::new();
    for one in wanted {
        by_shard.entry(one.0.shard(context.shards)).or_default().push(one);
    }
    for (shard, wanted) in by_shard {
        let on = context.shard(shard)?;
        for chunk in wanted.chunks(ROWS_MAX) {
            let hashes: Vec<Hash> = chunk.iter().map(|(key, _)| key.hash).collect();
            let records = records(tx, &on, &hashes).await?;
            for (key, now) in chunk {
                match records.get(&key.hash) {
                    Some(record) if record.expires_at > *now => {
                        found.insert(key.hash, record.found(key));
                    }
                    Some(_) => drop_expired(tx, &on, *key, *now).await?,
                    None => {}
                }
            }
        }
    }
    Ok(found)
}

async fn records(tx: &mut Tx<'_>, on: &ShardDb, hashes: &[Hash]) -> Result<HashMap<Hash, IdempotencyRecord>> {
    let mut values = Values::default();
    for hash in hashes {
        values.put(hash.as_slice());
    }
    let rows = values.ask(&on.sql(FIND))?.fetch_all(tx.conn()).await?;
    rows.iter().map(|row| IdempotencyRecord::read(row).map(|record| (record.hash, record))).collect()
}

async fn drop_expired(tx: &mut Tx<'_>, on: &ShardDb, key: Key, now: Timestamp) -> Result<()> {
    let sql = on.sql(DROP_EXPIRED);
    query(&sql).bind(key.hash.to_vec()).bind(now.ms()).execute(tx.conn()).await.map(|_| ())
}

/// Keeps the answers of what was just done in this transaction. `false`: somebody else has taken one of the
/// keys meanwhile, so all of it must be undone and looked up again.
pub(crate) async fn put(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    done: Vec<(&mut PendingAnswer, TaskId, SubmitOutcome)>,
) -> Result<bool> {
    let mut by_shard: BTreeMap<ShardId, Vec<(Key, TaskId, StoredAnswer)>> = BTreeMap::new();
    for (pending, id, submitted) in done {
        if let Some(answer) = pending.render(&submitted)? {
            by_shard.entry(pending.key.shard(context.shards)).or_default().push((pending.key, id, answer));
        }
    }
    for (shard, mut answers) in by_shard {
        let on = context.shard(shard)?;
        answers.sort_unstable_by_key(|(key, ..)| key.hash);
        let mut left = answers.as_slice();
        while let Some(step) = batch_size(left.len(), PUT_WIDTH) {
            let (step, rest) = left.split_at(step);
            left = rest;
            let mut values = Values::default();
            for (key, id, answer) in step {
                values.put(key.hash.as_slice()).put(key.body_hash.as_slice()).put(id.get());
                values.put(key.expires_at.ms()).put(answer.status).put(&*answer.body);
                values.put(answer.location.as_deref());
            }
            let sql = on.sql_rows(PUT, PUT_WIDTH, step.len());
            if values.ask(&sql)?.execute_unless_duplicate(tx.conn()).await?.is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The first of three transactions: takes the key for `id`.
pub(crate) async fn reserve(
    context: &StoreContext,
    key: Key,
    id: TaskId,
    now: Timestamp,
) -> Result<LookupResult> {
    let on = context.shard(key.shard(context.shards))?;
    let on = &on;
    on.transact("idempotency_reserve", move |tx| {
        Box::pin(async move {
            drop_expired(tx, on, key, now).await?;
            let mut values = Values::default();
            values.put(key.hash.as_slice()).put(key.body_hash.as_slice()).put(id.get());
            values.put(key.expires_at.ms()).put(None::<u16>).put(None::<&[u8]>).put(None::<&str>);
            let put = values.ask(&on.sql_rows(PUT, PUT_WIDTH, 1))?;
            if put.execute_unless_duplicate(tx.conn()).await?.is_some() {
                return Ok(LookupResult::New);
            }
            let locked = query(&on.sql(FIND_LOCKED)).bind(key.hash.to_vec());
            match locked.fetch_optional(tx.conn()).await? {
                Some(row) => Ok(IdempotencyRecord::read(&row)?.found(&key)),
                None => Err(Cause::Changed.because("an idempotency record came and went")),
            }
        })
    })
    .await
}

/// The last of three transactions: keeps the answer, or forgets the key when this answer is not kept. The
/// task is saved already, so a failure is only logged: a repeat will find the task by its id.
pub(crate) async fn finalise(
    context: &StoreContext,
    pending: &mut PendingAnswer,
    id: TaskId,
    submitted: &SubmitOutcome,
) {
    let done = match pending.render(submitted) {
        Ok(answer) => close(context, pending.key, id, answer).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        tracing::warn!(%error, task = %id, "the answer of a submit was not stored");
    }
}

async fn close(context: &StoreContext, key: Key, id: TaskId, answer: Option<StoredAnswer>) -> Result<()> {
    let on = context.shard(key.shard(context.shards))?;
    let (on, answer) = (&on, answer.as_ref());
    on.transact("idempotency_answer", move |tx| {
        Box::pin(async move {
            let statement = match answer {
                Some(answer) => query(&on.sql(ANSWER))
                    .bind(answer.status)
                    .bind(answer.body.to_vec())
                    .bind(answer.location.clone()),
                None => query(&on.sql(FORGET)),
            };
            // None: another repeat of the request was quicker.
            statement.bind(key.hash.to_vec()).bind(id.get()).execute(tx.conn()).await.map(|_| ())
        })
    })
    .await
}

/// Whether a hash comes a second time: it must wait for the answer of the first.
pub(crate) fn is_repeated_key(seen: &mut HashSet<Hash>, pending: Option<&PendingAnswer>) -> bool {
    pending.is_some_and(|pending| !seen.insert(pending.key.hash))
}

/// What is to be recorded in meta, for work that may be retried after a deadlock.
pub(crate) struct MetaRequest<T>(Option<(Key, Mutex<Option<Render<T>>>)>);

impl<T> MetaRequest<T> {
    pub(crate) fn new(idempotency: Option<IdempotencyRequest<T>>) -> Self {
        Self(idempotency.map(|request| {
            let (key, render) = Key::split(request);
            (key, Mutex::new(Some(render)))
        }))
    }

    /// The answer of an earlier call under the key.
    pub(crate) async fn find(
        &self,
        tx: &mut Tx<'_>,
        context: &StoreContext,
        now: Timestamp,
    ) -> Result<Option<IdempotencyResult<T>>> {
        let Some((key, _)) = &self.0 else { return Ok(None) };
        let sql = context.meta.sql(META_FIND);
        let row = query(&sql).bind(&key.hash[..]).bind(now.ms()).fetch_optional(tx.conn()).await?;
        let Some(row) = row else { return Ok(None) };
        if row.get::<&[u8]>(0)? != key.body_hash {
            return Ok(Some(IdempotencyResult::Mismatch));
        }
        Ok(Some(IdempotencyResult::Replayed(read_answer(&row, 1)?)))
    }

    /// Keeps the answer, if it is one that is kept.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the work came again after its answer was rendered: the rendering
    /// is given once.
    pub(crate) async fn put(&self, tx: &mut Tx<'_>, context: &StoreContext, value: &T) -> Result<()> {
        let Some((key, render)) = &self.0 else { return Ok(()) };
        let Some(render) = render.lock().take() else {
            return Err(Cause::Busy.because("the catalog was locked by others"));
        };
        let Some(answer) = render(value) else { return Ok(()) };
        query(&context.meta.sql(META_DROP)).bind(&key.hash[..]).execute(tx.conn()).await?;
        query(&context.meta.sql(META_PUT))
            .bind(&key.hash[..])
            .bind(&key.body_hash[..])
            .bind(i64::from(answer.status))
            .bind(&answer.body[..])
            .bind(answer.location)
            .bind(key.expires_at.ms())
            .execute(tx.conn())
            .await?;
        Ok(())
    }
}
