-- Version 3: an instance of a study whose rows the daemon knows arrives by one statement, which is a transaction by itself.

-- An instance that is new or changed raises the revision of its study; one that is kept as it comes changes nothing. No instance
-- may be in a_instances twice. A row that was inserted, and not updated, has no xmax. The studies that have changed.
CREATE FUNCTION arrive(a_instances JSONB, a_now DOUBLE PRECISION, a_reader BIGINT) RETURNS SETOF BIGINT LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY WITH arriving AS (
        SELECT (value->>0)::BIGINT AS study_id, value->>1 AS uid, (value->>2)::BIGINT AS series_id,
            (value->>3)::BIGINT AS patient_attrs, (value->>4)::BIGINT AS study_attrs, (value->>5)::BIGINT AS series_attrs,
            convert_to(value->>6, 'UTF8') AS body, convert_to(value->>7, 'UTF8') AS notes
        FROM jsonb_array_elements(a_instances)
    ), kept AS (
        INSERT INTO instance (study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes)
        SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, a_reader, body, notes FROM arriving
        ON CONFLICT (study_id, uid, series_id) DO UPDATE SET reader = excluded.reader,
            patient_attrs = excluded.patient_attrs, study_attrs = excluded.study_attrs,
            series_attrs = excluded.series_attrs, body = excluded.body, notes = excluded.notes
        WHERE (instance.patient_attrs, instance.study_attrs, instance.series_attrs, instance.body)
                <> (excluded.patient_attrs, excluded.study_attrs, excluded.series_attrs, excluded.body)
            OR instance.notes IS DISTINCT FROM excluded.notes
        RETURNING study_id, series_id, xmax = 0 AS is_new
    ), filled AS (
        UPDATE series SET instances = series.instances + added.n
        FROM (SELECT series_id, count(*) AS n FROM kept WHERE is_new GROUP BY series_id) AS added
        WHERE series.id = added.series_id
        RETURNING series.study_id, series.instances = added.n AS is_first
    ), counted AS (
        SELECT count_by('total', 0, 'instances', (SELECT count(*) FROM kept WHERE is_new)),
            count_by('total', 0, 'series', (SELECT count(*) FROM filled WHERE is_first))
    ), changed AS (
        SELECT study_id, count(*) AS changes, count(*) FILTER (WHERE is_new) AS added FROM kept GROUP BY study_id
    )
    UPDATE study SET revision = revision + changes, last_at = a_now, instances = study.instances + added,
        series = study.series + (SELECT count(*) FROM filled WHERE filled.study_id = study.id AND is_first)
    FROM changed, counted WHERE study.id = changed.study_id
    RETURNING study.id;
END $$;

-- Excluded deliveries wait again; if instances changed, and not only the senders, delivered and refused ones do, too. A delivery
-- that is being sent records the first change since its claim. `schedule` sets the due times. A study for each delivery.
CREATE FUNCTION reopen(a_studies BIGINT[], a_now DOUBLE PRECISION, instances_changed BOOLEAN) RETURNS SETOF BIGINT
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY UPDATE delivery SET
        newer_at = CASE WHEN state = 'sending' THEN a_now END,
        changed_at = CASE WHEN state = 'sending' THEN changed_at ELSE a_now END,
        attempts = CASE WHEN state = 'sending' THEN attempts ELSE 0 END,
        not_before = CASE WHEN state = 'sending' THEN not_before ELSE 0 END,
        reason = CASE WHEN state = 'sending' THEN reason ELSE '' END,
        state = CASE WHEN state = 'sending' THEN state ELSE 'waiting' END
    WHERE study_id = ANY (a_studies) AND (
        state = 'excluded' OR (state = 'sending' AND newer_at IS NULL)
        OR (instances_changed AND state IN ('delivered', 'refused')))
    RETURNING study_id;
END $$;

-- Does nothing unless all studies are there, were read by this reader as a whole, await nothing, and have nothing that the arrival
-- would restore. A study that an association holds waits for its end: then its due time and delivery.last_at stay as they are, because
-- each change of a delivery costs as much as the instance. Each step sees what the lock had to wait for.
CREATE FUNCTION arrive_known(a_instances JSONB, a_now DOUBLE PRECISION, a_reader BIGINT, a_code TEXT)
RETURNS TABLE (is_stored BOOLEAN, is_reopened BOOLEAN) LANGUAGE plpgsql AS $$
DECLARE
    wanted BIGINT[] := ARRAY(SELECT DISTINCT (value->>0)::BIGINT FROM jsonb_array_elements(a_instances));
    unheld BIGINT[];
    changed BIGINT[];
    reopened BIGINT[];
BEGIN
    PERFORM 1 FROM study WHERE id = ANY (wanted) ORDER BY uid FOR UPDATE;
    IF cardinality(wanted) > (SELECT count(*) FROM study WHERE id = ANY (wanted) AND reader = a_reader
            AND NOT EXISTS (SELECT 1 FROM awaited WHERE study_id = study.id)
            AND NOT EXISTS (SELECT 1 FROM rejected_instance
                WHERE study_id = study.id AND code = a_code AND state = 'in force')) THEN
        RETURN QUERY SELECT false, false;
        RETURN;
    END IF;
    unheld := ARRAY(SELECT id FROM study WHERE id = ANY (wanted)
        AND (prompt_revision = revision OR NOT EXISTS (SELECT 1 FROM inflight WHERE study_id = study.id)));
    changed := ARRAY(SELECT arrive(a_instances, a_now, a_reader));
    reopened := ARRAY(SELECT reopen(changed, a_now, true));
    unheld := ARRAY(SELECT unnest(changed) INTERSECT SELECT unnest(unheld || reopened));
    IF cardinality(unheld) > 0 THEN
        PERFORM schedule(unheld, NULL);
    END IF;
    RETURN QUERY SELECT true, cardinality(reopened) > 0;
END $$;
