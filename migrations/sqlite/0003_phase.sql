-- Which index holds an open row: 0 scheduled, 1 queued or executing, 2 paused, 3 awaiting. An index is written when a
-- column that it names is set, whatever to; a begin sets the status and leaves the phase, so it touches no index.
ALTER TABLE task ADD COLUMN phase INTEGER NOT NULL DEFAULT 0;
DROP INDEX task_claim;
DROP INDEX task_busy;
DROP INDEX task_paused;
DROP INDEX task_awaiting;
UPDATE task SET phase = CASE status WHEN 40 THEN 2 WHEN 45 THEN 3 ELSE 1 END WHERE status <> 0;
CREATE INDEX task_claim ON task (config_id, due_at, id) WHERE phase = 0;
CREATE INDEX task_busy ON task (phase) WHERE phase = 1;
CREATE INDEX task_paused ON task (config_id, due_at) WHERE phase = 2;
CREATE INDEX task_awaiting ON task (due_at) WHERE phase = 3;
