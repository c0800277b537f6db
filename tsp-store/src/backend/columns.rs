//! The columns of each table, in the one order in which they are written, read ([`super::row`]) and imported.
//!
//! `$key` is the column of a task's key, which the back ends call differently.

/// From the version to the epoch: the same columns of open and of ended tasks.
#[macro_export]
#[doc(hidden)]
macro_rules! progress_columns {
    () => {
        "version, due_at, execute_at, first_due_at, created_at, attempt, charged, losses, epoch"
    };
}

/// From the origin to the last outcome, likewise.
#[macro_export]
#[doc(hidden)]
macro_rules! made_columns {
    ($key:literal) => {
        concat!(
            "origin, sharding_id, sharding_count, parent_id, ",
            $key,
            ", key_slot, started_at, begun_due_at, expire_after, token, last_attempt, last_kind, last_reason, \
             last_status, last_at"
        )
    };
}

/// An open task but for what it carries.
#[macro_export]
#[doc(hidden)]
macro_rules! bare_task_columns {
    ($key:literal) => {
        concat!(
            "id, config_id, status, ",
            $crate::backend::columns::progress_columns!(),
            ", node, cancel_requested, ",
            $crate::backend::columns::made_columns!($key)
        )
    };
}

/// An open task as it is stored.
#[macro_export]
#[doc(hidden)]
macro_rules! task_columns {
    ($key:literal) => {
        concat!($crate::backend::columns::bare_task_columns!($key), ", extra, payload")
    };
}

/// An ended task as it is stored. `last_node`: who ran the attempt that ended it.
#[macro_export]
#[doc(hidden)]
macro_rules! history_columns {
    ($key:literal) => {
        concat!(
            "id, config_id, result, ended_at, ",
            $crate::backend::columns::progress_columns!(),
            ", last_node, ",
            $crate::backend::columns::made_columns!($key),
            ", extra, payload"
        )
    };
}

/// An open task as [`super::row::read_task`] reads it.
#[macro_export]
#[doc(hidden)]
macro_rules! open_columns {
    ($key:literal) => {
        concat!($crate::backend::columns::task_columns!($key), ", NULL AS result, NULL AS ended_at")
    };
}

/// An ended one, likewise.
#[macro_export]
#[doc(hidden)]
macro_rules! ended_columns {
    ($key:literal) => {
        concat!(
            "id, config_id, 50 AS status, ",
            $crate::backend::columns::progress_columns!(),
            ", NULL AS node, 0 AS cancel_requested, ",
            $crate::backend::columns::made_columns!($key),
            ", extra, payload, result, ended_at"
        )
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! attempt_columns {
    () => {
        "task_id, attempt, started_at, ended_at, due_at, node, kind, reason, http_status, excerpt"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! in_flight_columns {
    () => {
        "id, config_id, status, due_at, version, epoch, node, attempt"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! cursor_columns {
    () => {
        "config_id, next_fire_at, version, config_version, waiting, missed"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! park_columns {
    () => {
        "config_id, parked_since, parked_until, parked_by"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! app_columns {
    () => {
        "id, name, description, owner, created_at, updated_at"
    };
}

/// A config `c` with the name of its app `a`.
#[macro_export]
#[doc(hidden)]
macro_rules! config_columns {
    () => {
        "c.id, c.app_id, c.version, c.document, c.paused_by, c.paused_at, c.paused_note, c.created_at, \
         c.updated_at, a.name"
    };
}

/// But for the hash, by which it is found.
#[macro_export]
#[doc(hidden)]
macro_rules! api_key_columns {
    () => {
        "id, app_id, name, scopes, prefix, rate_count, rate_per, expires_at, created_at"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! audit_columns {
    () => {
        "id, at, actor, action, subject, detail"
    };
}

pub use {
    api_key_columns, app_columns, attempt_columns, audit_columns, bare_task_columns, config_columns,
    cursor_columns, ended_columns, history_columns, in_flight_columns, made_columns, open_columns,
    park_columns, progress_columns, task_columns,
};
