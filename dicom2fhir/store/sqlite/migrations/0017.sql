-- Version 17: an index for searching studies, the history of deliveries, counts over time.

-- What the index holds of a study. It is filled after the acknowledgement (store/sqlite/study_index.py), from a study that had
-- this revision and this number of origins.
CREATE TABLE study_index (
    study_id INTEGER PRIMARY KEY REFERENCES study (id),
    revision INTEGER NOT NULL,
    origins  INTEGER NOT NULL,   -- rows of origin and source_folder
    last_at  REAL    NOT NULL    -- copy of study.last_at
);

-- The watched folders that a study came from; studies from before version 17 have none.
CREATE TABLE source_folder (
    study_id INTEGER NOT NULL REFERENCES study (id),
    folder   TEXT    NOT NULL,
    at       REAL    NOT NULL,
    PRIMARY KEY (study_id, folder)
) WITHOUT ROWID;

-- By what a study is found (store/study_keys.py), in the order of pages.
CREATE TABLE study_key (
    kind     TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    last_at  REAL    NOT NULL,   -- as in study_index
    study_id INTEGER NOT NULL REFERENCES study (id),
    PRIMARY KEY (kind, value, last_at, study_id)
) WITHOUT ROWID;
CREATE INDEX study_key_by_study ON study_key (study_id, kind, value);

-- The last attempts to deliver a study.
CREATE TABLE attempt (
    study_id       INTEGER NOT NULL REFERENCES study (id),
    destination_id INTEGER NOT NULL REFERENCES destination (id),
    number         INTEGER NOT NULL,
    at             REAL    NOT NULL,             -- of the last of them
    revision       INTEGER NOT NULL,
    outcome        TEXT    NOT NULL,
    answer         TEXT    NOT NULL,
    times          INTEGER NOT NULL DEFAULT 1,   -- that they ended in this way, one after another
    PRIMARY KEY (study_id, destination_id, number)
) WITHOUT ROWID;
CREATE INDEX attempt_by_time ON attempt (at);

CREATE TABLE counted_minute (
    minute    INTEGER PRIMARY KEY,               -- since the epoch
    received  INTEGER NOT NULL DEFAULT 0,        -- instances
    delivered INTEGER NOT NULL DEFAULT 0         -- deliveries that wrote something
);
-- How many of the instances in `total` are counted in a minute, or were there before version 17.
INSERT INTO total (name, n) SELECT 'instances_counted', n FROM total WHERE name = 'instances';
