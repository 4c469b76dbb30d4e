-- Version 12: what archives and modalities state of studies: availability notifications (IAN) and procedure steps (MPPS).

-- The revision that is due at once; the next one waits for the quiet period again.
ALTER TABLE study ADD COLUMN prompt_revision INTEGER NOT NULL DEFAULT -1;

-- The reader of studies of which no instance has arrived: there is nothing that it could have read less of.
INSERT INTO reader (id, fingerprint) VALUES (-1, 'none');

-- The last statement about an instance, which may not have arrived, for each Retrieve AE Title.
CREATE TABLE availability (
    study_id    INTEGER NOT NULL REFERENCES study (id),
    uid         TEXT    NOT NULL,
    retrieve_ae TEXT    NOT NULL,
    attrs       INTEGER NOT NULL,            -- what is stated
    PRIMARY KEY (study_id, uid, retrieve_ae)
) WITHOUT ROWID;

-- The notifications that were stored: one that is repeated must not undo a later one.
CREATE TABLE notification (
    uid      TEXT    PRIMARY KEY,
    study_id INTEGER NOT NULL REFERENCES study (id),
    hash     BLOB    NOT NULL                -- BLAKE2b, 16 bytes, of what it states
) WITHOUT ROWID;
CREATE INDEX notification_by_study ON notification (study_id);

CREATE TABLE step (
    uid      TEXT    PRIMARY KEY,
    study_id INTEGER NOT NULL REFERENCES study (id),
    status   TEXT    NOT NULL,
    listed   INTEGER NOT NULL,               -- number of instances
    body     BLOB    NOT NULL                -- attributes: JSON with sorted keys
) WITHOUT ROWID;
CREATE INDEX step_by_study ON step (study_id);

-- Instances that ended steps list and that have not arrived.
CREATE TABLE awaited (
    study_id INTEGER NOT NULL REFERENCES study (id),
    uid      TEXT    NOT NULL,
    PRIMARY KEY (study_id, uid)
) WITHOUT ROWID;
