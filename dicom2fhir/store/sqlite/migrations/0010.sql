-- Version 10: triggers count, and nothing else. Statements (store/sqlite/queries.sql) decide what an arrival means for deliveries.

-- One statement for an arrival, which is a transaction by itself. `at` is when it arrives. An instance that is new or changed
-- raises the study's revision; one that is kept as it comes changes nothing.
DROP VIEW arrival;
CREATE VIEW arrival AS
SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes, 0.0 AS at FROM instance;

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
END;

DROP TRIGGER origin_added;
