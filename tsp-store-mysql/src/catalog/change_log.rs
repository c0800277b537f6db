//! Changes of the catalog: one after another, numbered, logged, and put into the config cache after the commit.

use futures::future::BoxFuture;
use tsp_core::Timestamp;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::catalog::CHANGES_KEPT;
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::catalog::follow::{self, Edit};
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

/// Locks the row that makes changes come one after another.
pub(crate) const LOCK: &str = "-- change_lock\nSELECT value FROM counter WHERE name = 'change' FOR UPDATE";
const NEXT: &str = "-- change_next\nUPDATE counter SET value = value + 1 WHERE name = 'change'";

const INSERT: &str = "-- change_insert
INSERT INTO change_log (seq, kind, subject_id, version, at, actor, action, before_doc, after_doc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

const OLD: &str = "-- change_old
SELECT seq FROM change_log WHERE kind = ? AND subject_id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?";
const DROP: &str = "-- change_drop\nDELETE FROM change_log WHERE kind = ? AND subject_id = ? AND seq <= ?";

/// Runs `work` alone among all changes of the catalog, whichever process makes them, and puts its edit into
/// the config cache before it answers.
pub(crate) async fn change<'e, T: Send>(
    context: &StoreContext,
    name: &'static str,
    work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<(T, Option<Edit>)>> + Send,
) -> Result<T> {
    let (value, edit) = context.meta.transact_locked(name, &context.meta.sql(LOCK), work).await?;
    if let Some(edit) = edit {
        follow::apply(context, edit).await;
    }
    Ok(value)
}

/// An entry of the change log.
pub(crate) struct ChangeEntry<'a> {
    /// `app` or `config`.
    pub(crate) kind: &'static str,
    pub(crate) subject: i64,
    pub(crate) version: i64,
    pub(crate) action: &'static str,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) by: &'a Actor,
    pub(crate) now: Timestamp,
}

/// Writes the entry under the next number. Each drops what it pushes out, so that nobody has to look for it.
pub(crate) async fn record(tx: &mut Tx<'_>, context: &StoreContext, entry: ChangeEntry<'_>) -> Result<i64> {
    let meta = &context.meta;
    exactly_one(query(&meta.sql(NEXT)).execute(tx.conn()).await?, "change_next")?;
    let seq: i64 = query(&meta.sql(LOCK)).fetch_one(tx.conn()).await?.get(0)?;
    let changed = query(&meta.sql(INSERT))
        .bind(seq)
        .bind(entry.kind)
        .bind(entry.subject)
        .bind(entry.version)
        .bind(entry.now.ms())
        .bind(&entry.by.0)
        .bind(entry.action)
        .bind(entry.before)
        .bind(entry.after)
        .execute(tx.conn())
        .await?;
    exactly_one(changed, "change_insert")?;
    let old = query(&meta.sql(OLD)).bind(entry.kind).bind(entry.subject).bind(CHANGES_KEPT);
    if let Some(row) = old.fetch_optional(tx.conn()).await? {
        let last: i64 = row.get(0)?;
        query(&meta.sql(DROP)).bind(entry.kind).bind(entry.subject).bind(last).execute(tx.conn()).await?;
    }
    Ok(seq)
}
