//! Small answers: all candidates from the indexes, if they are few.

use rusqlite::params;
use tsp_core::TaskId;
use tsp_core::task::Status;
use tsp_store::backend::row_count::sql_limit;
use tsp_store::backend::search::Table;
use tsp_store::error::Result;
use tsp_store::search::Order;

use crate::connection::row::Row;
use crate::connection::statements::statements;
use crate::search::page::Search;

/// More candidates than this are not gathered. Few in tests, so that they go the other roads too.
const GATHER_MAX: usize = if cfg!(test) { 30 } else { 4_000 };
/// Each config costs a seek in each index, so a scope of more is not gathered.
const CONFIGS_MAX: usize = 256;

const BY_PARENT: [(Table, &str); 2] =
    [(Table::Open, SEARCH_PARENT_OPEN), (Table::Ended, SEARCH_PARENT_ENDED)];

const BY_KEY: [(Table, &str); 2] = [(Table::Open, SEARCH_KEY_OPEN), (Table::Ended, SEARCH_KEY_ENDED)];

/// Open rows of one config, by what holds them.
const BY_STATUS: [(&[Status], &str); 4] = [
    (&[Status::Scheduled], SEARCH_SCHEDULED),
    (&[Status::Paused], SEARCH_PAUSED),
    (&[Status::Queued, Status::Executing], SEARCH_BUSY),
    (&[Status::Awaiting], SEARCH_AWAITING),
];

statements! {
    ENDED = "-- search_ended\nSELECT id FROM history WHERE config_id = ?1 LIMIT ?2"
        => "SEARCH history USING COVERING INDEX history_ended (config_id=?)";

    SEARCH_PARENT_OPEN = "-- search_parent_open\nSELECT id FROM task WHERE parent_id = ?1 LIMIT ?2"
        => "SEARCH task USING COVERING INDEX task_parent (parent_id=?)";

    SEARCH_PARENT_ENDED = "-- search_parent_ended\nSELECT id FROM history WHERE parent_id = ?1 LIMIT ?2"
        => "SEARCH history USING COVERING INDEX history_parent (parent_id=?)";

    SEARCH_KEY_OPEN = "-- search_key_open\nSELECT id FROM task WHERE config_id = ?1 AND key = ?3 LIMIT ?2"
        => "SEARCH task USING COVERING INDEX task_key (config_id=? AND key=?)";

    SEARCH_KEY_ENDED = "-- search_key_ended\nSELECT id FROM history WHERE config_id = ?1 AND key = ?3 LIMIT ?2"
        => "SEARCH history USING COVERING INDEX history_key (config_id=? AND key=?)";

    SEARCH_SCHEDULED = "-- search_scheduled\nSELECT id FROM task WHERE config_id = ?1 AND phase = 0 LIMIT ?2"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=?)";

    SEARCH_PAUSED = "-- search_paused\nSELECT id FROM task WHERE config_id = ?1 AND phase = 2 LIMIT ?2"
        => "SEARCH task USING COVERING INDEX task_paused (config_id=?)";

    SEARCH_BUSY = "-- search_busy
    SELECT id FROM task WHERE phase = 1 AND config_id = ?1 LIMIT ?2"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    SEARCH_AWAITING = "-- search_awaiting\nSELECT id FROM task WHERE phase = 3 AND config_id = ?1 LIMIT ?2"
        => "SCAN task USING INDEX task_awaiting";
}

/// Every row that could be in the answer. `None`: they are too many, or in an order that the merge serves.
pub(super) fn gather(search: &Search<'_>) -> Result<Option<Vec<(Table, TaskId)>>> {
    let (query, configs) = (search.filter.query, search.filter.configs);
    let mut found = GatheredRows { search, rows: Vec::new(), full: false };
    if let Some(parent) = query.parent {
        for (table, sql) in BY_PARENT {
            found.add(table, sql, parent.get(), None)?;
        }
        return Ok(found.whole());
    }
    if configs.len() > CONFIGS_MAX {
        return Ok(None);
    }
    if let Some(key) = &query.key {
        for config in configs {
            for (table, sql) in BY_KEY {
                found.add(table, sql, config.get(), Some(key.as_str()))?;
            }
        }
        return Ok(found.whole());
    }
    if !matches!(query.order, Order::IdAsc | Order::IdDesc) {
        return Ok(None);
    }
    for config in configs {
        for (statuses, sql) in BY_STATUS {
            if statuses.iter().any(|status| search.filter.wants(*status)) {
                found.add(Table::Open, sql, config.get(), None)?;
            }
        }
        if search.filter.wants_table(Table::Ended) {
            found.add(Table::Ended, ENDED, config.get(), None)?;
        }
    }
    Ok(found.whole())
}

struct GatheredRows<'a, 's> {
    search: &'a Search<'s>,
    rows: Vec<(Table, TaskId)>,
    full: bool,
}

impl GatheredRows<'_, '_> {
    fn add(&mut self, table: Table, sql: &str, of: i64, key: Option<&str>) -> Result<()> {
        if self.full || !self.search.filter.wants_table(table) {
            return Ok(());
        }
        let room = sql_limit(GATHER_MAX - self.rows.len() + 1);
        let mut statement = self.search.conn.prepare(sql)?;
        let read = |row: &Row<'_>| Ok((table, TaskId::new(row.get(0)?)));
        self.rows.extend(match key {
            Some(key) => statement.all(params![of, room, key], read)?,
            None => statement.all([of, room], read)?,
        });
        self.full = self.rows.len() > GATHER_MAX;
        Ok(())
    }

    fn whole(self) -> Option<Vec<(Table, TaskId)>> {
        (!self.full).then_some(self.rows)
    }
}
