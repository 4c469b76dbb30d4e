-- The statements that are the same in both databases, by name; those of store/sqlite/queries.sql and
-- store/postgres/queries.sql are in the words of each. A test checks the query plan of each: none scans a table that grows.

-- name: study_id
SELECT id FROM study WHERE uid = :study_uid;

-- name: read_anew
-- When no instance of the study is left that another reader has read.
UPDATE study SET reader = :reader WHERE id = :study_id
    AND NOT EXISTS (SELECT 1 FROM instance WHERE study_id = study.id AND instance.reader <> :reader);

-- name: reader_id
SELECT id FROM reader WHERE fingerprint = :fingerprint;

-- name: set_due_rule
UPDATE due_rule SET quiet_period_s = :quiet_period_s, max_wait_s = :max_wait_s;

-- name: renew_leases
UPDATE delivery SET lease_until = :now + lease_until - tried_at, tried_at = :now WHERE state = 'sending';

-- name: not_due
SELECT DISTINCT study_id FROM delivery WHERE state IN ('waiting', 'sending') AND due_at > :now;

-- name: new_folder
INSERT INTO source_folder (study_id, folder, at) VALUES (:study_id, :folder, :now) ON CONFLICT DO NOTHING;

-- name: study_origins
SELECT calling_ae FROM origin WHERE study_id = :study_id;

-- name: held_by
SELECT study_id FROM inflight WHERE association = :association;

-- name: release
DELETE FROM inflight WHERE association = :association;

-- name: is_held
SELECT EXISTS (SELECT 1 FROM inflight WHERE study_id = :study_id);

-- name: leased_studies
SELECT DISTINCT study_id FROM delivery WHERE state = 'sending';

-- name: forget_rejections
DELETE FROM rejection WHERE id <= :last_id;

-- name: forget_rejections_until
DELETE FROM rejection WHERE at <= :until;

-- name: rejections
SELECT at, kind, calling_ae, called_ae, peer, path, association, reason, error FROM rejection ORDER BY id DESC LIMIT :limit;

-- name: destinations
SELECT name, in_force FROM destination;

-- name: destination_id
SELECT id FROM destination WHERE name = :destination;

-- name: is_in_force
SELECT 1 FROM destination WHERE name = :destination AND in_force;

-- name: accept
UPDATE destination SET accepted = accepted + 1 WHERE name = :destination;

-- name: set_mapping_fingerprint
UPDATE destination SET recipe = :fingerprint WHERE name = :destination AND :fingerprint NOT IN ('', recipe);

-- name: lacking_studies
SELECT id FROM study WHERE NOT EXISTS (
    SELECT 1 FROM delivery WHERE study_id = study.id AND destination_id = :destination_id);

-- name: due_now
SELECT 1 FROM destination JOIN delivery ON delivery.destination_id = destination.id
WHERE destination.name = :destination AND destination.in_force AND destination.paused_at IS NULL
    AND delivery.state IN ('waiting', 'sending') AND delivery.due_at <= :now
LIMIT :most;

-- name: next_due
SELECT (SELECT min(due_at) FROM delivery WHERE destination_id = destination.id AND state IN ('waiting', 'sending')),
       (SELECT max(due_at) FROM delivery WHERE destination_id = destination.id AND state IN ('waiting', 'sending'))
FROM destination WHERE name = :destination AND in_force AND paused_at IS NULL;

-- name: give_back_failed
UPDATE delivery SET state = 'waiting', attempts = attempts + :count, reason = :reason, not_before = :not_before,
    tried_at = :now, newer_at = NULL, owner = '', lease_until = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: failing
SELECT failing_s, failing_at, failing_accepted, accepted
FROM delivery JOIN destination ON destination.id = destination_id
WHERE study_id = (SELECT id FROM study WHERE uid = :study_uid) AND destination.name = :destination;

-- name: count_failing
UPDATE delivery SET failing_s = :failing_s, failing_at = :failing_at, failing_accepted = :failing_accepted
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: give_back_untried
UPDATE delivery SET state = 'waiting', changed_at = coalesce(newer_at, changed_at), newer_at = NULL, owner = '',
    lease_until = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: give_back_refused
UPDATE delivery SET state = :state, attempts = attempts + 1, reason = :reason, failing_s = 0, failing_at = NULL,
    changed_at = CASE WHEN :state = 'waiting' THEN coalesce(newer_at, :now) ELSE changed_at END,
    newer_at = NULL, not_before = 0, due_at = 0, owner = '', lease_until = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: give_back_excluded
UPDATE delivery SET state = :state, attempts = 0, reason = :reason, failing_s = 0, failing_at = NULL,
    changed_at = coalesce(newer_at, changed_at), newer_at = NULL, not_before = 0, due_at = 0, owner = '', lease_until = 0
WHERE study_id = :study_id AND destination_id = :destination_id;

-- name: set_selection
UPDATE destination SET selection = :selection WHERE name = :destination AND selection <> :selection;

-- name: decide_anew
UPDATE delivery SET state = 'waiting', changed_at = :now, due_at = :now, reason = ''
WHERE state = 'excluded' AND destination_id = (SELECT id FROM destination WHERE name = :destination);

-- name: last_study
SELECT max(id) FROM study;

-- name: note_requeue
UPDATE destination SET requeued = requeued + 1 WHERE in_force AND name = coalesce(:destination, name);

-- name: pause
UPDATE destination SET paused_at = :now WHERE in_force AND name = :destination AND paused_at IS NULL;

-- name: resume
UPDATE destination SET paused_at = NULL WHERE name = :destination AND paused_at IS NOT NULL;

-- name: requeued
SELECT requeued FROM destination WHERE name = :destination;

-- name: requeue_study
UPDATE delivery SET changed_at = CASE WHEN state = 'waiting' THEN changed_at ELSE :now END,
    state = 'waiting', due_at = :now, not_before = 0, attempts = 0, reason = '', failing_s = 0, failing_at = NULL
WHERE study_id = (SELECT id FROM study WHERE uid = :study_uid)
    AND (state IN ('waiting', 'refused') OR (state = 'delivered' AND refused <> '')
        OR (:all_states AND state IN ('delivered', 'excluded')))
    AND destination_id IN (SELECT id FROM destination WHERE in_force AND name = coalesce(:destination, name));

-- name: new_mention
INSERT INTO mention (uid, study_id) VALUES (:uid, :study_id) ON CONFLICT DO NOTHING;

-- name: study_row
SELECT id, revision FROM study WHERE uid = :study_uid;

-- name: study_series
SELECT id, uid FROM series WHERE study_id = :study_id;

-- name: study_attrs
SELECT id, body FROM attrs WHERE study_id = :study_id;

-- name: study_instances
-- Of a study that is not sealed.
SELECT uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes FROM instance
WHERE study_id = :study_id ORDER BY uid, series_id;

-- name: study_notes
SELECT notes FROM instance WHERE study_id = :study_id AND notes IS NOT NULL;

-- name: notification
SELECT hash FROM notification WHERE uid = :uid;

-- name: new_notification
INSERT INTO notification (uid, study_id, hash) VALUES (:uid, :study_id, :hash);

-- name: study_stated_availability
SELECT uid, body FROM availability JOIN attrs ON attrs.id = availability.attrs
WHERE availability.study_id = :study_id ORDER BY uid, retrieve_ae;

-- name: count_stated
SELECT count(DISTINCT uid) FROM availability WHERE study_id = :study_id;

-- name: restore_instance
UPDATE rejected_instance SET state = 'restored'
WHERE study_id = :study_id AND uid = :uid AND note <> uid AND code = :code AND state = 'in force';

-- name: study_rejections
SELECT uid, note, code, modifiers FROM rejected_instance WHERE study_id = :study_id AND state = 'in force'
ORDER BY uid, note;

-- name: mentioned_in
SELECT study.uid FROM mention JOIN study ON study.id = mention.study_id WHERE mention.uid = :study_uid;

-- name: count_rejected
SELECT count(DISTINCT uid) FROM rejected_instance WHERE study_id = :study_id AND state = 'in force' AND uid <> note;

-- name: rejection_reasons
SELECT code, modifiers, count(DISTINCT uid) FROM rejected_instance
WHERE study_id = :study_id AND state = 'in force' AND uid <> note GROUP BY code, modifiers;

-- name: count_asked_to_reject
SELECT count(*) FROM rejected_instance WHERE study_id = :study_id AND state = 'asked';

-- name: study_steps
SELECT uid, body FROM step WHERE study_id = :study_id ORDER BY uid;

-- name: step_statuses
SELECT uid, status FROM step WHERE study_id = :study_id ORDER BY uid;

-- name: count_awaited
-- Another process may have stored some of them.
SELECT count(*) FROM awaited WHERE study_id = :study_id
    AND NOT EXISTS (SELECT 1 FROM instance WHERE study_id = awaited.study_id AND uid = awaited.uid);

-- name: is_awaited
SELECT EXISTS (SELECT 1 FROM awaited WHERE study_id = :study_id
    AND NOT EXISTS (SELECT 1 FROM instance WHERE study_id = awaited.study_id AND uid = awaited.uid));

-- name: hasten
UPDATE study SET prompt_revision = revision WHERE id = :study_id;

-- name: count_instances
SELECT instances FROM study WHERE id = :study_id;

-- name: study_patients
SELECT attrs.body, CAST(sum(instances) AS BIGINT) FROM instance_attrs JOIN attrs ON attrs.id = patient_attrs
WHERE instance_attrs.study_id = :study_id GROUP BY attrs.id ORDER BY attrs.id;

-- name: settlement
SELECT patient, verdict FROM settlement WHERE study_id = :study_id;

-- name: new_verdict
INSERT INTO settlement (study_id, patient, verdict) VALUES (:study_id, :patient, :verdict);

-- name: raise_revision
UPDATE study SET revision = revision + 1, last_at = :now WHERE id = :study_id;

-- name: forget_instances
DELETE FROM instance WHERE study_id = :study_id;

-- name: forget_series
DELETE FROM series WHERE study_id = :study_id;

-- name: forget_attrs
DELETE FROM attrs WHERE study_id = :study_id;

-- name: forget_bases
DELETE FROM base WHERE study_id = :study_id;

-- name: forget_deliveries
DELETE FROM delivery WHERE study_id = :study_id;

-- name: forget_associations
DELETE FROM inflight WHERE study_id = :study_id;

-- name: forget_mentions
DELETE FROM mention WHERE study_id = :study_id;

-- name: forget_origins
DELETE FROM origin WHERE study_id = :study_id;

-- name: forget_folders
DELETE FROM source_folder WHERE study_id = :study_id;

-- name: forget_settlement
DELETE FROM settlement WHERE study_id = :study_id;

-- name: forget_availability
DELETE FROM availability WHERE study_id = :study_id;

-- name: forget_notifications
DELETE FROM notification WHERE study_id = :study_id;

-- name: forget_steps
DELETE FROM step WHERE study_id = :study_id;

-- name: forget_awaited
DELETE FROM awaited WHERE study_id = :study_id;

-- name: forget_rejected_instances
DELETE FROM rejected_instance WHERE study_id = :study_id;

-- name: forgotten
SELECT at, patient FROM forgotten WHERE study = :study;

-- name: note_forgotten
INSERT INTO forgotten (study, at, patient) VALUES (:study, :at, :patient)
ON CONFLICT (study) DO UPDATE SET at = excluded.at,
    patient = CASE WHEN length(excluded.patient) > 0 THEN excluded.patient ELSE forgotten.patient END;

-- name: forget_forgotten
DELETE FROM forgotten WHERE study = :study;

-- name: end_of_part
-- The last of the next studies that have been quiet since :quiet_since; no row if there are not more than :others.
SELECT last_at, id FROM study WHERE last_at <= :quiet_since AND (last_at, id) > (:after_at, :after_id)
ORDER BY last_at, id LIMIT 1 OFFSET :others;

-- name: forgettable_studies
-- Every destination has the study, with nothing left to do, and whatever comes later can be judged without it.
SELECT last_at, id FROM study
WHERE last_at <= :quiet_since AND (last_at, id) > (:after_at, :after_id) AND (last_at, id) <= (:end_at, :end_id)
    AND instances BETWEEN 1 AND :most_instances
    AND NOT EXISTS (SELECT 1 FROM inflight WHERE inflight.study_id = study.id)
    AND NOT EXISTS (SELECT 1 FROM rejected_instance WHERE rejected_instance.study_id = study.id)
    AND NOT EXISTS (SELECT 1 FROM settlement WHERE settlement.study_id = study.id)
    AND NOT EXISTS (SELECT 1 FROM step WHERE step.study_id = study.id AND step.status = 'IN PROGRESS')
    AND EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = delivery.destination_id
        WHERE delivery.study_id = study.id AND in_force)
    AND NOT EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = delivery.destination_id
        WHERE delivery.study_id = study.id AND in_force AND NOT (
            delivery.state = 'delivered' AND delivered_at <= :quiet_since AND delivery.refused = ''
            AND delivery.reason NOT LIKE '%ImagingStudy%'))
ORDER BY last_at, id LIMIT :limit;

-- name: sealable_studies
-- No destination waits for the study, and no instance of it is expected.
SELECT last_at, id FROM study
WHERE last_at <= :quiet_since AND (last_at, id) > (:after_at, :after_id) AND (last_at, id) <= (:end_at, :end_id)
    AND instances > 0
    AND NOT EXISTS (SELECT 1 FROM sealed WHERE sealed.study_id = study.id)
    AND NOT EXISTS (SELECT 1 FROM inflight WHERE inflight.study_id = study.id)
    AND NOT EXISTS (SELECT 1 FROM awaited WHERE awaited.study_id = study.id)
    AND NOT EXISTS (
        SELECT 1 FROM delivery JOIN destination ON destination.id = delivery.destination_id
        WHERE delivery.study_id = study.id AND in_force AND delivery.state NOT IN ('delivered', 'excluded'))
ORDER BY last_at, id LIMIT :limit;

-- name: new_block
INSERT INTO sealed (study_id, series_id, patient_attrs, study_attrs, series_attrs, reader, instances, block)
VALUES (:study_id, :series_id, :patient_attrs, :study_attrs, :series_attrs, :reader, :instances, :block);

-- name: study_blocks
SELECT series_id, patient_attrs, study_attrs, series_attrs, reader, block FROM sealed WHERE study_id = :study_id ORDER BY id;

-- name: unseal_instance
INSERT INTO instance (study_id, uid, series_id, patient_attrs, study_attrs, series_attrs, reader, body, notes)
VALUES (:study_id, :uid, :series_id, :patient_attrs, :study_attrs, :series_attrs, :reader, :body, :notes);

-- name: forget_blocks
DELETE FROM sealed WHERE study_id = :study_id;

-- name: forget_study
DELETE FROM study WHERE id = :study_id;

-- name: study_stated
SELECT body FROM attrs WHERE id IN (
    SELECT study_attrs FROM instance_attrs WHERE study_id = :study_id
    UNION SELECT series_attrs FROM instance_attrs WHERE study_id = :study_id);

-- name: study_deliveries
SELECT destination.name, state, delivered_revision, due_at, attempts, reason, delivered_at, unclaimed, refused,
    paused_at
FROM delivery JOIN destination ON destination.id = delivery.destination_id
WHERE study_id = :study_id AND in_force ORDER BY destination.name;

-- name: oldest_undelivered
SELECT min((SELECT min(changed_at) FROM delivery
            WHERE destination_id = destination.id AND state IN ('waiting', 'sending')))
FROM destination WHERE in_force;

-- name: study_shared_attrs
-- The attributes of patient, study and series that instances refer to.
SELECT body FROM attrs WHERE id IN (
    SELECT patient_attrs FROM instance_attrs WHERE study_id = :study_id
    UNION SELECT study_attrs FROM instance_attrs WHERE study_id = :study_id
    UNION SELECT series_attrs FROM instance_attrs WHERE study_id = :study_id);

-- name: forget_keys
DELETE FROM study_key WHERE study_id = :study_id;

-- name: forget_index
DELETE FROM study_index WHERE study_id = :study_id;

-- name: forget_attempts
DELETE FROM attempt WHERE study_id = :study_id;

-- name: forget_minutes
DELETE FROM counted_minute WHERE minute < :minute;

-- name: counts
SELECT minute, received, delivered FROM counted_minute WHERE minute >= :minute ORDER BY minute;

-- name: study_keys
SELECT kind, value FROM study_key WHERE study_id = :study_id AND kind NOT IN ('patient_id', 'patient_name', 'study_uid', 'every');

-- name: study_attempts
SELECT destination.name, at, attempt.revision, outcome, answer, times
FROM attempt JOIN destination ON destination.id = destination_id
WHERE study_id = :study_id AND in_force ORDER BY at DESC, number DESC;

-- name: repeat_attempt
UPDATE attempt SET at = :at, times = times + 1
WHERE study_id = :study_id AND destination_id = :destination_id AND number = (
        SELECT max(number) FROM attempt WHERE study_id = :study_id AND destination_id = :destination_id)
    AND revision = :revision AND outcome = :outcome AND answer = :answer;

-- name: forget_old_attempts
DELETE FROM attempt WHERE study_id = :study_id AND destination_id = :destination_id AND number <= (
    SELECT max(number) FROM attempt WHERE study_id = :study_id AND destination_id = :destination_id) - :kept;
