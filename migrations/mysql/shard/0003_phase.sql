-- A begin changes no index entry: the indexes hold what part of its life a task is in, and queued and executing are one.
-- Nor does it make the row longer, for which InnoDB would tidy up the whole page: what it fills takes the place of the
-- padding. Nothing leads to a parent's parts: before fan-out no task has a parent, and InnoDB would have an entry of
-- every row without.
--
-- The first statement copies `task`, so writers of the shard wait for it (docs/operations.md, upgrades). The indexes keep
-- their names, because the release before forces them: it goes on, correctly, but sorts what it claims and reads all open
-- tasks of the shard for what is in flight. It cannot move a shard, whose copy it would give values of `phase`.
--
-- Each is done once, whatever an interrupted migration has left: it is one statement, which is done or not.
SET @phase = (SELECT IF(COUNT(*) > 0, 'DO 0', 'ALTER TABLE task_{shard}
    ADD COLUMN phase TINYINT AS (CASE status WHEN 0 THEN 0 WHEN 40 THEN 2 WHEN 45 THEN 3 ELSE 1 END) STORED,
    ADD COLUMN padding BINARY(24) DEFAULT 0x00,
    DROP KEY claim, ADD KEY claim (config_id, phase, due_at, id),
    DROP KEY state, ADD KEY state (phase),
    DROP KEY parent')
    FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'task_{shard}' AND COLUMN_NAME = 'phase');
PREPARE phase FROM @phase;
EXECUTE phase;
SET @phase = (SELECT IF(COUNT(*) = 0, 'DO 0', 'ALTER TABLE history_{shard} DROP KEY parent')
    FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'history_{shard}' AND INDEX_NAME = 'parent');
PREPARE phase FROM @phase;
EXECUTE phase;
DEALLOCATE PREPARE phase;
