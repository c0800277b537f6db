//! Rows as both SQL back ends read them: by the place of a column in [`super::columns`].
//!
//! Whatever is wrong with a value (another type, out of range, missing, not known) is [`StoreError::Corrupt`] with
//! its column, so that a bad row is reported and does not stop its neighbours.

use std::borrow::Cow;

use bytes::Bytes;
use tsp_core::config::{Paused, TaskConfig};
use tsp_core::outcome::OutcomeKind;
use tsp_core::task::{AttemptRecord, EndResult, LastOutcome, Origin, Status, Task, TaskExtra, TokenHash};
use tsp_core::transition::claim::Claimable;
use tsp_core::{AppId, ConfigId, KeyId, Millis, Name, NodeId, TaskId, TaskKey, Timestamp};

use crate::catalog::{ApiKey, App, AuditEntry, RateLimit, Scope};
use crate::documents::{Sealer, config_from_json, extra_from_json};
use crate::error::{Result, StoreError};
use crate::fetching::{Cursor, InFlight};
use crate::parks::Park;

/// A row as a driver hands it over, nothing of it decoded yet. An error says what is there instead.
pub trait ReadRow {
    /// The column of a task's key.
    const KEY: &'static str;

    fn int(&self, at: usize) -> Result<Option<i64>, String>;
    fn text(&self, at: usize) -> Result<Option<&str>, String>;
    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, String>;
}

/// The columns of a row of `table`, whose id stands first.
struct Fields<'r, R> {
    row: &'r R,
    table: &'static str,
    id: i64,
}

impl<'r, R: ReadRow> Fields<'r, R> {
    fn of(table: &'static str, row: &'r R) -> Result<Self> {
        let id = row.int(0).and_then(|id| id.ok_or_else(|| "is NULL".to_owned()));
        let id = id.map_err(|why| StoreError::Internal(format!("the id of a row of `{table}` {why}")))?;
        Ok(Self { row, table, id })
    }

    fn of_task(row: &'r R) -> Result<Self> {
        let fields = Self::of("task", row)?;
        let ended = fields.int(2, "status")? == i64::from(Status::Ended.code());
        Ok(Self { table: if ended { "history" } else { "task" }, ..fields })
    }

    fn corrupt(&self, column: &'static str, why: impl Into<String>) -> StoreError {
        StoreError::Corrupt { table: self.table, column, id: self.id, why: why.into() }
    }

    fn present<T>(&self, column: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.corrupt(column, "is NULL"))
    }

    fn maybe_int(&self, at: usize, column: &'static str) -> Result<Option<i64>> {
        self.row.int(at).map_err(|why| self.corrupt(column, why))
    }

    fn int(&self, at: usize, column: &'static str) -> Result<i64> {
        self.present(column, self.maybe_int(at, column)?)
    }

    fn in_range<T: TryFrom<i64>>(&self, column: &'static str, value: i64) -> Result<T> {
        T::try_from(value).map_err(|_| self.corrupt(column, format!("{value} is out of range")))
    }

    fn number<T: TryFrom<i64>>(&self, at: usize, column: &'static str) -> Result<T> {
        self.in_range(column, self.int(at, column)?)
    }

    fn maybe_number<T: TryFrom<i64>>(&self, at: usize, column: &'static str) -> Result<Option<T>> {
        self.maybe_int(at, column)?.map(|value| self.in_range(column, value)).transpose()
    }

    fn time(&self, at: usize, column: &'static str) -> Result<Timestamp> {
        self.int(at, column).map(Timestamp::from_ms)
    }

    fn maybe_time(&self, at: usize, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.maybe_int(at, column)?.map(Timestamp::from_ms))
    }

    /// Of a closed list.
    fn maybe_known<T>(
        &self,
        at: usize,
        column: &'static str,
        of_code: impl FnOnce(i64) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(code) = self.maybe_int(at, column)? else { return Ok(None) };
        of_code(code).map(Some).ok_or_else(|| self.corrupt(column, format!("{code} is not known")))
    }

    fn known<T>(&self, at: usize, column: &'static str, of_code: impl FnOnce(i64) -> Option<T>) -> Result<T> {
        self.present(column, self.maybe_known(at, column, of_code)?)
    }

    fn maybe_text(&self, at: usize, column: &'static str) -> Result<Option<&'r str>> {
        self.row.text(at).map_err(|why| self.corrupt(column, why))
    }

    fn text(&self, at: usize, column: &'static str) -> Result<&'r str> {
        self.present(column, self.maybe_text(at, column)?)
    }

    fn owned_text(&self, at: usize, column: &'static str) -> Result<String> {
        self.text(at, column).map(str::to_owned)
    }

    fn maybe_bytes(&self, at: usize, column: &'static str) -> Result<Option<&'r [u8]>> {
        self.row.bytes(at).map_err(|why| self.corrupt(column, why))
    }

    fn node(&self, at: usize) -> Result<Option<NodeId>> {
        Ok(self.maybe_int(at, "node")?.map(NodeId::new))
    }

    fn key(&self, at: usize) -> Result<Option<TaskKey>> {
        let key = self.maybe_text(at, R::KEY)?.map(TaskKey::of_stored).transpose();
        key.map_err(|why| self.corrupt(R::KEY, why.to_string()))
    }

    fn token(&self, at: usize) -> Result<Option<TokenHash>> {
        let token = self.maybe_bytes(at, "token")?.map(TokenHash::try_from).transpose();
        token.map_err(|_| self.corrupt("token", "is not 32 bytes"))
    }

    fn last_outcome(&self, at: usize) -> Result<Option<LastOutcome>> {
        let Some(kind) = self.maybe_known(at + 1, "last_kind", OutcomeKind::from_code)? else {
            return Ok(None);
        };
        Ok(Some(LastOutcome {
            attempt: self.number(at, "last_attempt")?,
            kind,
            reason: Cow::Owned(self.owned_text(at + 2, "last_reason")?),
            http_status: self.maybe_number(at + 3, "last_status")?,
            at: self.time(at + 4, "last_at")?,
        }))
    }

    fn extra(&self, at: usize) -> Result<Option<Box<TaskExtra>>> {
        let extra = self.maybe_text(at, "extra")?.map(extra_from_json).transpose();
        Ok(extra.map_err(|why| self.corrupt("extra", why))?.map(Box::new))
    }

    fn task(&self, payload: Option<Bytes>) -> Result<Task> {
        Ok(Task {
            id: TaskId::new(self.id),
            config: ConfigId::new(self.int(1, "config_id")?),
            status: self.known(2, "status", Status::from_code)?,
            version: self.int(3, "version")?,
            due_at: self.time(4, "due_at")?,
            execute_at: self.time(5, "execute_at")?,
            age_from: self.time(6, "first_due_at")?,
            created_at: self.time(7, "created_at")?,
            attempt: self.number(8, "attempt")?,
            failed_attempts: self.number(9, "charged")?,
            worker_losses: self.number(10, "losses")?,
            epoch: self.int(11, "epoch")?,
            node: self.node(12)?,
            cancel_requested: self.int(13, "cancel_requested")? != 0,
            origin: self.known(14, "origin", Origin::from_code)?,
            sharding_id: self.number(15, "sharding_id")?,
            sharding_count: self.number(16, "sharding_count")?,
            parent: self.maybe_int(17, "parent_id")?.map(TaskId::new),
            key: self.key(18)?,
            key_slot: self.int(19, "key_slot")?,
            started_at: self.maybe_time(20, "started_at")?,
            begun_due_at: self.maybe_time(21, "begun_due_at")?,
            expire_after: self.maybe_int(22, "expire_after")?.map(Millis::from_ms),
            token: self.token(23)?,
            last_outcome: self.last_outcome(24)?,
            extra: self.extra(29)?,
            payload,
            result: self.maybe_known(31, "result", EndResult::from_code)?,
            ended_at: self.maybe_time(32, "ended_at")?,
        })
    }
}

/// Of `open_columns` or `ended_columns`.
pub fn read_task<R: ReadRow>(row: &R) -> Result<Task> {
    let fields = Fields::of_task(row)?;
    let payload = fields.maybe_bytes(30, "payload")?.map(Bytes::copy_from_slice);
    fields.task(payload)
}

/// The same without the payload, which SQLite does not even read from the disk then.
pub fn read_bare<R: ReadRow>(row: &R) -> Result<Task> {
    Fields::of_task(row)?.task(None)
}

/// A scheduled row that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRow {
    pub id: TaskId,
    pub due_at: Timestamp,
    pub claimable: Claimable,
}

/// Of `claimable_columns`.
pub fn read_due<R: ReadRow>(row: &R) -> Result<DueRow> {
    let fields = Fields::of("task", row)?;
    Ok(DueRow {
        id: TaskId::new(fields.id),
        due_at: fields.time(2, "due_at")?,
        claimable: Claimable {
            version: fields.int(1, "version")?,
            execute_at: fields.time(3, "execute_at")?,
            expire_after: fields.maybe_int(4, "expire_after")?.map(Millis::from_ms),
            attempt: fields.number(5, "attempt")?,
        },
    })
}

/// Of `attempt_columns`.
pub fn read_attempt<R: ReadRow>(row: &R) -> Result<AttemptRecord> {
    let fields = Fields::of("attempt", row)?;
    Ok(AttemptRecord {
        task: TaskId::new(fields.id),
        attempt: fields.number(1, "attempt")?,
        started_at: fields.time(2, "started_at")?,
        ended_at: fields.time(3, "ended_at")?,
        due_at: fields.time(4, "due_at")?,
        node: fields.node(5)?,
        kind: fields.known(6, "kind", OutcomeKind::from_code)?,
        reason: Cow::Owned(fields.owned_text(7, "reason")?),
        http_status: fields.maybe_number(8, "http_status")?,
        excerpt: fields.maybe_text(9, "excerpt")?.map(Box::from),
    })
}

/// Of `in_flight_columns`.
pub fn read_in_flight<R: ReadRow>(row: &R) -> Result<InFlight> {
    let fields = Fields::of("task", row)?;
    Ok(InFlight {
        id: TaskId::new(fields.id),
        config: ConfigId::new(fields.int(1, "config_id")?),
        status: fields.known(2, "status", Status::from_code)?,
        due_at: fields.time(3, "due_at")?,
        version: fields.int(4, "version")?,
        epoch: fields.int(5, "epoch")?,
        node: fields.node(6)?,
        attempt: fields.number(7, "attempt")?,
    })
}

/// Of `id, attempt` of a task.
pub fn read_executing<R: ReadRow>(row: &R) -> Result<(TaskId, u32)> {
    let fields = Fields::of("task", row)?;
    Ok((TaskId::new(fields.id), fields.number(1, "attempt")?))
}

/// Of `cursor_columns`.
pub fn read_cursor<R: ReadRow>(row: &R) -> Result<Cursor> {
    let fields = Fields::of("cursor", row)?;
    Ok(Cursor {
        config: ConfigId::new(fields.id),
        next_fire_at: fields.maybe_time(1, "next_fire_at")?,
        version: fields.int(2, "version")?,
        config_version: fields.int(3, "config_version")?,
        waiting: fields.maybe_time(4, "waiting")?,
        missed: fields.number(5, "missed")?,
    })
}

/// Of `park_columns`.
pub fn read_park<R: ReadRow>(row: &R) -> Result<Park> {
    let fields = Fields::of("config_state", row)?;
    Ok(Park {
        config: ConfigId::new(fields.id),
        since: fields.time(1, "parked_since")?,
        until: fields.time(2, "parked_until")?,
        by: TaskId::new(fields.int(3, "parked_by")?),
    })
}

/// Of `app_columns`.
pub fn read_app<R: ReadRow>(row: &R) -> Result<App> {
    let fields = Fields::of("app", row)?;
    Ok(App {
        id: AppId::new(fields.id),
        name: Name::new(fields.text(1, "name")?).map_err(|why| fields.corrupt("name", why.to_string()))?,
        description: fields.owned_text(2, "description")?,
        owner: fields.owned_text(3, "owner")?,
        created_at: fields.time(4, "created_at")?,
        updated_at: fields.time(5, "updated_at")?,
    })
}

/// Of `config_columns`.
pub fn read_config<R: ReadRow>(row: &R, sealer: &Sealer) -> Result<TaskConfig> {
    let fields = Fields::of("config", row)?;
    let app = fields.maybe_text(9, "app_id")?.ok_or_else(|| fields.corrupt("app_id", "no such app"))?;
    let paused = match (fields.maybe_text(4, "paused_by")?, fields.maybe_time(5, "paused_at")?) {
        (Some(by), Some(at)) => {
            let note = fields.maybe_text(6, "paused_note")?.map(str::to_owned);
            Some(Paused { by: by.to_owned(), at, note })
        }
        _ => None,
    };
    let spec = config_from_json(fields.text(3, "document")?, sealer);
    Ok(TaskConfig {
        id: ConfigId::new(fields.id),
        app_id: AppId::new(fields.int(1, "app_id")?),
        app: Name::new(app).map_err(|why| fields.corrupt("app_id", why.to_string()))?,
        spec: spec.map_err(|why| fields.corrupt("document", why))?,
        paused,
        version: fields.int(2, "version")?,
        created_at: fields.time(7, "created_at")?,
        updated_at: fields.time(8, "updated_at")?,
    })
}

/// Of `api_key_columns`.
pub fn read_api_key<R: ReadRow>(row: &R) -> Result<ApiKey> {
    let fields = Fields::of("api_key", row)?;
    let scope = |text: &str| {
        Scope::parse(text).ok_or_else(|| fields.corrupt("scopes", format!("`{text}` is not known")))
    };
    let scopes = fields.text(3, "scopes")?.split(',').filter(|text| !text.is_empty());
    let rate = (fields.maybe_number(5, "rate_count")?, fields.maybe_int(6, "rate_per")?);
    let rate_limit = match rate {
        (Some(count), Some(per)) => Some(RateLimit { count, per: Millis::from_ms(per) }),
        _ => None,
    };
    Ok(ApiKey {
        id: KeyId::new(fields.id),
        app: fields.maybe_int(1, "app_id")?.map(AppId::new),
        name: fields.owned_text(2, "name")?,
        scopes: scopes.map(scope).collect::<Result<_>>()?,
        prefix: fields.owned_text(4, "prefix")?,
        rate_limit,
        expires_at: fields.maybe_time(7, "expires_at")?,
        created_at: fields.time(8, "created_at")?,
    })
}

/// Of `audit_columns`.
pub fn read_audit_entry<R: ReadRow>(row: &R) -> Result<AuditEntry> {
    let fields = Fields::of("audit", row)?;
    Ok(AuditEntry {
        at: fields.time(1, "at")?,
        actor: fields.owned_text(2, "actor")?,
        action: fields.owned_text(3, "action")?,
        subject: fields.owned_text(4, "subject")?,
        detail: fields.owned_text(5, "detail")?,
    })
}

/// What could be read. A bad row is reported and left out.
pub fn good<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(%error, "a row was skipped");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
