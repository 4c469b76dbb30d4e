-- Version 13: resources that a destination refused beside the ImagingStudy; studies that refer to other studies.

-- Of the last success: what `status` shows.
ALTER TABLE delivery ADD COLUMN refused TEXT NOT NULL DEFAULT '';

-- Whether the destination has got, since the claim, a study that this one names.
ALTER TABLE delivery ADD COLUMN names_new INTEGER NOT NULL DEFAULT 0;

-- The other studies that the documents of a study name, which may be in the store, come later, or never.
CREATE TABLE mention (
    uid      TEXT    NOT NULL,    -- Study Instance UID of the other study
    study_id INTEGER NOT NULL REFERENCES study (id),
    PRIMARY KEY (uid, study_id)
) WITHOUT ROWID;
CREATE INDEX mention_by_study ON mention (study_id);
