//! The config cache of this process follows the change log: its own changes at once, others by polling, and at
//! the call of those who find nothing under a name: once for all who wait, and not often.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tsp_core::config::TaskConfig;
use tsp_core::{AppId, ConfigId, Name};
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::backend::columns::{app_columns, config_columns};
use tsp_store::backend::row::{read_app, read_config};
use tsp_store::catalog::App;
use tsp_store::error::Result;

use crate::connection::bind::Values;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

/// Changes that are read at once: the largest list.
const CHANGES_AT_ONCE: i64 = 500;

/// Looks of a process begin at least so far apart, so that a stream of unknown names costs next to nothing.
const PAUSE: Duration = Duration::from_millis(50);

macro_rules! select_apps {
    () => {
        concat!("SELECT ", app_columns!(), " FROM app")
    };
}

macro_rules! select_configs {
    () => {
        concat!("SELECT ", config_columns!(), " FROM config c JOIN app a ON a.id = c.app_id")
    };
}

const CHANGES: &str = "-- change_list
SELECT seq, kind, subject_id FROM change_log WHERE seq > ? ORDER BY seq LIMIT ?";
const SEQ: &str = "-- change_seq\nSELECT value FROM counter WHERE name = 'change'";
const APPS: &str = concat!("-- app_all\n", select_apps!());
const APPS_OF: &str = concat!("-- app_some\n", select_apps!(), " WHERE id IN ({list})");
const CONFIGS: &str = concat!("-- config_all\n", select_configs!());
const CONFIGS_OF: &str = concat!("-- config_some\n", select_configs!(), " WHERE c.id IN ({list})");
const CONFIG_NAMED: &str =
    concat!("-- config_find\n", select_configs!(), " WHERE c.app_id = ? AND c.name = ?");
const APP_NAMED: &str = concat!("-- app_find\n", select_apps!(), " WHERE name = ?");

/// The edit, and its number.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) seq: i64,
    pub(crate) config_cache: CacheEdit,
}

/// Reads all apps and configs into the config cache, as of one moment.
pub(crate) async fn load(context: &StoreContext) -> Result<()> {
    let (seq, apps, configs) = context
        .meta
        .snapshot("load", |tx| {
            Box::pin(async move {
                let seq: i64 = query(&context.meta.sql(SEQ)).fetch_one(tx.conn()).await?.get(0)?;
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
pub(crate) async fn apply(context: &StoreContext, edit: Edit) {
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
    edit.config_cache.apply(&context.config_cache, edit.seq);
    if next {
        context.config_cache.reach(edit.seq);
        *followed = edit.seq;
    }
}

/// Reads changes once; the number of the last one that the config cache has.
pub(crate) async fn follow(context: &StoreContext) -> Result<i64> {
    // Under the lock, so that no older map comes after a newer one.
    let mut followed = context.followed.lock().await;
    if context.take_moved() {
        context.reload_shards().await?;
    }
    catch_up(context, &mut followed).await?;
    Ok(*followed)
}

/// The refreshes of a process; held by whoever reads.
#[derive(Debug, Default)]
pub(crate) struct SharedRefresh(Mutex<Option<RefreshRound>>);

#[derive(Debug)]
struct RefreshRound {
    began: Instant,
    /// `None`: it was interrupted.
    answer: Option<Result<()>>,
}

/// Returns after a refresh that began after the call.
pub(crate) async fn refresh(context: &StoreContext, shared_refresh: &SharedRefresh) -> Result<()> {
    let called = Instant::now();
    let mut last = shared_refresh.0.lock().await;
    if let Some(RefreshRound { began, answer }) = &*last {
        if *began >= called
            && let Some(answer) = answer
        {
            return answer.clone();
        }
        sleep_until(*began + PAUSE).await;
    }
    let look = last.insert(RefreshRound { began: Instant::now(), answer: None });
    let answer = follow(context).await.map(|_| ());
    look.answer = Some(answer.clone());
    answer
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
            edit.apply(&context.config_cache, change.seq);
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
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for ids in ids.chunks(ROWS_MAX) {
        let some = Values::of_ids(ids.iter().copied()).ask(&context.meta.sql(template))?;
        rows.extend(some.fetch_all(tx.conn()).await?);
    }
    Ok(rows)
}

/// The app as it is in this transaction.
pub(crate) async fn app(tx: &mut Tx<'_>, context: &StoreContext, id: AppId) -> Result<Option<Arc<App>>> {
    let rows = some(tx, context, APPS_OF, &[id.get()]).await?;
    rows.first().map(|row| read_app(row).map(Arc::new)).transpose()
}

pub(crate) async fn app_named(tx: &mut Tx<'_>, context: &StoreContext, name: &Name) -> Result<Option<App>> {
    let row = query(&context.meta.sql(APP_NAMED)).bind(name.as_str()).fetch_optional(tx.conn()).await?;
    row.as_ref().map(read_app).transpose()
}

/// The config as it is in this transaction.
pub(crate) async fn config(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    id: ConfigId,
) -> Result<Option<TaskConfig>> {
    let rows = some(tx, context, CONFIGS_OF, &[id.get()]).await?;
    rows.first().map(|row| read_config(row, &context.sealer)).transpose()
}

pub(crate) async fn config_named(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    app: AppId,
    name: &Name,
) -> Result<Option<TaskConfig>> {
    let named = query(&context.meta.sql(CONFIG_NAMED)).bind(app.get()).bind(name.as_str());
    let row = named.fetch_optional(tx.conn()).await?;
    row.map(|row| read_config(&row, &context.sealer)).transpose()
}

fn read_change(row: &Row) -> Result<Change> {
    let seq: i64 = row.get(0)?;
    let kind = match row.get::<&str>(1)? {
        "app" => Kind::App,
        "config" => Kind::Config,
        "shard" => Kind::Shard,
        _ => Kind::Later,
    };
    Ok(Change { seq, kind, subject: row.get(2)? })
}
