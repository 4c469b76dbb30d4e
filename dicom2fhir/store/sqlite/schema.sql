-- Version 1 of the store. A later version is a step of its own, migrations/NNNN.sql; this file then stays as it is.
--
-- Times are seconds since the epoch. Rows are keyed by study wherever a study can be named, so that reading or changing one
-- study touches rows that lie together, and costs what the study costs and not what the store costs.
-- Bytes that hold text (paths) are BLOBs: a file name need not be UTF-8.

CREATE TABLE study (
    id        INTEGER PRIMARY KEY,
    uid       TEXT    NOT NULL UNIQUE,
    revision  INTEGER NOT NULL DEFAULT 0,
    first_at  REAL    NOT NULL,
    last_at   REAL    NOT NULL,              -- of the last change
    series    INTEGER NOT NULL DEFAULT 0,    -- that have instances; kept by triggers
    instances INTEGER NOT NULL DEFAULT 0     -- kept by triggers
);
CREATE INDEX study_by_last ON study (last_at);

-- Distinct mappings of patient, study and series attributes: the slices of a series share theirs. A mapping that no instance
-- refers to any more stays until its study goes: it is never read, and looking for it would need an index as large as the
-- instances.
CREATE TABLE attrs (
    id       INTEGER PRIMARY KEY,
    study_id INTEGER NOT NULL REFERENCES study (id),
    hash     BLOB    NOT NULL,               -- BLAKE2b, 16 bytes, of the body
    body     BLOB    NOT NULL,               -- JSON with sorted keys
    UNIQUE (study_id, hash)
);

CREATE TABLE series (
    id        INTEGER PRIMARY KEY,
    study_id  INTEGER NOT NULL REFERENCES study (id),
    uid       TEXT    NOT NULL,
    instances INTEGER NOT NULL DEFAULT 0,    -- kept by triggers; 0 when all of them moved to other series
    UNIQUE (study_id, uid)
);

-- The one table that grows with every slice. series_id and the *_attrs columns carry no foreign key: its check would need an
-- index over all instances for each.
CREATE TABLE instance (
    study_id      INTEGER NOT NULL REFERENCES study (id),
    uid           TEXT    NOT NULL,
    series_id     INTEGER NOT NULL,
    patient_attrs INTEGER NOT NULL,
    study_attrs   INTEGER NOT NULL,
    series_attrs  INTEGER NOT NULL,
    body          BLOB    NOT NULL,          -- the instance's own attributes: JSON with sorted keys
    notes         BLOB,                      -- JSON; NULL when there are none
    PRIMARY KEY (study_id, uid)
) WITHOUT ROWID;

CREATE TABLE destination (
    id       INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    in_force INTEGER NOT NULL DEFAULT 1
);

-- One study towards one destination. A row is open while it is waiting or sending; due_at is then the only moment that a claim
-- looks at: it already holds the quiet time, the open associations, the pause after a failed try, and the lease.
CREATE TABLE delivery (
    study_id           INTEGER NOT NULL REFERENCES study (id),
    destination_id     INTEGER NOT NULL REFERENCES destination (id),
    state              TEXT    NOT NULL CHECK (state IN ('waiting', 'sending', 'delivered', 'refused')),
    delivered_revision INTEGER NOT NULL DEFAULT 0,
    delivered_at       REAL    NOT NULL DEFAULT 0,
    last_at            REAL    NOT NULL,            -- copy of study.last_at, for the order of `studies`
    changed_at         REAL    NOT NULL,            -- first change that the destination does not have
    newer_at           REAL,                        -- first change since the claim
    not_before         REAL    NOT NULL DEFAULT 0,  -- pause after a failed try
    due_at             REAL    NOT NULL DEFAULT 0,
    attempts           INTEGER NOT NULL DEFAULT 0,
    reason             TEXT    NOT NULL DEFAULT '',
    owner              TEXT    NOT NULL DEFAULT '',
    lease_until        REAL    NOT NULL DEFAULT 0,
    PRIMARY KEY (study_id, destination_id)
) WITHOUT ROWID;
CREATE INDEX delivery_by_due ON delivery (destination_id, due_at) WHERE state IN ('waiting', 'sending');
CREATE INDEX delivery_by_change ON delivery (destination_id, changed_at) WHERE state IN ('waiting', 'sending');
CREATE INDEX delivery_by_state ON delivery (state, last_at, study_id);

-- What a destination was given last, for the merge of the next revision. Apart from delivery, because SQLite writes a row as a
-- whole and an arriving slice changes its delivery rows.
CREATE TABLE base (
    study_id       INTEGER NOT NULL REFERENCES study (id),
    destination_id INTEGER NOT NULL REFERENCES destination (id),
    body           BLOB    NOT NULL,
    PRIMARY KEY (study_id, destination_id)
) WITHOUT ROWID;

-- Associations that are still open and have touched a study.
CREATE TABLE inflight (
    association TEXT    NOT NULL,
    study_id    INTEGER NOT NULL REFERENCES study (id),
    PRIMARY KEY (association, study_id)
) WITHOUT ROWID;
CREATE INDEX inflight_by_study ON inflight (study_id);

CREATE TABLE rejection (
    id          INTEGER PRIMARY KEY,
    at          REAL    NOT NULL,
    kind        TEXT    NOT NULL,
    calling_ae  TEXT    NOT NULL,
    called_ae   TEXT    NOT NULL,
    peer        TEXT    NOT NULL,
    path        BLOB    NOT NULL,
    association TEXT    NOT NULL,
    reason      TEXT    NOT NULL
);

CREATE TABLE file (
    path       BLOB    PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,
    reason     TEXT    NOT NULL
) WITHOUT ROWID;

-- Counts that `stats` reads instead of counting a million rows.
CREATE TABLE total (
    name TEXT PRIMARY KEY,
    n    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO total (name) VALUES ('studies'), ('series'), ('instances'), ('rejected'), ('skipped');

CREATE TABLE tally (
    destination_id INTEGER NOT NULL REFERENCES destination (id),
    state          TEXT    NOT NULL,
    n              INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (destination_id, state)
) WITHOUT ROWID;

CREATE TRIGGER destination_added AFTER INSERT ON destination BEGIN
    INSERT INTO tally (destination_id, state)
    VALUES (NEW.id, 'waiting'), (NEW.id, 'sending'), (NEW.id, 'delivered'), (NEW.id, 'refused');
END;
CREATE TRIGGER delivery_added AFTER INSERT ON delivery BEGIN
    UPDATE tally SET n = n + 1 WHERE destination_id = NEW.destination_id AND state = NEW.state;
END;
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery WHEN OLD.state <> NEW.state BEGIN
    UPDATE tally SET n = n - 1 WHERE destination_id = OLD.destination_id AND state = OLD.state;
    UPDATE tally SET n = n + 1 WHERE destination_id = NEW.destination_id AND state = NEW.state;
END;
CREATE TRIGGER study_added AFTER INSERT ON study BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'studies';
END;
CREATE TRIGGER instance_added AFTER INSERT ON instance BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'instances';
    UPDATE study SET instances = instances + 1 WHERE id = NEW.study_id;
    UPDATE series SET instances = instances + 1 WHERE id = NEW.series_id;
END;
CREATE TRIGGER instance_moved AFTER UPDATE OF series_id ON instance WHEN OLD.series_id <> NEW.series_id BEGIN
    UPDATE series SET instances = instances - 1 WHERE id = OLD.series_id;
    UPDATE series SET instances = instances + 1 WHERE id = NEW.series_id;
END;
CREATE TRIGGER series_filled AFTER UPDATE OF instances ON series WHEN OLD.instances = 0 AND NEW.instances > 0 BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'series';
    UPDATE study SET series = series + 1 WHERE id = NEW.study_id;
END;
CREATE TRIGGER series_emptied AFTER UPDATE OF instances ON series WHEN OLD.instances > 0 AND NEW.instances = 0 BEGIN
    UPDATE total SET n = n - 1 WHERE name = 'series';
    UPDATE study SET series = series - 1 WHERE id = NEW.study_id;
END;
CREATE TRIGGER rejection_added AFTER INSERT ON rejection BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'rejected';
END;
CREATE TRIGGER file_added AFTER INSERT ON file WHEN NEW.outcome = 'skipped' BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'skipped';
END;
CREATE TRIGGER file_changed AFTER UPDATE OF outcome ON file WHEN OLD.outcome <> NEW.outcome BEGIN
    UPDATE total SET n = n + (NEW.outcome = 'skipped') - (OLD.outcome = 'skipped') WHERE name = 'skipped';
END;
