//! The config cache of this process follows the change log: its own changes at once, others by polling.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use tsp_core::config::{Paused, TaskConfig};
use tsp_core::{AppId, ConfigId, Name, Timestamp};

use crate::catalog::App;
use crate::documents::{Sealer, config_from_json};
use crate::error::{Result, StoreError};

use super::context::StoreContext;
use super::session::query;
use super::statement_templates::{ROWS_MAX, padded_to_class};
use super::tx::Tx;

/// Changes that are read at once: the largest list.
const CHANGES_AT_ONCE: i64 = 500;

macro_rules! app_columns {
    () => {
        "SELECT id, name, description, owner, created_at, updated_at FROM app"
    };
}

macro_rules! config_columns {
    () => {
        "SELECT c.id, c.app_id, a.name, c.version, c.document, c.paused_by, c.paused_at, c.paused_note, \
         c.created_at, c.updated_at FROM config c JOIN app a ON a.id = c.app_id"
    };
}

const CHANGES: &str = "-- change_list
SELECT seq, kind, subject_id FROM change_log WHERE seq > ? ORDER BY seq LIMIT ?";
const SEQ: &str = "-- change_seq\nSELECT value FROM counter WHERE name = 'change'";
const APPS: &str = concat!("-- app_all\n", app_columns!());
const APPS_OF: &str = concat!("-- app_some\n", app_columns!(), " WHERE id IN ({list})");
const CONFIGS: &str = concat!("-- config_all\n", config_columns!());
const CONFIGS_OF: &str = concat!("-- config_some\n", config_columns!(), " WHERE c.id IN ({list})");
const CONFIG_NAMED: &str =
    concat!("-- config_find\n", config_columns!(), " WHERE c.app_id = ? AND c.name = ?");
const APP_NAMED: &str = concat!("-- app_find\n", app_columns!(), " WHERE name = ?");

/// A change of the config cache that waits for the commit.
#[derive(Debug)]
pub(super) enum CacheEdit {
    PutApp(Arc<App>),
    RemoveApp(AppId),
    PutConfig(Arc<TaskConfig>),
    RemoveConfig(ConfigId),
}

/// The edit, and its number.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) seq: i64,
    pub(super) config_cache: CacheEdit,
}

/// Reads all apps and configs into the config cache, as of one moment.
pub(super) async fn load(context: &StoreContext) -> Result<()> {
    let (seq, apps, configs) = context
        .meta
        .snapshot("load", |tx| {
            Box::pin(async move {
                let seq: i64 = query(&context.meta.sql(SEQ)).fetch_one(tx.conn()).await?.try_get(0)?;
                let apps = query(&context.meta.sql(APPS)).fetch_all(tx.conn()).await?;
                let configs = query(&context.meta.sql(CONFIGS)).fetch_all(tx.conn()).await?;
                Ok((seq, apps, configs))
            })
        })
        .await?;
    let mut followed = context.followed.lock().await;
    // Not older than the number that this process will say it has reached.
    context.reload_shards().await?;
    for row in &apps {
        context.config_cache.put_app(Arc::new(read_app(row)?));
    }
    for row in &configs {
        context.config_cache.put_config(Arc::new(read_config(row, &context.sealer)?), seq);
    }
    context.config_cache.reach(seq);
    *followed = seq;
    Ok(())
}

/// Puts a change of this process into the config cache, in its turn.
pub(super) async fn apply(context: &StoreContext, edit: Edit) {
    let mut followed = context.followed.lock().await;
    // What the log gave before was read after this commit: it is not older.
    if edit.seq <= *followed {
        return;
    }
    if edit.seq > *followed + 1
        && let Err(error) = catch_up(context, &mut followed).await
    {
        tracing::warn!(%error, "changes of others wait for the next read of the log");
    }
    let next = edit.seq == *followed + 1;
    if edit.seq <= *followed {
        return;
    }
    put(context, edit.config_cache, edit.seq, next);
    if next {
        *followed = edit.seq;
    }
}

/// Reads changes once; the number of the last one that the config cache has.
pub(super) async fn follow(context: &StoreContext) -> Result<i64> {
    // Under the lock, so that no older map comes after a newer one.
    let mut followed = context.followed.lock().await;
    if context.take_moved() {
        context.reload_shards().await?;
    }
    catch_up(context, &mut followed).await?;
    Ok(*followed)
}

async fn catch_up(context: &StoreContext, followed: &mut i64) -> Result<()> {
    loop {
        let since = *followed;
        let (changes, apps, configs) =
            context.meta.read("follow", |tx| Box::pin(read_changes(tx, context, since))).await?;
        let Some(last) = changes.last().map(|change| change.seq) else { return Ok(()) };
        if changes.iter().any(|change| change.kind == Kind::Shard) {
            context.reload_shards().await?;
        }
        for (change, is_last) in latest(&changes) {
            if !is_last {
                continue;
            }
            let id = change.subject;
            let edit = match (&change.kind, apps.get(&id), configs.get(&id)) {
                (Kind::App, Some(app), _) => CacheEdit::PutApp(app.clone()),
                (Kind::App, None, _) => CacheEdit::RemoveApp(AppId::new(id)),
                (Kind::Config, _, Some(config)) => CacheEdit::PutConfig(config.clone()),
                (Kind::Config, _, None) => CacheEdit::RemoveConfig(ConfigId::new(id)),
                (Kind::Shard | Kind::Later, ..) => continue,
            };
            put(context, edit, change.seq, false);
        }
        context.config_cache.reach(last);
        *followed = last;
        if i64::try_from(changes.len()).is_ok_and(|count| count < CHANGES_AT_ONCE) {
            return Ok(());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    App,
    Config,
    /// The shard map; the subject is a shard.
    Shard,
    /// Of a later release, which this one runs beside and has no use for.
    Later,
}

struct Change {
    seq: i64,
    kind: Kind,
    subject: i64,
}

/// Each change in order, and whether it is its subject's last.
fn latest(changes: &[Change]) -> impl Iterator<Item = (&Change, bool)> {
    let last: BTreeMap<(Kind, i64), i64> =
        changes.iter().map(|change| ((change.kind, change.subject), change.seq)).collect();
    changes.iter().map(move |change| (change, last[&(change.kind, change.subject)] == change.seq))
}

type ChangePage = (Vec<Change>, HashMap<i64, Arc<App>>, HashMap<i64, Arc<TaskConfig>>);

/// Changes after `since`, and what their subjects are now.
async fn read_changes(tx: &mut Tx<'_>, context: &StoreContext, since: i64) -> Result<ChangePage> {
    let rows =
        query(&context.meta.sql(CHANGES)).bind(since).bind(CHANGES_AT_ONCE).fetch_all(tx.conn()).await?;
    let changes: Vec<Change> = rows.iter().map(read_change).collect::<Result<_>>()?;
    let of = |kind: Kind| -> Vec<i64> {
        latest(&changes)
            .filter(|(change, last)| *last && change.kind == kind)
            .map(|(c, _)| c.subject)
            .collect()
    };
    let mut apps = HashMap::new();
    for row in some(tx, context, APPS_OF, &of(Kind::App)).await? {
        let app = read_app(&row)?;
        apps.insert(app.id.get(), Arc::new(app));
    }
    let mut configs = HashMap::new();
    for row in some(tx, context, CONFIGS_OF, &of(Kind::Config)).await? {
        let config = read_config(&row, &context.sealer)?;
        configs.insert(config.id.get(), Arc::new(config));
    }
    Ok((changes, apps, configs))
}

async fn some(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    template: &'static str,
    ids: &[i64],
) -> Result<Vec<MySqlRow>> {
    let mut rows = Vec::new();
    for ids in ids.chunks(ROWS_MAX) {
        let (n, ids) = padded_to_class(ids);
        let mut statement = query(&context.meta.sql_list(template, n));
        for id in ids {
            statement = statement.bind(id);
        }
        rows.extend(statement.fetch_all(tx.conn()).await?);
    }
    Ok(rows)
}

fn put(context: &StoreContext, edit: CacheEdit, seq: i64, reached: bool) {
    let config_cache = &context.config_cache;
    match edit {
        CacheEdit::PutApp(app) => config_cache.put_app(app),
        CacheEdit::RemoveApp(id) => config_cache.remove_app(id),
        CacheEdit::PutConfig(config) => config_cache.put_config(config, seq),
        CacheEdit::RemoveConfig(id) => config_cache.remove_config(id, seq),
    }
    if reached {
        config_cache.reach(seq);
    }
}

/// The app as it is in this transaction.
pub(super) async fn app(tx: &mut Tx<'_>, context: &StoreContext, id: AppId) -> Result<Option<Arc<App>>> {
    let rows = some(tx, context, APPS_OF, &[id.get()]).await?;
    rows.first().map(|row| read_app(row).map(Arc::new)).transpose()
}

pub(super) async fn app_named(tx: &mut Tx<'_>, context: &StoreContext, name: &Name) -> Result<Option<App>> {
    let row = query(&context.meta.sql(APP_NAMED)).bind(name.as_str()).fetch_optional(tx.conn()).await?;
    row.as_ref().map(read_app).transpose()
}

/// The config as it is in this transaction.
pub(super) async fn config(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    id: ConfigId,
) -> Result<Option<TaskConfig>> {
    let rows = some(tx, context, CONFIGS_OF, &[id.get()]).await?;
    rows.first().map(|row| read_config(row, &context.sealer)).transpose()
}

pub(super) async fn config_named(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    app: AppId,
    name: &Name,
) -> Result<Option<TaskConfig>> {
    let named = query(&context.meta.sql(CONFIG_NAMED)).bind(app.get()).bind(name.as_str());
    let row = named.fetch_optional(tx.conn()).await?;
    row.map(|row| read_config(&row, &context.sealer)).transpose()
}

fn read_change(row: &MySqlRow) -> Result<Change> {
    let seq: i64 = row.try_get(0)?;
    let kind = match row.try_get::<&str, _>(1)? {
        "app" => Kind::App,
        "config" => Kind::Config,
        "shard" => Kind::Shard,
        _ => Kind::Later,
    };
    Ok(Change { seq, kind, subject: row.try_get(2)? })
}

fn read_app(row: &MySqlRow) -> Result<App> {
    let id: i64 = row.try_get(0)?;
    Ok(App {
        id: AppId::new(id),
        name: read_name(row.try_get(1)?, "app", id)?,
        description: row.try_get(2)?,
        owner: row.try_get(3)?,
        created_at: Timestamp::from_ms(row.try_get(4)?),
        updated_at: Timestamp::from_ms(row.try_get(5)?),
    })
}

fn read_config(row: &MySqlRow, sealer: &Sealer) -> Result<TaskConfig> {
    let id: i64 = row.try_get(0)?;
    let corrupt = |column, why| StoreError::Corrupt { table: "config", column, id, why };
    let paused = match (row.try_get::<Option<String>, _>(5)?, row.try_get::<Option<i64>, _>(6)?) {
        (Some(by), Some(at)) => Some(Paused { by, at: Timestamp::from_ms(at), note: row.try_get(7)? }),
        _ => None,
    };
    Ok(TaskConfig {
        id: ConfigId::new(id),
        app_id: AppId::new(row.try_get(1)?),
        app: read_name(row.try_get(2)?, "app", id)?,
        spec: config_from_json(row.try_get(4)?, sealer).map_err(|why| corrupt("document", why))?,
        paused,
        version: row.try_get(3)?,
        created_at: Timestamp::from_ms(row.try_get(8)?),
        updated_at: Timestamp::from_ms(row.try_get(9)?),
    })
}

fn read_name(text: &str, table: &'static str, id: i64) -> Result<Name> {
    Name::new(text).map_err(|why| StoreError::Corrupt { table, column: "name", id, why: why.to_string() })
}
