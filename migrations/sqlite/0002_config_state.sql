-- What the fetcher knows of a config beyond its rows, kept for its next start. A row is made when there is
-- something to keep.
CREATE TABLE config_state (
    config_id    INTEGER PRIMARY KEY,
    -- The last wait that its receiver asked for: when, until when, and by the answer to which task.
    parked_since INTEGER NOT NULL,
    parked_until INTEGER NOT NULL,
    parked_by    INTEGER NOT NULL,
    -- What was asked for until then was ended by a person.
    unparked_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX config_state_parked ON config_state (parked_until);
