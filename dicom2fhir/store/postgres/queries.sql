-- The statements of the store in the words of PostgreSQL, by name, beside those in store/sql/queries.sql; store/sqlite/queries.sql
-- explains them. A test checks the query plan of each: none scans a table that grows.

-- name: new_studies
-- No row for one that another process has just added.
INSERT INTO study (uid, first_at, last_at, reader)
SELECT value, :now, :now, :reader FROM jsonb_array_elements_text(:uids::JSONB)
ON CONFLICT (uid) DO NOTHING RETURNING uid, id;

-- name: new_attrs
INSERT INTO attrs (study_id, hash, body)
SELECT (value->>0)::BIGINT, substring(:hashes::BYTEA FROM 16 * place::INT - 15 FOR 16), convert_to(value->>1, 'UTF8')
FROM jsonb_array_elements(:bodies::JSONB) WITH ORDINALITY AS given (value, place)
ON CONFLICT (study_id, hash) DO NOTHING RETURNING study_id, hash, id;

-- name: attrs_numbers
SELECT study_id, hash, id FROM jsonb_array_elements_text(:studies::JSONB) WITH ORDINALITY AS wanted (study, place)
JOIN attrs ON study_id = study::BIGINT AND hash = substring(:hashes::BYTEA FROM 16 * place::INT - 15 FOR 16);

-- name: new_series
INSERT INTO series (study_id, uid)
SELECT (value->>0)::BIGINT, value->>1 FROM jsonb_array_elements(:series::JSONB)
ON CONFLICT (study_id, uid) DO NOTHING RETURNING study_id, uid, id;

-- name: series_numbers
SELECT study_id, uid, id FROM jsonb_array_elements(:series::JSONB) AS wanted
JOIN series ON study_id = (wanted->>0)::BIGINT AND uid = wanted->>1;

-- name: present
-- The stored instances among the (study, instance) in :keys, in any series.
SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, body, notes
FROM jsonb_array_elements(:keys::JSONB) AS wanted
JOIN instance ON study_id = (wanted->>0)::BIGINT AND uid = wanted->>1;

-- name: arrive
-- No instance may be in :instances twice.
SELECT arrive(:instances::JSONB, :now, :reader);

-- name: arrive_known
SELECT is_stored, is_reopened FROM arrive_known(:instances::JSONB, :now, :reader, :expired);

-- name: reopen
SELECT reopen(ARRAY(SELECT value::BIGINT FROM jsonb_array_elements_text(:studies::JSONB)), :now, :instances_changed);

-- name: outdated
SELECT coalesce(sum(n), 0)::BIGINT FROM counter JOIN reader ON reader.id = number
WHERE kind = 'reader' AND fingerprint NOT IN (:reader, 'none');

-- name: outdated_studies
SELECT id, convert_to(uid, 'UTF8'), revision, series, instances, first_at, last_at FROM study
WHERE reader IN (SELECT id FROM reader WHERE fingerprint NOT IN (:reader, 'none')) LIMIT :limit;

-- name: known_studies
-- Locks the studies until the transaction ends, in the order of :uids.
SELECT uid, number, is_current, is_awaited, is_restorable, is_sealed
FROM jsonb_array_elements_text(:uids::JSONB) AS wanted (uid), known_study(uid, :reader, :expired);

-- name: read_by
-- Record the reader for the (study, instance, series) in :keys that are stored with another reader.
UPDATE instance SET reader = :reader FROM jsonb_array_elements(:keys::JSONB) AS wanted
WHERE reader <> :reader AND study_id = (wanted->>0)::BIGINT AND uid = wanted->>1 AND series_id = (wanted->>2)::BIGINT;

-- name: new_reader
INSERT INTO reader (fingerprint) VALUES (:fingerprint)
ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint RETURNING id;

-- name: new_deliveries
SELECT add_deliveries(value::BIGINT, :now) FROM jsonb_array_elements_text(:studies::JSONB);

-- name: schedule
SELECT schedule(ARRAY(SELECT value::BIGINT FROM jsonb_array_elements_text(:studies::JSONB)), :destination_id::BIGINT);

-- name: begin_studies_by_now
-- A change with a future time was recorded while the clock of the database was wrong.
UPDATE study SET first_at = least(first_at, :now), last_at = :now WHERE last_at > :now;

-- name: begin_waits_by_now
-- A wait that begins in the future begins now, and is as long as it was.
UPDATE delivery SET changed_at = least(changed_at, :now), newer_at = CASE WHEN newer_at > :now THEN :now ELSE newer_at END,
    not_before = not_before - greatest(tried_at - :now, 0), tried_at = least(tried_at, :now)
WHERE state IN ('waiting', 'sending') AND (changed_at > :now OR newer_at > :now OR tried_at > :now);

-- name: hold
-- With the number of the daemon; a process that is none has no heartbeat, and a negative number.
INSERT INTO inflight (association, study_id, process)
SELECT value->>0, (value->>1)::BIGINT, CASE WHEN EXISTS (SELECT 1 FROM node WHERE id = mine) THEN mine ELSE -mine END
FROM jsonb_array_elements(:holds::JSONB), (SELECT current_setting('dicom2fhir.process')::BIGINT) AS own (mine)
ON CONFLICT DO NOTHING RETURNING study_id;

-- name: new_origins
INSERT INTO origin (study_id, calling_ae, at)
SELECT (value->>0)::BIGINT, value->>1, :now FROM jsonb_array_elements(:senders::JSONB)
ON CONFLICT DO NOTHING RETURNING study_id;

-- name: study_folders
SELECT convert_to(folder, 'UTF8'), at FROM source_folder WHERE study_id = :study_id ORDER BY at, folder;

-- name: new_rejection
INSERT INTO rejection (at, kind, calling_ae, called_ae, peer, path, association, reason, error)
VALUES (:at, :kind, :calling_ae, :called_ae, :peer, :path, :association, :reason, :error)
RETURNING id;

-- name: file_mark
SELECT size_bytes, mtime_ns, outcome, reason, reader IS DISTINCT FROM (SELECT id FROM reader WHERE fingerprint = :reader)
FROM file WHERE sha256(path) = sha256(:path);

-- name: mark_file
INSERT INTO file (path, size_bytes, mtime_ns, outcome, reason, reader)
VALUES (:path, :size_bytes, :mtime_ns, :outcome, :reason, :reader)
ON CONFLICT (sha256(path)) DO UPDATE SET size_bytes = excluded.size_bytes, mtime_ns = excluded.mtime_ns,
    outcome = excluded.outcome, reason = excluded.reason, reader = excluded.reader;

-- name: leave_destination
UPDATE destination SET in_force = false WHERE name = :destination;

-- name: enter_destination
SELECT enter_destination(:destination);

-- name: mapping_fingerprints
SELECT destination.name, destination.recipe, destination.paused_at, made.label, made.n
FROM destination LEFT JOIN (
    SELECT number, label, sum(counter.n)::BIGINT AS n FROM counter WHERE kind = 'made' GROUP BY number, label
) AS made ON made.number = destination.id AND made.label <> destination.recipe AND made.n > 0
WHERE in_force ORDER BY destination.name, made.label;

-- name: fill_destination
INSERT INTO delivery (study_id, destination_id, state, last_at, changed_at)
SELECT value::BIGINT, :destination_id, 'waiting', :now, :now FROM jsonb_array_elements_text(:studies::JSONB);

-- name: claimable
SELECT delivery.study_id, delivery.destination_id, convert_to(study.uid, 'UTF8'), study.revision, delivery.delivered_revision,
    delivery.attempts, base.body
FROM destination
JOIN delivery ON delivery.destination_id = destination.id
JOIN study ON study.id = delivery.study_id
LEFT JOIN base ON base.study_id = delivery.study_id AND base.destination_id = delivery.destination_id
WHERE destination.name = :destination AND destination.in_force AND destination.paused_at IS NULL
    AND delivery.state IN ('waiting', 'sending') AND delivery.due_at <= :now
ORDER BY delivery.due_at LIMIT 1 OFFSET :passed_over
FOR UPDATE OF delivery SKIP LOCKED;

-- name: take
UPDATE delivery SET state = 'sending', owner = :owner, process = current_setting('dicom2fhir.process')::BIGINT, tried_at = :now,
    lease_until = :now::DOUBLE PRECISION + :lease_s, due_at = :now::DOUBLE PRECISION + :lease_s, not_before = 0, newer_at = NULL, names_new = false
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: held_claim
SELECT delivery.study_id, delivery.destination_id, study.revision, delivery.newer_at, delivery.state, delivery.owner,
    delivery.delivered_revision
FROM study
JOIN delivery ON delivery.study_id = study.id
JOIN destination ON destination.id = delivery.destination_id
WHERE study.uid = :study_uid AND destination.name = :destination
FOR UPDATE OF study, delivery;

-- name: give_back_delivered
UPDATE delivery SET state = :state, delivered_revision = :revision, delivered_at = :now, attempts = 0,
    reason = CASE WHEN :state = 'delivered' THEN :unlinked ELSE '' END, recipe = :fingerprint, unclaimed = :unclaimed, refused = :refused,
    failing_s = 0, failing_at = NULL,
    changed_at = coalesce(newer_at, :now), newer_at = NULL, not_before = 0, due_at = 0, owner = '', lease_until = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: keep_base
INSERT INTO base (study_id, destination_id, body) VALUES (:study_id, :destination_id, :body)
ON CONFLICT (study_id, destination_id) DO UPDATE SET body = excluded.body;

-- name: selection
-- Whoever changes it waits until the transaction ends.
SELECT selection FROM destination WHERE name = :destination FOR SHARE;

-- name: requeue_some
-- By study id and not by state, or each part would read all deliveries of a state.
UPDATE delivery SET changed_at = CASE WHEN state = 'waiting' THEN changed_at ELSE :now END,
    state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = '', failing_s = 0, failing_at = NULL
WHERE study_id BETWEEN :first AND :last
    AND (state IN ('waiting', 'refused') OR (state = 'delivered' AND refused <> '')
        OR (:all_states AND state IN ('delivered', 'excluded')))
    AND destination_id IN (SELECT id FROM destination WHERE in_force AND name = coalesce(:destination, name));

-- name: relink
-- `reason` lists what a delivered study could not reference. By study id, as in `requeue_some`.
UPDATE delivery SET changed_at = :now, state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = ''
WHERE study_id BETWEEN :first AND :last AND state = 'delivered' AND reason <> '' AND last_at >= :since
    AND destination_id = (SELECT id FROM destination WHERE in_force AND name = :destination);

-- name: relink_mentions
-- The studies that refer to :study_uid, which the destination has got just now. `reason` lists the types of what a delivered
-- study could not reference. One that is being sent may have been looked up before.
UPDATE delivery SET
    names_new = state = 'sending',
    changed_at = CASE WHEN state = 'sending' THEN changed_at ELSE :now END,
    due_at = CASE WHEN state = 'sending' THEN due_at ELSE :now END,
    attempts = CASE WHEN state = 'sending' THEN attempts ELSE 0 END,
    reason = CASE WHEN state = 'sending' THEN reason ELSE '' END,
    state = CASE WHEN state = 'sending' THEN state ELSE 'waiting' END
WHERE study_id IN (SELECT mention.study_id FROM mention WHERE uid = :study_uid AND mention.study_id <> :study_id)
    AND destination_id = :destination_id
    AND (state = 'sending' OR (state = 'delivered' AND reason LIKE '%ImagingStudy%'));

-- name: relink_late
UPDATE delivery SET changed_at = :now, state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = ''
WHERE study_id = :study_id AND destination_id = :destination_id AND state = 'delivered' AND names_new
    AND reason LIKE '%ImagingStudy%';

-- name: state_availability
INSERT INTO availability (study_id, uid, retrieve_ae, attrs)
SELECT :study_id, value->>0, value->>1, (value->>2)::BIGINT FROM jsonb_array_elements(:stated::JSONB)
ON CONFLICT (study_id, uid, retrieve_ae) DO UPDATE SET attrs = excluded.attrs WHERE availability.attrs <> excluded.attrs;

-- name: reject_instances
-- A note that is repeated changes nothing; one that becomes trusted, or gets another title or other modifiers, does. Modifiers do
-- not reject again what was restored.
INSERT INTO rejected_instance (study_id, uid, note, code, state, modifiers)
SELECT DISTINCT :study_id::BIGINT, value, :note::TEXT, :code::TEXT, :state::TEXT, :modifiers::TEXT
FROM jsonb_array_elements_text(:uids::JSONB)
ON CONFLICT (study_id, uid, note) DO UPDATE SET code = excluded.code, modifiers = excluded.modifiers,
    state = CASE WHEN rejected_instance.code <> excluded.code OR rejected_instance.state = 'asked' THEN excluded.state
                 ELSE rejected_instance.state END
WHERE excluded.state = 'in force' AND (rejected_instance.code <> excluded.code OR rejected_instance.state = 'asked'
    OR rejected_instance.modifiers <> excluded.modifiers);

-- name: rejections_to_keep
-- When its study is forgotten: what was applied, or restored, of instances other than the note.
SELECT note, code, state, modifiers, jsonb_agg(uid)::TEXT FROM rejected_instance
WHERE study_id = :study_id AND state <> 'asked' AND uid <> note GROUP BY note, code, state, modifiers;

-- name: rejected_elsewhere
-- What is rejected of the other studies that the documents of a study name.
SELECT study.uid, rejected_instance.uid
FROM mention JOIN study ON study.uid = mention.uid JOIN rejected_instance ON rejected_instance.study_id = study.id
WHERE mention.study_id = :study_id AND state = 'in force' AND rejected_instance.uid <> note;

-- name: step
SELECT body FROM step WHERE uid = :uid FOR UPDATE;

-- name: keep_step
INSERT INTO step (uid, study_id, status, listed, body) VALUES (:uid, :study_id, :status, :listed, :body)
ON CONFLICT (uid) DO UPDATE SET status = excluded.status, listed = excluded.listed, body = excluded.body;

-- name: await
INSERT INTO awaited (study_id, uid) SELECT :study_id, value FROM jsonb_array_elements_text(:uids::JSONB)
WHERE NOT EXISTS (SELECT 1 FROM instance WHERE study_id = :study_id AND uid = value)
ON CONFLICT DO NOTHING;

-- name: awaited_arrived
DELETE FROM awaited USING jsonb_array_elements(:keys::JSONB) AS wanted
WHERE study_id = (wanted->>0)::BIGINT AND uid = wanted->>1;

-- name: steps_are_done
-- Whether each step of the study has ended, one of them lists instances, and none was completed without a list.
SELECT coalesce(max(listed) > 0 AND bool_and(status = 'DISCONTINUED' OR (status = 'COMPLETED' AND listed > 0)), false)
FROM step WHERE study_id = :study_id;

-- name: uid_of_study
SELECT convert_to(uid, 'UTF8') FROM study WHERE id = :study_id;

-- name: study_status
SELECT id, convert_to(uid, 'UTF8'), revision, series, instances, first_at, last_at FROM study WHERE uid = :study_uid;

-- name: latest_studies
SELECT id, convert_to(uid, 'UTF8'), revision, series, instances, first_at, last_at FROM study ORDER BY last_at DESC, id DESC LIMIT :limit;

-- name: latest_studies_in_state
SELECT id, convert_to(uid, 'UTF8'), revision, series, instances, first_at, last_at FROM study JOIN (
    SELECT delivery.study_id FROM delivery
    WHERE state = :state AND destination_id IN (SELECT id FROM destination WHERE in_force)
    GROUP BY last_at, study_id ORDER BY last_at DESC, study_id DESC LIMIT :limit
) AS latest ON latest.study_id = study.id
ORDER BY last_at DESC, id DESC;

-- name: totals
SELECT named.name, coalesce(sum(n), 0)::BIGINT
FROM (VALUES ('studies'), ('series'), ('instances'), ('rejected'), ('skipped')) AS named (name)
LEFT JOIN counter ON kind = 'total' AND label = named.name GROUP BY named.name;

-- name: rejected
SELECT label, sum(n)::BIGINT FROM counter WHERE kind = 'rejected' GROUP BY label ORDER BY label;

-- name: tallies
SELECT label, sum(n)::BIGINT FROM counter JOIN destination ON destination.id = number
WHERE kind = 'tally' AND in_force GROUP BY label;

-- name: oldest_undelivered_study
SELECT oldest.name, delivery.changed_at, study.id, convert_to(study.uid, 'UTF8'), study.revision, series, instances, first_at,
    study.last_at
FROM (SELECT destination.id, destination.name, (
        SELECT study_id FROM delivery WHERE destination_id = destination.id AND state IN ('waiting', 'sending')
        ORDER BY changed_at LIMIT 1) AS study_id
    FROM destination WHERE in_force) AS oldest
JOIN delivery ON delivery.study_id = oldest.study_id AND delivery.destination_id = oldest.id
JOIN study ON study.id = delivery.study_id
ORDER BY delivery.changed_at LIMIT 1;

-- name: stale_lately
-- Studies that have changed lately and are not in the index as they are: new ones, and those that have been quiet since
-- :quiet_before or are in the index as they were before :taken_before.
SELECT study.id, convert_to(uid, 'UTF8'), study.revision, study.last_at, sources
FROM study LEFT JOIN study_index ON study_index.study_id = study.id CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM origin WHERE origin.study_id = study.id)
        + (SELECT count(*) FROM source_folder WHERE source_folder.study_id = study.id) AS sources) AS counted
WHERE study.last_at >= :since
    AND (study_index.revision IS NULL OR (
        (study_index.revision, origins) <> (study.revision, sources)
        AND (study.last_at <= :quiet_before OR study_index.last_at <= :taken_before)))
LIMIT :limit;

-- name: stale_by_id
-- As `stale_lately`.
SELECT study.id, convert_to(uid, 'UTF8'), study.revision, study.last_at, sources
FROM study LEFT JOIN study_index ON study_index.study_id = study.id CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM origin WHERE origin.study_id = study.id)
        + (SELECT count(*) FROM source_folder WHERE source_folder.study_id = study.id) AS sources) AS counted
WHERE study.id BETWEEN :first AND :last
    AND (study_index.revision IS NULL OR (
        (study_index.revision, origins) <> (study.revision, sources)
        AND (study.last_at <= :quiet_before OR study_index.last_at <= :taken_before)))
ORDER BY study.id LIMIT :limit;

-- name: study_senders
SELECT convert_to(calling_ae, 'UTF8'), at FROM origin WHERE study_id = :study_id ORDER BY at, calling_ae;

-- name: index_study
-- Unless the study was forgotten since it was read. Locks the entry until the transaction ends.
INSERT INTO study_index (study_id, revision, origins, last_at)
SELECT id, :revision, :origins, :last_at FROM study WHERE id = :study_id FOR SHARE
ON CONFLICT (study_id) DO UPDATE SET revision = excluded.revision, origins = excluded.origins, last_at = excluded.last_at;

-- name: new_key
INSERT INTO study_key (kind, value, last_at, study_id)
SELECT :kind, :value, :last_at, id FROM study WHERE id = :study_id
ON CONFLICT DO NOTHING;

-- name: forget_counted_instances
-- They were received, and stay counted in their minute.
SELECT count_by('total', 0, 'instances_counted', -instances) FROM study WHERE id = :study_id;

-- name: uncounted_instances
SELECT coalesce(sum(CASE label WHEN 'instances' THEN n ELSE -n END), 0)::BIGINT FROM counter
WHERE kind = 'total' AND number = 0 AND label IN ('instances', 'instances_counted')
    AND process = current_setting('dicom2fhir.process')::BIGINT;

-- name: count_instances_as_received
SELECT count_by('total', 0, 'instances_counted', :received);

-- name: count_in_minute
INSERT INTO counted_minute (minute, received, delivered) VALUES (:minute, :received, :delivered)
ON CONFLICT (minute) DO UPDATE SET received = counted_minute.received + excluded.received,
    delivered = counted_minute.delivered + excluded.delivered;

-- name: find_by_key
SELECT study.id, convert_to(uid, 'UTF8'), study.revision, study.series, study.instances, study.first_at, study.last_at, listed.last_at
FROM study_key AS listed JOIN study ON study.id = listed.study_id
WHERE listed.kind = :kind AND md5(listed.value) = md5(:value) AND listed.value = :value AND (listed.last_at, listed.study_id) < (:last_at, :study_id)
    AND NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements(:keys::JSONB) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = wanted->>0
                AND md5(study_key.value) = md5(wanted->>1) AND study_key.value = wanted->>1))
    AND (coalesce(:state, :destination)::TEXT IS NULL OR EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = destination_id
        WHERE delivery.study_id = listed.study_id AND in_force
            AND state = coalesce(:state, state) AND name = coalesce(:destination, name)))
    AND (:first_date::TEXT IS NULL OR EXISTS (
        SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = 'study_date'
            AND study_key.value BETWEEN :first_date AND :last_date))
ORDER BY listed.last_at DESC, listed.study_id DESC LIMIT :limit;

-- name: find_by_date
-- A study with several dates in the range is listed at the latest of them. A value that is not short is no date.
SELECT study.id, convert_to(uid, 'UTF8'), study.revision, study.series, study.instances, study.first_at, study.last_at,
    listed.last_at, listed.value
FROM study_key AS listed JOIN study ON study.id = listed.study_id
WHERE listed.kind = 'study_date' AND length(listed.value) <= 16 AND listed.value BETWEEN :first_date AND :last_date
    AND (listed.value, listed.last_at, listed.study_id) < (:date, :last_at, :study_id)
    AND NOT EXISTS (
        SELECT 1 FROM study_key AS later WHERE later.study_id = listed.study_id AND later.kind = 'study_date'
            AND length(later.value) <= 16 AND later.value > listed.value AND later.value <= :last_date)
    AND NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements(:keys::JSONB) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = wanted->>0
                AND md5(study_key.value) = md5(wanted->>1) AND study_key.value = wanted->>1))
    AND (coalesce(:state, :destination)::TEXT IS NULL OR EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = destination_id
        WHERE delivery.study_id = listed.study_id AND in_force
            AND state = coalesce(:state, state) AND name = coalesce(:destination, name)))
ORDER BY listed.value DESC, listed.last_at DESC, listed.study_id DESC LIMIT :limit;

-- name: find_by_state
-- A study with several such deliveries is listed at the latest of them.
SELECT study.id, convert_to(uid, 'UTF8'), study.revision, study.series, study.instances, study.first_at, study.last_at, listed.last_at
FROM delivery AS listed JOIN study ON study.id = listed.study_id
WHERE listed.state = :state AND (listed.last_at, listed.study_id) < (:last_at, :study_id)
    AND EXISTS (SELECT 1 FROM destination
        WHERE id = listed.destination_id AND in_force AND name = coalesce(:destination, name))
    AND NOT EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = destination_id
        WHERE :destination::TEXT IS NULL AND delivery.study_id = listed.study_id AND state = :state AND in_force
            AND (delivery.last_at, destination_id) > (listed.last_at, listed.destination_id))
    AND NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements(:keys::JSONB) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = wanted->>0
                AND md5(study_key.value) = md5(wanted->>1) AND study_key.value = wanted->>1))
    AND (:first_date::TEXT IS NULL OR EXISTS (
        SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = 'study_date'
            AND study_key.value BETWEEN :first_date AND :last_date))
ORDER BY listed.last_at DESC, listed.study_id DESC LIMIT :limit;

-- name: series_summaries
SELECT convert_to(series.uid, 'UTF8'), series.instances, body
FROM series
JOIN (SELECT series_id, max(series_attrs) AS number FROM instance_attrs WHERE study_id = :study_id GROUP BY series_id) AS used
    ON used.series_id = series.id
LEFT JOIN attrs ON attrs.id = number
WHERE series.study_id = :study_id ORDER BY series.id;

-- name: last_sent
SELECT destination.name, base.body
FROM study JOIN base ON base.study_id = study.id JOIN destination ON destination.id = base.destination_id
WHERE study.uid = :study_uid AND in_force AND length(base.body) > 0;

-- name: new_attempt
INSERT INTO attempt (study_id, destination_id, number, at, revision, outcome, answer)
SELECT :study_id::BIGINT, :destination_id::BIGINT, coalesce(max(number), 0) + 1, :at::DOUBLE PRECISION, :revision::BIGINT,
    :outcome::TEXT, :answer::TEXT
FROM attempt WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: recent_attempts
SELECT convert_to(study.uid, 'UTF8'), destination.name, at, attempt.revision, outcome, answer, times
FROM attempt JOIN study ON study.id = study_id JOIN destination ON destination.id = destination_id
WHERE at >= :since AND in_force ORDER BY at DESC LIMIT :limit;

-- name: end_holds
-- Of the daemons that have ended; what an import holds is released by its end, or by that of the same import when it goes on.
DELETE FROM inflight WHERE process >= 0 AND process NOT IN (SELECT id FROM node) RETURNING study_id;

-- name: end_leases
-- Of the daemons that have ended.
UPDATE delivery SET state = 'waiting', owner = '', lease_until = 0, newer_at = NULL
WHERE state = 'sending' AND process NOT IN (SELECT id FROM node) RETURNING study_id;

-- name: study_to_change
-- Locks the study until the transaction ends.
SELECT id FROM study WHERE uid = :study_uid FOR UPDATE;

-- name: enter_node
INSERT INTO node (id, name, seen_at) VALUES (current_setting('dicom2fhir.process')::BIGINT, :name, clock_timestamp());

-- name: agree
-- One daemon at a time declares its destinations.
SELECT pg_advisory_xact_lock(hashtext('dicom2fhir destinations'));

-- name: declared_last
-- By another daemon that is not dead.
SELECT name, destinations::TEXT FROM node
WHERE destinations IS NOT NULL AND id <> current_setting('dicom2fhir.process')::BIGINT
    AND seen_at >= clock_timestamp() - make_interval(secs => :dead_after_s)
ORDER BY declared_at DESC LIMIT 1;

-- name: declare
UPDATE node SET destinations = :destinations::JSONB, declared_at = clock_timestamp()
WHERE id = current_setting('dicom2fhir.process')::BIGINT;

-- name: leave_node
DELETE FROM node WHERE id = current_setting('dicom2fhir.process')::BIGINT;

-- name: forget_dead_nodes
DELETE FROM node WHERE seen_at < clock_timestamp() - make_interval(secs => :dead_after_s);

-- name: is_somebody_gone
-- A daemon that is dead, or a process that has ended and left its counts.
SELECT EXISTS (SELECT 1 FROM node WHERE seen_at < clock_timestamp() - make_interval(secs => :dead_after_s))
    OR EXISTS (SELECT 1 FROM counter WHERE process NOT IN (SELECT id FROM node));

-- name: inherit_counters
-- What processes have counted that have ended.
WITH moved AS (DELETE FROM counter WHERE process NOT IN (SELECT id FROM node) RETURNING kind, number, label, n)
SELECT count_by(kind, number, label, sum(n)::BIGINT) FROM moved GROUP BY kind, number, label;

-- name: is_owned
SELECT EXISTS (SELECT 1 FROM node WHERE seen_at >= clock_timestamp() - make_interval(secs => :dead_after_s));
