-- Version 3: an instance arrives by one statement, which is a transaction by itself.

-- What arrives, when (at), and the end of the longest wait from then (latest_at). An instance that is kept as it comes changes
-- nothing. One that is new or changed raises the study's revision; what was delivered or refused waits again, and what is
-- being sent remembers that something newer came. The due time that this leaves is that of a study that an association holds
-- and goes on to hold: whoever inserts others has to settle them. delivery.last_at follows study.last_at when that is done, and
-- not with every arrival: it orders lists, and each change of it costs two pages of an index.
CREATE VIEW arrival AS
SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, body, notes, 0.0 AS at, 0.0 AS latest_at
FROM instance;

CREATE TRIGGER arrived INSTEAD OF INSERT ON arrival BEGIN
    INSERT INTO instance (study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, body, notes)
    VALUES (NEW.study_id, NEW.uid, NEW.series_id, NEW.patient_attrs, NEW.study_attrs, NEW.series_attrs, NEW.body, NEW.notes)
    ON CONFLICT (study_id, uid) DO UPDATE SET series_id = excluded.series_id, patient_attrs = excluded.patient_attrs,
        study_attrs = excluded.study_attrs, series_attrs = excluded.series_attrs, body = excluded.body, notes = excluded.notes
    WHERE instance.series_id <> excluded.series_id OR instance.patient_attrs <> excluded.patient_attrs
        OR instance.study_attrs <> excluded.study_attrs OR instance.series_attrs <> excluded.series_attrs
        OR instance.body <> excluded.body OR instance.notes IS NOT excluded.notes;
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
