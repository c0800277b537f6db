-- The meta database of a cluster: everything that is not of one shard. Times are UTC milliseconds, lengths
-- milliseconds. Never edited once released: a change is a new file (expand, deploy, contract).

CREATE TABLE IF NOT EXISTS settings (
    name  VARCHAR(64) NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The number of the last change of the catalog. Whoever changes the catalog locks this row first, so that
-- changes become visible in the order of their numbers.
CREATE TABLE IF NOT EXISTS counter (
    name  VARCHAR(64) NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

INSERT INTO counter (name, value) VALUES ('change', 0) ON DUPLICATE KEY UPDATE name = name;

-- Which data source holds a shard.
CREATE TABLE IF NOT EXISTS shard_place (
    shard  INT NOT NULL,
    source VARCHAR(64) NOT NULL,
    PRIMARY KEY (shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS app (
    id          BIGINT NOT NULL AUTO_INCREMENT,
    name        VARCHAR(64) NOT NULL,
    description TEXT NOT NULL,
    owner       TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY app_name (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS config (
    id          BIGINT NOT NULL AUTO_INCREMENT,
    app_id      BIGINT NOT NULL,
    name        VARCHAR(64) NOT NULL,
    version     BIGINT NOT NULL,
    -- What its owner wrote, secrets sealed.
    document    MEDIUMTEXT NOT NULL,
    paused_by   TEXT,
    paused_at   BIGINT,
    paused_note TEXT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY config_name (app_id, name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- What every process follows; `seq` is the config_seq of the config barrier. Documents stand here without
-- secrets.
CREATE TABLE IF NOT EXISTS change_log (
    seq        BIGINT NOT NULL,
    -- 'app' or 'config'.
    kind       VARCHAR(16) NOT NULL,
    subject_id BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    actor      TEXT NOT NULL,
    action     VARCHAR(64) NOT NULL,
    before_doc MEDIUMTEXT,
    after_doc  MEDIUMTEXT,
    PRIMARY KEY (seq),
    KEY change_log_subject (kind, subject_id, seq)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS api_key (
    id         BIGINT NOT NULL AUTO_INCREMENT,
    -- NULL: global.
    app_id     BIGINT,
    name       TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    hash       VARBINARY(32) NOT NULL,
    prefix     TEXT NOT NULL,
    rate_count BIGINT,
    rate_per   BIGINT,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY api_key_hash (hash),
    KEY api_key_app (app_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS audit (
    id      BIGINT NOT NULL AUTO_INCREMENT,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    action  VARCHAR(64) NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL,
    PRIMARY KEY (id),
    KEY audit_at (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- One process since its start. An id is never used again.
CREATE TABLE IF NOT EXISTS node (
    id           BIGINT NOT NULL AUTO_INCREMENT,
    name         TEXT NOT NULL,
    roles        TEXT NOT NULL,
    version      TEXT NOT NULL,
    address      TEXT,
    started_at   BIGINT NOT NULL,
    renewals     BIGINT NOT NULL,
    lease_until  BIGINT NOT NULL,
    dead_at      BIGINT,
    config_seq   BIGINT NOT NULL,
    clock_offset BIGINT NOT NULL,
    running      BIGINT NOT NULL,
    pairs        BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY node_dead (dead_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Node 0: nobody's. A slot without a row was never used.
CREATE TABLE IF NOT EXISTS id_slot (
    slot       INT NOT NULL,
    node       BIGINT NOT NULL,
    used_until BIGINT NOT NULL,
    PRIMARY KEY (slot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Answers of calls on apps and configs.
CREATE TABLE IF NOT EXISTS idempotency (
    hash       VARBINARY(32) NOT NULL,
    body_hash  VARBINARY(32) NOT NULL,
    status     INT NOT NULL,
    body       MEDIUMBLOB NOT NULL,
    location   TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (hash),
    KEY idempotency_expiry (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
