-- Version 4: an instance is known by its study, series and SOP Instance UID; what each was read by; what kind of refusal it was;
-- studies can be settled and forgotten.

-- The kind of the error; `kind` is that of the origin.
ALTER TABLE rejection ADD COLUMN error TEXT NOT NULL DEFAULT '';

-- The readers (dicom2fhir.dicom.reader_fingerprint) that something in the store was read by; 0 is the one of version 3 and
-- before, which nobody knows.
CREATE TABLE reader (
    id          INTEGER PRIMARY KEY,
    fingerprint TEXT    NOT NULL UNIQUE,
    studies     INTEGER NOT NULL DEFAULT 0    -- kept by triggers
);
INSERT INTO reader (id, fingerprint, studies) SELECT 0, '', n FROM total WHERE name = 'studies';

-- The reader of all instances of the study; while some were read by another one, the reader that the study had before.
ALTER TABLE study ADD COLUMN reader INTEGER NOT NULL DEFAULT 0;
CREATE INDEX study_by_reader ON study (reader);
ALTER TABLE file ADD COLUMN reader INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER study_read AFTER INSERT ON study BEGIN
    UPDATE reader SET studies = studies + 1 WHERE id = NEW.reader;
END;
CREATE TRIGGER study_read_anew AFTER UPDATE OF reader ON study WHEN OLD.reader <> NEW.reader BEGIN
    UPDATE reader SET studies = studies - 1 WHERE id = OLD.reader;
    UPDATE reader SET studies = studies + 1 WHERE id = NEW.reader;
END;

-- The same SOP Instance UID may stand in several series of a study. The key begins as it did, so that the rows are copied in the
-- order in which they lie. No instance moves from one series to another any more.
DROP VIEW arrival;
DROP TRIGGER instance_added;
DROP TRIGGER instance_moved;
CREATE TABLE kept (
    study_id      INTEGER NOT NULL REFERENCES study (id),
    uid           TEXT    NOT NULL,
    series_id     INTEGER NOT NULL,
    patient_attrs INTEGER NOT NULL,
    study_attrs   INTEGER NOT NULL,
    series_attrs  INTEGER NOT NULL,
    reader        INTEGER NOT NULL,
    body          BLOB    NOT NULL,          -- the instance's own attributes: JSON with sorted keys
    notes         BLOB,                      -- JSON; NULL when there are none
    PRIMARY KEY (study_id, uid, series_id)
) WITHOUT ROWID;
INSERT INTO kept
SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, 0, body, notes FROM instance ORDER BY study_id, uid;
DROP TABLE instance;
ALTER TABLE kept RENAME TO instance;

CREATE TRIGGER instance_added AFTER INSERT ON instance BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'instances';
    UPDATE study SET instances = instances + 1 WHERE id = NEW.study_id;
    UPDATE series SET instances = instances + 1 WHERE id = NEW.series_id;
END;

-- As in version 3. The reader of what comes as it is kept is changed by the statement read_by, and raises no revision.
CREATE VIEW arrival AS
SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes, 0.0 AS at, 0.0 AS latest_at
FROM instance;

CREATE TRIGGER arrived INSTEAD OF INSERT ON arrival BEGIN
    INSERT INTO instance (study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes)
    VALUES (NEW.study_id, NEW.uid, NEW.series_id, NEW.patient_attrs, NEW.study_attrs, NEW.series_attrs, NEW.reader, NEW.body,
        NEW.notes)
    ON CONFLICT (study_id, uid, series_id) DO UPDATE SET reader = excluded.reader, patient_attrs = excluded.patient_attrs,
        study_attrs = excluded.study_attrs, series_attrs = excluded.series_attrs, body = excluded.body, notes = excluded.notes
    WHERE instance.patient_attrs <> excluded.patient_attrs OR instance.study_attrs <> excluded.study_attrs
        OR instance.series_attrs <> excluded.series_attrs OR instance.body <> excluded.body
        OR instance.notes IS NOT excluded.notes;
    UPDATE study SET revision = revision + 1, last_at = NEW.at WHERE id = NEW.study_id AND changes() > 0;
    UPDATE delivery SET
        newer_at = iif(state = 'sending', NEW.at, NULL),
        changed_at = iif(state = 'sending', changed_at, NEW.at),
        attempts = iif(state = 'sending', attempts, 0),
        not_before = iif(state = 'sending', not_before, 0),
        due_at = iif(state = 'sending', due_at, NEW.latest_at),
        reason = iif(state = 'sending', reason, ''),
        state = iif(state = 'sending', state, 'waiting')
    WHERE changes() > 0 AND study_id = NEW.study_id
        AND (+state IN ('delivered', 'refused') OR (+state = 'sending' AND newer_at IS NULL));
END;

-- What a person has settled about the patients whom the instances of a study name (dicom2fhir.dicom.patients).
CREATE TABLE settlement (
    study_id INTEGER NOT NULL REFERENCES study (id),
    patient  TEXT    NOT NULL,               -- a hash
    verdict  TEXT    NOT NULL CHECK (verdict IN ('right', 'wrong', 'dropped')),
    PRIMARY KEY (study_id, patient)
) WITHOUT ROWID;

-- A study that is forgotten is deleted with all that belongs to it. Its number is never given to another: a daemon that runs may
-- still know the study by it, and has to fail on the foreign key (store/incoming.py: KnownRows).
INSERT INTO total (name) VALUES ('last_forgotten');

CREATE TRIGGER delivery_forgotten AFTER DELETE ON delivery BEGIN
    UPDATE tally SET n = n - 1 WHERE destination_id = OLD.destination_id AND state = OLD.state;
    UPDATE made SET n = n - 1
    WHERE OLD.state = 'delivered' AND destination_id = OLD.destination_id AND recipe = OLD.recipe;
END;
CREATE TRIGGER study_forgotten AFTER DELETE ON study BEGIN
    UPDATE total SET n = n - CASE name WHEN 'studies' THEN 1 WHEN 'series' THEN OLD.series ELSE OLD.instances END
    WHERE name IN ('studies', 'series', 'instances');
    UPDATE total SET n = max(n, OLD.id) WHERE name = 'last_forgotten';
    UPDATE reader SET studies = studies - 1 WHERE id = OLD.reader;
END;
