-- Everything of the embedded store. Times are UTC milliseconds, lengths milliseconds.
-- Never edited once released: a change is a new file (expand, deploy, contract).

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Tenants, configs, keys ------------------------------------------------------------------------

CREATE TABLE app (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    owner       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE config (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id      INTEGER NOT NULL REFERENCES app (id),
    name        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    -- What its owner wrote, secrets sealed.
    document    TEXT NOT NULL,
    paused_by   TEXT,
    paused_at   INTEGER,
    paused_note TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    UNIQUE (app_id, name)
) STRICT;

-- The change log; `seq` is the config_seq of the config barrier. Documents stand here without secrets.
CREATE TABLE config_change (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    config_id  INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    before_doc TEXT,
    after_doc  TEXT
) STRICT;
CREATE INDEX config_change_config ON config_change (config_id);

CREATE TABLE api_key (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL: global.
    app_id     INTEGER REFERENCES app (id),
    name       TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,
    rate_count INTEGER,
    rate_per   INTEGER,
    expires_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX api_key_app ON api_key (app_id);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;

-- Processes -------------------------------------------------------------------------------------

-- A node's id is new at every start and never used again.
CREATE TABLE node (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    dead_at    INTEGER
) STRICT;
CREATE INDEX node_alive ON node (id) WHERE dead_at IS NULL;

CREATE TABLE id_slot (
    slot       INTEGER PRIMARY KEY,
    used_until INTEGER NOT NULL
) STRICT;

-- One process serves an embedded store (its lock file is the lease), so it owns every shard.
CREATE TABLE shard_epoch (
    shard INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL
) STRICT;

CREATE TABLE shard_lease (
    shard    INTEGER PRIMARY KEY,
    owner    INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT;

-- Tasks -----------------------------------------------------------------------------------------

-- Open tasks only: small and hot. What changes often stands first, what is long stands last.
CREATE TABLE task (
    id               INTEGER PRIMARY KEY,
    config_id        INTEGER NOT NULL,
    status           INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    execute_at       INTEGER NOT NULL,
    first_due_at     INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,
    charged          INTEGER NOT NULL,
    losses           INTEGER NOT NULL,
    epoch            INTEGER NOT NULL,
    node             INTEGER,
    cancel_requested INTEGER NOT NULL,
    origin           INTEGER NOT NULL,
    sharding_id      INTEGER NOT NULL,
    sharding_count   INTEGER NOT NULL,
    parent_id        INTEGER,
    key              TEXT,
    key_slot         INTEGER NOT NULL,
    started_at       INTEGER,
    begun_due_at     INTEGER,
    expire_after     INTEGER,
    token            BLOB,
    last_attempt     INTEGER,
    last_kind        INTEGER,
    last_reason      TEXT,
    last_status      INTEGER,
    last_at          INTEGER,
    extra            TEXT,
    payload          BLOB,
    -- The logical shard, as the id carries it.
    shard            INTEGER GENERATED ALWAYS AS ((id >> 13) & 511) VIRTUAL
) STRICT;
-- Partial and local, so that each stays as small as what it finds.
CREATE INDEX task_claim ON task (config_id, due_at, id) WHERE status = 0;
CREATE INDEX task_busy ON task (status) WHERE status BETWEEN 10 AND 30;
CREATE INDEX task_paused ON task (config_id, due_at) WHERE status = 40;
CREATE INDEX task_awaiting ON task (due_at) WHERE status = 45;
CREATE INDEX task_occurrence ON task (config_id) WHERE origin > 0;
CREATE INDEX task_parent ON task (parent_id) WHERE parent_id IS NOT NULL;
-- On the text, not a hash: keys that rise stay on one page.
CREATE UNIQUE INDEX task_key ON task (config_id, key, key_slot) WHERE key IS NOT NULL;

-- Ended tasks, with all that a replay needs. A replay moves the row back.
CREATE TABLE history (
    id             INTEGER PRIMARY KEY,
    config_id      INTEGER NOT NULL,
    result         INTEGER NOT NULL,
    ended_at       INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    execute_at     INTEGER NOT NULL,
    first_due_at   INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    charged        INTEGER NOT NULL,
    losses         INTEGER NOT NULL,
    epoch          INTEGER NOT NULL,
    -- Who ran the attempt that ended it.
    last_node      INTEGER,
    origin         INTEGER NOT NULL,
    sharding_id    INTEGER NOT NULL,
    sharding_count INTEGER NOT NULL,
    parent_id      INTEGER,
    key            TEXT,
    key_slot       INTEGER NOT NULL,
    started_at     INTEGER,
    begun_due_at   INTEGER,
    expire_after   INTEGER,
    token          BLOB,
    last_attempt   INTEGER,
    last_kind      INTEGER,
    last_reason    TEXT,
    last_status    INTEGER,
    last_at        INTEGER,
    extra          TEXT,
    payload        BLOB,
    shard          INTEGER GENERATED ALWAYS AS ((id >> 13) & 511) VIRTUAL
) STRICT;
CREATE INDEX history_ended ON history (config_id, ended_at);
CREATE INDEX history_key ON history (config_id, key, ended_at) WHERE key IS NOT NULL;
CREATE INDEX history_parent ON history (parent_id) WHERE parent_id IS NOT NULL;

-- Closed attempts, except a single successful first one: that one is in `history` itself.
CREATE TABLE attempt (
    task_id     INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    node        INTEGER,
    kind        INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    http_status INTEGER,
    excerpt     TEXT,
    PRIMARY KEY (task_id, attempt)
) STRICT, WITHOUT ROWID;

-- Schedules -------------------------------------------------------------------------------------

CREATE TABLE cursor (
    config_id      INTEGER PRIMARY KEY,
    next_fire_at   INTEGER,
    version        INTEGER NOT NULL,
    config_version INTEGER NOT NULL,
    waiting        INTEGER,
    missed         INTEGER NOT NULL
) STRICT;

-- The cron guard: a slot is handled once. `task_id` is NULL for one that overlap left out.
CREATE TABLE occurrence (
    config_id  INTEGER NOT NULL,
    execute_at INTEGER NOT NULL,
    -- 0: the schedule; else the id of the run or backfill.
    origin     INTEGER NOT NULL,
    task_id    INTEGER,
    late       INTEGER NOT NULL,
    made_at    INTEGER NOT NULL,
    PRIMARY KEY (config_id, execute_at, origin)
) STRICT, WITHOUT ROWID;

-- The rest --------------------------------------------------------------------------------------

CREATE TABLE idempotency (
    hash       BLOB PRIMARY KEY,
    body_hash  BLOB NOT NULL,
    status     INTEGER NOT NULL,
    body       BLOB NOT NULL,
    location   TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

-- The auditor's sums since the store was made: accepted = open + ended, ended = history + dropped.
CREATE TABLE balance (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    accepted INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    dropped  INTEGER NOT NULL
) STRICT;
INSERT INTO balance (id, accepted, ended, dropped) VALUES (1, 0, 0, 0);
