-- Version 9: how long a study has failed while its destination accepted others; how often somebody asked to try again.

-- Deliveries that changed something at the destination, in all.
ALTER TABLE destination ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
-- Calls of `requeue`: a daemon that pauses a destination looks whether there was another one.
ALTER TABLE destination ADD COLUMN requeued INTEGER NOT NULL DEFAULT 0;

-- Since the last success, as far as the destination accepted others meanwhile.
ALTER TABLE delivery ADD COLUMN failing_s REAL NOT NULL DEFAULT 0;
-- What failing_s counts on from: a moment, NULL where no try has failed, and destination.accepted then.
ALTER TABLE delivery ADD COLUMN failing_at REAL;
ALTER TABLE delivery ADD COLUMN failing_accepted INTEGER NOT NULL DEFAULT 0;
