-- The statements of the store in the words of SQLite, by name, beside those in store/sql/queries.sql. A test checks the query plan of
-- each: none scans a table that grows.

-- name: study_to_change
SELECT id FROM study WHERE uid = :study_uid;

-- name: new_studies
-- Their ids are greater than any before, including those of deleted studies.
INSERT INTO study (id, uid, first_at, last_at, reader)
SELECT max(n, coalesce((SELECT max(id) FROM study), 0)) + 1 + key, value, :now, :now, :reader
FROM json_each(:uids) CROSS JOIN total WHERE name = 'last_forgotten'
RETURNING uid, id;

-- name: new_attrs
-- Of [study, body] in :bodies those that are absent; :hashes are 16 bytes of each. Those that are there are not returned.
INSERT INTO attrs (study_id, hash, body)
SELECT json_extract(value, '$[0]'), substr(:hashes, 1 + 16 * key, 16), CAST(json_extract(value, '$[1]') AS BLOB)
FROM json_each(:bodies) WHERE true
ON CONFLICT DO NOTHING RETURNING study_id, hash, id;

-- name: attrs_numbers
-- Of :hashes, 16 bytes for each of :studies.
SELECT study_id, hash, attrs.id
FROM json_each(:studies) AS wanted CROSS JOIN attrs ON study_id = wanted.value AND hash = substr(:hashes, 1 + 16 * wanted.key, 16);

-- name: new_series
-- Of [study, series] in :series those that are absent; those that are there are not returned.
INSERT INTO series (study_id, uid)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:series) WHERE true
ON CONFLICT DO NOTHING RETURNING study_id, uid, id;

-- name: series_numbers
SELECT study_id, uid, series.id FROM json_each(:series) AS wanted CROSS JOIN series
ON study_id = json_extract(wanted.value, '$[0]') AND uid = json_extract(wanted.value, '$[1]');

-- name: present
-- The stored instances among the (study, instance) in :keys, in any series.
SELECT study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, body, notes
FROM json_each(:keys) AS wanted CROSS JOIN instance
WHERE study_id = json_extract(wanted.value, '$[0]') AND uid = json_extract(wanted.value, '$[1]');

-- name: attached_writes
-- Transactions of processes that do not own the store.
SELECT coalesce((SELECT n FROM total WHERE name = 'attached_writes'), 0);

-- name: count_attached_write
INSERT INTO total (name, n) VALUES ('attached_writes', 1) ON CONFLICT (name) DO UPDATE SET n = n + 1;

-- name: arrive
-- One statement for all instances, because the interpreter may switch to another thread at each statement. It fails, because a
-- study cannot be NULL, if another process has written since :attached_writes was read: what the writer knows may be outdated.
INSERT INTO arrival (study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes, at)
SELECT
    iif(coalesce((SELECT n FROM total WHERE name = 'attached_writes'), 0) = :attached_writes, json_extract(value, '$[0]'), NULL),
    json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
    json_extract(value, '$[5]'), :reader, CAST(json_extract(value, '$[6]') AS BLOB),
    CAST(json_extract(value, '$[7]') AS BLOB), :now
FROM json_each(:instances);

-- name: reopen
-- Excluded deliveries wait again; if instances changed, and not only the senders, delivered and refused ones do, too. A delivery
-- that is being sent records the first change since its claim. `schedule` sets the due times.
UPDATE delivery SET
    newer_at = iif(state = 'sending', :now, NULL),
    changed_at = iif(state = 'sending', changed_at, :now),
    attempts = iif(state = 'sending', attempts, 0),
    not_before = iif(state = 'sending', not_before, 0),
    reason = iif(state = 'sending', reason, ''),
    state = iif(state = 'sending', state, 'waiting')
WHERE study_id IN (SELECT value FROM json_each(:studies)) AND (
    +state = 'excluded' OR (+state = 'sending' AND newer_at IS NULL)
    OR (:instances_changed AND +state IN ('delivered', 'refused')));

-- name: outdated
SELECT coalesce(sum(studies), 0) FROM reader WHERE fingerprint NOT IN (:reader, 'none');

-- name: outdated_studies
SELECT id, CAST(uid AS BLOB), revision, series, instances, first_at, last_at FROM study
WHERE reader IN (SELECT id FROM reader WHERE fingerprint NOT IN (:reader, 'none') AND studies > 0) LIMIT :limit;

-- name: known_studies
SELECT uid, study.id, reader = :reader, EXISTS (SELECT 1 FROM awaited WHERE study_id = study.id),
    EXISTS (SELECT 1 FROM rejected_instance WHERE study_id = study.id AND code = :expired AND state = 'in force'),
    EXISTS (SELECT 1 FROM sealed WHERE study_id = study.id)
FROM json_each(:uids) AS wanted CROSS JOIN study ON uid = wanted.value;

-- name: read_by
-- Record the reader for the (study, instance, series) in :keys that are stored with another reader.
UPDATE instance SET reader = :reader WHERE reader <> :reader AND (study_id, uid, series_id) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:keys));

-- name: new_reader
INSERT INTO reader (fingerprint) VALUES (:fingerprint);

-- name: new_deliveries
INSERT INTO delivery (study_id, destination_id, state, last_at, changed_at)
SELECT value, destination.id, 'waiting', :now, :now FROM json_each(:studies) CROSS JOIN destination WHERE in_force;

-- name: schedule
-- The due rule: a delivery is due when its study has not changed for the quiet period and no association holds it, or at once in
-- a prompt revision, but at the latest when the longest wait has passed since the first change that the destination does not
-- have. It is never due before the pause after a failed attempt or the lease has ended. Other statements set due_at only to the
-- end of a new lease, or to now on request.
UPDATE delivery SET
    last_at = (SELECT last_at FROM study WHERE id = delivery.study_id),
    due_at = max(not_before, lease_until, min(
        changed_at + (SELECT max_wait_s FROM due_rule),
        (SELECT CASE WHEN prompt_revision = revision THEN last_at
                     WHEN EXISTS (SELECT 1 FROM inflight WHERE study_id = study.id) THEN 1e300
                     ELSE last_at + (SELECT quiet_period_s FROM due_rule) END
         FROM study WHERE id = delivery.study_id)))
WHERE study_id IN (SELECT value FROM json_each(:studies)) AND +state IN ('waiting', 'sending')
    AND destination_id = coalesce(:destination_id, destination_id);

-- name: begin_studies_by_now
-- A change with a future time was recorded while the clock was wrong.
UPDATE study SET first_at = min(first_at, :now), last_at = :now WHERE last_at > :now;

-- name: begin_waits_by_now
-- A wait that begins in the future begins now, and is as long as it was.
UPDATE delivery SET changed_at = min(changed_at, :now), newer_at = min(newer_at, :now),
    not_before = not_before - max(tried_at - :now, 0), tried_at = min(tried_at, :now)
WHERE state IN ('waiting', 'sending') AND (changed_at > :now OR newer_at > :now OR tried_at > :now);

-- name: hold
-- The studies in :holds, of [association, study], that the association has not held so far.
INSERT INTO inflight (association, study_id)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:holds) WHERE true
ON CONFLICT DO NOTHING RETURNING study_id;

-- name: new_origins
-- The studies in :senders, of [study, AE title], that it has not sent so far.
INSERT INTO origin (study_id, calling_ae, at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), :now FROM json_each(:senders) WHERE true
ON CONFLICT DO NOTHING RETURNING study_id;

-- name: study_folders
SELECT CAST(folder AS BLOB), at FROM source_folder WHERE study_id = :study_id ORDER BY at, folder;

-- name: end_holds
DELETE FROM inflight RETURNING study_id;

-- name: end_leases
UPDATE delivery SET state = 'waiting', owner = '', lease_until = 0, newer_at = NULL WHERE state = 'sending' RETURNING study_id;

-- name: new_rejection
INSERT INTO rejection (at, kind, calling_ae, called_ae, peer, path, association, reason, error)
VALUES (:at, :kind, :calling_ae, :called_ae, :peer, :path, :association, :reason, :error);

-- name: file_mark
SELECT size_bytes, mtime_ns, outcome, reason, reader IS NOT (SELECT id FROM reader WHERE fingerprint = :reader)
FROM file WHERE path = :path;

-- name: mark_file
INSERT INTO file (path, size_bytes, mtime_ns, outcome, reason, reader)
VALUES (:path, :size_bytes, :mtime_ns, :outcome, :reason, :reader)
ON CONFLICT (path) DO UPDATE SET size_bytes = excluded.size_bytes, mtime_ns = excluded.mtime_ns,
    outcome = excluded.outcome, reason = excluded.reason, reader = excluded.reader;

-- name: leave_destination
UPDATE destination SET in_force = 0 WHERE name = :destination;

-- name: enter_destination
INSERT INTO destination (name) VALUES (:destination) ON CONFLICT (name) DO UPDATE SET in_force = 1;

-- name: mapping_fingerprints
SELECT destination.name, destination.recipe, destination.paused_at, made.recipe, made.n
FROM destination LEFT JOIN made ON destination_id = id AND made.recipe <> destination.recipe AND n > 0
WHERE in_force ORDER BY destination.name, made.recipe;

-- name: fill_destination
INSERT INTO delivery (study_id, destination_id, state, last_at, changed_at)
SELECT value, :destination_id, 'waiting', :now, :now FROM json_each(:studies);

-- name: claimable
SELECT delivery.study_id, delivery.destination_id, CAST(study.uid AS BLOB), study.revision, delivery.delivered_revision,
    delivery.attempts, base.body
FROM destination
JOIN delivery ON delivery.destination_id = destination.id
JOIN study ON study.id = delivery.study_id
LEFT JOIN base ON base.study_id = delivery.study_id AND base.destination_id = delivery.destination_id
WHERE destination.name = :destination AND destination.in_force AND destination.paused_at IS NULL
    AND delivery.state IN ('waiting', 'sending') AND delivery.due_at <= :now
ORDER BY delivery.due_at LIMIT 1 OFFSET :passed_over;

-- name: take
UPDATE delivery SET state = 'sending', owner = :owner, tried_at = :now, lease_until = :now + :lease_s,
    due_at = :now + :lease_s, not_before = 0, newer_at = NULL, names_new = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: held_claim
SELECT delivery.study_id, delivery.destination_id, study.revision, delivery.newer_at, delivery.state, delivery.owner,
    delivery.delivered_revision
FROM study
JOIN delivery ON delivery.study_id = study.id
JOIN destination ON destination.id = delivery.destination_id
WHERE study.uid = :study_uid AND destination.name = :destination;

-- name: give_back_delivered
UPDATE delivery SET state = :state, delivered_revision = :revision, delivered_at = :now, attempts = 0,
    reason = iif(:state = 'delivered', :unlinked, ''), recipe = :fingerprint, unclaimed = :unclaimed, refused = :refused,
    failing_s = 0, failing_at = NULL,
    changed_at = coalesce(newer_at, :now), newer_at = NULL, not_before = 0, due_at = 0, owner = '', lease_until = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: keep_base
INSERT INTO base (study_id, destination_id, body) VALUES (:study_id, :destination_id, :body)
ON CONFLICT DO UPDATE SET body = excluded.body;

-- name: selection
SELECT selection FROM destination WHERE name = :destination;

-- name: requeue_some
-- By study id and not by state, or each part would read all deliveries of a state.
UPDATE delivery SET changed_at = CASE WHEN state = 'waiting' THEN changed_at ELSE :now END,
    state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = '', failing_s = 0, failing_at = NULL
WHERE study_id BETWEEN :first AND :last
    AND (+state IN ('waiting', 'refused') OR (+state = 'delivered' AND refused <> '')
        OR (:all_states AND +state IN ('delivered', 'excluded')))
    AND destination_id IN (SELECT id FROM destination WHERE in_force AND name = coalesce(:destination, name));

-- name: relink
-- `reason` lists what a delivered study could not reference. By study id, as in `requeue_some`.
UPDATE delivery SET changed_at = :now, state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = ''
WHERE study_id BETWEEN :first AND :last AND +state = 'delivered' AND reason <> '' AND +last_at >= :since
    AND destination_id = (SELECT id FROM destination WHERE in_force AND name = :destination);

-- name: relink_mentions
-- The studies that refer to :study_uid, which the destination has got just now. `reason` lists the types of what a delivered
-- study could not reference. One that is being sent may have been looked up before.
UPDATE delivery SET
    names_new = +state = 'sending',
    changed_at = iif(state = 'sending', changed_at, :now),
    due_at = iif(state = 'sending', due_at, :now),
    attempts = iif(state = 'sending', attempts, 0),
    reason = iif(state = 'sending', reason, ''),
    state = iif(state = 'sending', state, 'waiting')
WHERE study_id IN (SELECT mention.study_id FROM mention WHERE uid = :study_uid AND mention.study_id <> :study_id)
    AND destination_id = :destination_id
    AND (+state = 'sending' OR (+state = 'delivered' AND reason LIKE '%ImagingStudy%'));

-- name: relink_late
UPDATE delivery SET changed_at = :now, state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = ''
WHERE study_id = :study_id AND destination_id = :destination_id AND +state = 'delivered' AND names_new
    AND reason LIKE '%ImagingStudy%';

-- name: state_availability
INSERT INTO availability (study_id, uid, retrieve_ae, attrs)
SELECT :study_id, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(:stated) WHERE true
ON CONFLICT DO UPDATE SET attrs = excluded.attrs WHERE attrs <> excluded.attrs;

-- name: reject_instances
-- A note that is repeated changes nothing; one that becomes trusted, or gets another title or other modifiers, does. Modifiers do
-- not reject again what was restored.
INSERT INTO rejected_instance (study_id, uid, note, code, state, modifiers)
SELECT :study_id, value, :note, :code, :state, :modifiers FROM json_each(:uids) WHERE true
ON CONFLICT DO UPDATE SET code = excluded.code, modifiers = excluded.modifiers,
    state = iif(code <> excluded.code OR state = 'asked', excluded.state, state)
WHERE excluded.state = 'in force' AND (code <> excluded.code OR state = 'asked' OR modifiers <> excluded.modifiers);

-- name: rejections_to_keep
-- When its study is forgotten: what was applied, or restored, of instances other than the note.
SELECT note, code, state, modifiers, json_group_array(uid) FROM rejected_instance
WHERE study_id = :study_id AND state <> 'asked' AND uid <> note GROUP BY note, code, state, modifiers;

-- name: rejected_elsewhere
-- What is rejected of the other studies that the documents of a study name.
SELECT study.uid, rejected_instance.uid
FROM mention CROSS JOIN study ON study.uid = mention.uid CROSS JOIN rejected_instance ON rejected_instance.study_id = study.id
WHERE mention.study_id = :study_id AND state = 'in force' AND rejected_instance.uid <> note;

-- name: step
SELECT body FROM step WHERE uid = :uid;

-- name: keep_step
INSERT INTO step (uid, study_id, status, listed, body) VALUES (:uid, :study_id, :status, :listed, :body)
ON CONFLICT DO UPDATE SET status = excluded.status, listed = excluded.listed, body = excluded.body;

-- name: await
INSERT INTO awaited (study_id, uid) SELECT :study_id, value FROM json_each(:uids)
WHERE NOT EXISTS (SELECT 1 FROM instance WHERE study_id = :study_id AND uid = value)
ON CONFLICT DO NOTHING;

-- name: awaited_arrived
DELETE FROM awaited WHERE (study_id, uid) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:keys));

-- name: steps_are_done
-- Whether each step of the study has ended, one of them lists instances, and none was completed without a list.
SELECT coalesce(max(listed) > 0 AND min(status = 'DISCONTINUED' OR (status = 'COMPLETED' AND listed > 0)), 0)
FROM step WHERE study_id = :study_id;

-- name: uid_of_study
SELECT CAST(uid AS BLOB) FROM study WHERE id = :study_id;

-- name: study_status
SELECT id, CAST(uid AS BLOB), revision, series, instances, first_at, last_at FROM study WHERE uid = :study_uid;

-- name: latest_studies
SELECT id, CAST(uid AS BLOB), revision, series, instances, first_at, last_at FROM study ORDER BY last_at DESC, id DESC LIMIT :limit;

-- name: latest_studies_in_state
SELECT id, CAST(uid AS BLOB), revision, series, instances, first_at, last_at FROM study JOIN (
    SELECT delivery.study_id FROM delivery
    WHERE state = :state AND destination_id IN (SELECT id FROM destination WHERE in_force)
    GROUP BY last_at, study_id ORDER BY last_at DESC, study_id DESC LIMIT :limit
) AS latest ON latest.study_id = study.id
ORDER BY last_at DESC, id DESC;

-- name: totals
SELECT name, n FROM total;

-- name: revisions
SELECT n FROM total WHERE name = 'revisions';

-- name: rejected
SELECT kind, n FROM rejected ORDER BY kind;

-- name: tallies
SELECT state, sum(n) FROM tally JOIN destination ON destination.id = destination_id WHERE in_force GROUP BY state;

-- name: oldest_undelivered_study
SELECT oldest.name, delivery.changed_at, study.id, CAST(study.uid AS BLOB), study.revision, series, instances, first_at,
    study.last_at
FROM (SELECT destination.id, destination.name, (
        SELECT study_id FROM delivery WHERE destination_id = destination.id AND state IN ('waiting', 'sending')
        ORDER BY changed_at LIMIT 1) AS study_id
    FROM destination WHERE in_force) AS oldest
CROSS JOIN delivery ON delivery.study_id = oldest.study_id AND delivery.destination_id = oldest.id
CROSS JOIN study ON study.id = delivery.study_id
ORDER BY delivery.changed_at LIMIT 1;

-- name: stale_lately
-- Studies that have changed lately and are not in the index as they are: new ones, and those that have been quiet since
-- :quiet_before or are in the index as they were before :taken_before.
SELECT study.id, CAST(uid AS BLOB), study.revision, study.last_at,
    (SELECT count(*) FROM origin WHERE origin.study_id = study.id)
        + (SELECT count(*) FROM source_folder WHERE source_folder.study_id = study.id) AS sources
FROM study LEFT JOIN study_index ON study_index.study_id = study.id
WHERE study.last_at >= :since
    AND (study_index.revision IS NULL OR (
        (study_index.revision, origins) <> (study.revision, sources)
        AND (study.last_at <= :quiet_before OR study_index.last_at <= :taken_before)))
LIMIT :limit;

-- name: stale_by_id
-- As `stale_lately`.
SELECT study.id, CAST(uid AS BLOB), study.revision, study.last_at,
    (SELECT count(*) FROM origin WHERE origin.study_id = study.id)
        + (SELECT count(*) FROM source_folder WHERE source_folder.study_id = study.id) AS sources
FROM study LEFT JOIN study_index ON study_index.study_id = study.id
WHERE study.id BETWEEN :first AND :last
    AND (study_index.revision IS NULL OR (
        (study_index.revision, origins) <> (study.revision, sources)
        AND (study.last_at <= :quiet_before OR study_index.last_at <= :taken_before)))
ORDER BY study.id LIMIT :limit;

-- name: study_senders
SELECT CAST(calling_ae AS BLOB), at FROM origin WHERE study_id = :study_id ORDER BY at, calling_ae;

-- name: index_study
-- Unless the study was forgotten since it was read.
INSERT INTO study_index (study_id, revision, origins, last_at)
SELECT id, :revision, :origins, :last_at FROM study WHERE id = :study_id
ON CONFLICT DO UPDATE SET revision = excluded.revision, origins = excluded.origins, last_at = excluded.last_at;

-- name: new_key
INSERT INTO study_key (kind, value, last_at, study_id)
SELECT :kind, :value, :last_at, id FROM study WHERE id = :study_id;

-- name: forget_counted_instances
-- Those that are not yet counted will be.
UPDATE total SET n = n - (SELECT instances FROM study WHERE id = :study_id) WHERE name = 'instances_counted';

-- name: uncounted_instances
SELECT (SELECT n FROM total WHERE name = 'instances') - (SELECT n FROM total WHERE name = 'instances_counted');

-- name: count_instances_as_received
UPDATE total SET n = n + :received WHERE name = 'instances_counted';

-- name: count_in_minute
INSERT INTO counted_minute (minute, received, delivered) VALUES (:minute, :received, :delivered)
ON CONFLICT DO UPDATE SET received = received + excluded.received, delivered = delivered + excluded.delivered;

-- name: find_by_key
SELECT study.id, CAST(uid AS BLOB), study.revision, study.series, study.instances, study.first_at, study.last_at, listed.last_at
FROM study_key AS listed CROSS JOIN study ON study.id = listed.study_id
WHERE listed.kind = :kind AND listed.value = :value AND (listed.last_at, listed.study_id) < (:last_at, :study_id)
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:keys) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id
                AND kind = json_extract(wanted.value, '$[0]') AND study_key.value = json_extract(wanted.value, '$[1]')))
    AND (coalesce(:state, :destination) IS NULL OR EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = destination_id
        WHERE delivery.study_id = listed.study_id AND in_force
            AND state = coalesce(:state, state) AND name = coalesce(:destination, name)))
    AND (:first_date IS NULL OR EXISTS (
        SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = 'study_date'
            AND study_key.value BETWEEN :first_date AND :last_date))
ORDER BY listed.last_at DESC, listed.study_id DESC LIMIT :limit;

-- name: find_by_date
-- A study with several dates in the range is listed at the latest of them.
SELECT study.id, CAST(uid AS BLOB), study.revision, study.series, study.instances, study.first_at, study.last_at, listed.last_at,
    listed.value
FROM study_key AS listed CROSS JOIN study ON study.id = listed.study_id
WHERE listed.kind = 'study_date' AND listed.value BETWEEN :first_date AND :last_date
    AND (listed.value, listed.last_at, listed.study_id) < (:date, :last_at, :study_id)
    AND NOT EXISTS (
        SELECT 1 FROM study_key AS later WHERE later.study_id = listed.study_id AND later.kind = 'study_date'
            AND later.value > listed.value AND later.value <= :last_date)
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:keys) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id
                AND kind = json_extract(wanted.value, '$[0]') AND study_key.value = json_extract(wanted.value, '$[1]')))
    AND (coalesce(:state, :destination) IS NULL OR EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = destination_id
        WHERE delivery.study_id = listed.study_id AND in_force
            AND state = coalesce(:state, state) AND name = coalesce(:destination, name)))
ORDER BY listed.value DESC, listed.last_at DESC, listed.study_id DESC LIMIT :limit;

-- name: find_by_state
-- A study with several such deliveries is listed at the latest of them.
SELECT study.id, CAST(uid AS BLOB), study.revision, study.series, study.instances, study.first_at, study.last_at, listed.last_at
FROM delivery AS listed CROSS JOIN study ON study.id = listed.study_id
WHERE listed.state = :state AND (listed.last_at, listed.study_id) < (:last_at, :study_id)
    AND EXISTS (SELECT 1 FROM destination
        WHERE id = listed.destination_id AND in_force AND name = coalesce(:destination, name))
    AND NOT EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = destination_id
        WHERE :destination IS NULL AND delivery.study_id = listed.study_id AND +state = :state AND in_force
            AND (delivery.last_at, destination_id) > (listed.last_at, listed.destination_id))
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:keys) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id
                AND kind = json_extract(wanted.value, '$[0]') AND study_key.value = json_extract(wanted.value, '$[1]')))
    AND (:first_date IS NULL OR EXISTS (
        SELECT 1 FROM study_key WHERE study_key.study_id = listed.study_id AND kind = 'study_date'
            AND study_key.value BETWEEN :first_date AND :last_date))
ORDER BY listed.last_at DESC, listed.study_id DESC LIMIT :limit;

-- name: series_summaries
SELECT CAST(series.uid AS BLOB), series.instances, body
FROM series
JOIN (SELECT series_id, max(series_attrs) AS number FROM instance_attrs WHERE study_id = :study_id GROUP BY series_id) AS used
    ON used.series_id = series.id
LEFT JOIN attrs ON attrs.id = number
WHERE series.study_id = :study_id ORDER BY series.id;

-- name: last_sent
SELECT destination.name, base.body
FROM study CROSS JOIN base ON base.study_id = study.id CROSS JOIN destination ON destination.id = base.destination_id
WHERE study.uid = :study_uid AND in_force AND base.body <> x'';

-- name: new_attempt
INSERT INTO attempt (study_id, destination_id, number, at, revision, outcome, answer)
SELECT :study_id, :destination_id, coalesce(max(number), 0) + 1, :at, :revision, :outcome, :answer
FROM attempt WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: recent_attempts
SELECT CAST(study.uid AS BLOB), destination.name, at, attempt.revision, outcome, answer, times
FROM attempt CROSS JOIN study ON study.id = study_id CROSS JOIN destination ON destination.id = destination_id
WHERE at >= :since AND in_force ORDER BY at DESC LIMIT :limit;
