//! Configs, and the cursor that a schedule needs in its shard.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tsp_core::config::save::{self, ConfigWrite, CursorChange, SaveDecision};
use tsp_core::config::{ConfigSpec, TaskConfig};
use tsp_core::task_key::config_shard;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::catalog::{ConfigSaved, DeleteResult, ExpectedVersion, Hold, SaveConfig};
use tsp_store::documents::{Secrets, config_to_json};
use tsp_store::error::{Result, StoreError};
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::catalog::change_log::{ChangeEntry, record};
use crate::catalog::follow::{Edit, app, config, config_named};
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::StoreContext;
use crate::fetching::fire::CURSOR_INSERT;

/// How long the answer to a saved config waits for its cursor. The step that fires makes a missing one.
const CURSOR_PATIENCE: Duration = Duration::from_secs(1);

const INSERT: &str = "-- config_insert
INSERT INTO config (app_id, name, version, document, created_at, updated_at) VALUES (?, ?, 1, ?, ?, ?)";

const UPDATE: &str = "-- config_update
UPDATE config SET version = ?, document = ?, paused_by = ?, paused_at = ?, paused_note = ?, updated_at = ?
WHERE id = ? AND version = ?";

const DELETE: &str = "-- config_delete\nDELETE FROM config WHERE id = ?";

const CURSOR_DELETE: &str = "-- cursor_delete\nDELETE FROM cursor_{shard} WHERE config_id = ?";

/// Who changes something, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authorship<'a> {
    pub(crate) by: &'a Actor,
    pub(crate) now: Timestamp,
}

/// `open`: the open tasks of a config, if they were counted. `Err`: count those of this config, and ask again.
pub(crate) async fn save_config(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    save: &SaveConfig,
    open: Option<(ConfigId, usize)>,
    authorship: Authorship<'_>,
) -> Result<Result<(ConfigSaved, Option<Edit>), ConfigId>> {
    let SaveConfig { app: app_id, spec, expected } = save;
    let Some(app) = app(tx, context, *app_id).await? else { return Ok(Ok((ConfigSaved::NotFound, None))) };
    let before = config_named(tx, context, app.id, &spec.name).await?.map(Arc::new);
    let of_it = |(counted, open)| before.as_ref().filter(|before| before.id == counted).map(|_| open);
    let open = open.and_then(of_it);
    match save::save((app.id, &app.name), before.as_ref(), spec, *expected, open, authorship.now) {
        SaveDecision::Write(change) => write(tx, context, *change, authorship).await.map(Ok),
        SaveDecision::Refused(refusal) => Ok(Ok((refusal.into(), None))),
        SaveDecision::CountOpen(config) => Ok(Err(config)),
    }
}

pub(crate) async fn hold_config(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    id: ConfigId,
    hold: &Hold,
    authorship: Authorship<'_>,
) -> Result<(ConfigSaved, Option<Edit>)> {
    let Some(before) = config(tx, context, id).await? else { return Ok((ConfigSaved::NotFound, None)) };
    let change = save::hold(Arc::new(before), hold.clone(), &authorship.by.0, authorship.now);
    write(tx, context, change, authorship).await
}

/// `open`: the open tasks as they were counted just before.
pub(crate) async fn delete_config(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    id: ConfigId,
    expected: ExpectedVersion,
    open: usize,
    authorship: Authorship<'_>,
) -> Result<(DeleteResult, Option<Edit>)> {
    let Some(before) = config(tx, context, id).await? else { return Ok((DeleteResult::NotFound, None)) };
    if let Err(refusal) = save::delete(&before, expected, open) {
        return Ok((refusal.into(), None));
    }
    exactly_one(query(&context.meta.sql(DELETE)).bind(id.get()).execute(tx.conn()).await?, "config_delete")?;
    let seq = write_down(tx, context, "config.delete", "", Some(&before), None, authorship).await?;
    Ok((DeleteResult::Deleted, Some(Edit { seq, config_cache: CacheEdit::RemoveConfig(id) })))
}

/// Carries a change out, but for the cursor of its schedule, which is in another database: see [`settle_cursor`].
async fn write(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    change: ConfigWrite,
    authorship: Authorship<'_>,
) -> Result<(ConfigSaved, Option<Edit>)> {
    let ConfigWrite { before, mut after, action, detail, .. } = change;
    match &before {
        None => after.id = insert(tx, context, &after).await?,
        Some(before) => update(tx, context, &after, before.version).await?,
    }
    let seq = write_down(tx, context, action, &detail, before.as_deref(), Some(&after), authorship).await?;
    let after = Arc::new(after);
    let edit = Edit { seq, config_cache: CacheEdit::PutConfig(after.clone()) };
    let saved = if before.is_none() { ConfigSaved::Created(after) } else { ConfigSaved::Updated(after) };
    Ok((saved, Some(edit)))
}

async fn insert(tx: &mut Tx<'_>, context: &StoreContext, config: &TaskConfig) -> Result<ConfigId> {
    let id = query(&context.meta.sql(INSERT))
        .bind(config.app_id.get())
        .bind(config.spec.name.as_str())
        .bind(sealed(context, &config.spec)?)
        .bind(config.created_at.ms())
        .bind(config.updated_at.ms())
        .insert(tx.conn())
        .await?;
    Ok(ConfigId::new(id))
}

async fn update(tx: &mut Tx<'_>, context: &StoreContext, after: &TaskConfig, version: i64) -> Result<()> {
    let paused = after.paused.as_ref();
    let changed = query(&context.meta.sql(UPDATE))
        .bind(after.version)
        .bind(sealed(context, &after.spec)?)
        .bind(paused.map(|paused| &paused.by))
        .bind(paused.map(|paused| paused.at.ms()))
        .bind(paused.and_then(|paused| paused.note.as_ref()))
        .bind(after.updated_at.ms())
        .bind(after.id.get())
        .bind(version)
        .execute(tx.conn())
        .await?;
    exactly_one(changed, "config_update")
}

/// What a save or a delete makes of the cursor, after its commit.
pub(crate) async fn initialise_cursor(context: &StoreContext, id: ConfigId, change: CursorChange) {
    match change {
        CursorChange::Make => cursor_statement(context, id, CURSOR_INSERT).await,
        CursorChange::Drop => cursor_statement(context, id, CURSOR_DELETE).await,
        CursorChange::Unchanged => {}
    }
}

/// The config is committed, whatever becomes of this.
async fn cursor_statement(context: &StoreContext, id: ConfigId, template: &'static str) {
    let done = timeout(CURSOR_PATIENCE, async {
        let shard = context.shard(config_shard(id, context.shards))?;
        let sql = &shard.sql(template);
        let work = shard.read("settle_cursor", |tx| {
            Box::pin(async move { query(sql).bind(id.get()).execute(tx.conn()).await })
        });
        work.await.map(|_| ())
    });
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(config = id.get(), %error, "a cursor was not initialised"),
        Err(_) => {
            tracing::warn!(config = id.get(), "a cursor was not initialised: its shard does not answer");
        }
    }
}

/// The entry in the change log (whose number is the config_seq), and the audit entry.
async fn write_down(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    action: &'static str,
    detail: &str,
    before: Option<&TaskConfig>,
    after: Option<&TaskConfig>,
    authorship: Authorship<'_>,
) -> Result<i64> {
    let Some(config) = after.or(before) else {
        return Err(StoreError::Internal("a change without a config".to_owned()));
    };
    let document =
        |config: &TaskConfig| config_to_json(&config.spec, Secrets::Hide).map_err(StoreError::Internal);
    let entry = ChangeEntry {
        kind: "config",
        subject: config.id.get(),
        version: config.version,
        action,
        before: before.map(document).transpose()?,
        after: after.map(document).transpose()?,
        by: authorship.by,
        now: authorship.now,
    };
    let seq = record(tx, context, entry).await?;
    log(tx, &context.meta, authorship.by, action, &config.subject(), detail, authorship.now).await?;
    Ok(seq)
}

fn sealed(context: &StoreContext, spec: &ConfigSpec) -> Result<String> {
    config_to_json(spec, Secrets::Seal(&context.sealer)).map_err(StoreError::Internal)
}
