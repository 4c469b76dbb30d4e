-- Version 6: a destination takes what it is meant for.

-- A delivery may also be in the state 'excluded'. A CHECK is changed as https://sqlite.org/lang_altertable.html says (section 7):
-- the rows stay where they are, which may be millions.
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = replace(sql, '''delivered'', ''refused''', '''delivered'', ''refused'', ''excluded''')
WHERE type = 'table' AND name = 'delivery';
PRAGMA writable_schema = RESET;

INSERT INTO tally (destination_id, state) SELECT id, 'excluded' FROM destination;
DROP TRIGGER destination_added;
CREATE TRIGGER destination_added AFTER INSERT ON destination BEGIN
    INSERT INTO tally (destination_id, state)
    VALUES (NEW.id, 'waiting'), (NEW.id, 'sending'), (NEW.id, 'delivered'), (NEW.id, 'refused'), (NEW.id, 'excluded');
END;

-- What the destination takes, as text; another one means that what was excluded is decided anew.
ALTER TABLE destination ADD COLUMN selection TEXT NOT NULL DEFAULT '';

-- The AE titles that sent a study. Studies from before, and what came in files, have none.
CREATE TABLE origin (
    study_id   INTEGER NOT NULL REFERENCES study (id),
    calling_ae TEXT    NOT NULL,
    at         REAL    NOT NULL,
    PRIMARY KEY (study_id, calling_ae)
) WITHOUT ROWID;

-- Another sender may change what is excluded, also where it sends nothing new: then the study waits again. What is being sent is
-- marked, as by an instance, so that it is not excluded for what was known before.
CREATE TRIGGER origin_added AFTER INSERT ON origin BEGIN
    UPDATE delivery SET
        newer_at = iif(state = 'sending', coalesce(newer_at, NEW.at), NULL),
        changed_at = iif(state = 'sending', changed_at, NEW.at),
        reason = iif(state = 'sending', reason, ''),
        state = iif(state = 'sending', state, 'waiting')
    WHERE study_id = NEW.study_id AND +state IN ('sending', 'excluded');
END;

-- As in version 4, but that what was excluded waits again too.
DROP TRIGGER arrived;
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
        AND (+state IN ('delivered', 'refused', 'excluded') OR (+state = 'sending' AND newer_at IS NULL));
END;
