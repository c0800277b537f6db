//! Schedules: cursors, and steps of schedules (cron reference, section 11).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tsp_core::ids::IdMap;
use tsp_core::schedule::step::{ScheduleStep, StepFindings};
use tsp_core::task::Task;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::backend::columns::cursor_columns;
use tsp_store::backend::row::read_cursor;
use tsp_store::backend::row_count::exactly;
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{Cursor, Fire, FireResult, Owner};

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;
use crate::fetching::group_rows::GroupRows;
use crate::tasks::rows::insert_tasks;

pub(crate) const CURSOR_ALL: &str =
    concat!("-- cursor_all\nSELECT ", cursor_columns!(), " FROM cursor_{shard} ORDER BY config_id");

pub(crate) const CURSORS_OF: &str =
    concat!("-- cursors_of\nSELECT ", cursor_columns!(), " FROM cursor_{shard} WHERE config_id IN ({list})");

/// By the list, whatever the table's size, so that it locks these alone, and in the order of ids, so that no two wait
/// for each other.
pub(crate) const CURSOR_LOCK: &str = concat!(
    "-- cursor_lock\nSELECT ",
    cursor_columns!(),
    " FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS v
STRAIGHT_JOIN cursor_{shard} FORCE INDEX (PRIMARY) ON config_id = v.id FOR UPDATE"
);

/// The cursor of a schedule that no step was taken of.
pub(crate) const CURSOR_INSERT: &str = concat!(
    "-- cursor_insert\nINSERT INTO cursor_{shard} (",
    cursor_columns!(),
    ") VALUES (?, NULL, 1, 0, NULL, 0) ON DUPLICATE KEY UPDATE config_id = config_id"
);

/// One parameter and one text for any number of cursors, as [`crate::tasks::update::TASKS_UPDATE`].
pub(crate) const CURSOR_MOVE: &str = "-- cursor_move
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]', was BIGINT PATH '$[1]', next_fire_at BIGINT PATH '$[2]', version BIGINT PATH '$[3]',
    config_version BIGINT PATH '$[4]', waiting BIGINT PATH '$[5]', missed BIGINT PATH '$[6]'
)) AS v STRAIGHT_JOIN cursor_{shard} AS c FORCE INDEX (PRIMARY) ON c.config_id = v.id AND c.version = v.was
SET c.next_fire_at = v.next_fire_at, c.version = v.version, c.config_version = v.config_version,
    c.waiting = v.waiting, c.missed = v.missed";

/// Configs with a task of the schedule, or run by hand, that has not ended; `origin` 0 is
/// [`tsp_core::task::Origin::Submit`]. A cron config has no others, so the first row of each answers.
pub(crate) const OPEN_OCCURRENCE: &str = "-- occurrence_open
SELECT v.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS v
WHERE (SELECT 1 FROM task_{shard} FORCE INDEX (claim) WHERE config_id = v.id AND origin > 0 LIMIT 1) IS NOT NULL";

pub(crate) const OCCURRENCE_FIND: &str = "-- occurrence_find
SELECT o.config_id, o.execute_at
FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', slot BIGINT PATH '$[1]')) AS v
STRAIGHT_JOIN occurrence_{shard} AS o FORCE INDEX (PRIMARY)
    ON o.config_id = v.id AND o.execute_at = v.slot AND o.origin = 0";

const OCCURRENCE_INSERT: &str = "-- occurrence_insert
INSERT INTO occurrence_{shard} (config_id, execute_at, origin, task_id, late, made_at)
SELECT v.id, v.slot, 0, v.task, v.late, v.made_at FROM JSON_TABLE(?, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]', slot BIGINT PATH '$[1]', task BIGINT PATH '$[2]', late INT PATH '$[3]',
    made_at BIGINT PATH '$[4]'
)) AS v";

/// So many slots are looked for, or written, by one statement.
const SLOTS_MAX: usize = 1_000;

/// Those of configs that have a schedule, whether a step was taken of it or not.
pub(crate) async fn cursors(of: &GroupRows) -> Result<Vec<Cursor>> {
    let mut scheduled: Vec<ConfigId> = of
        .context
        .config_cache
        .all_configs()
        .into_iter()
        .filter(|config| config.spec.schedule.is_some() && of.schedules(config))
        .map(|config| config.id)
        .collect();
    if scheduled.is_empty() {
        return Ok(Vec::new());
    }
    scheduled.sort_unstable();
    let shard = &of.shard()?;
    let rows = shard
        .read("cursors", move |tx| {
            Box::pin(async move { query(&shard.sql(CURSOR_ALL)).fetch_all(tx.conn()).await })
        })
        .await?;
    let mut stored = rows.iter().map(read_cursor).collect::<Result<Vec<_>>>()?.into_iter().peekable();
    let mut cursors = Vec::with_capacity(scheduled.len());
    for config in scheduled {
        // Both are in the order of ids.
        while stored.next_if(|cursor| cursor.config < config).is_some() {}
        let cursor = stored.next_if(|cursor| cursor.config == config);
        cursors.push(cursor.unwrap_or_else(|| Cursor::new(config)));
    }
    Ok(cursors)
}

pub(crate) async fn cursors_of(of: &GroupRows, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
    let ids: Vec<i64> = configs.iter().map(|config| config.get()).collect();
    let (ids, shard) = (&ids, &of.shard()?);
    shard
        .read("cursors_of", move |tx| {
            Box::pin(async move {
                let mut cursors = Vec::with_capacity(ids.len());
                for chunk in ids.chunks(ROWS_MAX) {
                    let look = Values::of_ids(chunk.iter().copied()).ask(&shard.sql(CURSORS_OF))?;
                    for row in look.fetch_all(tx.conn()).await? {
                        cursors.push(read_cursor(&row)?);
                    }
                }
                Ok(cursors)
            })
        })
        .await
}

/// Steps of different schedules: all of them or none.
pub(crate) async fn fire(
    of: &GroupRows,
    owner: Owner,
    fires: &[Fire],
    now: Timestamp,
) -> Result<Vec<FireResult>> {
    let shard = &of.shard()?;
    shard
        .transact("fire", move |tx| {
            Box::pin(async move {
                if !owns(tx, of, owner).await? {
                    return Ok(vec![FireResult::Deposed; fires.len()]);
                }
                fire_on(tx, of, shard, fires, now).await
            })
        })
        .await
}

async fn fire_on(
    tx: &mut Tx<'_>,
    of: &GroupRows,
    on: &ShardDb,
    fires: &[Fire],
    now: Timestamp,
) -> Result<Vec<FireResult>> {
    let mut fitting = Vec::with_capacity(fires.len());
    for fire in fires {
        // Of one whose schedule is here.
        let config = tx.config(&of.context.config_cache, fire.config).filter(|config| of.schedules(config));
        if fire.fits_config(config.as_deref()) {
            fitting.push(fire.config);
        }
    }
    let mut cursors = lock_cursors(tx, on, fitting).await?;
    let asked: Vec<(&Fire, Cursor)> = fires
        .iter()
        .filter_map(|fire| Some((fire, cursors.remove(&fire.config)?)))
        .filter(|(fire, cursor)| fire.fits_cursor(cursor))
        .collect();
    let mut found = find(tx, on, &asked).await?;
    let mut steps = BTreeMap::new();
    for (fire, cursor) in asked {
        let found = found.remove(&fire.config).unwrap_or_default();
        steps.insert(fire.config, fire.step(cursor, found));
    }
    save(tx, on, &steps, now).await?;
    Ok(fires.iter().map(|fire| steps.remove(&fire.config).map_or(FireResult::Stale, Into::into)).collect())
}

/// The cursors of these schedules, made if there are none yet: saving a config does not wait for its shard. Steps
/// of one schedule wait for each other here.
async fn lock_cursors(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    mut configs: Vec<ConfigId>,
) -> Result<IdMap<ConfigId, Cursor>> {
    configs.sort_unstable();
    let ids = listed(configs.iter().map(|config| config.get()));
    let mut cursors = IdMap::default();
    for making in [true, false] {
        for row in ask(tx, on, CURSOR_LOCK, &ids).await? {
            let cursor = read_cursor(&row)?;
            cursors.insert(cursor.config, cursor);
        }
        let missing: Vec<_> = configs.iter().filter(|config| !cursors.contains_key(config)).collect();
        if missing.is_empty() || !making {
            break;
        }
        for config in missing {
            query(&on.sql(CURSOR_INSERT)).bind(config.get()).execute(tx.conn()).await?;
        }
    }
    Ok(cursors)
}

/// What the steps want to know. Nobody else makes occurrences of a schedule while this transaction has its cursor.
async fn find(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    asked: &[(&Fire, Cursor)],
) -> Result<IdMap<ConfigId, StepFindings>> {
    let (mut open, mut slots) = (Vec::new(), Vec::new());
    for (fire, cursor) in asked {
        let wanted = fire.wanted(cursor);
        open.extend(wanted.open.then_some(fire.config.get()));
        slots.extend(wanted.slots.into_iter().map(|at| json!([fire.config.get(), at.ms()])));
    }
    let mut found: IdMap<ConfigId, StepFindings> = IdMap::default();
    for row in ask(tx, on, OPEN_OCCURRENCE, &listed(open)).await? {
        found.entry(ConfigId::new(row.get(0)?)).or_default().open = true;
    }
    for chunk in slots.chunks(SLOTS_MAX) {
        for row in ask(tx, on, OCCURRENCE_FIND, chunk).await? {
            let handled = &mut found.entry(ConfigId::new(row.get(0)?)).or_default().handled;
            handled.insert(Timestamp::from_ms(row.get(1)?));
        }
    }
    Ok(found)
}

/// The occurrences with their tasks, and the cursors as they become.
async fn save(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    steps: &BTreeMap<ConfigId, ScheduleStep>,
    now: Timestamp,
) -> Result<()> {
    let (mut occurrences, mut cursors) = (Vec::new(), Vec::with_capacity(steps.len()));
    for ScheduleStep { cursor, occurrences: made } in steps.values() {
        let config = cursor.config.get();
        occurrences.extend(made.iter().map(|new| {
            let task = new.task.as_ref().map(|task| task.id.get());
            json!([config, new.execute_at.ms(), task, u8::from(new.late), now.ms()])
        }));
        cursors.push(json!([
            config,
            cursor.version - 1,
            cursor.next_fire_at.map(Timestamp::ms),
            cursor.version,
            cursor.config_version,
            cursor.waiting.map(Timestamp::ms),
            cursor.missed,
        ]));
    }
    for chunk in occurrences.chunks(SLOTS_MAX) {
        write(tx, on, OCCURRENCE_INSERT, chunk).await?;
    }
    let tasks: Vec<&Task> = steps.values().flat_map(ScheduleStep::tasks).collect();
    let inserted = insert_tasks(tx, on, &tasks).await?;
    if let Some((task, _)) = tasks.iter().zip(inserted).find(|(_, inserted)| !inserted) {
        return Err(StoreError::Internal(format!("the id of task {} is taken", task.id)));
    }
    write(tx, on, CURSOR_MOVE, &cursors).await
}

/// The rows that are found for a list; none for an empty one.
async fn ask(tx: &mut Tx<'_>, on: &ShardDb, template: &'static str, list: &[Value]) -> Result<Vec<Row>> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    query(&on.sql(template)).bind(text(list)?).fetch_all(tx.conn()).await
}

/// Writes each row of a list.
async fn write(tx: &mut Tx<'_>, on: &ShardDb, template: &'static str, list: &[Value]) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let sql = on.sql(template);
    let written = query(&sql).bind(text(list)?).execute(tx.conn()).await?;
    exactly(list.len(), written, sql.name())
}

fn listed(ids: impl IntoIterator<Item = i64>) -> Vec<Value> {
    ids.into_iter().map(Value::from).collect()
}

fn text(list: &[Value]) -> Result<String> {
    serde_json::to_string(list).map_err(|error| StoreError::Internal(error.to_string()))
}
