-- The tables of one shard: `{shard}` is its number in three digits. `{days}` becomes the partitions of the
-- days around the one on which this runs, and one for whatever lies beyond.

-- Open tasks only: small and hot. What changes often stands first, what is long stands last. The defaults
-- are those of a new task.
CREATE TABLE IF NOT EXISTS task_{shard} (
    id               BIGINT NOT NULL,
    config_id        BIGINT NOT NULL,
    status           TINYINT NOT NULL DEFAULT 0,
    version          BIGINT NOT NULL DEFAULT 1,
    due_at           BIGINT NOT NULL,
    execute_at       BIGINT NOT NULL,
    first_due_at     BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    attempt          BIGINT NOT NULL DEFAULT 0,
    charged          BIGINT NOT NULL DEFAULT 0,
    losses           BIGINT NOT NULL DEFAULT 0,
    epoch            BIGINT NOT NULL DEFAULT 0,
    node             BIGINT,
    cancel_requested TINYINT NOT NULL DEFAULT 0,
    origin           BIGINT NOT NULL,
    sharding_id      BIGINT NOT NULL DEFAULT 0,
    sharding_count   BIGINT NOT NULL DEFAULT 1,
    parent_id        BIGINT,
    task_key         VARCHAR(200),
    -- The first 16 bytes of the key's SHA-256; the key itself is compared, too.
    key_hash         BINARY(16),
    key_slot         BIGINT NOT NULL,
    started_at       BIGINT,
    begun_due_at     BIGINT,
    expire_after     BIGINT,
    token            VARBINARY(64),
    last_attempt     BIGINT,
    last_kind        SMALLINT,
    last_reason      TEXT,
    last_status      INT,
    last_at          BIGINT,
    extra            MEDIUMTEXT,
    payload          MEDIUMBLOB,
    PRIMARY KEY (id),
    KEY claim (config_id, status, due_at, id),
    UNIQUE KEY task_key (config_id, key_hash, key_slot),
    -- Also for what runs under a node: of all that runs, which is never much.
    KEY state (status, due_at),
    KEY parent (parent_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin
-- Heads are found by skipping from config to config, which the server does only if it knows how few there are.
STATS_PERSISTENT = 1 STATS_AUTO_RECALC = 1;

-- Ended tasks, with all that a replay needs. A replay moves the row back.
CREATE TABLE IF NOT EXISTS history_{shard} (
    id             BIGINT NOT NULL,
    config_id      BIGINT NOT NULL,
    result         TINYINT NOT NULL,
    ended_at       BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    due_at         BIGINT NOT NULL,
    execute_at     BIGINT NOT NULL,
    first_due_at   BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    attempt        BIGINT NOT NULL,
    charged        BIGINT NOT NULL,
    losses         BIGINT NOT NULL,
    epoch          BIGINT NOT NULL,
    -- Who ran the attempt that ended it.
    last_node      BIGINT,
    origin         BIGINT NOT NULL,
    sharding_id    BIGINT NOT NULL,
    sharding_count BIGINT NOT NULL,
    parent_id      BIGINT,
    task_key       VARCHAR(200),
    key_hash       BINARY(16),
    key_slot       BIGINT NOT NULL,
    started_at     BIGINT,
    begun_due_at   BIGINT,
    expire_after   BIGINT,
    token          VARBINARY(64),
    last_attempt   BIGINT,
    last_kind      SMALLINT,
    last_reason    TEXT,
    last_status    INT,
    last_at        BIGINT,
    extra          MEDIUMTEXT,
    payload        MEDIUMBLOB,
    PRIMARY KEY (id, ended_at),
    -- With the id spelled out, or the order over partitions is a sort.
    KEY ended (config_id, ended_at, id),
    KEY by_key (config_id, key_hash, ended_at, id),
    KEY parent (parent_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin STATS_PERSISTENT = 1 STATS_AUTO_RECALC = 1
PARTITION BY RANGE (ended_at) ({days});

-- Closed attempts, except a single successful first one: that one is in the history itself.
CREATE TABLE IF NOT EXISTS attempt_{shard} (
    task_id     BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    due_at      BIGINT NOT NULL,
    node        BIGINT,
    kind        SMALLINT NOT NULL,
    reason      TEXT NOT NULL,
    http_status INT,
    excerpt     MEDIUMTEXT,
    PRIMARY KEY (task_id, attempt, started_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin
PARTITION BY RANGE (started_at) ({days});

CREATE TABLE IF NOT EXISTS cursor_{shard} (
    config_id      BIGINT NOT NULL,
    next_fire_at   BIGINT,
    version        BIGINT NOT NULL,
    config_version BIGINT NOT NULL,
    waiting        BIGINT,
    missed         BIGINT NOT NULL,
    PRIMARY KEY (config_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The cron guard: a slot is handled once. `task_id` is NULL for one that overlap left out.
CREATE TABLE IF NOT EXISTS occurrence_{shard} (
    config_id  BIGINT NOT NULL,
    execute_at BIGINT NOT NULL,
    -- 0: the schedule; else the id of the run or backfill.
    origin     BIGINT NOT NULL,
    task_id    BIGINT,
    late       TINYINT NOT NULL,
    made_at    BIGINT NOT NULL,
    PRIMARY KEY (config_id, execute_at, origin)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Answers of submits. `task_id` is the id that the call makes, written first; without `status` the answer
-- is still to come.
CREATE TABLE IF NOT EXISTS idempotency_{shard} (
    hash       VARBINARY(32) NOT NULL,
    body_hash  VARBINARY(32) NOT NULL,
    task_id    BIGINT,
    status     INT,
    body       MEDIUMBLOB,
    location   TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (hash),
    KEY idempotency_expiry (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The auditor's sums since the shard was made, by the process that added them:
-- accepted = open + ended, ended = history + dropped.
CREATE TABLE IF NOT EXISTS balance_{shard} (
    node     BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    ended    BIGINT NOT NULL,
    dropped  BIGINT NOT NULL,
    PRIMARY KEY (node)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
