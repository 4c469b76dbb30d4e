-- Version 19: studies that were forgotten because they had been delivered everywhere for long.

-- What is known of such a study: what comes later of it is a part, which must not pass for the whole.
CREATE TABLE forgotten (
    study   BLOB    PRIMARY KEY,    -- BLAKE2b, 16 bytes, of its UID
    at      INTEGER NOT NULL,       -- seconds since the epoch
    patient BLOB    NOT NULL        -- 8 bytes of the key of its patient (dicom2fhir.dicom.patients); empty without a patient
) WITHOUT ROWID;
