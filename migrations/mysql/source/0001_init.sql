-- Once in each data source: who owns which shard, beside the rows that the leases fence.

-- Owner 0: free. `lease_until` is by this database's clock.
CREATE TABLE IF NOT EXISTS shard_lease (
    group_name  VARCHAR(64) NOT NULL,
    shard       INT NOT NULL,
    owner       BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    PRIMARY KEY (group_name, shard),
    KEY shard_lease_owner (owner)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- One counter for all groups of a shard, so that their epochs compare.
CREATE TABLE IF NOT EXISTS shard_epoch (
    shard INT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
