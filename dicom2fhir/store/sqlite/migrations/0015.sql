-- Version 15: what rejection notes state of instances.

-- The instances may not have arrived, and the note may be in another study. In the study of the note, one row is about the note
-- itself.
CREATE TABLE rejected_instance (
    study_id INTEGER NOT NULL REFERENCES study (id),
    uid      TEXT    NOT NULL,    -- SOP Instance UID
    note     TEXT    NOT NULL,    -- SOP Instance UID of the note
    code     TEXT    NOT NULL,    -- the title of the note
    state    TEXT    NOT NULL CHECK (state IN ('asked', 'in force', 'restored')),
    PRIMARY KEY (study_id, uid, note)
) WITHOUT ROWID;
