-- Version 20: studies that every destination has and that have been quiet for long are sealed: their rows in `instance` become few
-- rows here, until something is about to change them (store/sql/sealed_rows.py).

-- The instances of a study that are alike in these columns. A table with rowids, because most blocks are longer than a page.
CREATE TABLE sealed (
    id            INTEGER PRIMARY KEY,
    study_id      INTEGER NOT NULL REFERENCES study (id),
    series_id     INTEGER NOT NULL,
    patient_attrs INTEGER NOT NULL,
    study_attrs   INTEGER NOT NULL,
    series_attrs  INTEGER NOT NULL,
    reader        INTEGER NOT NULL,
    instances     INTEGER NOT NULL,
    block         BLOB    NOT NULL           -- the other columns of their rows, compressed
);
CREATE INDEX sealed_by_study ON sealed (study_id);

-- What the instances of a study share, sealed or not.
CREATE VIEW instance_attrs AS
SELECT study_id, series_id, patient_attrs, study_attrs, series_attrs, 1 AS instances FROM instance
UNION ALL SELECT study_id, series_id, patient_attrs, study_attrs, series_attrs, instances FROM sealed;

-- As before, but not when a sealed study is opened: its blocks are deleted after its instances are back.
DROP TRIGGER instance_added;
CREATE TRIGGER instance_added AFTER INSERT ON instance WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE study_id = NEW.study_id) BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'instances';
    UPDATE study SET instances = instances + 1 WHERE id = NEW.study_id;
    UPDATE series SET instances = instances + 1 WHERE id = NEW.series_id;
END;
