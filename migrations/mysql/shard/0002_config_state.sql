-- What the owner of a shard knows of a config beyond its rows, kept for the next one. A row is made when there is
-- something to keep.
CREATE TABLE IF NOT EXISTS config_state_{shard} (
    config_id    BIGINT NOT NULL,
    -- The last wait that its receiver asked for: when, until when, and by the answer to which task.
    parked_since BIGINT NOT NULL,
    parked_until BIGINT NOT NULL,
    parked_by    BIGINT NOT NULL,
    -- What was asked for until then was ended by a person.
    unparked_at  BIGINT NOT NULL,
    PRIMARY KEY (config_id),
    KEY parked (parked_until)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
