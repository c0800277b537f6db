//! Answers of submits kept under an `Idempotency-Key` (DESIGN.md section 6).
//!
//! The record is in the shard that its hash picks. On one data source with the task, both are of one
//! transaction. Else the record comes first, with the id that the task will have; then the task; then the
//! answer. Whoever finds a record without an answer makes the task with that same id, so however often this
//! is interrupted and begun again, there is one task.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use tsp_core::{ShardId, TaskId, Timestamp};
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, Render, StoredAnswer};
use tsp_store::tasks::Submitted;

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

/// An idempotency key, and the body it came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) hash: Hash,
    body_hash: Hash,
    expires_at: Timestamp,
}

impl Key {
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
    render: Option<Render<Submitted>>,
    rendered: Option<(Submitted, Option<StoredAnswer>)>,
}

impl PendingAnswer {
    pub(crate) fn new(idempotency: IdempotencyRequest<Submitted>) -> Self {
        let IdempotencyRequest { hash, body_hash, expires_at, render } = idempotency;
        Self { key: Key { hash, body_hash, expires_at }, render: Some(render), rendered: None }
    }

    fn render(&mut self, submitted: &Submitted) -> Result<Option<StoredAnswer>> {
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
    Stored(IdempotencyResult<Submitted>),
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
        let status: Option<i64> = row.get(4)?;
        let answer = match status {
            Some(status) => Some(StoredAnswer {
                status: u16::try_from(status)
                    .map_err(|_| StoreError::Internal(format!("{status} is no status of an answer")))?,
                body: Bytes::from(row.get::<Vec<u8>>(5)?),
                location: row.get(6)?,
            }),
            None => None,
        };
        Ok(Self {
            hash: hash(row.get(0)?)?,
            body_hash: hash(row.get(1)?)?,
            task: TaskId::new(row.get(2)?),
            expires_at: Timestamp::from_ms(row.get(3)?),
            answer,
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
    done: Vec<(&mut PendingAnswer, TaskId, Submitted)>,
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
    submitted: &Submitted,
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
